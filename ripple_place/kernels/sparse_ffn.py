"""An FFN of which only some units are there: products of inputs with rows of weights, as they come from storage.

What a unit gets does not depend on which other units are there, on where it lies among them, or on how many tokens are
computed at a time. So a token's numbers are the same whatever was in DRAM, and whether it was part of a prompt.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ripple_place.kernels.compiled import compiled

F32, F16, BF16 = FORMS = (0, 1, 2)
"""Of weights in rows."""
_FEW = 8
"""Sums that are added up one after the other at the end."""
_LARGEST = np.uint32(0x7C00)
_SMALLEST = np.uint32(0x400)
_SIGN = np.uint32(0x8000)
_REST = np.uint32(0x7FFF)
_BIAS = np.uint32(112 << 23)
_UNIT = np.float32(2.0**-24)


@compiled
def _widen_bf16(weights: Any, bits: Any) -> None:
    for i in range(weights.size):
        bits[i] = np.uint32(weights[i]) << np.uint32(16)


@compiled
def _widen_f16(weights: Any, values: Any, bits: Any) -> None:
    for i in range(weights.size):  # Subnormal numbers are multiples of the smallest.
        values[i] = np.float32(np.int32(np.uint32(weights[i]) & _REST)) * _UNIT
    for i in range(weights.size):
        half = np.uint32(weights[i])
        rest = half & _REST
        wide = (rest << np.uint32(13)) + (_BIAS if rest < _LARGEST else _BIAS + _BIAS)
        bits[i] = (wide if rest >= _SMALLEST else bits[i]) | ((half & _SIGN) << np.uint32(16))


@compiled
def widen(row: Any, at_bytes: int, form: int, values: Any) -> None:
    """Write the weights of a row as float32; exact. In place, caller allocates.

    Parameters
    ----------
    row : ndarray of shape (row_bytes,), uint8
    at_bytes : int
        Of the first weight.
    form : int
        One of `FORMS`.
    values : ndarray of shape (n,), float32
    """
    if form == F32:
        values[:] = row[at_bytes : at_bytes + 4 * values.size].view(np.float32)
    else:
        weights, bits = row[at_bytes : at_bytes + 2 * values.size].view(np.uint16), values.view(np.uint32)
        if form == BF16:
            _widen_bf16(weights, bits)
        else:
            _widen_f16(weights, values, bits)


@compiled
def _weights_of(row: Any, at_bytes: int, form: int, buffer: Any) -> Any:
    """Return the weights of a row: where they lie, if that is float32, else widened into the buffer."""
    if form == F32:
        return row[at_bytes : at_bytes + 4 * buffer.size].view(np.float32)
    widen(row, at_bytes, form, buffer)
    return buffer


@compiled
def _multiply(left: Any, right: Any, products: Any) -> None:
    for i in range(left.size):
        products[i] = left[i] * right[i]


@compiled
def _add(target: Any, other: Any) -> None:
    for i in range(target.size):
        target[i] += other[i]


@compiled
def _add_times(factor: Any, row: Any, target: Any) -> None:
    for i in range(target.size):
        target[i] += factor * row[i]


@compiled
def _dot(left: Any, right: Any, products: Any) -> Any:
    """Add up products by halves; `products` has a power of two elements, those past the inputs are 0."""
    _multiply(left, right, products)
    n = products.size
    while n > _FEW:
        n //= 2
        _add(products[:n], products[n : 2 * n])
    total = np.float32(0)
    for i in range(n):
        total += products[i]
    products[left.size :] = 0
    return total


@compiled
def dot_rows(
    rows: Any, at_bytes: int, form: int, which: Any, is_wanted: Any, inputs: Any, outputs: Any
) -> None:  # fmt: skip
    """Multiply some rows with the inputs of the tokens that want them; in place.

    Parameters
    ----------
    rows : ndarray of shape (n_units, row_bytes), uint8, C-contiguous
    at_bytes : int
        Where in a row its weights begin.
    form : int
        One of `FORMS`.
    which : ndarray of shape (n,), int32
        The rows that are there.
    is_wanted : ndarray of shape (n_tokens, n_units), bool
    inputs : ndarray of shape (n_tokens, hidden), float32
    outputs : ndarray of shape (n_tokens, n_units), float32
        Written where a row is there and wanted.
    """
    n_tokens, hidden = inputs.shape
    length = _FEW
    while length < hidden:
        length *= 2
    buffer, products = np.empty(hidden, np.float32), np.zeros(length, np.float32)
    for i in range(which.size):
        unit = which[i]
        weights = _weights_of(rows[unit], at_bytes, form, buffer)
        for token in range(n_tokens):
            if is_wanted[token, unit]:
                outputs[token, unit] = _dot(weights, inputs[token], products)


@compiled
def add_rows(rows: Any, at_bytes: int, form: int, factors: Any, outputs: Any) -> None:
    """Add rows to the outputs of tokens, each times a factor, in the order of the rows; in place.

    Parameters
    ----------
    rows : ndarray of shape (n_units, row_bytes), uint8, C-contiguous
    at_bytes : int
        Where in a row its weights begin.
    form : int
        One of `FORMS`.
    factors : ndarray of shape (n_tokens, n_units), float32
        Rows whose factor is 0 are left out.
    outputs : ndarray of shape (n_tokens, hidden), float32
    """
    n_tokens, hidden = outputs.shape
    buffer = np.empty(hidden, np.float32)
    for unit in range(rows.shape[0]):
        if not factors[:, unit].any():
            continue
        weights = _weights_of(rows[unit], at_bytes, form, buffer)
        for token in range(n_tokens):
            factor = factors[token, unit]
            if factor != 0:
                _add_times(factor, weights, outputs[token])
