"""How a DRAM budget was used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.placing.recorded_dram import RecordedDram


@dataclass(frozen=True)
class DramReport:
    """How a DRAM budget was used.

    Attributes
    ----------
    recorded : RecordedDram
        Budget, policy and split, as the placement records them.
    split : str
        ``gain`` or ``even``: whichever costs less on tokens held out.
    cost_by_split : mapping of str to float
        lambda x reads + neurons read per token, all blocks, in the best order made without regard to the cache, on
        tokens held out.
    cost_by_cache : mapping of str to float
        The same by policy, split evenly; only those that were compared.
    """

    recorded: RecordedDram
    split: str
    cost_by_split: Mapping[str, float]
    cost_by_cache: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the ``dram`` entry of ``reorder --json``."""
        return {
            "cache": self.recorded.cache,
            "budget_bytes": self.recorded.budget_bytes,
            "budget_share": self.recorded.share,
            "capacity_neurons": dict(self.recorded.capacity_neurons),
            "split": self.split,
            "held_out_by_split": dict(self.cost_by_split),
            "held_out_by_cache": dict(self.cost_by_cache),
        }
