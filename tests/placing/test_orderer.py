"""One block's orders: from one seed, under one clock, by any ordering."""

from __future__ import annotations

import numpy as np

from ripple_place.flash.read_cost import ReadCost
from ripple_place.ordering.activity import Activity
from ripple_place.ordering.registry import ORDERINGS, plain_orderings
from ripple_place.placing.orderer import BlockOrderer
from ripple_place.placing.search_clock import SearchClock
from ripple_place.trace.split_block import SplitBlock
from tests.trace_builders import block_of, planted_clusters


def case() -> tuple[BlockOrderer, Activity]:
    """Return an orderer with little effort, and clustered activity of 40 neurons."""
    active = planted_clusters(np.random.default_rng(0), n_clusters=5, cluster_size=8, n_rows=200)[0]
    orderer = BlockOrderer(ReadCost.by_line(3.0), 2, (0, 0), SearchClock(4))
    return orderer, Activity.of_rows(SplitBlock(block_of(active), 160))


def test_a_search_draws_anew_each_turn() -> None:
    """And the same again for the same turn; orderings without search do not depend on it."""
    orderer, activity = case()
    orders = [orderer.make(ORDERINGS["flash-time"], activity, turn).order.tolist() for turn in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    path = [orderer.make(ORDERINGS["path"], activity, turn).order.tolist() for turn in (0, 3)]
    assert path[0] == path[1]


def test_a_search_tells_how_far_it_is() -> None:
    """To whoever listens; others are silent."""
    orderer, activity = case()
    heard: list[float] = []
    orderer.make(ORDERINGS["flash-time"], activity, report_progress=lambda done, gain: heard.append(done))
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    n_heard = len(heard)
    orderer.make(ORDERINGS["greedy"], activity, report_progress=lambda done, gain: heard.append(done))
    assert len(heard) == n_heard


def test_plain_orders() -> None:
    """Those of the registry, by name."""
    orderer, activity = case()
    orders = orderer.plain(activity)
    assert list(orders) == plain_orderings()
    assert orders["greedy"].tolist() == orderer.make(ORDERINGS["greedy"], activity).order.tolist()


def test_misses_are_ordered_by_what_looks_at_activity() -> None:
    """A search starts from the present order, and is never costlier; random and original orders have no say."""
    orderer, activity = case()
    assert orderer.misses_by(ORDERINGS["random"]) is None
    assert orderer.misses_by(ORDERINGS["original"]) is None
    assert activity.rows is not None
    present = np.arange(40, dtype=np.int32)
    for name in ("greedy", "flash-time"):
        order_misses = orderer.misses_by(ORDERINGS[name])
        assert order_misses is not None
        assert sorted(order_misses(activity.rows, present, 2)) == list(range(40))
