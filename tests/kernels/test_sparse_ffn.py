"""FFNs of which only some units are there, against products of whole matrices."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.kernels.sparse_ffn import BF16, F16, F32, add_rows, dot_rows, widen

ITEM_BYTES = {F32: 4, F16: 2, BF16: 2}


def stored(values: np.ndarray, form: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes of values in a form, and what they are worth there, float64."""
    if form == F32:
        kept = values.astype(np.float32)
    elif form == F16:
        kept = values.astype(np.float16)
    else:
        bits = values.astype(np.float32).view(np.uint32) & 0xFFFF0000
        return (bits >> 16).astype(np.uint16).view(np.uint8), bits.view(np.float32).astype(np.float64)
    return kept.view(np.uint8), kept.astype(np.float64)


def test_every_half_precision_number_is_widened_exactly() -> None:
    """All 65,536 bit patterns: signed zeros, subnormals, infinities; a NaN stays a NaN."""
    halves = np.arange(2**16).astype(np.uint16)
    values = np.empty(halves.size, np.float32)
    widen(halves.view(np.uint8), 0, F16, values)
    expected = halves.view(np.float16).astype(np.float32)
    is_number = ~np.isnan(expected)
    assert (values.view(np.uint32) == expected.view(np.uint32))[is_number].all()
    assert np.isnan(values[~is_number]).all()


def test_every_bfloat16_is_widened_exactly() -> None:
    """They are the upper halves of float32."""
    halves = np.arange(2**16).astype(np.uint16)
    values = np.empty(halves.size, np.float32)
    widen(halves.view(np.uint8), 0, BF16, values)
    assert (values.view(np.uint32) == halves.astype(np.uint32) << 16).all()


@pytest.mark.parametrize("form", [F32, F16, BF16])
@pytest.mark.parametrize("hidden", [1, 7, 8, 9, 33, 200])
def test_products_are_those_of_whole_matrices(form: int, hidden: int) -> None:
    """Up and down of two tokens that want different units, with weights in the middle of rows."""
    rng = np.random.default_rng(hidden)
    n_units, at_bytes = 20, 8
    weights, worth = stored(rng.standard_normal((n_units, hidden)), form)
    n_bytes = hidden * ITEM_BYTES[form]
    rows = rng.integers(0, 255, (n_units, at_bytes + n_bytes + 4), dtype=np.uint8)
    rows[:, at_bytes : at_bytes + n_bytes] = weights.reshape(n_units, n_bytes)
    inputs = rng.standard_normal((2, hidden)).astype(np.float32)
    is_wanted = rng.random((2, n_units)) < 0.5
    which = np.flatnonzero(rng.random(n_units) < 0.7).astype(np.int32)
    outputs = np.zeros((2, n_units), np.float32)
    dot_rows(rows, at_bytes, form, which, is_wanted, inputs, outputs)
    is_there = np.zeros(n_units, bool)
    is_there[which] = True
    expected = np.where(is_wanted & is_there, inputs.astype(np.float64) @ worth.T, 0)
    np.testing.assert_allclose(outputs, expected, rtol=0, atol=1e-5 * hidden**0.5)

    sums = rng.standard_normal((2, hidden)).astype(np.float32)
    expected = sums + outputs.astype(np.float64) @ worth
    add_rows(rows, at_bytes, form, outputs, sums)
    np.testing.assert_allclose(sums, expected, rtol=0, atol=1e-4 * hidden**0.5)


@pytest.mark.parametrize("form", [F32, F16, BF16])
def test_a_tokens_numbers_do_not_depend_on_its_company(form: int) -> None:
    """Bit by bit: alone or among tokens, units all at once or in two parts, among all rows or only its own."""
    rng = np.random.default_rng(5)
    n_tokens, n_units, hidden = 5, 40, 100
    rows = stored(rng.standard_normal((n_units, hidden)), form)[0].reshape(n_units, -1)
    inputs = rng.standard_normal((n_tokens, hidden)).astype(np.float32)
    is_wanted = rng.random((n_tokens, n_units)) < 0.3
    together, sums = np.zeros((n_tokens, n_units), np.float32), np.zeros((n_tokens, hidden), np.float32)
    for part in (np.arange(1, n_units, 2), np.arange(0, n_units, 2)):
        dot_rows(rows, 0, form, part.astype(np.int32), is_wanted, inputs, together)
    add_rows(rows, 0, form, together, sums)
    for token in range(n_tokens):
        own = np.flatnonzero(is_wanted[token])
        alone, sum_alone = np.zeros((1, own.size), np.float32), np.zeros((1, hidden), np.float32)
        every = np.ones((1, own.size), bool)
        dot_rows(rows[own], 0, form, np.arange(own.size, dtype=np.int32), every, inputs[token][None], alone)
        add_rows(rows[own], 0, form, alone, sum_alone)
        assert (alone[0] == together[token, own]).all()
        assert (sum_alone[0] == sums[token]).all()
