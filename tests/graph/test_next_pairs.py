"""Pairs in the order of descending count, a part at a time."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.graph.next_pairs import PairOrder, next_pairs
from tests.trace_builders import bits_of, planted_clusters


def all_keys(active: np.ndarray, neurons: np.ndarray) -> list[int]:
    """Return the keys of all pairs that fire together, by sorting."""
    n_rows, n_neurons = active.shape
    counts = active.astype(int).T @ active.astype(int)
    id_bits = int(n_neurons - 1).bit_length()
    return sorted(
        (n_rows - int(counts[i, j])) << 2 * id_bits | int(i) << id_bits | int(j)
        for i in neurons for j in neurons if i < j and counts[i, j] > 0
    )  # fmt: skip


@pytest.mark.parametrize("max_pairs", [1, 7, 100, 10**6])
@pytest.mark.parametrize("panel_bytes", [1, 2**24])
def test_part_after_part(max_pairs: int, panel_bytes: int) -> None:
    """However few are asked for and however small the panels, the parts are all pairs in order, ties included."""
    active = planted_clusters(np.random.default_rng(0), n_clusters=9, cluster_size=10, n_rows=80)[0]
    active[:, :10] = False
    bits, order = bits_of(active), PairOrder(90, 80)
    neurons = np.arange(0, 90, 2, dtype=np.int32)
    expected = all_keys(active, neurons)
    found: list[int] = []
    first_key, n_parts = 0, 0
    while n_parts < 12:
        keys = next_pairs(bits, neurons, bits.frequency(), order, first_key, order.last_key(1), max_pairs, panel_bytes)
        assert keys.size <= max_pairs
        if keys.size == 0:
            break
        found += keys.tolist()
        first_key, n_parts = int(keys[-1]) + 1, n_parts + 1
    assert found == expected[: len(found)]
    assert len(found) == min(len(expected), n_parts * max_pairs)


def test_a_range() -> None:
    """Only pairs with enough co-activations, and none that came before."""
    active = planted_clusters(np.random.default_rng(1), n_clusters=4, cluster_size=10, n_rows=300)[0]
    bits, order = bits_of(active), PairOrder(40, 300)
    everyone = np.arange(40, dtype=np.int32)
    expected = all_keys(active, everyone)
    for least in (1, 10, 30, 301):
        last_key = order.last_key(least)
        keys = next_pairs(bits, everyone, bits.frequency(), order, expected[20], last_key, 10**6)
        assert keys.tolist() == [key for key in expected[20:] if (300 - (key >> 12)) >= least]


def test_too_large_to_be_ordered() -> None:
    """A key has 64 bits: a million neurons and as many tokens fit, eight times as many do not."""
    assert PairOrder(2**20, 2**20).id_bits == 20
    with pytest.raises(ValueError, match="1048576 neurons and 8388608 rows: too many pairs"):
        PairOrder(2**20, 2**23)
