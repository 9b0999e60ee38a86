"""Which steps of the recipe are good, and which have to be done: a pure decision from what was done before.

A step's key says all that its results depend on: its own settings and facts, and the keys of the steps whose results it
uses. A step is good when its key is the one it was done with, and its files are as it left them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from streamtomo.config import Settings
from streamtomo.errors import SettingsError

Stamp = tuple[int, int]
"""Size and modification time (ns) of a file."""
Stat = Callable[[str], Stamp | None]
"""The stamp of a file in the series' folder; None where there is none."""


class Needs(NamedTuple):
    """What the results of a step depend on."""

    steps: tuple[str, ...] = ()
    """Earlier steps; those that are not in the recipe do not count."""
    settings: tuple[str, ...] = ()
    """Settings, as `table.key`."""
    version: int = 1
    """Counts the changes of the program that change the results."""
    passing: bool = False
    """Its files are only for later steps: where they are gone, they are made again when one of these is to be done."""


class Done(Struct, frozen=True, kw_only=True):
    """A step that was done, as the state file has it."""

    key: str
    settings: dict[str, Any]
    files: dict[str, Stamp]
    """What it left in the series' folder."""
    seconds: float
    product: msgspec.Raw = msgspec.Raw(b"null")
    """What later steps need to know."""


State = dict[str, Done]


class Planned(NamedTuple):
    """One step of the recipe, and why it is to be done; an empty reason: it is good."""

    name: str
    why: str
    same: bool = False
    """Whether only its files are needed again: what follows from it is still good."""


def keys(needs: Mapping[str, Needs], settings: Settings, facts: Mapping[str, object]) -> dict[str, str]:
    """The key of each step, in the order of the recipe; `facts` are what a step depends on beside settings."""
    made: dict[str, str] = {}
    for name, need in needs.items():
        content = {
            "step": name,
            "version": need.version,
            "settings": chosen(need, settings),
            "facts": facts.get(name),
            "steps": [made[step] for step in need.steps if step in made],
        }
        made[name] = hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()[:32]
    return made


def chosen(need: Needs, settings: Settings) -> dict[str, Any]:
    """The settings that a step depends on, by their path."""
    return {path: msgspec.to_builtins(_value(settings, path)) for path in need.settings}


def _value(settings: Settings, path: str) -> object:
    table, _, name = path.partition(".")
    return getattr(getattr(settings, table), name)


def plan(
    needs: Mapping[str, Needs],
    wanted: Mapping[str, str],
    settings: Settings,
    state: State,
    stat: Stat,
    *,
    first: str | None = None,
    last: str | None = None,
) -> list[Planned]:
    """What is to be done of the recipe, up to the step `last`.

    `wanted` are the keys of now. The step `first` and all that depend on it are done again even where they are good.
    Raises SettingsError for a step that there is not.
    """
    order = list(needs)
    for name in (first, last):
        if name is not None and name not in order:
            raise SettingsError(f"{name} is no step of the recipe; its steps are: {', '.join(order)}")
    planned: list[Planned] = []
    redone: set[str] = set()
    for name in order[: order.index(last) + 1] if last else order:
        why = "asked for" if name == first else _why(name, needs[name], wanted[name], settings, state, stat, redone)
        if why:
            redone.add(name)
        planned.append(Planned(name, why))
    return _with_files(planned, needs, state, stat)


def _with_files(planned: Sequence[Planned], needs: Mapping[str, Needs], state: State, stat: Stat) -> list[Planned]:
    """Good steps whose files are gone are done again where another one needs them."""
    result: list[Planned] = []
    wanted: set[str] = set()
    for step in reversed(planned):
        if not step.why and step.name in wanted and (gone := _other_files(state[step.name], stat)):
            step = Planned(step.name, f"{gone[0]} is needed again", same=True)
        if step.why:
            wanted.update(needs[step.name].steps)
        result.insert(0, step)
    return result


def _other_files(done: Done, stat: Stat) -> list[str]:
    return [file for file, stamp in done.files.items() if stat(file) != tuple(stamp)]


def _why(
    name: str, need: Needs, key: str, settings: Settings, state: State, stat: Stat, redone: Collection[str]
) -> str:
    """Why a step is to be done, in words; empty if it is good."""
    done = state.get(name)
    if done is None:
        return "not done yet"
    now = chosen(need, settings)
    if changed := [path for path in now if done.settings.get(path) != now[path]]:
        return f"changed: {', '.join(changed)}"
    if before := [step for step in need.steps if step in redone]:
        return f"follows {before[-1]}"
    if done.key != key:
        return "its input changed"
    if other := _other_files(done, stat):
        gone = need.passing and all(stat(file) is None for file in other)
        return "" if gone else f"{other[0]} is not as it was left"
    return ""


def forget(state: State, needs: Mapping[str, Needs], step: Planned) -> State:
    """The state without a step that is about to be done, and without those that depend on what changes."""
    gone = {step.name}
    for name, need in needs.items():
        if not step.same and gone.intersection(need.steps):
            gone.add(name)
    return {name: done for name, done in state.items() if name not in gone}


def to_do(planned: Sequence[Planned]) -> list[str]:
    """Names of the steps that have to be done."""
    return [step.name for step in planned if step.why]
