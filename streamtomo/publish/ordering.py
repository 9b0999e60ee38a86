"""What the verbs do that give orders to a run, or make the keys for them."""

from __future__ import annotations

import getpass
from pathlib import Path

from streamtomo.errors import BusError
from streamtomo.messages import Command
from streamtomo.publish import keys as curve
from streamtomo.publish.client import send_command, send_command_to
from streamtomo.publish.endpoints import find_endpoint


def give(command: Command, out: Path | None, at: str | None, keys: Path | None) -> int:
    """Send a command to the run that writes to `out`, or is reached `at` an endpoint; print the answer, exit status."""
    if out is not None:
        answer = send_command(out, command)
    elif keys is None:
        raise BusError(f"{at}: orders from another machine need --keys DIR; `streamtomo keys` on the run's makes them")
    else:
        answer = send_command_to(find_endpoint(at), curve.client_keys(keys), command)
    print(answer.text)
    return 0 if answer.ok else 1


def make_keys(folder: Path, name: str | None, *, read_only: bool) -> int:
    """Make a run's keys, or those of one more client; say what to do with them. Raises BusError."""
    if name is None:
        me = getpass.getuser()
        curve.make_keys(folder, me)
        print(f"made {folder}; use it with: streamtomo run WATCHED --out OUT --set publish.curve_keys={folder}")
        print(f"{me} may give orders from this machine; let others in with: streamtomo keys {folder} --add NAME")
        return 0
    inside = curve.CLIENTS if read_only else curve.OPERATORS
    handed = curve.add_client(folder, name, read_only=read_only)
    print(f"{name} may {'listen' if read_only else 'listen and give orders'}, from now on.")
    print(f"Move {handed} to their machine by a safe way, and delete it here. There: streamtomo dashboard")
    print(f"tcp://HOST:PORT --keys {handed.name}. To take it back, delete {folder / inside / name}.key.")
    return 0
