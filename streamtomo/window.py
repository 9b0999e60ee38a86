"""A sum that the compiler does not put into vectors by itself: weighted pixels of a small window of an image.

Its loops are too short for that. So it is written down here in the compiler's own language (LLVM), for whatever
processor.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir

from streamtomo.jit import numba

cgutils, types = numba.core.cgutils, numba.types

LANES = 8
"""Columns that are added up side by side; weights are filled up to a multiple of this with zeros."""
AT_ONCE = 4
"""Rows whose sums do not wait for each other; LANES is a multiple of it."""
INDEX, LANE = ir.IntType(64), ir.IntType(32)
VECTOR = ir.VectorType(ir.FloatType(), LANES)
FUSED = ("contract",)


def _window_sum(typing: Any, image: Any, j: Any, i: Any, rows: Any, columns: Any) -> Any:
    """The sum over k, x of `rows[k] * columns[x] * image[j + k, i + x]`, float32.

    `image` `(ny, nx)`, contiguous, of whole numbers or float32; `rows` and `columns` `(taps,)` float32, contiguous,
    taps a multiple of LANES. The window must lie within the image.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kinds = signature.args
        pixels, down, across = (context.make_array(kinds[n])(context, builder, arguments[n]) for n in (0, 3, 4))
        kind, (taps,) = kinds[0].dtype, cgutils.unpack_tuple(builder, across.shape)
        nx = cgutils.unpack_tuple(builder, pixels.shape)[1]
        corner = builder.add(builder.mul(arguments[1], nx), arguments[2])
        total = cgutils.alloca_once_value(builder, ir.Constant(VECTOR, None))
        with cgutils.for_range_slice(builder, INDEX(0), taps, INDEX(LANES)) as (x, _):
            sums = [cgutils.alloca_once(builder, VECTOR) for _ in range(AT_ONCE)]
            for one in sums:
                builder.store(ir.Constant(VECTOR, None), one)
            with cgutils.for_range_slice(builder, INDEX(0), taps, INDEX(AT_ONCE)) as (first, _):
                for n, one in enumerate(sums):
                    k = builder.add(first, INDEX(n))
                    at = builder.add(builder.add(corner, x), builder.mul(k, nx))
                    weight = _splat(builder, builder.load(builder.gep(down.data, [k])))
                    _add_product(builder, one, weight, _pixels(context, builder, pixels.data, at, kind))
            upper, lower = (builder.fadd(builder.load(a), builder.load(b)) for a, b in (sums[:2], sums[2:]))
            _add_product(builder, total, _vector(builder, across.data, x, VECTOR, 4), builder.fadd(upper, lower))
        return _sum_of_lanes(builder, builder.load(total))

    return types.float32(image, j, i, rows, columns), generate


window_sum: Any = numba.extending.intrinsic(_window_sum)
"""`_window_sum` in a kernel."""


def _add_product(builder: Any, to: Any, a: Any, b: Any) -> None:
    builder.store(builder.fadd(builder.fmul(a, b, flags=FUSED), builder.load(to), flags=FUSED), to)


def _vector(builder: Any, data: Any, at: Any, kind: Any, align: int) -> Any:
    """LANES numbers that follow each other in memory."""
    return builder.load(builder.bitcast(builder.gep(data, [at]), kind.as_pointer()), align=align)


def _pixels(context: Any, builder: Any, data: Any, at: Any, kind: Any) -> Any:
    """LANES pixels as float32."""
    stored = ir.VectorType(context.get_data_type(kind), LANES)
    values = _vector(builder, data, at, stored, kind.bitwidth // 8)
    if not isinstance(kind, types.Integer):
        return values
    return (builder.sitofp if kind.signed else builder.uitofp)(values, VECTOR)


def _splat(builder: Any, value: Any) -> Any:
    """A number in all lanes."""
    undefined = ir.Constant(VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, value, LANE(0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(LANE, LANES), None))


def _sum_of_lanes(builder: Any, vector: Any) -> Any:
    lanes = [builder.extract_element(vector, LANE(n)) for n in range(LANES)]
    while len(lanes) > 1:
        lanes = [builder.fadd(a, b) for a, b in zip(lanes[::2], lanes[1::2], strict=True)]
    return lanes[0]
