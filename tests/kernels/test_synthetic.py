"""The kernels behind synthetic workloads against their plain twins."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from ripple_place.kernels.synthetic import draw_features, fire_top, lowest_of_top, random_word
from tests.reference import synthetic as twin

KEY = np.uint64(0xDEADBEEF12345678)


def test_random_words_are_splitmix64() -> None:
    """The first outputs for seed 1234567 of SplitMix64's reference implementation."""
    expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert [random_word(1234567, counter) for counter in range(3)] == expected
    assert [twin.random_word(1234567, counter) for counter in range(3)] == expected


def test_compiled_words_equal_python_s() -> None:
    """The compiled overload wraps around where Python masks."""

    @njit
    def words(key, out):
        for counter in range(out.size):
            out[counter] = random_word(key, counter)

    out = np.empty(50, np.uint64)
    words(KEY, out)
    assert out.tolist() == [random_word(int(KEY), counter) for counter in range(50)]


@given(st.lists(st.integers(-5000, 600000), min_size=1, max_size=60), st.data())
@settings(max_examples=60, deadline=None)
def test_lowest_of_top_is_what_sorting_gives(scores: list[int], data: st.DataObject) -> None:
    """Whatever the spread of the scores, ties included."""
    n_top = data.draw(st.integers(1, len(scores)))
    assert lowest_of_top(np.array(scores, np.int32), n_top) == sorted(scores, reverse=True)[n_top - 1]


@pytest.mark.parametrize("chunk", [4, 8, 12])
def test_features_equal_the_twin(chunk: int) -> None:
    """Also when whole segments are drawn apart from each other."""
    thresholds = np.array([2**31, 2**30, 0, 2**32, 2**29], np.int64)
    on = np.empty((12, 5), np.uint8)
    for start in range(0, 12, chunk):
        draw_features(KEY, start, 4, thresholds, int(0.6 * 2**32), on[start : start + chunk])
    expected = twin.features(int(KEY), 12, 4, thresholds.tolist(), int(0.6 * 2**32))
    assert on.astype(bool).tolist() == expected
    assert not on[:, 2].any()
    assert on[:, 3].all()


@pytest.mark.parametrize(("n_neurons", "n_top"), [(1, 1), (16, 3), (21, 5), (21, 21)])
def test_firing_equals_the_twin(n_neurons: int, n_top: int) -> None:
    """Also where the last byte is partly filled, and where everything fires."""
    rng = np.random.default_rng(n_neurons)
    on = (rng.random((6, 4)) < 0.4).astype(np.uint8)
    first, second = rng.integers(0, 4, (2, n_neurons), dtype=np.int32)
    active = np.empty((6, -(-n_neurons // 8)), np.uint8)
    for start, stop in ((0, 2), (2, 6)):
        fire_top(KEY, start, on[start:stop], first, second, 200000, 60000, n_top, active[start:stop])
    expected = twin.firing(int(KEY), on.tolist(), first.tolist(), second.tolist(), 200000, 60000, n_top)
    bits = np.unpackbits(active, axis=1, bitorder="little")
    assert [set(np.flatnonzero(row).tolist()) for row in bits] == expected
