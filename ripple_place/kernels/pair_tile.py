"""The innermost loop of counting: 4 x 4 pairs of bit rows at once, in vector registers.

Written as LLVM vector operations rather than left to the vectoriser, which prefers 256-bit registers: 9.6 G words a
second against 5.2 of the same pairs in plain loops, 1.8 to 2.1 times as fast, on one core of a Xeon with AVX-512
(``python -m benchmarks.bench_pair_tile``). LLVM lowers 512-bit vectors to whatever the CPU has: AVX-512 VPOPCNTQ, byte
shuffles on AVX2, CNT on Arm.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

N_ROWS = 4
"""Rows of either side: 16 sums stay in registers and 8 loads feed 16 popcounts."""
N_LANES = 8
"""Words of a vector; ranges of words must be multiples of it."""


def add_pair_counts(bits: Any, i: int, j: int, word_start: int, word_end: int, counts: Any, p: int, q: int) -> None:
    """Add the co-activations of neurons i..i+3 with j..j+3 to ``counts[p..p+3, q..q+3]``, in place.

    Parameters
    ----------
    bits : ndarray of shape (n_padded, n_words), uint64
        C-contiguous.
    i, j : int
    word_start, word_end : int
        Range of words; its length is a multiple of `N_LANES`.
    counts : ndarray, int32
        C-contiguous.
    p, q : int
    """
    for a in range(N_ROWS):
        for b in range(N_ROWS):
            for w in range(word_start, word_end):
                counts[p + a, q + b] += int(bits[i + a, w] & bits[j + b, w]).bit_count()


@intrinsic
def _add_pair_counts(
    typing_context: Any, bits: Any, i: Any, j: Any, word_start: Any, word_end: Any, counts: Any, p: Any, q: Any
) -> Any:
    """Emit the loop of `add_pair_counts`."""
    int64, int32 = ir.IntType(64), ir.IntType(32)
    vector = ir.VectorType(int64, N_LANES)
    zero = ir.Constant(vector, [0] * N_LANES)

    def row_addresses(context: Any, builder: Any, array_type: Any, array: Any, first_row: Any) -> list[Any]:
        struct = context.make_array(array_type)(context, builder, array)
        stride = cgutils.unpack_tuple(builder, struct.strides)[0]
        base = builder.ptrtoint(struct.data, int64)
        return [
            builder.add(base, builder.mul(builder.add(first_row, ir.Constant(int64, k)), stride)) for k in range(N_ROWS)
        ]

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits_type, counts_type = signature.args[0], signature.args[5]
        popcount = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(vector, [vector]), f"llvm.ctpop.v{N_LANES}i64"
        )
        first_rows = row_addresses(context, builder, bits_type, args[0], args[1])
        second_rows = row_addresses(context, builder, bits_type, args[0], args[2])
        sums = [[cgutils.alloca_once_value(builder, zero) for _ in second_rows] for _ in first_rows]
        lanes = ir.Constant(int64, N_LANES)
        with cgutils.for_range_slice(builder, args[3], args[4], lanes, intp=int64) as (word, _):
            offset_bytes = builder.mul(word, ir.Constant(int64, 8))

            def load(row: Any) -> Any:
                return builder.load(builder.inttoptr(builder.add(row, offset_bytes), vector.as_pointer()), align=8)

            first = [load(row) for row in first_rows]
            for b, row in enumerate(second_rows):
                second = load(row)
                for a in range(N_ROWS):
                    both = builder.call(popcount, [builder.and_(first[a], second)])
                    builder.store(builder.add(builder.load(sums[a][b]), both), sums[a][b])
        add_up = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(int64, [vector]), f"llvm.vector.reduce.add.v{N_LANES}i64"
        )
        for a, row in enumerate(row_addresses(context, builder, counts_type, args[5], args[6])):
            for b in range(N_ROWS):
                column_bytes = builder.mul(builder.add(args[7], ir.Constant(int64, b)), ir.Constant(int64, 4))
                cell = builder.inttoptr(builder.add(row, column_bytes), int32.as_pointer())
                total = builder.trunc(builder.call(add_up, [builder.load(sums[a][b])]), int32)
                builder.store(builder.add(builder.load(cell), total), cell)
        return context.get_dummy_value()

    intp = types.intp
    return types.none(bits, intp, intp, intp, intp, counts, intp, intp), codegen


@overload(add_pair_counts, strict=False)
def _overload_add_pair_counts(
    bits: Any, i: Any, j: Any, word_start: Any, word_end: Any, counts: Any, p: Any, q: Any
) -> Any:
    return lambda bits, i, j, word_start, word_end, counts, p, q: _add_pair_counts(  # type: ignore[call-arg]
        bits, i, j, word_start, word_end, counts, p, q
    )
