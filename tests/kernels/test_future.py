"""Next rows, against looking ahead."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.kernels.future import next_rows, note_rows


@given(st.integers(1, 130), st.integers(1, 12), st.integers(0, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_next_rows_equal_looking_ahead(n_neurons: int, n_rows: int, split: int, seed: int) -> None:
    """Of the rows before a split, given what those after it noted."""
    split = min(split, n_rows)
    active = np.random.default_rng(seed).random((n_rows, n_neurons)) < 0.2
    padded = np.zeros((n_rows, -(-n_neurons // 64) * 8), np.uint8)
    packed = np.packbits(active, axis=1, bitorder="little")
    padded[:, : packed.shape[1]] = packed
    next_row = np.full(n_neurons, n_rows, np.int32)
    note_rows(padded[split:].view("<u8"), split, next_row)
    neurons = np.nonzero(active[:split])[1].astype(np.int32)
    row_starts = np.concatenate([[0], active[:split].sum(axis=1).cumsum()])
    of_access = np.empty(neurons.size, np.int32)
    next_rows(neurons, row_starts, 0, next_row, of_access)
    expected = [
        next((later for later in range(row + 1, n_rows) if active[later, neuron]), n_rows)
        for row in range(split)
        for neuron in np.flatnonzero(active[row])
    ]
    assert of_access.tolist() == expected
