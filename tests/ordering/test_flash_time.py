"""Ordering by flash time: never worse on what it searched, honest about what it did not, valid on degenerate blocks."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.device.profile import DeviceProfile
from ripple_place.flash.read_cost import ReadCost
from ripple_place.ordering.flash_cost import FlashCost
from ripple_place.ordering.flash_time import FlashTimeParams, flash_time_order
from ripple_place.ordering.frequency import frequency_order
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.original import original_order
from ripple_place.trace.split_block import SplitBlock
from tests.trace_builders import bits_of, block_of, planted_clusters, random_activity


def starts_of(active: np.ndarray) -> dict[str, np.ndarray]:
    """Return the starts that `reorder` uses."""
    bits = bits_of(active)
    return {
        "greedy": greedy_path(bits),
        "frequency": frequency_order(bits.frequency()),
        "original": original_order(bits.n_neurons),
    }


@pytest.mark.parametrize("break_even_gap", [0.0, 1.5, 5.0, 20.0])
def test_never_costlier_than_any_start(break_even_gap: float) -> None:
    """The search begins at the best start and only ever improves."""
    rng = np.random.default_rng(0)
    active = planted_clusters(rng, n_clusters=5, cluster_size=6, n_rows=200)[0]
    result = flash_time_order(
        SplitBlock.unsplit(block_of(active)),
        starts_of(active),
        FlashTimeParams(ReadCost.by_line(break_even_gap)),
        np.random.default_rng(0),
    )
    assert result.chosen == "flash-time"
    assert result.cost["flash-time"] <= min(result.cost.values())
    assert result.cost["flash-time"] == pytest.approx(
        FlashCost(block_of(active), ReadCost.by_line(break_even_gap))(result.order)
    )
    assert math.isnan(result.held_out["greedy"])


def test_more_effort_is_never_worse() -> None:
    """Each sweep starts where the one before ended."""
    active = random_activity(np.random.default_rng(3), 150, 40, 0.15)
    costs = [
        flash_time_order(
            SplitBlock.unsplit(block_of(active)),
            starts_of(active),
            FlashTimeParams(ReadCost.by_line(4.0), effort),
            np.random.default_rng(0),
        ).cost["flash-time"]
        for effort in (0, 1, 2, 20)
    ]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]


def test_noise_is_not_learned() -> None:
    """On independent activity what the search finds is luck; held-out tokens say so, and a start is returned."""
    rng = np.random.default_rng(5)
    active = random_activity(rng, 60, 40, 0.1)
    unseen = random_activity(rng, 4000, 40, 0.1)
    starts = {"original": original_order(40)}
    result = flash_time_order(
        SplitBlock(block_of(np.concatenate([active, unseen])), 60),
        starts,
        FlashTimeParams(ReadCost.by_line(3.0)),
        np.random.default_rng(0),
    )
    assert result.cost["flash-time"] < result.cost["original"]
    best = min(result.held_out, key=result.held_out.__getitem__)
    assert result.chosen == best
    assert result.held_out[result.chosen] <= result.held_out["original"]


@pytest.mark.parametrize(
    "active",
    [
        np.ones((20, 9), bool),
        np.zeros((20, 9), bool),
        np.ones((1, 7), bool),
        np.eye(2, dtype=bool),
        np.ones((5, 1), bool),
        np.repeat(np.eye(3, dtype=bool), 4, axis=1),
        np.zeros((0, 6), bool),
    ],
    ids=["all on", "none on", "one token", "two neurons", "one neuron", "duplicates", "no tokens"],
)
def test_degenerate_blocks_get_a_valid_placement(active: np.ndarray) -> None:
    """Whatever the trace holds, the result is a permutation."""
    starts = {"original": original_order(active.shape[1])}
    result = flash_time_order(
        SplitBlock.unsplit(block_of(active)), starts, FlashTimeParams(ReadCost.by_line(5.0)), np.random.default_rng(0)
    )
    assert sorted(result.order) == list(range(active.shape[1]))


def test_same_seed_same_order() -> None:
    """The order is a function of trace, parameters and seed."""
    active = planted_clusters(np.random.default_rng(2), n_clusters=4, cluster_size=8, n_rows=120)[0]
    orders = [
        flash_time_order(
            SplitBlock.unsplit(block_of(active)),
            starts_of(active),
            FlashTimeParams(ReadCost.by_line(5.0)),
            np.random.default_rng(7),
        ).order.tolist()
        for _ in range(2)
    ]
    assert orders[0] == orders[1]


@pytest.mark.parametrize("break_even_gap", [-1.0, math.inf, math.nan])
def test_gaps_out_of_range_are_refused(break_even_gap: float) -> None:
    """A cost must be a number."""
    with pytest.raises(UsageError, match=r"--break-even-gap: found .*; expected a number from 0 to 1e\+09"):
        FlashTimeParams(ReadCost.by_line(break_even_gap))


def test_gaps_beyond_a_byte_are_searched_nearly_and_judged_exactly() -> None:
    """As of bundles far shorter than a page: reads are so dear that all of a token's neurons come in one."""
    active = planted_clusters(np.random.default_rng(8), n_clusters=5, cluster_size=6, n_rows=100)[0]
    result = flash_time_order(
        SplitBlock.unsplit(block_of(active)),
        starts_of(active),
        FlashTimeParams(ReadCost.by_line(1000.0), 1),
        np.random.default_rng(0),
    )
    assert result.cost["flash-time"] == pytest.approx(
        FlashCost(block_of(active), ReadCost.by_line(1000.0))(result.order)
    )
    assert result.cost["flash-time"] <= min(result.cost.values())


