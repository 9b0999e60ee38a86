"""The demo: the simulated microscope in one process, streamtomo in this one."""

from __future__ import annotations

import subprocess
import sys
import threading
from itertools import count
from pathlib import Path

from streamtomo import config_file
from streamtomo.console import run_here
from streamtomo.engine import Engine
from streamtomo.errors import OutputError

TILTS = 41


def demo(out: Path | None, *, interval_s: float, seed: int, plain: bool) -> int:
    """Simulate a dose-symmetric series and process it while it is written; returns the exit status."""
    base = out or next(path for path in _names() if not path.exists())
    watched = base / "microscope"
    try:
        watched.mkdir(parents=True)
    except OSError as error:
        raise OutputError(f"{base}: cannot be made ({error.strerror}); choose another --out") from None
    print(f"A simulated microscope writes {TILTS} tilts to {watched}; results go to {base / 'results'}.", flush=True)
    microscope = _start_microscope(base, watched, interval_s, seed)
    settings = config_file.load(None, [f"acquisition.planned_tilts={TILTS}"])
    try:
        return run_here(
            (watched,),
            base / "results",
            settings,
            exit_when_idle_s=max(10.0, 3 * interval_s),
            plain=plain,
            on_engine=lambda engine: _watch_microscope(microscope, engine),
        )
    finally:
        microscope.terminate()
        microscope.wait()


def _names() -> list[Path]:
    first = Path("streamtomo-demo")
    return [first, *(Path(f"{first}-{number}") for number, _ in zip(count(2), range(998), strict=False))]


def _start_microscope(base: Path, watched: Path, interval_s: float, seed: int) -> subprocess.Popen[str]:
    options = ["--interval", str(interval_s), "--seed", str(seed), "--truth", str(base / "truth"), "--name", "TS_01"]
    return subprocess.Popen(
        [sys.executable, "-m", "streamtomo", "simulate", str(watched), *options],
        stdout=subprocess.DEVNULL,
        stderr=(base / "microscope.log").open("w"),
        text=True,
        start_new_session=True,
    )


def _watch_microscope(microscope: subprocess.Popen[str], engine: Engine) -> None:
    def wait() -> None:
        code = microscope.wait()
        if code > 0:
            engine.stop(f"the simulated microscope failed with status {code}; see microscope.log")

    threading.Thread(target=wait, daemon=True).start()
