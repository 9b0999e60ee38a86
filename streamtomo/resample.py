"""Images under affine transforms: the one interpolation that align, reconstruct and finish share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from streamtomo import geometry
from streamtomo.jit import kernel, parallel_kernel, prange

Image = NDArray[np.float32]

SMALL = 100_000
"""Outputs with fewer pixels are not worth waking other threads for."""


@kernel
def _cubic(f: Any) -> Any:
    """The four weights of cubic convolution at a fraction `f` (float32) beyond the second sample."""
    half, one, two = np.float32(0.5), np.float32(1), np.float32(2)
    three, four, five = np.float32(3), np.float32(4), np.float32(5)
    w0 = half * f * (f * (two - f) - one)
    w1 = half * (f * f * (three * f - five) + two)
    w2 = half * f * (f * (four - three * f) + one)
    w3 = half * f * f * (f - one)
    return w0, w1, w2, w3


@kernel
def _warp_row(image: Any, inverse: Any, fill: Any, y: Any, out: Any) -> None:
    """`out[x] = image(inverse @ (x, y, 1))` by cubic convolution (Catmull-Rom, a = -1/2); image float32 `(ny, nx)`.

    `inverse` is float64 `(2, 3)` in array indices of both; positions within half a pixel of the border count as inside,
    and use the border's pixels again.
    """
    ny, nx = image.shape
    for x in range(out.shape[0]):
        u = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]
        v = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]
        if not (u >= -0.5 and u <= nx - 0.5 and v >= -0.5 and v <= ny - 0.5):
            out[x] = fill
            continue
        i, j = int(np.floor(u)), int(np.floor(v))
        a, b = np.float32(u - i), np.float32(v - j)
        wx0, wx1, wx2, wx3 = _cubic(a)
        wy0, wy1, wy2, wy3 = _cubic(b)
        i0, i1, i2, i3 = max(i - 1, 0), max(i, 0), min(i + 1, nx - 1), min(i + 2, nx - 1)
        j0, j1, j2, j3 = max(j - 1, 0), max(j, 0), min(j + 1, ny - 1), min(j + 2, ny - 1)
        r0 = wx0 * image[j0, i0] + wx1 * image[j0, i1] + wx2 * image[j0, i2] + wx3 * image[j0, i3]
        r1 = wx0 * image[j1, i0] + wx1 * image[j1, i1] + wx2 * image[j1, i2] + wx3 * image[j1, i3]
        r2 = wx0 * image[j2, i0] + wx1 * image[j2, i1] + wx2 * image[j2, i2] + wx3 * image[j2, i3]
        r3 = wx0 * image[j3, i0] + wx1 * image[j3, i1] + wx2 * image[j3, i2] + wx3 * image[j3, i3]
        out[x] = wy0 * r0 + wy1 * r1 + wy2 * r2 + wy3 * r3


@parallel_kernel
def _warp(image: Any, inverse: Any, fill: Any, out: Any) -> None:
    """All rows of `out` float32 `(my, mx)`, on all threads."""
    for y in prange(out.shape[0]):
        _warp_row(image, inverse, fill, y, out[y])


@kernel
def warp_small(image: Any, inverse: Any, fill: Any, out: Any) -> None:
    """The same on one thread."""
    for y in range(out.shape[0]):
        _warp_row(image, inverse, fill, y, out[y])


def warp(
    image: Image, transform: geometry.Array, out_shape_yx: tuple[int, int] | None = None, fill: float | None = None
) -> Image:
    """The image moved by `transform` `(2, 3)`: image to output, both about their centres (a row of an `.xf`).

    `image` is float32 `(ny, nx)`, the output `out_shape_yx` (None: the same shape). Cubic convolution (Keys 1981,
    a = -1/2). Where the image does not reach, the output is `fill` (None: the image's mean).
    """
    shape = out_shape_yx or (image.shape[0], image.shape[1])
    out = np.empty(shape, np.float32)
    value = np.float32(image.mean(dtype=np.float64) if fill is None else fill)
    kernel_of_size = warp_small if out.size < SMALL else _warp
    kernel_of_size(np.ascontiguousarray(image), index_transform(transform, image.shape, shape), value, out)
    return out


def index_transform(
    transform: geometry.Array, image_shape_yx: tuple[int, ...], out_shape_yx: tuple[int, ...]
) -> geometry.Array:
    """From output indices `(x, y)` to image indices, `(2, 3)`: the inverse of `transform`, about the corners."""
    inverse = geometry.invert(np.asarray(transform, np.float64))
    here = np.array([geometry.centre(out_shape_yx[1]), geometry.centre(out_shape_yx[0])])
    there = np.array([geometry.centre(image_shape_yx[1]), geometry.centre(image_shape_yx[0])])
    return np.ascontiguousarray(np.column_stack([inverse[:, :2], inverse[:, 2] + there - inverse[:, :2] @ here]))


def covered(
    image_shape_yx: tuple[int, int], transform: geometry.Array, out_shape_yx: tuple[int, int]
) -> NDArray[np.bool_]:
    """Which output pixels `(ny, nx)` the moved image reaches."""
    inverse = index_transform(transform, image_shape_yx, out_shape_yx)
    y, x = np.ogrid[: out_shape_yx[0], : out_shape_yx[1]]
    u = inverse[0, 0] * x + inverse[0, 1] * y + inverse[0, 2]
    v = inverse[1, 0] * x + inverse[1, 1] * y + inverse[1, 2]
    inside: NDArray[np.bool_] = (
        (u >= -0.5) & (u <= image_shape_yx[1] - 0.5) & (v >= -0.5) & (v <= image_shape_yx[0] - 0.5)
    )
    return inside
