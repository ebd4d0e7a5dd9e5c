"""The heap that can be re-keyed, against sorting."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.kernels.heap import ABSENT, sift_down, sift_up


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40), st.integers(0, 2**32 - 1))
@settings(max_examples=60, deadline=None)
def test_heap_gives_back_sorted(keys: list[int], seed: int) -> None:
    """Ids entered, some re-keyed up or down, come out by key, ties by lowest id; places stay right throughout."""
    rng = np.random.default_rng(seed)
    n = len(keys)
    key = np.array(keys, np.float64)
    heap, place = np.empty(n, np.int32), np.full(n, ABSENT, np.int32)
    for n_heaped, entering in enumerate(rng.permutation(n)):
        heap[n_heaped] = entering
        sift_up(heap, place, key, n_heaped)
    for changing in rng.integers(0, n, 5):
        key[changing] = rng.integers(0, 7)
        sift_down(heap, n, place, key, place[changing])
        sift_up(heap, place, key, place[changing])
    assert heap[place].tolist() == list(range(n))
    taken = []
    for n_left in range(n, 0, -1):
        taken.append(int(heap[0]))
        heap[0] = heap[n_left - 1]
        sift_down(heap, n_left - 1, place, key, 0)
    assert taken == sorted(range(n), key=lambda i: (key[i], i))
