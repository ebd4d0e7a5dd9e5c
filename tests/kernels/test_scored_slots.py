"""Scored slots: against sorting, in chunks of any shape."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.kernels.scored_slots import list_scored_slots


@pytest.mark.parametrize("is_squared", [True, False])
@pytest.mark.parametrize(("n_rows", "n_neurons"), [(0, 5), (1, 1), (3, 64), (4, 65), (5, 200)])
def test_listed_slots(n_rows: int, n_neurons: int, is_squared: bool) -> None:
    """Each row's firing neurons by slot, worth their output by both weights; the marks are cleared afterwards."""
    rng = np.random.default_rng(n_neurons)
    outputs = (rng.standard_normal((n_rows, n_neurons)) * (rng.random((n_rows, n_neurons)) < 0.4)).astype(np.float32)
    slot_of = rng.permutation(n_neurons).astype(np.int32)
    weight, row_weight = rng.random(n_neurons, np.float32), rng.random(n_rows, np.float32)
    expected = [
        (row, int(slot_of[neuron]), float(weight[neuron] * row_weight[row]), float(outputs[row, neuron]))
        for row, neuron in zip(*np.nonzero(outputs), strict=True)
    ]
    expected.sort()
    row, neurons = np.nonzero(outputs)
    starts = np.searchsorted(row, np.arange(n_rows + 1))
    words, worth_of = np.zeros(-(-n_neurons // 64), np.uint64), np.empty(n_neurons)
    slots, worth = np.full(row.size, -1, np.int32), np.full(row.size, -1.0)
    list_scored_slots(
        starts, neurons.astype(np.int32), outputs[row, neurons], slot_of, weight, row_weight, is_squared, words,
        worth_of, slots, worth,
    )  # fmt: skip
    assert slots.tolist() == [slot for _, slot, _, _ in expected]
    sizes = [abs(value) ** (2 if is_squared else 1) * both for _, _, both, value in expected]
    np.testing.assert_allclose(worth, sizes, rtol=1e-6)
    assert not words.any()
