"""Which DRAM a simulation has: the budget it is given, or the one that its layouts were made for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.placing.dram.split import split_evenly
from ripple_place.placing.recorded_dram import DEFAULT_CACHE, PLACEMENT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.flash.layout import Layout
    from ripple_place.placing.recorded_dram import RecordedDram


def choose_dram(
    layout: Layout, recorded: Mapping[str, RecordedDram], budget: float | int | str | None, cache: str | None
) -> tuple[str, dict[str, int], str | None]:
    """Return policy, neurons of each block that DRAM holds, and the layout that says the split; None: it is even.

    One split for all layouts, so that they are compared with the same DRAM in each block.

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
        return cache or "none", {}, None
    if isinstance(budget, str):
        return _dram_of_placements(layout, recorded, cache)
    cache = cache or DEFAULT_CACHE
    for name, dram in recorded.items():
        if dram.is_for(budget):
            return cache, _capacities(layout, dram), name
    sizes = {name: block.n_neurons for name, block in layout.blocks.items()}
    bundle_bytes = {name: block.extent.bundle_bytes for name, block in layout.blocks.items()}
    return cache, split_evenly(budget, sizes, bundle_bytes), None


def _dram_of_placements(
    layout: Layout, recorded: Mapping[str, RecordedDram], cache: str | None
) -> tuple[str, dict[str, int], str]:
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
    return cache or dram.cache, _capacities(layout, dram), first


def _capacities(layout: Layout, dram: RecordedDram) -> dict[str, int]:
    """Return the recorded capacities of a layout's blocks; blocks that were not placed have none."""
    return {name: dram.capacity_neurons.get(name, 0) for name in layout.blocks}


def unused_dram_warnings(recorded: Mapping[str, RecordedDram], budget: float | int | str | None) -> list[str]:
    """Say which layouts are scored without the DRAM that they were made for."""
    if budget is not None:
        return []
    return [
        f"{name} was made for DRAM under {dram.cache} and is scored without it; --dram-budget {PLACEMENT} scores it "
        "with"
        for name, dram in recorded.items()
    ]
