"""Rows of distances in bytes: one step further, and what two or three of them save, 64 tokens at a time.

At a boundary between two slots, ``left`` and ``right`` say, token by token, how many slots off the next active one is
(1: right beside it). Two active slots at distance ``d = left + right - 1`` share a read and save ``reach - 1 - d``
neurons' worth of time if that is positive.

Written as LLVM vector operations, because numba widens bytes to 64 bits wherever it adds them. For 64 tokens of rows of
16,384, in ns on one core of a Xeon with AVX-512 (``python -m benchmarks.bench_byte_rows``): as vectors; in the best
plain loop that was found, cut back to bytes by hand; and in the obvious loop.

================= ======= ========== =======
loop              vectors best plain obvious
================= ======= ========== =======
pair_saving           1.3        3.0      16
insertion_saving      4.1         12      43
step_row              1.2        1.0     1.0
step_row in place     1.0         22      19
================= ======= ========== =======

In place the compiler makes no vectors of plain loops over two rows, which may overlap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

if TYPE_CHECKING:
    from collections.abc import Callable

N_LANES = 64
"""Tokens of a vector; ranges of tokens are multiples of it."""
_MAX_VECTORS = 32
"""Sums are kept in 16 bits for so many vectors of up to three savings: 32 x 3 x 2 x 255 < 2**16."""
_BYTE, _INT64 = ir.IntType(8), ir.IntType(64)
_BYTES = ir.VectorType(_BYTE, N_LANES)
_PAIRS = ir.VectorType(ir.IntType(16), N_LANES // 2)


def step_row(source: Any, cap: int, target: Any) -> None:
    """Write ``min(source + 1, cap)`` to `target`, which may be `source`; uint8, lengths multiples of `N_LANES`."""
    np.minimum(source + np.uint8(1), np.uint8(cap), out=target)


def pair_saving(left: Any, right: Any, start: int, end: int, reach: int) -> int:
    """Return the sum over tokens start to end - 1 of ``max(0, reach - left - right)``.

    Parameters
    ----------
    left, right : ndarray of shape (n_tokens,), uint8
    start, end : int
        Multiples of `N_LANES`.
    reach : int
        At most 255.
    """
    return int(np.maximum(0, reach - left[start:end].astype(np.int64) - right[start:end]).sum())


def insertion_saving(
    left: Any, right: Any, head: Any, tail: Any, is_active: Any, start: int, end: int, reach: int, length: int
) -> int:
    """Return what `pair_saving` gives on either side of a segment that is put between `left` and `right`, and over it.

    Parameters
    ----------
    left, right : ndarray of shape (n_tokens,), uint8
    head, tail : ndarray of shape (n_tokens,), uint8
        How far its first active slot is from its left end, and its last from its right end.
    is_active : ndarray of shape (n_tokens,), uint8
        255 for tokens that find something active in the segment, 0 for the others, who look over it.
    start, end, reach : int
        As for `pair_saving`.
    length : int
        Slots of the segment, at most 255.
    """
    over = left[start:end].astype(np.int64) + right[start:end] + is_active[start:end] + length
    return (
        pair_saving(left, head, start, end, reach)
        + pair_saving(right, tail, start, end, reach)
        + int(np.maximum(0, reach - over).sum())
    )


def _call(builder: Any, name: str, result: Any, *args: Any) -> Any:
    function = ir.FunctionType(result, [arg.type for arg in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), args)


def _splat(builder: Any, value: Any) -> Any:
    """Return a vector of one byte, from a 64-bit integer."""
    byte = builder.trunc(value, _BYTE)
    first = builder.insert_element(ir.Constant(_BYTES, ir.Undefined), byte, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), N_LANES), [0] * N_LANES)
    return builder.shuffle_vector(first, ir.Constant(_BYTES, ir.Undefined), zeros)


def _loader(context: Any, builder: Any, array_type: Any, array: Any) -> Callable[[Any], Any]:
    """Return what gives the address of the vector at a token."""
    data = builder.ptrtoint(context.make_array(array_type)(context, builder, array).data, _INT64)
    return lambda token: builder.inttoptr(builder.add(data, token), _BYTES.as_pointer())


def _sum_saved(
    context: Any, builder: Any, signature: Any, values: Any, n_rows: int, saved: Callable[..., list[Any]]
) -> Any:
    """Emit the sum over tokens of what `saved` makes of the vectors of `n_rows` rows."""
    addresses = [_loader(context, builder, signature.args[k], values[k]) for k in range(n_rows)]
    start, end, reach = values[n_rows : n_rows + 3]
    reach_bytes = _splat(builder, reach)
    low, eight, zero = (ir.Constant(_PAIRS, [value] * (N_LANES // 2)) for value in (255, 8, 0))
    total = cgutils.alloca_once_value(builder, ir.Constant(_INT64, 0))
    sums = cgutils.alloca_once_value(builder, zero)
    stretch, lanes = ir.Constant(_INT64, _MAX_VECTORS * N_LANES), ir.Constant(_INT64, N_LANES)
    with cgutils.for_range_slice(builder, start, end, stretch, intp=_INT64) as (first, _):
        beyond = builder.add(first, stretch)
        last = builder.select(builder.icmp_signed("<", beyond, end), beyond, end)
        builder.store(zero, sums)
        with cgutils.for_range_slice(builder, first, last, lanes, intp=_INT64) as (token, _):
            rows = [builder.load(address(token), align=1) for address in addresses]
            for row in saved(builder, rows, reach_bytes):
                pairs = builder.bitcast(row, _PAIRS)
                both = builder.add(builder.and_(pairs, low), builder.lshr(pairs, eight))
                builder.store(builder.add(builder.load(sums), both), sums)
        wide = builder.zext(builder.load(sums), ir.VectorType(ir.IntType(32), N_LANES // 2))
        part = _call(builder, f"llvm.vector.reduce.add.v{N_LANES // 2}i32", ir.IntType(32), wide)
        builder.store(builder.add(builder.load(total), builder.zext(part, _INT64)), total)
    return builder.load(total)


def _plus(builder: Any, first: Any, second: Any) -> Any:
    return _call(builder, f"llvm.uadd.sat.v{N_LANES}i8", _BYTES, first, second)


def _minus(builder: Any, first: Any, second: Any) -> Any:
    return _call(builder, f"llvm.usub.sat.v{N_LANES}i8", _BYTES, first, second)


@intrinsic
def _pair_saving(typing_context: Any, left: Any, right: Any, start: Any, end: Any, reach: Any) -> Any:
    """Emit the loop of `pair_saving`."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def saved(builder: Any, rows: Any, reach_bytes: Any) -> list[Any]:
            return [_minus(builder, reach_bytes, _plus(builder, *rows))]

        return _sum_saved(context, builder, signature, values, 2, saved)

    return types.int64(left, right, types.intp, types.intp, types.intp), codegen


