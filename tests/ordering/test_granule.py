"""Granules: neurons that move as one, ordered as if each granule were a neuron."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripple_place.checkpoint.model.neuron_tensor import keeps_granules
from ripple_place.ordering.granule import expand_order, granule_frequency, granule_trace, n_granules
from ripple_place.trace.activation_trace import BlockTrace


@pytest.mark.parametrize("n_neurons", [5, 8, 64, 70, 200])
@pytest.mark.parametrize("granule", [8, 16, 32])
def test_trace_of_granules(n_neurons: int, granule: int) -> None:
    """A granule is active where any of its neurons is; the token index goes along."""
    active = np.random.default_rng(n_neurons).random((9, n_neurons)) < 0.05
    block = BlockTrace(n_neurons, np.packbits(active, axis=1, bitorder="little"), np.arange(9, dtype=np.int32) * 2)
    coarse = granule_trace(block, granule)
    n_units = n_granules(n_neurons, granule)
    assert coarse.n_neurons == n_units
    expected = [active[:, g * granule : (g + 1) * granule].any(axis=1) for g in range(n_units)]
    found = np.unpackbits(coarse.active, axis=1, count=n_units, bitorder="little")
    np.testing.assert_array_equal(found.T, expected)
    np.testing.assert_array_equal(coarse.token_index, block.token_index)


@given(st.integers(1, 200), st.sampled_from([8, 32, 64]), st.randoms(use_true_random=False))
def test_expanded_orders_keep_granules(n_neurons: int, granule: int, random: object) -> None:
    """Whatever the order of the granules: a permutation that parts none, and leaves the rest at the end."""
    units = np.random.default_rng(0).permutation(n_granules(n_neurons, granule)).astype(np.int32)
    order = expand_order(units, granule, n_neurons)
    assert sorted(order.tolist()) == list(range(n_neurons))
    assert keeps_granules(order, granule)


def test_frequency_of_granules() -> None:
    """Sums; neurons past the last full granule count for none."""
    assert granule_frequency(np.arange(20), 8).tolist() == [28, 92]
    assert granule_frequency(np.arange(5), 8).tolist() == [10]


@pytest.mark.parametrize(
    ("order", "keeps"),
    [
        ([2, 3, 0, 1], True), ([3, 2, 1, 0], True), ([0, 2, 1, 3], False), ([0, 1, 2, 3, 4], True),
        ([2, 3, 1, 0, 4], True), ([4, 0, 1, 2, 3], False), ([0, 1, 4, 2, 3], False),
    ],
)  # fmt: skip
def test_keeping_granules_of_two(order: list[int], keeps: bool) -> None:
    """Within a granule neurons may change places, granules may, and a last one that is not full stays."""
    assert keeps_granules(np.array(order, np.int32), 2) is keeps
