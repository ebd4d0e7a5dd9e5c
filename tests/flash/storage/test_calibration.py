"""From times to profiles: sizes, saturation, and fitted tables, on made-up times."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripple_place.flash.storage.calibration import (
    fit_table,
    noise_warning,
    queue_factors,
    saturating_depth,
    sweep_sizes,
)
from tests.flash.storage.builders import cell, profile_of


@pytest.mark.parametrize(
    ("page", "most", "pages"),
    [
        (4096, 65536, [1, 2, 3, 4, 6, 8, 12, 16]),
        (4096, 4096, [1]),
        (4096, 20480, [1, 2, 3, 4, 5]),
        (8192, 24576, [1, 2, 3]),
    ],
)
def test_sizes_to_time(page: int, most: int, pages: list[int]) -> None:
    """Powers of two of a page and their midpoints, and always the largest."""
    assert [size / page for size in sweep_sizes(page, most)] == pages


def test_the_smallest_depth_near_the_best_saturates() -> None:
    """Depth 4 reaches 96 % of depth 8's throughput over both sizes, depth 2 less."""
    times_us = {1: (80, 160), 2: (40, 80), 4: (20.8, 41.7), 8: (20, 40)}
    cells = [
        cell(size, depth, us) for depth, both in times_us.items() for size, us in zip((4096, 8192), both, strict=True)
    ]
    assert saturating_depth(cells) == 4


def test_queue_factors_by_hand() -> None:
    """Throughput of the smallest reads against that at the depth; a dip on the way up is smoothed down, not up."""
    cells = [cell(4096, 1, 100.0), cell(4096, 2, 40.0), cell(4096, 4, 50.0), cell(4096, 8, 25.0), cell(4096, 16, 20.0)]
    cells += [cell(8192, 1, 999.0)]
    assert queue_factors(cells, 8) == ((1, 2, 4, 8), (0.25, 0.5, 0.5, 1.0))
    assert queue_factors(cells, 1) == ((1,), (1.0,))
    assert queue_factors([*cells, cell(8192, 8, 500.0)], 8, 8192) == ((1, 8), (0.501, 1.0))


@given(st.lists(st.floats(1, 1e4), min_size=1, max_size=12))
def test_fitted_tables_are_what_profiles_need(times_us: list[float]) -> None:
    """Whatever was measured: never falling, rising at the end, and unchanged where it rose by itself."""
    sizes = [4096 * number for number in range(1, len(times_us) + 1)]
    fitted_sizes, fitted_us = fit_table(sizes, times_us)
    assert all(a <= b for a, b in pairwise(fitted_us))
    assert len(fitted_us) == 1 or fitted_us[-2] < fitted_us[-1]
    assert fitted_sizes[-1] == sizes[-1]
    rising = [float(f"{time_us:.4g}") for time_us in times_us]
    if all(a < b for a, b in pairwise(rising)):
        assert fitted_us == tuple(rising)


def test_pooling_is_the_least_squares_fit() -> None:
    """Neighbours out of order take their mean: 12, 10 -> 11; 14, 13, 12.5 -> 13.17; 30, 29 -> 29.5."""
    _, fitted_us = fit_table(range(4096, 4096 * 9, 4096), [12.0, 10.0, 14.0, 13.0, 12.5, 30.0, 29.0, 31.0])
    assert fitted_us == (11, 11, 13.17, 13.17, 13.17, 29.5, 29.5, 31)


def test_a_profile_of_times_on_a_line() -> None:
    """10 us a read and 4096 bytes a microsecond come back as line and break-even gap; the page stays 4 KiB."""
    profile = profile_of({size: 10 + size / 4096 for size in sweep_sizes(4096, 262144)})
    assert (profile.page_bytes, profile.max_request_bytes, profile.queue_depths) == (4096, 262144, (8,))
    line = profile.line(4096)
    assert (line.overhead_us, line.bandwidth_bytes_per_s) == (pytest.approx(10), pytest.approx(4096e6))
    assert profile.break_even_gap(8192) == pytest.approx(5)
    assert "measured" in profile.sources["latency_us"]


def test_noise_is_told_by_the_worst_size() -> None:
    """Repeats within a tenth are quiet; wider ones are named."""
    quiet, loud = cell(4096, 8, 19, 20, 21), cell(8192, 8, 10, 20, 40)
    assert noise_warning([quiet]) is None
    assert "1 of 2 sizes (the middle half of those at 8192 bytes is 75 % wide)" in (noise_warning([quiet, loud]) or "")
