"""Bits in machine words: popcount, and turning a token-major bit matrix into a neuron-major one."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload


def popcount(word: int) -> int:
    """Return the number of set bits of a 64-bit word (one instruction when compiled)."""
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
