"""The orderings by name. What the command line offers, what is compared and what may order misses follow from here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.ordering.ordering import Ordering

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array
    from ripple_place.ordering.activity import Activity, OrderingParams

ORDERINGS: dict[str, Ordering] = {
    ordering.name: ordering
    for ordering in (
        Ordering("flash-time", "flash_time", "least flash time", is_searched=True, takes_effort=True),
        Ordering("path", "path_search", "fewest reads", takes_effort=True),
        Ordering("greedy", "greedy_path", "Ripple's path"),
        Ordering("frequency", "frequency", "hot-cold"),
        Ordering("random", "random_order", sees_activity=False, is_compared=False),
        Ordering("original", "original", sees_activity=False),
    )
}
"""From the one that does most to the one that does nothing."""

AUTO = "auto"
"""Instead of a name: the ordering that suits what is known."""


def find_ordering(name: str) -> Ordering:
    """Return an ordering.

    Raises
    ------
    UsageError
        If there is none by that name.
    """
    if name not in ORDERINGS:
        raise UsageError(
            "ordering", found=repr(name), expected=f"one of {', '.join((AUTO, *ORDERINGS))}",
            remedy="name one of them",
        )  # fmt: skip
    return ORDERINGS[name]


def compared_orderings() -> list[str]:
    """Return the orderings of the comparison, in the order of its rows: from the plainest on."""
    return [name for name, ordering in reversed(ORDERINGS.items()) if ordering.is_compared]


def plain_orderings() -> list[str]:
    """Return the orderings that cost little: they are always compared, and searches start from them."""
    return [name for name, ordering in ORDERINGS.items() if ordering.is_compared and not ordering.takes_effort]


def choose_ordering(*, is_priced: bool, has_rows: bool) -> Ordering:
    """Return what ``auto`` stands for: ``flash-time``, or ``greedy`` where there are no rows or reads have no price."""
    return ORDERINGS["flash-time" if is_priced and has_rows else "greedy"]


def plain_orders(activity: Activity, params: OrderingParams) -> dict[str, Int32Array]:
    """Return the plain orders of a block, by name."""
    return {name: ORDERINGS[name].make(activity, params).order for name in plain_orderings()}
