"""Picking pairs by their place in the order, against sorting all of them."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from ripple_place.kernels import pair_keys as kernels

ID_BITS, TOP = 6, 9


def key_of(i: int, j: int, count: int) -> int:
    """Return the key as documented."""
    return (TOP - count) << 12 | min(i, j) << 6 | max(i, j)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_pairs_in_a_range(seed: int, n_threads: int) -> None:
    """Any range, of part of one count or over several, in panels of any size: the pairs, each once, of either rank."""
    rng = np.random.default_rng(seed)
    n_neurons = int(rng.integers(1, 40))
    neurons = rng.permutation(50)[:n_neurons].astype(np.int32)
    counts = np.full((n_neurons + 2, n_neurons + 7), 5, np.int32)
    upper = np.triu_indices(n_neurons, 1)
    counts[upper] = rng.integers(0, (1, 2, 9, 9)[seed] + 1, upper[0].size)
    pairs = [(key_of(neurons[i], neurons[j], counts[i, j])) for i, j in zip(*upper, strict=True)]
    everything = sorted(int(key) for key in pairs)
    ends = [0, TOP << 12, *everything[:: max(1, len(everything) // 6)]]
    before = numba.get_num_threads()
    numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))
    try:
        for first_key, last_key in [(a, b) for a in ends for b in ends if a <= b]:
            picked = []
            for start in range(0, n_neurons, 16):
                panel = counts[start : start + 16]
                found = np.full(panel.shape[0], -1, np.int64)
                known = (panel, start, neurons, TOP, ID_BITS, first_key, last_key)
                kernels.count_keys(*known, found)
                place = 3 + np.concatenate(([0], np.cumsum(found)))
                keys = np.full(place[-1] + 2, -1, np.int64)
                kernels.write_keys(*known, place, keys)
                assert keys[:3].tolist() == [-1] * 3
                assert keys[-2:].tolist() == [-1] * 2
                picked += keys[3:-2].tolist()
            assert sorted(picked) == [key for key in everything if first_key <= key <= last_key]
    finally:
        numba.set_num_threads(before)
