"""What the pages for people show: of a finished series, and of a whole output folder."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np

from streamtomo import __version__, config_file
from streamtomo.errors import OutputError
from streamtomo.export.imod import write_text
from streamtomo.finish.dual_record import read_record, told_of
from streamtomo.finish.page_plots import plots
from streamtomo.finish.position import Position
from streamtomo.finish.state_file import read_state, state_path
from streamtomo.finish.steps_align import Solved
from streamtomo.finish.steps_restore import Denoised, Goldless, Lens
from streamtomo.finish.steps_volume import Reconstructed, Stacked
from streamtomo.finish.work import DUAL, Work
from streamtomo.model import Alignment
from streamtomo.publish import journal
from streamtomo.publish.report import SMALL_PICTURE_PX, Line, Page, Picture, page, session_page, small
from streamtomo.publish.state import SeriesRow, SessionState
from streamtomo.restore.ctf import Focus

CAPTIONS = {
    "xy": "tomogram, middle section from above",
    "xz": "tomogram, seen along the tilt axis",
    "yz": "tomogram, seen across the tilt axis",
}
HEADS = (
    "views",
    "left out",
    "aligned by",
    "residual, px",
    "thickness, nm",
    "pitch, °",
    "offset, °",
    "voxel, Å",
    "size",
)


def write_page(work: Work) -> str:
    """`NAME_report.html`, offline and whole; its name. Raises OutputError."""
    write_text(work.path("_report.html"), page(_page(work)))
    return f"{work.name}_report.html"


def _page(work: Work) -> Page:
    solved, at = work.product("solve", Solved), work.product("position", Position)
    dual = read_record(work.folder, work.name)
    files = {file for done in work.state.values() for file in done.files} | set(dual.files if dual else ())
    steps = [("step", "seconds"), *((name, f"{done.seconds:.2f}") for name, done in work.state.items())]
    left_out = [(str(one.index), one.reason) for one in solved.alignment.left_out]
    return Page(
        name=work.name,
        subtitle=f"finished by streamtomo {__version__}; all lengths in pixels are raw ones",
        warnings=[at.warning] if at.warning else [],
        facts={**_facts(work), **_restored(work), **(told_of(dual) if dual else {})},
        pictures=_pictures(work),
        plots=plots(work),
        tables={
            "Views left out": [("tilt", "why"), *left_out],
            "Worst points": _worst(solved.alignment),
            "Views": _views(solved.alignment),
            "Settings that are not the default": [("setting", "value"), *_other_settings(work)],
            "Steps": steps,
            "Files": [("file",), *((file,) for file in sorted(files))],
        },
    )


def _restored(work: Work) -> dict[str, str]:
    """What was done about lens, gold and noise."""
    facts = {}
    if "ctf" in work.state:
        lens = work.product("ctf", Lens)
        facts["lens"] = lens.how if lens.focus is None else f"{lens.how}; {_focus_in_words(lens.focus)}"
    if "erase" in work.state:
        gone = work.product("erase", Goldless)
        facts["gold"] = f"{gone.beads} beads erased, discs of {gone.radius_px:.1f} px"
    if "denoise" in work.state:
        by = work.product("denoise", Denoised)
        facts["diffusion"] = f"K {by.k:.4g}, {by.iterations} iterations"
    return facts


def _focus_in_words(focus: Focus) -> str:
    confidence = float(np.median([view.confidence for view in focus.views]))
    seen = [view.resolution_A for view in focus.views if view.resolution_A is not None]
    rings = f"rings seen to {np.median(seen):.1f} Å in {len(seen)} views" if seen else "no rings seen in single views"
    return (
        f"astigmatism {focus.astigmatism_um:.2f} µm at {focus.astigmatism_deg:.0f}°, hand {focus.hand} (odds "
        f"e^{focus.hand_odds:.0f}), confidence {confidence:.2f} (median), {rings}"
    )


def _facts(work: Work) -> dict[str, str]:
    alignment, at = work.product("solve", Solved).alignment, work.product("position", Position)
    made, stacked = work.product("reconstruct", Reconstructed), work.product("stack", Stacked)
    tomogram = made.tomogram
    return {
        "views": f"{len(alignment.views)} of {len(work.job.tilts)}",
        "alignment": f"by {alignment.method}: {alignment.note}",
        **_quality(alignment, work.job.pixel_size_A),
        "tilt axis": f"{alignment.axis_deg:.2f}° (nominal {work.job.axis_deg:.2f}°)",
        "thickness of the specimen": _nm(at.thickness_px, work.job.pixel_size_A),
        "its surfaces, above the tilt axis": _surfaces(at, work.job.pixel_size_A),
        "pitch, tilt offset": f"{at.pitch_deg:.2f}°, {at.offset_deg:.2f}° ({at.note})",
        "dose": stacked.note or "views are not weighted by dose",
        "tomogram": f"{tomogram.nx} x {tomogram.ny} x {tomogram.nz} voxels of {_number(stacked.voxel_A, ' Å', 3)}",
        "made by": f"{made.how}; value = density * {made.scale:.6g} + {made.offset:.6g}",
    }


def _surfaces(at: Position, pixel_size_A: float | None) -> str:
    """Heights of the lower and the upper one, in the specimen lying flat."""
    if at.thickness_px is None:
        return "not found"
    return " and ".join(_nm(at.height_px + side * at.thickness_px / 2, pixel_size_A) for side in (-1, 1))


def _quality(alignment: Alignment, pixel_size_A: float | None) -> dict[str, str]:
    """How good the alignment is, in words and in numbers."""

    def length(value: float | None) -> str:
        if value is None:
            return "not known"
        return f"{value:.3f} px" + (f" ({value * pixel_size_A / 10:.3f} nm)" if pixel_size_A else "")

    facts = {"verdict": alignment.verdict}
    if alignment.residual_px is None:
        return facts
    told = [view for view in alignment.views if view.points]
    counts = [view.points for view in alignment.views]
    centre, edge = (
        float(np.sqrt(np.mean([value**2 for view in told if (value := getattr(view, name)) is not None] or [np.nan])))
        for name in ("error_px", "edge_error_px")
    )
    return facts | {
        "solved": alignment.solved,
        "residual": f"mean {length(alignment.mean_residual_px)}, sd {length(alignment.sd_residual_px)}",
        "error of points left out": length(alignment.left_out_px),
        "expected error": f"{length(alignment.error_px)} over the field; {length(centre)} at its centre, "
        f"{length(edge)} at its corners",
        "points a view": f"{min(counts)} to {max(counts)}, median {np.median(counts):.0f}; {alignment.points} in all",
    }


def _worst(alignment: Alignment) -> list[tuple[str, ...]]:
    head = ("point", "row", "tilt, °", "residual, px", "counts")
    rows = [
        (str(one.point + 1), str(one.row), f"{alignment.views[one.row].tilt_deg:.1f}", f"{one.residual_px:.2f}",
         f"{one.weight:.2f}")
        for one in alignment.worst
    ]  # fmt: skip
    return [head, *rows]


def _views(alignment: Alignment) -> list[tuple[str, ...]]:
    """A row a view: how well it fits and is known."""
    head = ("row", "tilt, °", "points", "residual, px", "expected error, px", "at the corners")
    rows = [
        (str(row), f"{view.tilt_deg:.2f}", str(view.points), _number(view.residual_px, "", 3),
         _number(view.error_px, "", 3), _number(view.edge_error_px, "", 3))
        for row, view in enumerate(alignment.views)
    ]  # fmt: skip
    return [head, *rows]


def _number(value: float | None, unit: str, digits: int) -> str:
    return "not known" if value is None else f"{value:.{digits}f}{unit}"


def _nm(pixels: float | None, pixel_size_A: float | None) -> str:
    if pixels is None:
        return "not found"
    return f"{pixels * pixel_size_A / 10:.0f} nm" if pixel_size_A else f"{pixels:.0f} px"


def _pictures(work: Work) -> list[Picture]:
    files = {caption: work.path(f"_rec_{plane}.png") for plane, caption in CAPTIONS.items()}
    if read_record(work.folder, work.name):
        combined = {f"two axes combined: {caption}": f"{DUAL}_rec_{plane}.png" for plane, caption in CAPTIONS.items()}
        files |= {caption: work.path(suffix) for caption, suffix in combined.items()}
    files["view in the middle of the series, aligned"] = work.path("_ali_mid.png")
    found = ((caption, small(path)) for caption, path in files.items())
    return [Picture(caption, png) for caption, png in found if png is not None]


def _other_settings(work: Work) -> list[tuple[str, str]]:
    return [
        (field.path, str(value))
        for field in config_file.fields()
        if (value := getattr(getattr(work.job.settings, field.table), field.name)) != field.default
    ]


# -- the session -----------------------------------------------------------------------------------------------------


def write_session(out: Path) -> Path:
    """`OUT/report.html`: a row a series, finished or not. Raises OutputError, or StreamtomoError for its journal."""
    if not out.is_dir():
        raise OutputError(f"{out}: there is no such folder; give the output folder of a run")
    state = SessionState()
    for envelope in journal.read(out / "journal.jsonl"):
        state.apply(envelope)
    finished = {path.name for path in out.iterdir() if path.is_dir() and state_path(path, path.name).exists()}
    names = [*state.series, *sorted(finished - set(state.series))]
    lines = [_line(out, name, state.series.get(name)) for name in names]
    done = sum(line.state == "finished" for line in lines)
    subtitle = f"{len(lines)} series, {done} finished; results in {out.absolute()}"
    path = out / "report.html"
    write_text(path, session_page(f"Session {out.absolute().name}", subtitle, HEADS, lines))
    return path


def _line(out: Path, name: str, row: SeriesRow | None) -> Line:
    link = out / name / f"{name}_report.html"
    done = read_state(out / name, name)
    picture = small(out / name / f"{name}_rec_xz.png", *SMALL_PICTURE_PX)
    state = row.state if row is not None and "report" not in done else "finished" if "report" in done else "begun"
    return Line(
        name=name,
        state=state,
        link=f"{name}/{link.name}" if link.exists() else None,
        cells=_cells(out / name, name) if "report" in done else [""] * len(HEADS),
        picture=picture,
        fault=(row.failure or "") if row is not None and state != "finished" else "",
    )


def _cells(folder: Path, name: str) -> list[str]:
    state = read_state(folder, name)
    alignment = msgspec.json.decode(state["solve"].product, type=Solved).alignment
    at = msgspec.json.decode(state["position"].product, type=Position)
    tomogram = msgspec.json.decode(state["reconstruct"].product, type=Reconstructed).tomogram
    pixel = tomogram.pixel_size_A / tomogram.binning if tomogram.pixel_size_A else None
    return [
        str(len(alignment.views)),
        str(len(alignment.left_out)),
        alignment.method,
        _number(alignment.residual_px, "", 2),
        _nm(at.thickness_px, pixel).removesuffix(" nm"),
        f"{at.pitch_deg:.1f}",
        f"{at.offset_deg:.1f}",
        _number(tomogram.pixel_size_A, "", 2),
        f"{tomogram.nx} x {tomogram.ny} x {tomogram.nz}",
    ]
