"""The orderings by name, and those that look at no pair."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.flash.read_cost import ReadCost
from ripple_place.ordering.activity import Activity, OrderingParams
from ripple_place.ordering.frequency import frequency_order
from ripple_place.ordering.original import original_order
from ripple_place.ordering.random_order import random_order
from ripple_place.ordering.registry import (
    ORDERINGS,
    choose_ordering,
    compared_orderings,
    find_ordering,
    plain_orderings,
)
from ripple_place.trace.split_block import SplitBlock
from tests.trace_builders import block_of, planted_clusters

if TYPE_CHECKING:
    from ripple_place.ordering.ordering import Ordering


@pytest.mark.parametrize("n_neurons", [1, 2, 100])
def test_original_order(n_neurons: int) -> None:
    """Checkpoint order is identity."""
    assert original_order(n_neurons).tolist() == list(range(n_neurons))
    assert original_order(n_neurons).dtype == np.int32


@pytest.mark.parametrize("n_neurons", [1, 2, 100])
def test_random_order(n_neurons: int) -> None:
    """A permutation; the same generator gives the same, another another."""
    orders = [random_order(n_neurons, np.random.default_rng(seed)).tolist() for seed in (0, 0, 1)]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == sorted(orders[2]) == list(range(n_neurons))
    assert n_neurons < 100 or orders[0] != orders[2]


def test_frequency_order() -> None:
    """Hottest first, ties and dead neurons by lowest id; counts near 2**62 must not wrap."""
    assert frequency_order(np.array([3, 0, 2**62, 3, 0, 9])).tolist() == [2, 5, 0, 3, 1, 4]
    assert frequency_order(np.array([3, 1])).dtype == np.int32


@pytest.mark.parametrize("ordering", ORDERINGS.values(), ids=lambda ordering: ordering.name)
def test_every_ordering_makes_a_permutation(ordering: Ordering) -> None:
    """Of activity alone, with what reads cost; the same from the same seed; its flags say what it does."""
    active = planted_clusters(np.random.default_rng(0), n_clusters=4, cluster_size=6, n_rows=90)[0]
    activity = Activity.of_rows(SplitBlock(block_of(active), 70))
    params = OrderingParams((3, 1), effort=1, cost=ReadCost.by_line(3.0))
    made, again = (ordering.make(activity, params) for _ in range(2))
    assert sorted(made.order) == list(range(24))
    assert made.order.dtype == np.int32
    assert made.order.tolist() == again.order.tolist()
    assert bool(made.cost) == bool(made.chosen) == ordering.is_searched
    other = Activity.of_rows(SplitBlock(block_of(active[::-1, ::-1].copy()), 70))
    assert (ordering.make(other, params).order.tolist() != made.order.tolist()) == ordering.sees_activity
    if not ordering.takes_effort:
        assert ordering.make(activity, replace(params, effort=9)).order.tolist() == made.order.tolist()


def test_what_follows_from_the_registry() -> None:
    """Rows of the comparison from plain to elaborate; searches start from those that cost little."""
    known = ["original", "frequency", "greedy", "path", "flash-time"]  # More may join them.
    assert [name for name in compared_orderings() if name in known] == known
    assert {"greedy", "frequency", "original"} <= set(plain_orderings())
    assert not {"path", "flash-time", "random"} & set(plain_orderings())
    assert "random" not in compared_orderings()
    assert choose_ordering(is_priced=True, has_rows=True).name == "flash-time"
    assert choose_ordering(is_priced=False, has_rows=True).name == "greedy"
    assert choose_ordering(is_priced=True, has_rows=False).name == "greedy"
    with pytest.raises(UsageError, match="ordering: found 'magic'; expected one of auto, flash-time"):
        find_ordering("magic")


@pytest.mark.parametrize("name", ["flash-time", "path", "greedy"])
def test_counts_alone_are_refused(name: str) -> None:
    """Frequencies do not say which neurons fire together."""
    with pytest.raises((UsageError, TraceFormatError), match="expected"):
        ORDERINGS[name].make(Activity(np.arange(5)), OrderingParams(cost=ReadCost.by_line(1.0)))


def test_a_search_needs_a_cost() -> None:
    """There is nothing to weigh reads against neurons with."""
    activity = Activity.of_rows(SplitBlock.unsplit(block_of(np.eye(4, dtype=bool))))
    with pytest.raises(UsageError, match="nothing that says what a read costs"):
        ORDERINGS["flash-time"].make(activity, OrderingParams())