@intrinsic
def _insertion_saving(
    typing_context: Any, left: Any, right: Any, head: Any, tail: Any, is_active: Any,
    start: Any, end: Any, reach: Any, length: Any,
) -> Any:  # fmt: skip
    """Emit the loop of `insertion_saving`."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        def saved(builder: Any, rows: Any, reach_bytes: Any) -> list[Any]:
            left, right, head, tail, is_active = rows
            length_bytes = _splat(builder, values[8])
            over = _plus(builder, _plus(builder, left, right), _plus(builder, is_active, length_bytes))
            distances = [_plus(builder, left, head), _plus(builder, right, tail), over]
            return [_minus(builder, reach_bytes, distance) for distance in distances]

        return _sum_saved(context, builder, signature, values, 5, saved)

    intp = types.intp
    return types.int64(left, right, head, tail, is_active, intp, intp, intp, intp), codegen


@intrinsic
def _step_row(typing_context: Any, source: Any, cap: Any, target: Any) -> Any:
    """Emit the loop of `step_row`."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        address_from = _loader(context, builder, signature.args[0], values[0])
        address_to = _loader(context, builder, signature.args[2], values[2])
        n_tokens = context.make_array(signature.args[0])(context, builder, values[0]).nitems
        one, cap_bytes = ir.Constant(_BYTES, [1] * N_LANES), _splat(builder, values[1])
        zero, lanes = ir.Constant(_INT64, 0), ir.Constant(_INT64, N_LANES)
        with cgutils.for_range_slice(builder, zero, n_tokens, lanes, intp=_INT64) as (token, _):
            further = _plus(builder, builder.load(address_from(token), align=1), one)
            capped = _call(builder, f"llvm.umin.v{N_LANES}i8", _BYTES, further, cap_bytes)
            builder.store(capped, address_to(token), align=1)
        return context.get_dummy_value()

    return types.none(source, types.intp, target), codegen


@overload(step_row, strict=False)
def _overload_step_row(source: Any, cap: Any, target: Any) -> Any:
    return lambda source, cap, target: _step_row(source, cap, target)  # type: ignore[call-arg]


@overload(pair_saving, strict=False)
def _overload_pair_saving(left: Any, right: Any, start: Any, end: Any, reach: Any) -> Any:
    return lambda left, right, start, end, reach: _pair_saving(left, right, start, end, reach)  # type: ignore[call-arg]


@overload(insertion_saving, strict=False)
def _overload_insertion_saving(
    left: Any, right: Any, head: Any, tail: Any, is_active: Any, start: Any, end: Any, reach: Any, length: Any
) -> Any:
    return lambda left, right, head, tail, is_active, start, end, reach, length: _insertion_saving(  # type: ignore[call-arg]
        left, right, head, tail, is_active, start, end, reach, length
    )
