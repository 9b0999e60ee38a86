"""Two series of one area about two tilt axes become one tomogram, in the folder and the frame of the first.

match (beads, or patches of the density) -> the second in the first's frame -> combined in frequencies -> (denoise)

The outcome is `NAME_dual_rec.mrc` with its pictures; `NAME_dual.json` says how it came about and how well both agree.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from streamtomo import __version__, geometry
from streamtomo.config_preset import with_preset
from streamtomo.errors import AlignmentError, InputError, StreamtomoError
from streamtomo.export import mrc
from streamtomo.export.imod import json_text, write_text
from streamtomo.finish.dual_record import DIFFUSED, REC, RECORD, Dual
from streamtomo.finish.pages import write_page
from streamtomo.finish.plan import Stamp
from streamtomo.finish.position import Position
from streamtomo.finish.second import Second, write_second
from streamtomo.finish.state_file import read_state, stamp
from streamtomo.finish.steps_align import Solved
from streamtomo.finish.steps_restore import wants_denoise, write_diffused
from streamtomo.finish.steps_volume import Stacked, lie_of, picture
from streamtomo.finish.tomogram import Sections
from streamtomo.finish.work import DUAL, FinishJob, Say, Work
from streamtomo.finish.worker import be_alone
from streamtomo.messages import FinishStep, Warned
from streamtomo.model import Tomogram
from streamtomo.restore.combine import SHELLS, Agreement, Field, Sampling, combined_bands, sampling
from streamtomo.restore.match import ALL_ROUND_DEG, Match, match_beads
from streamtomo.restore.patches3d import match_patches

Array = NDArray[np.float64]

STEP = "combine"
STATED_REACH_DEG = 10.0
"""A turn that was stated is right to this."""
AGREED = 0.143
"""Both volumes agree down to where their correlation falls below this."""
HAND_MORE, HAND_BETTER = 1.2, 3.0
"""So many times more pairs, or a residual so many times smaller, with one volume inverted: its hand is wrong."""
DOUBTFUL_PX = 3.0
"""A residual beyond this many voxels is warned of."""
DOUBTFUL_SHELLS = 4
"""... and so is a combination whose volumes do not agree in any of the first shells."""


# -- which series belong together --------------------------------------------------------------------------------------


def partners(name: str, suffixes: str) -> tuple[str, str] | None:
    """The pair that a series is one of, by its name; None for a name that ends in neither suffix."""
    first, second = suffixes.split()
    for end in (first, second):
        if name.endswith(end) and len(name) > len(end):
            stem = name.removesuffix(end)
            return f"{stem}{first}", f"{stem}{second}"
    return None


def pairs_in(out: Path, suffixes: str) -> list[tuple[str, str]]:
    """All pairs of finished series in an output folder, by their names."""
    names = {path.name for path in out.iterdir() if path.is_dir() and is_finished(path)}
    found = (partners(name, suffixes) for name in sorted(names))
    return list(dict.fromkeys(pair for pair in found if pair and set(pair) <= names))


def is_finished(folder: Path) -> bool:
    """Whether a series has its tomogram and all that follows from it."""
    return "report" in read_state(folder, folder.name) and (folder / f"{folder.name}_rec.mrc").exists()


# -- combining ---------------------------------------------------------------------------------------------------------


def combine(first: FinishJob, second: FinishJob, say: Say) -> Dual:
    """Combine two finished series in the folder of the first, by its settings.

    Raises InputError where one is not finished, AlignmentError where they do not match, OutputError.
    """
    start = time.monotonic()
    a, b = _finished(first, say), _finished(second, say)
    be_alone(a.folder, a.name)
    made_from = _stamp_of(a), _stamp_of(b)
    _say(a, 0.0)
    by, match = find_match(a, b)
    _say(a, 0.1)
    between = a.path(f"{DUAL}_second.mrc")
    try:
        from_first = Second(b, match, mrc.shape_of(a.path("_rec.mrc")))
        how = write_second(from_first, between, lambda part: _say(a, 0.1 + 0.4 * part))
        made, agreement = _write_combined(a, from_first, between)
    finally:
        between.unlink(missing_ok=True)
    files = [f"{a.name}{REC}", *made.pictures]
    if wants_denoise(a.settings):
        write_diffused(a, REC, DIFFUSED, f"{a.name} and {b.name}")
        files.append(f"{a.name}{DIFFUSED}")
    voxel = made.tomogram.pixel_size_A
    record = Dual(
        first=a.name,
        second=b.name,
        by=by,
        pairs=len(match.pairs),
        residual_px=round(match.residual_px, 3),
        largest_px=round(match.largest_px, 3),
        turn_deg=round(turn_of(match), 3),
        matrix=tuple((x, y, z) for x, y, z in np.round(match.matrix, 6).tolist()),
        shift=_three(np.round(match.shift, 3)),
        shared=round(made.shared, 3),
        how=how,
        agreement=tuple(agreement.shells),
        agreement_A=_agreement_A(agreement.shells, voxel),
        tomogram=made.tomogram,
        files=tuple(files),
        made_from=made_from,
        seconds=round(time.monotonic() - start, 2),
    )
    _doubt(a, record)
    write_text(a.path(RECORD), json_text(record))
    write_page(a)
    _say(a, 1.0)
    return record


def combine_when_paired(job: FinishJob, say: Say) -> Dual | None:
    """After a series was finished: combine it with its partner, where that is finished, too, and it is wanted.

    What stands in the way is a warning: both series have their tomograms all the same.
    """
    wanted = with_preset(job.settings).dual
    pair = partners(job.series, wanted.suffixes)
    if wanted.combine == "off" or pair is None:
        return None
    out = Path(job.folder).parent
    other = pair[1] if job.series == pair[0] else pair[0]
    if not is_finished(out / other):
        return None
    try:
        theirs = read_job(out, other)
        return combine(*((job, theirs) if job.series == pair[0] else (theirs, job)), say)
    except StreamtomoError as error:
        say(Warned(code="dual.failed", text=f"{pair[0]} and {pair[1]} are not combined: {error}", series=job.series))
        return None


def read_job(out: Path, series: str) -> FinishJob:
    """What a series was finished from. Raises InputError."""
    path = out / series / f"{series}_job.json"
    try:
        job = msgspec.json.decode(path.read_bytes(), type=FinishJob)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such file; finish {series} first") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be used ({error}); finish {series} again") from None
    return msgspec.structs.replace(job, folder=str(out.absolute() / series))


def _finished(job: FinishJob, say: Say) -> Work:
    work = Work(job, say)
    work.state = read_state(work.folder, work.name)
    if not is_finished(work.folder):
        raise InputError(
            f"{work.folder}: {work.name} is not finished; two axes are combined when both series are: streamtomo "
            f"finish {work.name} --out {work.folder.parent}"
        )
    return work


def _stamp_of(work: Work) -> Stamp:
    found = stamp(work.path("_rec.mrc"))
    assert found is not None
    return found


def _say(work: Work, part: float) -> None:
    work.say(FinishStep(series=work.name, step=STEP, fraction=1.0, part=round(part, 3)))


# -- matching ----------------------------------------------------------------------------------------------------------


def find_match(a: Work, b: Work) -> tuple[str, Match]:
    """How the second's tomogram lies in the first's: by beads where these agree, else by patches.

    Raises AlignmentError where neither does.
    """
    stated = a.settings.dual.turn_deg
    turn, reach = (0.0, ALL_ROUND_DEG) if stated is None else (stated, STATED_REACH_DEG)
    voxel = voxel_ratio(a, b)
    beads = flat_points(a), flat_points(b) * voxel
    found, no_beads = _matched(beads, turn, reach)
    _check_hand(a, b, found, _matched((beads[0], -beads[1]), turn, reach)[0])
    if found is not None:
        return "beads", found._replace(matrix=found.matrix * voxel)
    try:
        with mrc.mapped(a.path("_rec.mrc")) as ours, mrc.mapped(b.path("_rec.mrc")) as theirs:
            return "patches", match_patches(ours, theirs, turn, reach_deg=reach, b_voxel=voxel)
    except ValueError as error:
        raise AlignmentError(
            f"{a.name} and {b.name} do not match ({no_beads}; {error}); are they of one area? If so, state the turn "
            "between them: dual.turn_deg"
        ) from None


def _matched(beads: tuple[Array, Array], turn: float, reach: float) -> tuple[Match | None, str]:
    """The match of beads, or why there is none."""
    try:
        return match_beads(*beads, turn_deg=turn, reach_deg=reach), ""
    except ValueError as error:
        return None, str(error)


def _check_hand(a: Work, b: Work, found: Match | None, inverted: Match | None) -> None:
    """Raise AlignmentError where beads agree better with one volume inverted: one of the axes is 180 degrees off.

    Beads of one surface alone agree either way, and those of a thin specimen nearly so.
    """
    if inverted is None:
        return
    if found is not None:
        more = len(inverted.pairs) >= HAND_MORE * len(found.pairs)
        nearer = len(inverted.pairs) >= len(found.pairs) and HAND_BETTER * inverted.residual_px < found.residual_px
        if not (more or nearer):
            return
    raise AlignmentError(
        f"{a.name} and {b.name} match only with the hand of one of them changed: one of the tilt axes "
        f"({a.job.axis_deg:g}° and {b.job.axis_deg:g}°) is 180° off; set acquisition.tilt_axis_deg for it"
    )


def voxel_ratio(a: Work, b: Work) -> float:
    """Voxel of the second tomogram in voxels of the first."""
    ours, theirs = (work.product("stack", Stacked) for work in (a, b))
    if ours.voxel_A is None or theirs.voxel_A is None:
        return theirs.binning / ours.binning
    return theirs.voxel_A / ours.voxel_A


def flat_points(work: Work) -> Array:
    """Beads of the alignment `(n, 3)` in the tomogram as it lies, voxels from its middle; none if by patches."""
    solved, at = work.product("solve", Solved), work.product("position", Position)
    lie, binning = lie_of(work), work.product("stack", Stacked).binning
    to_flat = (geometry.rotation_y(at.offset_deg) @ geometry.rotation_x(lie.pitch_deg)).T
    points = solved.beads_px / binning
    return np.asarray(points @ to_flat.T - (0.0, 0.0, lie.height), np.float64)


def turn_of(match: Match) -> float:
    """Of the second into the first about Z, degrees."""
    return float(np.degrees(np.arctan2(match.matrix[1, 0], match.matrix[0, 0])))


# -- the combined tomogram ---------------------------------------------------------------------------------------------


class Combined(Struct, frozen=True):
    """What was written."""

    tomogram: Tomogram
    pictures: tuple[str, ...]
    shared: float


def _write_combined(a: Work, second: Second, between: Path) -> tuple[Combined, Agreement]:
    stacked, agreement = a.product("stack", Stacked), Agreement()
    with mrc.mapped(a.path("_rec.mrc")) as ours, mrc.mapped(between) as turned:
        shape, kind = ours.shape, str(ours.dtype)
        label = f"streamtomo {__version__}: {a.name} and {second.work.name}, two axes, combined by frequency"
        sections, field = Sections(*shape), field_of(second)
        bands = combined_bands(ours, second.in_first(turned), *samplings(a, second), field, agreement)
        with mrc.new_blocks(a.path(REC), shape, kind, pixel_size_A=stacked.voxel_A, kind="volume", label=label) as file:
            for y0, band in bands:
                block = np.clip(np.rint(band), -32768, 32767).astype(np.int16) if kind == "int16" else band
                sections.take(y0, block)
                file.write(y0, block)
                _say(a, 0.5 + 0.45 * (y0 + band.shape[1]) / shape[1])
            values = file.statistics
    pictures = tuple(picture(a, f"{DUAL}_rec_{plane}.png", seen) for plane, seen in sections.pictures.items())
    tomogram = Tomogram(
        path=str(a.path(REC)),
        nx=shape[2],
        ny=shape[1],
        nz=shape[0],
        binning=stacked.binning,
        pixel_size_A=stacked.voxel_A,
        mean=round(values.mean, 4),
        sd=round(values.sd, 4),
    )
    return Combined(tomogram, pictures, _shared(field, shape)), agreement


def samplings(a: Work, second: Second) -> tuple[Sampling, Sampling]:
    """What both series sampled, in the frame of the first."""
    ours, theirs = lie_of(a), lie_of(second.work)
    to_views = geometry.rotation_x(theirs.pitch_deg) @ np.linalg.inv(second.match.matrix)
    return (
        sampling(ours.tilts_deg, ours.nz, geometry.rotation_x(ours.pitch_deg)),
        sampling(theirs.tilts_deg, ours.nz, to_views),
    )


def field_of(second: Second) -> Field:
    """Where the second series saw the first's voxels at zero tilt."""
    stacked, back = second.work.product("stack", Stacked), np.linalg.inv(second.match.matrix)
    table = np.column_stack([back, -back @ second.match.shift])[:2]
    return Field(table, (stacked.nx / 2, stacked.ny / 2))


