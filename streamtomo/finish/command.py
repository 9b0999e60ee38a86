"""The command `finish`: the recipe by hand, for a series of a run or for data collected elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from streamtomo import config_file, jit
from streamtomo.config import Settings
from streamtomo.errors import InputError, SettingsError
from streamtomo.export import directives
from streamtomo.export.check import check_series
from streamtomo.export.fiducials import read_model
from streamtomo.export.imod import write_bytes, write_text
from streamtomo.finish import dual, recipe
from streamtomo.finish.dual_record import told_of
from streamtomo.finish.recipe import FinishJob, JobTilt, Order
from streamtomo.finish.state_file import state_path
from streamtomo.finish.worker import be_alone
from streamtomo.messages import Event, FinishStep, Warned
from streamtomo.model import RawImage, Tilt
from streamtomo.outfolder import leave_away
from streamtomo.publish.lines import words
from streamtomo.reconstruct import device
from streamtomo.watch.finished import read_series
from streamtomo.watch.images import probe


def finish(job: FinishJob, order: Order, *, dry_run: bool) -> int:
    """Do what is to be done of a job, and say it; returns the exit status."""
    folder = Path(job.folder)
    for step in recipe.planned(job, order):
        print(f"{step.name:12s} {'to do: ' + step.why if step.why else 'good, skipped'}")
    if dry_run:
        return 0
    leave_away(job.settings.run.umask)
    folder.mkdir(parents=True, exist_ok=True)
    be_alone(folder, job.series)
    write_text(job_path(folder, job.series), msgspec.json.encode(job).decode())
    jit.use_threads(job.settings.run.threads)
    print(f"computing on the {device.use(job.settings.run.device)}")
    done = recipe.run(job, _say, order)
    if done is not None:
        dual.combine_when_paired(job, _say)
    print(words(done) if done else f"{job.series}  ends after {order.last}, as asked for")
    return 0


def job_path(folder: Path, series: str) -> Path:
    """`NAME_job.json`: what a series is finished from."""
    return folder / f"{series}_job.json"


def job_of_run(out: Path, series: str, overrides: Sequence[str], config: Path | None = None) -> FinishJob:
    """The job that a series of a run was finished with, with other settings. Raises InputError if there is none."""
    path = job_path(out / series, series)
    try:
        job = msgspec.json.decode(path.read_bytes(), type=FinishJob)
    except FileNotFoundError:
        raise InputError(
            f"{path}: there is no such file; a series can be finished again once it is complete "
            f"(streamtomo close {series} --out {out}), and other data with --stack"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be used ({error}); finish the series with --stack") from None
    changes = (*config_file.as_overrides(config), *overrides)
    return msgspec.structs.replace(
        job, folder=str(out.absolute() / series), settings=config_file.changed(job.settings, changes)
    )


def job_of_stack(
    stack: Path, tilts: Path | None, out: Path, overrides: Sequence[str], config: Path | None = None
) -> FinishJob:
    """A job for a stack or a folder collected elsewhere; `tilts` has an angle a section. Raises InputError."""
    settings = config_file.load(config, overrides)
    if out.resolve() == stack.resolve().parent:
        raise SettingsError(f"{out}: the stack lies there, where nothing is written; choose another --out")
    images = _with_angles(stack, tilts, settings) if tilts else read_series(stack, settings).images
    name = stack.name.split(".")[0] if stack.is_file() else images[0].series
    axis = settings.acquisition.tilt_axis_deg
    stated = next((image.tilt_axis_deg for image in images if image.tilt_axis_deg is not None), None)
    pixel = next((image.pixel_size_A for image in images if image.pixel_size_A), None)
    return FinishJob(
        series=name,
        folder=str(out.absolute() / name),
        settings=settings,
        axis_deg=axis if axis is not None else stated or 0.0,
        pixel_size_A=settings.acquisition.pixel_size_A or pixel,
        tilts=tuple(JobTilt(tilt=Tilt(index=index, image=image)) for index, image in enumerate(images)),
        placed=False,
    )


def combine(out: Path, names: Sequence[str], overrides: Sequence[str], config: Path | None = None) -> int:
    """Combine two finished series; one: with its partner by name; none: all pairs. Returns the exit status.

    Raises InputError where there are none, and what `dual.combine` raises.
    """
    suffixes = config_file.load(config, overrides).dual.suffixes
    pair = dual.partners(names[0], suffixes) if len(names) == 1 else None
    if len(names) == 1 and pair is None:
        raise InputError(f"{names[0]}: its name ends in neither of the suffixes {suffixes!r}; name both series")
    pairs = [(names[0], names[1])] if len(names) == 2 else [pair] if pair else dual.pairs_in(out, suffixes)
    if not pairs:
        raise InputError(f"{out}: holds no two finished series whose names end in {suffixes!r}; name both series")
    for first, second in pairs:
        ours, theirs = job_of_run(out, first, overrides, config), dual.read_job(out, second)
        jit.use_threads(ours.settings.run.threads)
        made = dual.combine(ours, theirs, _say)
        print("\n".join([f"{first}  {key}: {told}" for key, told in told_of(made).items()]))
    return 0


def check(folder: Path) -> int:
    """Look at the files of a series, or of all series in a folder; returns the exit status. Raises InputError."""
    folders = [folder] if folder.is_dir() and state_path(folder, folder.resolve().name).exists() else []
    folders = folders or sorted(path for path in folder.glob("*/") if state_path(path, path.name).exists())
    if not folders:
        raise InputError(f"{folder}: holds no finished series")
    faults = 0
    for one in folders:
        name = one.resolve().name
        found = check_series(one, name)
        faults += len(found)
        print("\n".join(found) or f"{name}: sound")
    return 1 if faults else 0


def read_directives(path: Path) -> tuple[str, ...]:
    """The settings in a batchruntomo directive file; directives that nothing is done about are named."""
    found = directives.read(path)
    for key in found.unknown:
        print(f"warning: {path}: {key} is not known here, and not followed", file=sys.stderr)
    return found.overrides


def with_fiducials(job: FinishJob, model: Path, *, dry_run: bool = False) -> FinishJob:
    """The job with a bead model in the place of the tracking. Raises InputError for one that cannot be read.

    The model is kept beside the results (not in a `dry_run`): the step `solve` writes `NAME.fid` anew.
    """
    read_model(model)
    kept = Path(job.folder) / f"{job.series}_edited.fid"
    if dry_run:
        return msgspec.structs.replace(job, fiducials=str(model))
    if model.resolve() != kept.resolve():
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(kept, model.read_bytes())
    return msgspec.structs.replace(job, fiducials=str(kept))


def _with_angles(stack: Path, tilts: Path, settings: Settings) -> list[RawImage]:
    """The images of a stack with the angles of a text file; what else is known comes from beside the stack."""
    try:
        info = probe(stack)
        angles = [float(word) for word in tilts.read_text().split()]
    except OSError as error:
        raise InputError(f"{error.filename}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise InputError(f"{tilts}: is no list of angles ({error})") from None
    if len(angles) != info.sections:
        raise InputError(f"{tilts}: {len(angles)} angles for {info.sections} sections of {stack}; they must be as many")
    try:
        known = {image.section: image for image in read_series(stack, settings).images}
    except InputError:
        known = {}
    plain = RawImage(
        series=stack.name.split(".")[0],
        path=str(stack.absolute()),
        nx=info.nx,
        ny=info.ny,
        angle_deg=0.0,
        written_s=stack.stat().st_mtime,
        pixel_size_A=info.pixel_size_A,
        tilt_axis_deg=info.tilt_axis_deg,
    )
    return [msgspec.structs.replace(known.get(n, plain), section=n, angle_deg=angle) for n, angle in enumerate(angles)]


def _say(event: Event) -> None:
    if isinstance(event, FinishStep) and not event.part and not event.skipped:
        print(f"{event.step} ...", flush=True)
    elif isinstance(event, Warned):
        print(f"warning: {event.text}", file=sys.stderr, flush=True)
