"""Bits in machine words: popcount, and turning a token-major bit matrix into a neuron-major one."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload


def popcount(word: int) -> int:
    """Return the number of set bits of a 64-bit word (one instruction when compiled).

    numba has no popcount of its own. LLVM's is no faster than shifts and masks, which it recognises and compiles to the
    same instruction (``python -m benchmarks.bench_pair_tile``: 5.2 G words a second of either), but it is one line.
    """
    return int(word).bit_count()


@intrinsic
def _ctpop(typing_context: Any, word: Any) -> Any:
    """LLVM's population count of a uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


@overload(popcount, strict=False)
def _popcount(word: Any) -> Any:
    return lambda word: _ctpop(np.uint64(word))  # type: ignore[call-arg]


def trailing_zeros(word: int) -> int:
    """Return the position of the lowest set bit of a non-zero 64-bit word."""
    word = int(word)
    return (word & -word).bit_length() - 1


@intrinsic
def _cttz(typing_context: Any, word: Any) -> Any:
    """LLVM's count of trailing zeros of a non-zero uint64."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        zero_is_undefined = ir.Constant(ir.IntType(1), 1)
        return builder.cttz(args[0], zero_is_undefined)

    return types.int64(types.uint64), codegen


@overload(trailing_zeros, strict=False)
def _trailing_zeros(word: Any) -> Any:
    return lambda word: _cttz(np.uint64(word))  # type: ignore[call-arg]


def prefetch(array: Any, position: int) -> None:
    """Ask for the cache line of ``array[position]``, which will be read soon; does nothing to the result."""


@intrinsic
def _prefetch(typing_context: Any, array: Any, position: Any) -> Any:
    """LLVM's prefetch for reading, of data that will be used more than once."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        int32 = ir.IntType(32)
        array = context.make_array(signature.args[0])(context, builder, args[0])
        address = builder.bitcast(builder.gep(array.data, [args[1]]), ir.IntType(8).as_pointer())
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [address.type, *[int32] * 3]), "llvm.prefetch.p0i8"
        )
        builder.call(function, [address, int32(0), int32(3), int32(1)])
        return context.get_dummy_value()

    return types.none(array, types.intp), codegen


@overload(prefetch, strict=False)
def _overload_prefetch(array: Any, position: Any) -> Any:
    return lambda array, position: _prefetch(array, position)  # type: ignore[call-arg]