def test_a_table_judges_the_orders() -> None:
    """With a cost by read length, starts and result are judged by it, and nothing dearer than a start is returned."""
    active = planted_clusters(np.random.default_rng(4), n_clusters=5, cluster_size=6, n_rows=200)[0]
    # Reads of up to four neurons cost the same, as on flash below its knee.
    sources = dict.fromkeys(("page_bytes", "max_request_bytes", "latency_us"), "made up")
    sizes, times_us = (4 * 4096, 32 * 4096), (8.0, 36.0)
    device = DeviceProfile("knee", "", 4096, 2**20, "table", sizes, times_us, sources=sources)
    by_table = ReadCost.on_device(device, 4096)
    assert by_table.run_cost(5).tolist() == [0, 8, 8, 8, 8, 9]
    params = FlashTimeParams(by_table)
    result = flash_time_order(SplitBlock.unsplit(block_of(active)), starts_of(active), params, np.random.default_rng(0))
    cost = FlashCost(block_of(active), by_table)
    assert result.cost["greedy"] == pytest.approx(cost(starts_of(active)["greedy"]))
    assert cost(result.order) == min(result.cost.values())
    assert result.reads["original"] == pytest.approx(cost.reads(original_order(30)))


def test_a_search_that_is_stopped_keeps_what_it_has() -> None:
    """The pulse stops it: the order is valid, no worse than the start, and said to be incomplete."""
    active = planted_clusters(np.random.default_rng(6), n_clusters=5, cluster_size=8, n_rows=150)[0]
    heard = []

    def stop_after_two(done_share: float, gain_share: float) -> bool:
        heard.append((done_share, gain_share))
        return len(heard) < 2

    params = FlashTimeParams(ReadCost.by_line(4.0), effort=50)
    result = flash_time_order(
        SplitBlock.unsplit(block_of(active)), starts_of(active), params, np.random.default_rng(0), stop_after_two
    )
    assert len(heard) == 2
    assert not result.is_complete
    assert heard[1][1] >= heard[0][1] >= 0
    assert sorted(result.order) == list(range(40))
    assert result.cost["flash-time"] <= min(result.cost.values())
