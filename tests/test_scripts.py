"""Each script in `scripts/` still starts: all that it imports is there, and it tells its options."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = sorted(Path(__file__).parent.parent.joinpath("scripts").glob("[a-z]*.py"))
TELL = """
import contextlib, io, runpy, sys, traceback
from pathlib import Path
sys.path.insert(0, str(Path(sys.argv[1]).parent))
for script in sys.argv[1:]:
    sys.argv, told = [script, "--help"], io.StringIO()
    try:
        with contextlib.redirect_stdout(told):
            runpy.run_path(script, run_name="__main__")
        print(script, "does not end with its help")
    except SystemExit as end:
        if end.code or "usage:" not in told.getvalue():
            print(script, "ends with", end.code)
    except BaseException:
        print(script, traceback.format_exc())
"""


def test_each_tells_its_options():
    """In one process: most of the time goes into what they all import."""
    assert SCRIPTS
    told = subprocess.run([sys.executable, "-c", TELL, *map(str, SCRIPTS)], capture_output=True, text=True, timeout=120)
    assert told.stdout == ""
    assert told.returncode == 0, told.stderr
