"""The examples of the README, run as they stand against a publisher: what they promise, they do."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import zmq
from test_publish_bus import Fleet, certificates, free_port

from streamtomo.messages import VERSION, ExcludeTilts, Heartbeat, SeriesJudged, SeriesOpened, TomogramReady, topic

ALARMS = ("folder.gone", "folder.stuck", "tilt.late", "clock.differs", "behind", "disk.full", "disk.low", "disk.soon")
"""Those of the machine in `alarms.py`."""
README = Path(__file__).parent.parent / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def fleet(tmp_path):
    opened = Fleet(tmp_path)
    yield opened
    opened.close()


def example(words, **changes):
    """The one with these words, with addresses changed."""
    (code,) = [one for one in EXAMPLES if words in one]
    for old, new in changes.values():
        assert old in code
        code = code.replace(old, new)
    return code


def start(code, **more):
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, **more)


def test_a_program_waits_for_tomograms(fleet):
    session = fleet.session()
    code = example("tomogram.ready", address=("tcp://127.0.0.1:5570", session.endpoint))
    assert len(code.splitlines()) <= 10
    waiting = start(
        code.replace('subscribe(b"tomogram.ready/")', 'subscribe(b"tomogram.ready/"); print("on", flush=True)')
    )
    assert waiting.stdout.readline() == "on\n"
    ready = TomogramReady(series="TS_1", path="/out/TS_1_rec.mrc", tilts=41)
    stop = fleet.socket(zmq.SUB, session.endpoint)
    stop.subscribe(b"heartbeat/")
    while not stop.poll(20):
        session.say(Heartbeat(backlog=0))
    for _ in range(200):  # until its subscription is known
        session.say(ready)
    assert waiting.stdout.readline() == "TS_1 /out/TS_1_rec.mrc\n"
    waiting.kill()
    waiting.communicate()


def test_an_order_is_given_in_ten_lines(fleet):
    session = fleet.session()
    code = example('"command": "exclude"', out=("/scratch/krios1", str(session.out)))
    assert len(code.splitlines()) <= 10
    given = start(code)
    assert given.communicate(timeout=20)[0] == "done\n"
    assert session.commands == [ExcludeTilts(series="TS_01", tilts=(3,), reason="ice")]


@pytest.mark.skipif(not zmq.has("curve"), reason="libzmq without CURVE")
def test_serialem_hears_the_verdict_with_a_key_that_may_only_listen(fleet, tmp_path):
    keys = certificates(tmp_path)
    session = fleet.session(port=free_port(), curve_keys=keys)
    session.say(SeriesOpened(series="TS_01", source="s", nx=1, ny=1))
    session.say(SeriesJudged(series="TS_01", state="reject", reasons=("dark", "lost")))
    host, _, port = session.endpoint.rpartition(":")
    code = example(
        "serialem",
        host=("tcp://krios-box:5571", f"{host}:{int(port) + 1}"),
        keys=("C:/streamtomo/scope", str(keys / "for" / "bob")),
    )
    (tmp_path / "serialem.py").write_text("def Echo(text):\n    print(text)\n")  # the microscope's side
    heard = start(code, env={"PYTHONPATH": str(tmp_path)})
    assert heard.communicate(timeout=20)[0] == "streamtomo: dark; lost\n"


def test_every_kind_is_on_the_page():
    schema = json.loads((README.parent / "config" / "messages.schema.json").read_text(encoding="utf-8"))
    tagged = (one["properties"].get("kind") for one in schema["$defs"].values() if "properties" in one)
    kinds = {one["enum"][0] for one in tagged if one}
    page = README.read_text(encoding="utf-8")
    assert {kind for kind in kinds if f"`{kind}`" not in page} == set()


def test_the_schema_tells_its_version_and_has_what_every_socket_sends():
    schema = json.loads((README.parent / "config" / "messages.schema.json").read_text(encoding="utf-8"))
    assert schema["$id"].endswith(f":{VERSION}")
    assert {"AnySnapshot", "AnyRequest", "AnyAnswer"} <= set(schema["$defs"])
    assert f"The protocol, version {VERSION}." in README.read_text(encoding="utf-8")


def test_every_alarm_is_on_the_page_for_the_night():
    source = "".join(path.read_text(encoding="utf-8") for path in (README.parent / "streamtomo").rglob("*.py"))
    codes = set(re.findall(r'AlarmRaised\(code="([a-z.]+)"', source)) | {key for key in ALARMS if f'"{key}"' in source}
    night = README.read_text(encoding="utf-8").split("## One page for the night")[1].split("\n## ")[0]
    assert len(codes) > len(ALARMS)
    assert {code for code in codes if f"`{code}`" not in night} == set()


def test_a_topic_ends_in_a_slash():
    assert topic(SeriesJudged(series="TS_1", state="good")) == "series.judged/TS_1/"
    assert topic(Heartbeat(backlog=0)) == "heartbeat/"
