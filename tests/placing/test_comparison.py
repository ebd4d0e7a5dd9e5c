"""The field's question: a table of orderings without DRAM and with the hottest neurons pinned."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from ripple_place.flash.read_cost import ReadCost
from ripple_place.ordering.frequency import frequency_order
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.original import original_order
from ripple_place.placing.block_report import why_helpless
from ripple_place.placing.cached_block import CachedBlock
from ripple_place.placing.comparison import DRAM_SHARES, combine, compare_orders
from ripple_place.trace.split_block import SplitBlock
from tests.flash.builders import linear_device
from tests.reference.gap_cost import gap_cost
from tests.trace_builders import bits_of, block_of, planted_clusters


def case() -> tuple[np.ndarray, CachedBlock, dict[str, np.ndarray]]:
    """Return clustered activity of 40 neurons, 300 rows searched and 100 held out, and three orders."""
    active = planted_clusters(np.random.default_rng(0), n_clusters=5, cluster_size=8, n_rows=400)[0]
    block = CachedBlock.of_rows("layers.0", SplitBlock(block_of(active), 300), ReadCost.by_line(10.0))
    bits = bits_of(active[:300])
    orders = {
        "greedy": greedy_path(bits), "frequency": frequency_order(bits.frequency()), "original": original_order(40),
    }  # fmt: skip
    return active, block, orders


def test_each_number_is_the_cost_on_what_was_held_out() -> None:
    """Counted by hand: the hottest neurons of the searched part never read, the rest in runs and gaps."""
    active, block, orders = case()
    costs = compare_orders(block, orders)
    assert list(costs) == ["original", "frequency", "greedy"]
    hottest = np.argsort(-active[:300].sum(0), kind="stable")
    for name, order in orders.items():
        for place, share in enumerate(DRAM_SHARES):
            missing = active[300:].copy()
            missing[:, hottest[: int(share * 40)]] = False
            expected = gap_cost(missing.tolist(), order.tolist(), 10.0) * 100
            assert costs[name][place] == pytest.approx(expected)


def test_flash_time_where_the_device_is_known() -> None:
    """The simulator's: on a line and whole pages, the same numbers in microseconds."""
    _, block, orders = case()
    device = linear_device(max_request_bytes=4096 * 64)
    timed = replace(block, cost=ReadCost.on_device(device, 4096))
    cost, time_us = compare_orders(block, orders), compare_orders(timed, orders)
    for name in orders:
        assert time_us[name].tolist() == pytest.approx(cost[name].tolist())


def test_blocks_add_up() -> None:
    """Per token of all blocks, for the orderings that every block has; what is gained beyond hot-cold order."""
    one = {"original": np.full(4, 80.0), "frequency": np.full(4, 60.0), "greedy": np.full(4, 40.0)}
    other = {
        "original": np.full(4, 20.0),
        "frequency": np.full(4, 20.0),
        "greedy": np.full(4, 10.0),
        "path": np.ones(4),
    }
    table = combine([one, other], "neurons", 10, held_out=True)
    assert dict(table.cost_per_token) == {"original": (10.0,) * 4, "frequency": (8.0,) * 4, "greedy": (5.0,) * 4}
    assert table.beyond_hot_cold == (1.6,) * 4
    assert table.to_json()["cost_per_token"]["greedy"] == [5.0] * 4
    nothing = combine([{"frequency": np.zeros(4), "greedy": np.zeros(4)}], "us", 1, held_out=False)
    assert nothing.beyond_hot_cold == (1.0,) * 4
    assert combine([{"frequency": np.ones(4)}], "us", 1, held_out=False).beyond_hot_cold == (1.0,) * 4


@pytest.mark.parametrize(
    ("active", "before", "after", "note"),
    [
        (np.zeros((100, 8)), 0.0, 0.0, "placement cannot help: none of its neurons is ever active"),
        (np.ones((9, 8)), 9.0, 5.0, "placement says little: the block has 9 tokens, too few to learn from"),
        (np.ones((100, 8)), 9.0, 8.99, "placement cannot help: 100 % of its neurons are active"),
        (
            np.eye(8).repeat(20, axis=0),
            9.0,
            8.9,
            "placement gains 1.1 % on tokens held out: little fires together twice",
        ),
        (np.ones((100, 8)), 9.0, 5.0, ""),
        (np.ones((100, 8)), 0.0, 0.0, "placement has nothing to do: DRAM leaves nothing to read"),
        (np.ones((100, 8)), None, None, ""),
    ],
)
def test_why_placement_cannot_help(active: np.ndarray, before: float | None, after: float | None, note: str) -> None:
    """Honest about blocks that have nothing to gain, silent about the others."""
    assert why_helpless(block_of(active), before, after) == note
