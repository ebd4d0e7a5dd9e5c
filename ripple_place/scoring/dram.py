"""Which DRAM a simulation has: the budget it is given, or the one that its layouts were made for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.placing.budget import check_budget
from ripple_place.placing.dram.split import split_evenly
from ripple_place.placing.recorded_dram import DEFAULT_CACHE, PLACEMENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.flash.layout import Layout
    from ripple_place.placing.recorded_dram import RecordedDram


@dataclass(frozen=True)
class SimulatedDram:
    """The DRAM of all layouts of a simulation, so that they are compared with the same in each block.

    Attributes
    ----------
    cache : str
        Policy; ``none`` without DRAM.
    capacity_neurons : mapping of str to int
        Neurons of each block that DRAM holds; empty without DRAM.
    split_by : str or None
        Layout whose record says how DRAM is split over the blocks; None: evenly.
    """

    cache: str = "none"
    capacity_neurons: Mapping[str, int] = field(default_factory=dict)
    split_by: str | None = None


def check_dram(budget: float | int | str | None, cache: str | None, uses: Mapping[str, bool]) -> None:
    """Refuse a budget that is none, and whatever needs a DRAM cache where there is none.

    Parameters
    ----------
    budget : float, int, str or None
        As of `choose_dram`.
    cache : str or None
        Policy, if one was named.
    uses : mapping of str to bool
        Options that need a cache, and whether they were given.

    Raises
    ------
    UsageError
    """
    if isinstance(budget, str) and budget != PLACEMENT:
        raise UsageError(
            f"--dram-budget {budget}", found="no budget",
            expected=f"a share, a size, or {PLACEMENT}", remedy="write 10% or 512MiB",
        )  # fmt: skip
    if budget is not None and not isinstance(budget, str):
        check_budget(budget)
    for option, is_set in uses.items():
        if is_set and (budget is None or cache == "none"):
            remedy = "add --dram-budget 10%" if cache != "none" else "name another --cache, with a --dram-budget"
            raise UsageError(option, found="no DRAM cache", expected="one", remedy=remedy)
    if cache not in (None, "none") and budget is None:
        raise UsageError(
            f"--cache {cache}", found="no DRAM budget", expected="one",
            remedy="add --dram-budget 10%, or leave --cache out",
        )  # fmt: skip


def choose_dram(
    layout: Layout, recorded: Mapping[str, RecordedDram], budget: float | int | str | None, cache: str | None
) -> SimulatedDram:
    """Return policy, capacities and split.

    Parameters
    ----------
    layout : Layout
        Has the blocks and the lengths of their bundles.
    recorded : mapping of str to RecordedDram
        What the layouts that were made for a budget record, by layout.
    budget : float, int, str or None
        A share of each block's neurons, bytes, or ``placement``: that of the layouts; None: no DRAM.
    cache : str or None
        Policy, if one was named.

    Raises
    ------
    UsageError
        If the layouts' budget is wanted and there is none, or they differ.
    """
    if budget is None:
        return SimulatedDram(cache or "none")
    if isinstance(budget, str):
        return _dram_of_placements(layout, recorded, cache)
    cache = cache or DEFAULT_CACHE
    for name, dram in recorded.items():
        if dram.is_for(budget):
            return SimulatedDram(cache, _capacities(layout, dram), name)
    sizes = {name: block.n_neurons for name, block in layout.blocks.items()}
    bundle_bytes = {name: block.extent.bundle_bytes for name, block in layout.blocks.items()}
    return SimulatedDram(cache, split_evenly(budget, sizes, bundle_bytes))


def _dram_of_placements(layout: Layout, recorded: Mapping[str, RecordedDram], cache: str | None) -> SimulatedDram:
    """Return the DRAM that the layouts were made for, if they agree; as `choose_dram`."""
    if not recorded:
        raise UsageError(
            f"--dram-budget {PLACEMENT}", found="no layout that was made for a DRAM budget", expected="one",
            remedy="give a share or a size, or reorder with --dram-budget",
        )  # fmt: skip
    first, dram = next(iter(recorded.items()))
    for name, other in recorded.items():
        if (other.share, other.budget_bytes) != (dram.share, dram.budget_bytes):
            raise UsageError(
                f"--dram-budget {PLACEMENT}", found=f"{first} and {name}, made for different budgets",
                expected="one budget", remedy="give it as a share or a size",
            )  # fmt: skip
        if cache is None and other.cache != dram.cache:
            raise UsageError(
                f"--dram-budget {PLACEMENT}", found=f"{first} made for {dram.cache}, {name} for {other.cache}",
                expected="one policy", remedy=f"name one, such as --cache {dram.cache}",
            )  # fmt: skip
    return SimulatedDram(cache or dram.cache, _capacities(layout, dram), first)


def _capacities(layout: Layout, dram: RecordedDram) -> dict[str, int]:
    """Return the recorded capacities of a layout's blocks; blocks that were not placed have none."""
    return {name: dram.capacity_neurons.get(name, 0) for name in layout.blocks}


def unused_dram_warnings(recorded: Mapping[str, RecordedDram], budget: float | int | str | None) -> list[str]:
    """Return which layouts are scored without the DRAM that they were made for."""
    if budget is not None:
        return []
    return [
        f"{name} was made for DRAM under {dram.cache} and is scored without it; --dram-budget {PLACEMENT} scores it "
        "with"
        for name, dram in recorded.items()
    ]
