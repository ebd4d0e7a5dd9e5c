"""Sweeps of size and depth: every cell timed, at places all over the file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.flash.storage.sweep import Cell, random_offsets, sweep

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from ripple_place.flash.storage.direct_file import DirectFile


def test_every_cell_is_timed_in_every_repeat(data: DirectFile) -> None:
    """Sizes by depths, in that order; the repeat that does not count is told of as progress as well."""
    turns: list[int] = []

    def track(items: Collection[Any], what: str) -> Iterable[Any]:
        turns.append(len(items))
        return items

    cells = sweep(
        data, [4096, 8192], [1, 3], n_repeats=2, cell_us=1.0, rng=np.random.default_rng(0), track=track, what="cells"
    )
    assert [(cell.size_bytes, cell.depth) for cell in cells] == [(4096, 1), (4096, 3), (8192, 1), (8192, 3)]
    assert turns == [2 * 2 * (2 + 1)]
    for cell in cells:
        assert cell.repeats_us.size == 2
        assert (cell.repeats_us > 0).all()
        assert 0 < cell.latency_us[0] <= cell.latency_us[1]


def test_scores_of_a_cell_by_hand() -> None:
    """Median 20 us of 4 KiB reads is 204.8 MB/s; the middle half, 18 to 24 us, is 30 % wide."""
    cell = Cell(4096, 8, np.array([10, 18, 20, 24, 90.0]), (80.0, 200.0))
    assert (cell.read_us, cell.bandwidth_bytes_per_s, cell.spread) == (20, 204.8e6, 0.3)


def test_places_are_aligned_and_reach_both_ends(data: DirectFile) -> None:
    """Starts are page multiples; the first and the last place that fits occur among many draws."""
    offsets = random_offsets(data, 8192, 20_000, np.random.default_rng(0))
    assert (offsets % 4096 == 0).all()
    assert (offsets.min(), offsets.max()) == (0, data.size_bytes - 8192)
