"""The last steps: files for other programs, and what a person reads.

export -> report
"""

from __future__ import annotations

import shutil

from msgspec import Struct

from streamtomo import __version__
from streamtomo.errors import StreamtomoError
from streamtomo.export import imod, mrc, omezarr
from streamtomo.export.check import check_series
from streamtomo.finish.outgoing import write_all
from streamtomo.finish.pages import write_page
from streamtomo.finish.position import Position
from streamtomo.finish.steps_align import Solved
from streamtomo.finish.steps_volume import Reconstructed, Stacked, Trimmed
from streamtomo.finish.work import Work
from streamtomo.publish import movie


class Exported(Struct, frozen=True, kw_only=True):
    """Product of `export`."""

    formats: tuple[str, ...]


class Reported(Struct, frozen=True, kw_only=True):
    """Product of `report`."""


# -- export ----------------------------------------------------------------------------------------------------------


def export(work: Work) -> tuple[Exported, tuple[str, ...]]:
    """Alignment and volume as other programs take them."""
    files, pyramid = write_all(work), _pyramid(work)
    formats = ("imod", "relion5", "warp", "aretomo", "batchruntomo", *(("ome-zarr",) if pyramid else ()))
    return Exported(formats=formats), (*files, *pyramid)


def _pyramid(work: Work) -> tuple[str, ...]:
    """The tomogram as OME-Zarr, where that is wanted; one of another tomogram is removed."""
    shutil.rmtree(work.path(f"_rec{omezarr.SUFFIX}"), ignore_errors=True)
    if not work.settings.export.ome_zarr:
        return ()
    if not omezarr.is_possible():
        work.warn("export.zarr", f"{work.name}: no OME-Zarr is written: the package zarr is not installed here")
        return ()
    shown, voxel_A = work.product("trim", Trimmed), work.product("stack", Stacked).voxel_A
    path = omezarr.write(work.path("_rec.mrc"), voxel_A=voxel_A, black=shown.black, white=shown.white)
    return (f"{path.name}/{omezarr.ATTRIBUTES}",)


# -- report ----------------------------------------------------------------------------------------------------------


def report(work: Work) -> tuple[Reported, tuple[str, ...]]:
    """What was made is looked at as a reader would, and told. Raises StreamtomoError if it is not sound."""
    _check(work)
    write_summary(work)
    return Reported(), (f"{work.name}_summary.json", write_page(work), *_movie(work))


def _movie(work: Work) -> tuple[str, ...]:
    """A movie through the tomogram, where that is wanted; one of another tomogram is removed."""
    path = work.path("_rec.gif")
    path.unlink(missing_ok=True)
    if not work.settings.export.movie:
        return ()
    volume = work.path("_rec.mrc")
    imod.write_bytes(path, movie.gif(movie.frames(mrc.sections(volume), mrc.shape_of(volume)[0])))
    return (path.name,)


def _check(work: Work) -> None:
    faults = check_series(work.folder, work.name)
    if faults:
        raise StreamtomoError(f"{work.name}: the results are not sound: {'; '.join(faults)}")


def write_summary(work: Work) -> None:
    """`NAME_summary.json`: settings, alignment, position, tomogram, files."""
    made, stacked = work.product("reconstruct", Reconstructed), work.product("stack", Stacked)
    content = {
        "program": f"streamtomo {__version__}",
        "series": work.name,
        "seconds": {name: done.seconds for name, done in work.state.items()},
        "axis_deg": work.job.axis_deg,
        "pixel_size_A": work.job.pixel_size_A,
        "tilts": len(work.job.tilts),
        "alignment": work.product("solve", Solved).alignment,
        "position": work.product("position", Position),
        "dose": stacked.note,
        "tomogram": made.tomogram,
        "scaling": {"method": made.how, "scale": made.scale, "offset": made.offset},
        "contrast": work.product("trim", Trimmed),
        "files": sorted({file for done in work.state.values() for file in done.files}),
        "settings": work.settings,
    }
    imod.write_text(work.path("_summary.json"), imod.json_text(content))
