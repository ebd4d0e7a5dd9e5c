"""The DRAM budget that a placement was made for, as its metadata records it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ripple_place.errors import PlacementError
from ripple_place.jsontext import parse_json
from ripple_place.units import parse_count

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.placement import ModelPlacement

DEFAULT_CACHE = "s3fifo"
"""Of a DRAM budget without a policy."""
PLACEMENT = "placement"
"""In place of a budget: the one that the placement was made for."""


@dataclass(frozen=True)
class RecordedDram:
    """A DRAM budget, its policy, and its split over the blocks.

    Attributes
    ----------
    cache : str
        Policy.
    capacity_neurons : mapping of str to int
        By block.
    share : float or None
        The budget as a share of all neurons' bytes, if it was given as one.
    budget_bytes : int or None
        The budget in bytes; None where the size of bundles is unknown.
    """

    cache: str
    capacity_neurons: Mapping[str, int]
    share: float | None = None
    budget_bytes: int | None = None

    def is_for(self, budget: float | int) -> bool:
        """Return whether the budget is this one: a share (float), or bytes (int)."""
        return budget == (self.share if isinstance(budget, float) else self.budget_bytes)

    def to_metadata(self) -> dict[str, str]:
        """Return the entries of a placement's metadata."""
        metadata = {"cache": self.cache, "capacity_neurons": json.dumps(dict(self.capacity_neurons))}
        if self.share is not None:
            metadata["dram_budget_share"] = repr(self.share)
        if self.budget_bytes is not None:
            metadata["dram_budget_bytes"] = str(self.budget_bytes)
        return metadata

    @classmethod
    def of(cls, where: str, placement: ModelPlacement) -> RecordedDram | None:
        """Return what a placement records; None if it was made for no budget.

        Raises
        ------
        PlacementError
            If it records no policy, or capacities that its blocks cannot have.
        """
        metadata = placement.metadata
        if "capacity_neurons" not in metadata:
            return None
        try:
            capacity = parse_json(metadata["capacity_neurons"])
            share = None if "dram_budget_share" not in metadata else float(metadata["dram_budget_share"])
            fits = isinstance(capacity, dict) and all(
                type(n) is int and name in placement.blocks and 0 <= n <= placement.blocks[name].n_neurons
                for name, n in capacity.items()
            )
        except ValueError:
            fits = False
        if not fits or "cache" not in metadata:
            raise PlacementError(
                f"{where}: metadata", found="a DRAM budget without a policy, or capacities that do not fit the blocks",
                expected="cache, and capacity_neurons as {block: neurons}", remedy="reorder again with --dram-budget",
            )  # fmt: skip
        return cls(metadata["cache"], capacity, share, parse_count(metadata.get("dram_budget_bytes")))
