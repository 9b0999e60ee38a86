"""The command `simulate`: tilt series written into a folder in the pace of a microscope, and the truth beside them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from streamtomo.simulate.mdoc_text import Shot
from streamtomo.simulate.optics import Optics
from streamtomo.simulate.references import GAIN_FILES, write_references
from streamtomo.simulate.schemes import SCHEMES, tilt_angles
from streamtomo.simulate.series import Motion, Plan, Series, second_axis
from streamtomo.simulate.specimen import Recipe
from streamtomo.simulate.stack_writer import Written
from streamtomo.simulate.writers import COMPRESSIONS, CONTAINERS, ENDINGS, PATTERNS, open_writer

REST_S = 1.5
"""From the last tilt of a series until it is sorted: a program does not do that in the same instant."""
UNPACED_S = 20.0
"""Time between the stamps of tilts that are written without a pause."""


# -- the command line ----------------------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All options of the simulated microscope."""
    parser.add_argument("out", type=Path, help="folder to write to, as the microscope does; made if absent")
    parser.add_argument("--truth", type=Path, metavar="DIR", help="where NAME.json goes (default: OUT-truth)")
    parser.add_argument("--seed", type=int, default=1, help="of everything random (1)")
    for add in (_add_writing, _add_movies, _add_scheme, _add_specimen, _add_microscope, _add_faults):
        add(parser)