def _shared(field: Field, shape: tuple[int, ...]) -> float:
    y, x = (np.linspace(-0.5, 0.5, 65) * n for n in shape[1:])
    return float(field.covers(x, y, np.zeros(1)).mean())


# -- telling -----------------------------------------------------------------------------------------------------------


def _agreement_A(shells: list[float], voxel_A: float | None) -> float | None:
    """Where the correlation first falls below AGREED, as a resolution."""
    good = next((i for i, value in enumerate(shells) if value < AGREED), SHELLS)
    return None if not good or voxel_A is None else round(2 * SHELLS * voxel_A / good, 1)


def _doubt(a: Work, made: Dual) -> None:
    if made.residual_px > DOUBTFUL_PX:
        text = f"{made.by} of {made.first} and {made.second} are {made.residual_px:.1f} voxels apart (RMS)"
        a.warn("dual.residual", f"{text}: fine detail of the two is not in one place")
    if max(made.agreement[:DOUBTFUL_SHELLS]) < AGREED:
        a.warn(
            "dual.doubtful",
            f"the tomograms of {made.first} and {made.second} do not agree where both sampled (correlation "
            f"{max(made.agreement[:DOUBTFUL_SHELLS]):.2f} at most): the match may be wrong; state dual.turn_deg",
        )


def _three(values: Array) -> tuple[float, float, float]:
    x, y, z = values.tolist()
    return x, y, z
