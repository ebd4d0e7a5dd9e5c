"""The planners by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.flash.planners.adaptive import AdaptivePlanner
from ripple_place.flash.planners.fixed import FixedGapPlanner
from ripple_place.flash.planners.optimal import OptimalPlanner

if TYPE_CHECKING:
    from ripple_place.flash.planners.planner import Planner

PLANNERS: dict[str, type[Planner]] = {
    planner.name: planner for planner in (FixedGapPlanner, AdaptivePlanner, OptimalPlanner)
}
"""Planners for neurons that lie on flash once; for two copies there is one of its own."""


def named_planners() -> list[str]:
    """Return the planners that are asked for by name; that of one gap is asked for by the gap."""
    return sorted(PLANNERS.keys() - {FixedGapPlanner.name})


def find_planner(name: str) -> type[Planner]:
    """Return the class of a planner.

    Raises
    ------
    UsageError
        If there is none by that name.
    """
    if name not in PLANNERS:
        raise UsageError(
            f"--collapse {name}", found="no planner by that name",
            expected=f"auto, off, a number, {' or '.join(named_planners())}",
            remedy="name one of them",
        )  # fmt: skip
    return PLANNERS[name]
