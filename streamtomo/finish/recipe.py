"""The recipe: a complete series becomes files that a scientist opens. It knows the order of the steps.

    collect -> clean -> coarse -> track -> solve -> position -> stack -> (erase) -> (ctf) -> reconstruct -> trim
    -> (denoise) -> export -> report

Everything lands in the folder of the series; each file appears whole or not at all. What each step was done with and
what it left is in `NAME_recipe.json`: the recipe can die at any instant and goes on where the files are good, and a
changed setting redoes just what depends on it. Steps in brackets are done where a setting asks for them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from streamtomo.config import Settings
from streamtomo.config_preset import with_preset
from streamtomo.errors import OutputError
from streamtomo.finish import plan as planning
from streamtomo.finish import steps_align, steps_restore, steps_results, steps_views, steps_volume
from streamtomo.finish.plan import Done, Needs, Planned, State
from streamtomo.finish.state_file import read_state, stamp, write_state
from streamtomo.finish.steps_align import Solved
from streamtomo.finish.steps_volume import Reconstructed
from streamtomo.finish.work import FinishJob as FinishJob
from streamtomo.finish.work import JobTilt as JobTilt
from streamtomo.finish.work import Say, Work
from streamtomo.messages import FinishDone, FinishStep

Facts = Callable[[FinishJob], object]
Do = Callable[[Work], tuple[Struct, tuple[str, ...]]]


def _always(_settings: Settings) -> bool:
    return True


class Step(NamedTuple):
    """One step: what its results depend on, and what makes them."""

    name: str
    needs: Needs
    do: Do
    """Makes the step's product and files; returns it and their names in the series' folder."""
    share: float
    """Of the time that the recipe usually takes, roughly."""
    facts: Facts = lambda job: None
    """What of the job its results depend on, beside settings."""
    wanted: Callable[[Settings], bool] = _always


def _pixel(job: FinishJob) -> object:
    return job.pixel_size_A


MOVIES = tuple(f"movies.{field.name}" for field in msgspec.structs.fields(type(Settings().movies)))
FILTERS = (
    "final.method", "final.log", "final.sirt_iterations", "final.sirt_relaxation", "final.sirt_sign",
    "final.sirt_mask", "final.sirt_like", "final.radial_cutoff",
    "final.radial_falloff", "final.roll_off", "final.even_coverage", "final.halves", "final.volume_type",
)  # fmt: skip
STACK = ("final.binning", "final.longest_px", "final.dose_weighting", "acquisition.voltage_kV")
LENS = (
    "ctf.correct", "ctf.lowest_um", "ctf.highest_um", "ctf.astigmatism", "ctf.phase_plate", "ctf.hand",
)  # fmt: skip
OPTICS = ("acquisition.voltage_kV", "acquisition.cs_mm", "acquisition.amplitude_contrast")

STEPS = (
    Step("collect", Needs(), steps_views.collect, 0.01, facts=steps_views.collected_from),
    Step(
        "clean",
        Needs(
            ("collect",),
            ("correct.outlier_sigma", "acquisition.flip_tiff_rows", "final.stack_GB", *MOVIES),
            passing=True,
        ),
        steps_views.clean,
        0.15,
        facts=_pixel,
    ),
    Step(
        "coarse",
        Needs(("clean",), ("align.band_low", "align.band_high", "align.max_shift", "live.size_px")),
        steps_views.coarse,
        0.02,
        facts=steps_views.placed_from,
    ),
    Step(
        "track",
        Needs(("clean", "coarse"), ("final.align", "specimen.bead_nm")),
        steps_align.run_track,
        0.2,
        facts=steps_align.tracked_from,
    ),
    Step("solve", Needs(("clean", "coarse", "track")), steps_align.run_solve, 0.02),
    Step(
        "position",
        Needs(("clean", "solve"), ("final.position", "specimen.thickness_nm")),
        steps_volume.position,
        0.1,
    ),
    Step(
        "stack",
        Needs(("clean", "solve"), STACK, passing=True),
        steps_volume.stack,
        0.15,
    ),
    Step(
        "erase",
        Needs(("solve", "position", "stack"), ("erase.gold", "erase.edge_nm", "specimen.bead_nm"), passing=True),
        steps_restore.erase,
        0.1,
        wanted=steps_restore.wants_erase,
    ),
    Step(
        "ctf",
        Needs(("solve", "position", "stack", "erase"), (*LENS, *OPTICS), passing=True),
        steps_restore.ctf,
        0.1,
        wanted=steps_restore.wants_ctf,
    ),
    Step(
        "reconstruct",
        Needs(("solve", "position", "stack", "ctf", "erase"), FILTERS, version=2),
        steps_volume.reconstruct,
        0.3,
    ),
    Step("trim", Needs(("reconstruct",)), steps_volume.trim, 0.02),
    Step(
        "denoise",
        Needs(("reconstruct",), ("denoise.iterations", "denoise.k", "denoise.sigma")),
        steps_restore.denoise,
        0.2,
        wanted=steps_restore.wants_denoise,
    ),
    Step(
        "export",
        Needs(
            ("clean", "coarse", "track", "solve", "position", "stack", "reconstruct", "trim"),
            (*OPTICS, "specimen.bead_nm", "export.ome_zarr"),
            version=2,
        ),
        steps_results.export,
        0.02,
    ),
    Step(
        "report",
        Needs(
            ("solve", "position", "stack", "ctf", "erase", "reconstruct", "trim", "denoise", "export"),
            ("export.movie",),
            version=2,
        ),
        steps_results.report,
        0.02,
    ),
)


class Order(NamedTuple):
    """What is asked for."""

    first: str | None = None
    """This step and what depends on it are done again, even where they are good."""
    last: str | None = None
    """The recipe ends after this step."""


ALL = Order()


def planned(job: FinishJob, order: Order = ALL) -> list[Planned]:
    """The steps of a job, with the reason why each is to be done. Raises SettingsError for an unknown step."""
    job = _with_preset(job)
    return _planned(job, read_state(Path(job.folder), job.series), order)


def run(job: FinishJob, say: Say, order: Order = ALL) -> FinishDone | None:
    """All steps that are not good, in order; the summary, or None where the recipe ends before the tomogram.

    Raises AlignmentError, InputError or OutputError.
    """
    start = time.monotonic()
    work = Work(job, say)
    job = _with_preset(job)
    _make_folder(work.folder)
    work.state = read_state(work.folder, work.name)
    steps = _steps(job.settings)
    keys = _keys(job)
    todo = _planned(job, work.state, order)
    for step in todo:
        name = step.name
        _say_step(work, name, 0.0, skipped=not step.why)
        if not step.why:
            continue
        work.state = planning.forget(work.state, _needs(job.settings), step)
        work.progress = lambda part, name=name: _say_step(work, name, max(part, 0.001))  # type: ignore[misc]
        begun = time.monotonic()
        product, files = steps[name].do(work)
        work.state[name] = Done(
            key=keys[name],
            settings=planning.chosen(steps[name].needs, job.settings),
            files={file: found for file in files if (found := stamp(work.folder / file))},
            seconds=round(time.monotonic() - begun, 3),
            product=msgspec.Raw(msgspec.json.encode(product)),
        )
        write_state(work.folder, work.name, work.state)
    if "report" not in work.state or (order.last and order.last != "report"):
        return None
    return _done(work, round(time.monotonic() - start, 2))


def _with_preset(job: FinishJob) -> FinishJob:
    return msgspec.structs.replace(job, settings=with_preset(job.settings))


def _steps(settings: Settings) -> dict[str, Step]:
    return {step.name: step for step in STEPS if step.wanted(settings)}


def _needs(settings: Settings) -> dict[str, Needs]:
    return {name: step.needs for name, step in _steps(settings).items()}


def _keys(job: FinishJob) -> dict[str, str]:
    facts = {name: step.facts(job) for name, step in _steps(job.settings).items()}
    return planning.keys(_needs(job.settings), job.settings, facts)


def _planned(job: FinishJob, state: State, order: Order) -> list[Planned]:
    folder = Path(job.folder)
    return planning.plan(
        _needs(job.settings),
        _keys(job),
        job.settings,
        state,
        lambda file: stamp(folder / file),
        first=order.first,
        last=order.last,
    )


def _say_step(work: Work, name: str, part: float, *, skipped: bool = False) -> None:
    steps = list(_steps(work.settings).values())
    at = [step.name for step in steps].index(name)
    total = sum(step.share for step in steps)
    fraction = (sum(step.share for step in steps[:at]) + part * steps[at].share) / total
    work.say(FinishStep(series=work.name, step=name, fraction=round(fraction, 3), part=round(part, 3), skipped=skipped))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror})") from error


def _done(work: Work, seconds: float) -> FinishDone:
    files = [str(work.folder / file) for done in work.state.values() for file in done.files]
    return FinishDone(
        series=work.name,
        seconds=seconds,
        alignment=work.product("solve", Solved).alignment,
        tomogram=work.product("reconstruct", Reconstructed).tomogram,
        files=tuple(dict.fromkeys(files)),
    )