def _add_writing(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is written")
    group.add_argument("--pattern", choices=PATTERNS, default=PATTERNS[0], help="the writer imitated (%(default)s)")
    every = ", ".join(f"{pattern}: {' or '.join(kinds)}" for pattern, kinds in CONTAINERS.items())
    group.add_argument("--container", help=f"kind of image file, the first is the default ({every})")
    endings = ", ".join(f"{pattern}: {' or '.join(kinds)}" for pattern, kinds in ENDINGS.items())
    group.add_argument("--ending", default="none", help=f"what is done when a series is over (none; {endings})")
    group.add_argument("--restart-after", type=_count, metavar="TILTS", help="the series goes on in NAME_01")
    group.add_argument("--name", default="TS_01", help="of the series; several count on from it (%(default)s)")
    group.add_argument("--series", type=_count, default=1, help="number of series (1)")
    group.add_argument("--interleaved", action="store_true", help="one tilt of every series in turn")
    group.add_argument("--interval", type=_not_negative, default=1.0, metavar="S", help="between tilts; 0: none (1)")
    group.add_argument("--write-time", type=_not_negative, default=0.0, metavar="S", help="to write one image (0)")


def _add_movies(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("movies")
    group.add_argument("--frames", type=int, default=0, help="frames of each exposure; 0: single images (0)")
    group.add_argument("--frame-drift", type=float, default=2.0, metavar="PX", help="from first to last frame (2)")
    group.add_argument("--compression", choices=COMPRESSIONS, help="of TIFF files (movies lzw, single images none)")
    group.add_argument("--gain-spread", type=float, default=0.05, metavar="SD", help="of the pixels' response (0.05)")
    group.add_argument("--references", type=Path, metavar="DIR", help="gain and defects (default: OUT-references)")
    group.add_argument("--gain-file", choices=GAIN_FILES, default=GAIN_FILES[0], help="(%(default)s)")
    group.add_argument("--gain-rotate", type=int, choices=range(4), default=0, help="setting that undoes how it is (0)")
    group.add_argument("--gain-flip", choices=("none", "x", "y"), default="none", help="likewise (none)")


def _add_scheme(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("tilts")
    group.add_argument("--scheme", choices=tuple(SCHEMES), default="dose-symmetric", help="order (%(default)s)")
    group.add_argument("--tilts", type=_count, default=41, help="number of tilts (41)")
    group.add_argument("--step", type=float, default=3.0, metavar="DEG", help="(3)")
    group.add_argument("--start", type=float, default=0.0, metavar="DEG", help="where the scheme begins (0)")
    group.add_argument("--max-tilt", type=float, metavar="DEG", help="all tilts within this, instead of --tilts")
    group.add_argument(
        "--dual",
        type=float,
        nargs="?",
        const=90.0,
        metavar="DEG",
        help="a second series of each specimen, turned in the holder (90): NAMEa and NAMEb",
    )
    group.add_argument("--group", type=_count, default=1, help="tilts on one side before the other (1)")


def _add_specimen(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("specimen")
    group.add_argument("--thickness", type=float, default=150.0, metavar="NM", help="(150)")
    group.add_argument("--pitch", type=float, default=0.0, metavar="DEG", help="of the slab across the axis (0)")
    group.add_argument("--pretilt", type=float, default=0.0, metavar="DEG", help="of the slab about the axis (0)")
    group.add_argument("--beads", type=int, default=14, help="gold beads in the field (14)")
    group.add_argument("--bead-size", type=float, default=10.0, metavar="NM", help="(10)")
    group.add_argument("--bead-surface", choices=("both", "top", "bottom"), default="both", help="(both)")


def _add_microscope(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("microscope and camera")
    group.add_argument("--size", type=_size, default=(1024, 1024), metavar="WxH", help="pixels (1024x1024)")
    group.add_argument("--pixel-size", type=float, default=10.8, metavar="A", help="(10.8)")
    group.add_argument("--axis", type=float, default=85.3, metavar="DEG", help="tilt axis from the image's Y (85.3)")
    group.add_argument("--dose", type=float, default=3.0, metavar="E/A2", help="of each tilt (3)")
    group.add_argument("--defocus", type=float, default=4.0, metavar="UM", help="underfocus (4)")
    group.add_argument("--astigmatism", type=_astigmatism, default=(0.0, 0.0), metavar="UM:DEG", help="(0)")
    group.add_argument("--phase-shift", type=float, default=0.0, metavar="DEG", help="of a phase plate (0)")
    group.add_argument("--focus-error", type=float, default=0.0, metavar="UM", help="SD from tilt to tilt (0)")
    group.add_argument(
        "--focus-gradient", type=int, choices=(-1, 0, 1), default=0, help="1: what is higher is less underfocused (0)"
    )
    group.add_argument("--dtype", choices=("int16", "uint8", "uint16", "float32"), help="(int16, movies uint8)")
    group.add_argument("--gain", type=float, metavar="COUNTS", help="per electron (4, less for a small type; movies 1)")


def _add_faults(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("faults", "Tilts are numbered from 0 in the order of acquisition.")
    group.add_argument("--drift", type=float, default=6.0, metavar="PX", help="RMS shift between tilts (6)")
    group.add_argument("--jump", type=_jump, action="append", default=[], metavar="TILT:PX", help="a lasting shift")
    group.add_argument("--tilt-error", type=float, default=0.0, metavar="DEG", help="SD of the stage's error (0)")
    group.add_argument("--mag-change", type=float, default=0.0, help="relative, first to last tilt (0)")
    group.add_argument("--beam-tilt", type=float, default=0.0, metavar="DEG", help="of the beam along the axis (0)")
    group.add_argument("--local-motion", type=float, default=0.0, metavar="PX", help="RMS way of parts of the ice (0)")
    group.add_argument("--dome", type=float, default=0.0, metavar="PX", help="height that the ice bends up to (0)")
    group.add_argument("--dark", type=_tilts, default=(), metavar="TILT,...", help="closed shutter")
    group.add_argument("--grid-bar", type=float, metavar="NM", help="opaque beyond this distance across the axis")
    group.add_argument("--xrays", type=float, default=10.0, help="hits an image (10)")
    group.add_argument("--hot", type=int, default=20, help="hot pixels (20)")
    group.add_argument("--dead", type=int, default=0, help="dead pixels (0)")
    group.add_argument("--dead-columns", type=int, default=0, help="(0)")
    group.add_argument("--dead-rows", type=int, default=0, help="(0)")


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not 1 or more")
    return value


def _not_negative(text: str) -> float:
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def _size(text: str) -> tuple[int, int]:
    """`1024` or `1024x768` as width, height."""
    width, _, height = text.lower().partition("x")
    return _count(width), _count(height or width)


def _jump(text: str) -> tuple[int, float]:
    index, _, size = text.partition(":")
    return int(index), float(size or 160.0)


def _astigmatism(text: str) -> tuple[float, float]:
    size, _, direction = text.partition(":")
    return float(size), float(direction or 0.0)


def _tilts(text: str) -> tuple[int, ...]:
    return tuple(int(one) for one in text.split(",") if one)


# -- from options to a plan ----------------------------------------------------------------------------------------


def plans(args: argparse.Namespace) -> dict[str, Plan]:
    """A plan for each series, by name; all share the camera. Raises ValueError for what cannot be."""
    base = _plan(args)
    names = list(_names(args.name, args.series))
    planned = {name: replace(base, seed=args.seed + n, camera_seed=args.seed) for n, name in enumerate(names)}
    if args.dual is None:
        return planned
    pairs = {name: second_axis(plan, args.dual) for name, plan in planned.items()}
    return {f"{name}{letter}": plan for name, both in pairs.items() for letter, plan in zip("ab", both, strict=True)}


def _plan(args: argparse.Namespace) -> Plan:
    angles = SCHEMES[args.scheme](tilt_angles(args.start, args.step, args.tilts, args.max_tilt), args.start, args.group)
    wrong = [index for index in (*args.dark, *(index for index, _ in args.jump)) if not 0 <= index < len(angles)]
    if wrong:
        raise ValueError(f"there is no tilt {wrong[0]}: the series has tilts 0 to {len(angles) - 1}")
    if args.frames and args.pattern == "serialem-stack":
        raise ValueError("serialem-stack writes no movies: choose serialem-frames, tomo5 or plain")
    if args.container == "eer" and not args.frames:
        raise ValueError("EER files hold movies: say how many --frames")
    return Plan(
        angles_deg=tuple(angles),
        shape_yx=args.size[::-1],
        pixel_size_A=args.pixel_size,
        axis_deg=args.axis,
        dose_e_A2=args.dose,
        dtype=args.dtype or ("uint8" if args.frames else "int16"),
        gain=args.gain,
        frames=args.frames,
        gain_spread=args.gain_spread,
        recipe=Recipe(
            thickness_nm=args.thickness,
            pitch_deg=args.pitch,
            pretilt_deg=args.pretilt,
            beads=args.beads,
            bead_nm=args.bead_size,
            bead_surface=args.bead_surface,
        ),
        optics=Optics(
            underfocus_um=args.defocus,
            astigmatism_um=args.astigmatism[0],
            astigmatism_deg=args.astigmatism[1],
            phase_shift_deg=args.phase_shift,
            gradient=args.focus_gradient,
            focus_error_um=args.focus_error,
        ),
        motion=Motion(
            drift_px=args.drift,
            jumps=tuple(args.jump),
            tilt_error_deg=args.tilt_error,
            frame_drift_px=args.frame_drift,
            mag_change=args.mag_change,
            beam_tilt_deg=args.beam_tilt,
            local_px=args.local_motion,
            dome_px=args.dome,
        ),
        dark=args.dark,
        grid_bar_nm=args.grid_bar,
        xrays=args.xrays,
        hot=args.hot,
        dead=args.dead,
        dead_columns=args.dead_columns,
        dead_rows=args.dead_rows,
    )


def _names(first: str, count: int) -> Iterator[str]:
    """`TS_01`, `TS_02`, ...: the number at the end of the first name goes on, or begins at 1."""
    stem = first.rstrip("0123456789")
    digits = first[len(stem) :]
    if count == 1:
        yield first
        return
    for n in range(count):
        number = int(digits or 1) + n
        yield f"{stem}{number:0{len(digits)}d}" if digits else f"{stem}_{number}"


def order(names: Sequence[str], tilts: int, *, interleaved: bool) -> list[tuple[str, int]]:
    """Which tilt of which series is taken when."""
    if interleaved:
        return [(name, index) for index in range(tilts) for name in names]
    return [(name, index) for name in names for index in range(tilts)]


# -- the session ---------------------------------------------------------------------------------------------------


def main(args: argparse.Namespace) -> int:
    """Write all series; exit status 0, or 1 with a line on what is wrong."""
    try:
        simulate(args, time.sleep)
    except (ValueError, OSError) as error:
        print(f"streamtomo simulate: {error}", file=sys.stderr)
        return 1
    return 0


def simulate(args: argparse.Namespace, sleep: Callable[[float], None]) -> None:
    """Grow the specimens, then expose and write tilt after tilt, each when it is due."""
    planned = plans(args)
    args.out.mkdir(parents=True, exist_ok=True)
    truth = args.truth or args.out.absolute().with_name(f"{args.out.absolute().name}-truth")
    truth.mkdir(parents=True, exist_ok=True)
    schedule = order(list(planned), len(next(iter(planned.values())).angles_deg), interleaved=args.interleaved)
    begun = datetime.now() - timedelta(seconds=0 if args.interval else UNPACED_S * len(schedule))
    with ExitStack() as stack:
        sessions: dict[str, _Session] = {}
        start = time.monotonic()
        for n, (name, index) in enumerate(schedule):
            if name not in sessions:
                sessions[name] = stack.enter_context(closing(_Session(name, planned[name], args, truth, begun)))
            sessions[name].expose(index)
            if n == 0:
                start = time.monotonic()
            sleep(max(0.0, start + n * args.interval - time.monotonic()))
            sessions[name].write(begun + timedelta(seconds=n * UNPACED_S) if not args.interval else datetime.now())
            if index == len(planned[name].angles_deg) - 1:
                if args.interval and args.ending != "none":
                    sleep(REST_S)
                sessions[name].close()


def _write_references(args: argparse.Namespace, series: Series) -> None:
    folder = args.references or args.out.absolute().with_name(f"{args.out.absolute().name}-references")
    folder.mkdir(parents=True, exist_ok=True)
    divide = args.container == "eer" and args.gain_file != "gain"  # as RELION takes them
    write_references(
        folder, series.camera, kind=args.gain_file, rotate=args.gain_rotate, flip=args.gain_flip, divide=divide
    )


class _Session:
    """One series while it is acquired."""

    def __init__(self, name: str, plan: Plan, args: argparse.Namespace, truth: Path, begun: datetime) -> None:
        self._series, self._plan = Series(plan), plan
        self._writer = open_writer(
            args.pattern,
            args.out,
            name,
            shape_yx=plan.shape_yx,
            dtype=plan.dtype,
            pixel_size_A=plan.pixel_size_A,
            axis_deg=plan.axis_deg,
            started=begun,
            container=args.container,
            sections=max(256, len(plan.angles_deg)),
            write_s=args.write_time,
            compression=args.compression or ("lzw" if plan.frames else "none"),
            ending=args.ending,
            restart_after=args.restart_after,
        )
        self._out, self._truth_file = args.out, truth / f"{name}.json"
        self._truth = {"series": name, "pattern": args.pattern, **self._series.truth()}
        if plan.frames:
            _write_references(args, self._series)
        self._taken: list[tuple[Written, list[dict[str, float]]]] = []
        self._index, self._closed = 0, False

    def expose(self, index: int) -> None:
        """Take the image; it is not written yet."""
        self._index, self._exposure = index, self._series.expose(index)

    def write(self, when: datetime) -> None:
        """Write the image taken last."""
        index, dose = self._index, self._plan.dose_e_A2
        shot = Shot(
            angle_deg=float(self._series.read_deg[index]),
            when=when,
            dose_e_A2=dose,
            prior_dose_e_A2=round(index * dose, 6),
            defocus_um=-self._plan.optics.underfocus_um,
        )
        self._taken.append((self._writer.write(self._exposure.image, shot), self._exposure.xrays))

    def close(self) -> None:
        """End the series, and tell the truth about what was taken."""
        if self._closed:
            return
        self._closed = True
        moved = self._writer.close()
        views = self._truth["views"]
        assert isinstance(views, list)
        taken = [(moved.get(written, written), xrays) for written, xrays in self._taken]
        views = [
            {**view, "file": str(place.path.relative_to(self._out)), "section": place.section, "xrays": xrays}
            for view, (place, xrays) in zip(views, taken, strict=False)
        ]
        text = json.dumps({**self._truth, "views": views}, indent=1)
        self._truth_file.write_text(text + "\n", encoding="utf-8")
