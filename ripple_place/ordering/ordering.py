"""What an ordering is to the rest of the program: its name, what it needs, and the function that makes the order.

Each ordering is one file with a function `make`, and one line in `ripple_place.ordering.registry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ripple_place.ordering.activity import Make


@dataclass(frozen=True)
class Ordering:
    """An ordering as the registry lists it.

    Parameters
    ----------
    name : str
    module : str
        Module of `ripple_place.ordering` whose function `make` makes the order. It is imported when first used.
    summary : str
        A few words for the command line's help.
    sees_activity : bool
        Whether the order depends on which neurons fire. Such an ordering also orders what a DRAM cache misses.
    is_searched : bool
        Whether it searches for a low cost of reads: on rows of the trace that the held-out rows then judge, until its
        effort is spent or a clock stops it.
    takes_effort : bool
        Whether `ripple_place.ordering.activity.OrderingParams.effort` matters.
    is_compared : bool
        Whether it has a row in the comparison of orderings.
    """

    name: str
    module: str
    summary: str = ""
    sees_activity: bool = True
    is_searched: bool = False
    takes_effort: bool = False
    is_compared: bool = True

    @property
    def make(self) -> Make:
        """The function that makes the order."""
        make: Make = import_module(f"ripple_place.ordering.{self.module}").make
        return make
