"""Makes the orders of one block: by any ordering, from one seed, by one cost of reads, under one clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ripple_place.ordering.activity import Activity, OrderingParams
from ripple_place.ordering.registry import plain_orders

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.arrays import Int32Array
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.ordering.activity import Ordered
    from ripple_place.ordering.ordering import Ordering
    from ripple_place.placing.search_clock import SearchClock
    from ripple_place.trace.split_block import SplitBlock


class MissOrderer(Protocol):
    """Orders what a cache leaves to read."""

    def __call__(self, rows: SplitBlock, order: Int32Array, turn: int) -> Int32Array:
        """Return an order of the misses in `rows`; `order` is the present one, `turn` counts from 1."""
        ...


@dataclass(frozen=True)
class BlockOrderer:
    """Makes orders of one block.

    Parameters
    ----------
    cost : ReadCost
    effort : int
    seed : tuple of int
        Of the run and of the block.
    clock : SearchClock
        Says how long to search.
    """

    cost: ReadCost | None
    effort: int
    seed: tuple[int, ...]
    clock: SearchClock

    def make(
        self,
        ordering: Ordering,
        activity: Activity,
        turn: int = 0,
        report_progress: Callable[[float, float], object] = lambda done_share, gain_share: None,
    ) -> Ordered:
        """Return the order that an ordering gives; each `turn` of a search draws anew."""
        if not ordering.is_searched:
            return ordering.make(activity, OrderingParams(self.seed, self.effort, self.cost))
        seed = (*self.seed, turn) if turn else self.seed
        pulse = self.clock.begin(report_progress)
        return ordering.make(activity, OrderingParams(seed, self.effort, self.cost, pulse, self.clock.counting))

    def plain(self, activity: Activity) -> dict[str, Int32Array]:
        """Return the orders that are made in any case: what is compared, and where searches start."""
        return plain_orders(activity, OrderingParams(self.seed, self.effort, self.cost))

    def misses_by(self, ordering: Ordering) -> MissOrderer | None:
        """Return what orders misses by an ordering; None if the ordering does not look at activity.

        A search goes on from the present order; in its first turn, from the plain orders of the misses as well.
        """
        if not ordering.sees_activity:
            return None

        def order_misses(rows: SplitBlock, order: Int32Array, turn: int) -> Int32Array:
            activity = Activity.of_rows(rows)
            starts = {"present": order}
            if ordering.is_searched and turn == 1:
                starts |= self.plain(activity)
            return self.make(ordering, activity.with_starts(starts), turn).order

        return order_misses
