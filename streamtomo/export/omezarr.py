"""A tomogram as an OME-Zarr pyramid (OME-NGFF 0.4, Zarr 2), as napari and viewers on the web read it.

Each level halves the one before it in z, y and x, by means of eight voxels; it lies half a voxel of that one further.
The package zarr is loaded when a pyramid is written or read, and is not needed for anything else.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo.durable import sync_folder
from streamtomo.errors import OutputError
from streamtomo.export import mrc

SUFFIX = ".ome.zarr"
ATTRIBUTES = ".zattrs"
"""The file that says what the levels are."""
VERSION = "0.4"
CHUNK = (64, 128, 128)
SMALLEST = 256
"""Levels are added until the longest side is no longer."""
SAME = 1e-3
"""Relative difference of voxel sizes that are the same."""


def is_possible() -> bool:
    """Whether the package zarr is here."""
    from importlib.util import find_spec

    return find_spec("zarr") is not None


def write(volume: Path, *, voxel_A: float | None, black: float, white: float) -> Path:
    """The pyramid of a tomogram of ours, beside it: `NAME_rec.ome.zarr`, whole or not at all. Raises OutputError.

    `black` and `white` are the values that a viewer begins with.
    """
    path = volume.with_suffix(SUFFIX)
    part = path.with_name(path.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        _fill(part, volume, voxel_A, (black, white))
        shutil.rmtree(path, ignore_errors=True)
        part.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise OutputError(
            f"{path}: cannot be written ({error.strerror}); free space or mend the permissions"
        ) from error
    return path


def _fill(part: Path, volume: Path, voxel_A: float | None, contrast: tuple[float, float]) -> None:
    import zarr

    shapes = _shapes(mrc.shape_of(volume))
    group = zarr.open_group(part, mode="w", zarr_format=2)
    levels = [
        group.create_array(
            str(n), shape=shape, dtype=mrc.section(volume, 0).dtype.name, fill_value=0,
            chunks=tuple(min(side, most) for side, most in zip(shape, CHUNK, strict=True)),
            chunk_key_encoding={"name": "v2", "separator": "/"},
        )
        for n, shape in enumerate(shapes)
    ]  # fmt: skip
    for z, block in _blocks(volume):
        levels[0][z : z + len(block)] = block
    for finer, coarser in pairwise(levels):
        _halve_into(finer, coarser)
    group.attrs.update(_attributes(volume.stem, shapes, voxel_A or 1.0, known=voxel_A is not None, contrast=contrast))


def _shapes(shape: tuple[int, int, int]) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = [shape]
    while max(shapes[-1]) > SMALLEST:
        shapes.append(tuple(max(1, side // 2) for side in shapes[-1]))
    return shapes


def _blocks(volume: Path) -> Iterator[tuple[int, NDArray[Any]]]:
    held: list[NDArray[Any]] = []
    for z, section in enumerate(mrc.sections(volume), start=1):
        held.append(section)
        if len(held) == CHUNK[0]:
            yield z - len(held), np.stack(held)
            held = []
    if held:
        yield z - len(held), np.stack(held)


def _halve_into(finer: Any, coarser: Any) -> None:
    for z in range(0, coarser.shape[0], CHUNK[0]):
        end = min(z + CHUNK[0], coarser.shape[0])
        coarser[z:end] = halved(finer[2 * z : 2 * end])


def halved(block: NDArray[Any]) -> NDArray[Any]:
    """Means of eight voxels, in the type of the block; a last odd plane is left out, a single one stays."""
    means = block.astype(np.float32)
    for axis in range(3):
        if (side := means.shape[axis]) > 1:
            pairs = np.take(means, np.arange(side // 2 * 2), axis=axis)
            shape = (*pairs.shape[:axis], side // 2, 2, *pairs.shape[axis + 1 :])
            means = pairs.reshape(shape).mean(axis=axis + 1)
    return np.rint(means).astype(block.dtype) if block.dtype.kind in "iu" else means.astype(block.dtype)


def _attributes(
    name: str, shapes: list[tuple[int, ...]], voxel_A: float, *, known: bool, contrast: tuple[float, float]
) -> dict[str, Any]:
    unit = {"unit": "angstrom"} if known else {}
    datasets = []
    for n in range(len(shapes)):
        factors = [2.0 ** min(n, side.bit_length() - 1) for side in shapes[0]]
        scale = {"type": "scale", "scale": [voxel_A * factor for factor in factors]}
        move = {"type": "translation", "translation": [voxel_A * (factor - 1) / 2 for factor in factors]}
        datasets.append({"path": str(n), "coordinateTransformations": [scale, move]})
    axes = [{"name": axis, "type": "space", **unit} for axis in "zyx"]
    window = {"start": contrast[0], "end": contrast[1], "min": contrast[0], "max": contrast[1]}
    channel = {"label": name, "color": "FFFFFF", "active": True, "window": window}
    return {
        "multiscales": [{"version": VERSION, "name": name, "axes": axes, "datasets": datasets, "type": "mean"}],
        "omero": {"version": VERSION, "channels": [channel]},
    }


def check(path: Path, volume: Path) -> list[str]:
    """What is wrong with the pyramid of a tomogram; empty if nothing is, or if zarr is not here to look."""
    if not is_possible():
        return []
    import zarr

    try:
        group = zarr.open_group(path, mode="r", zarr_format=2)
        (scales,) = dict(group.attrs)["multiscales"]
        levels = [group[one["path"]] for one in scales["datasets"]]
        return list(_faults(path.name, scales["datasets"], levels, volume))
    except (OSError, KeyError, ValueError) as error:
        return [f"{path.name}: cannot be read ({error})"]


def _faults(name: str, datasets: list[Any], levels: list[Any], volume: Path) -> Iterator[str]:
    wanted = _shapes(mrc.shape_of(volume))
    if [tuple(level.shape) for level in levels] != wanted:
        yield f"{name}: levels of {[tuple(level.shape) for level in levels]}, expected {wanted}"
        return
    voxel_A, middle = mrc.voxel_of(volume), wanted[0][0] // 2
    scale = datasets[0]["coordinateTransformations"][0]["scale"]
    if max(abs(side / voxel_A - 1) for side in scale) > SAME:
        yield f"{name}: voxels of {scale} Å, expected {voxel_A:.4f}"
    if not np.array_equal(levels[0][middle], mrc.section(volume, middle)):
        yield f"{name}: its middle section is not that of {volume.name}"
    coarsest = np.asarray(levels[-1][:], np.float64)
    if not np.isfinite(coarsest).all() or coarsest.min() == coarsest.max():
        yield f"{name}: its coarsest level is constant, or not finite"
