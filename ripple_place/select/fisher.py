"""Fisher threshold: a neuron is used where it is in DRAM, or where dropping it costs more than a price.

The yardstick of `flash-aware`: the same values, each neuron at the price of its own bytes, the layout unseen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.kernels.compiled import compiled
from ripple_place.select.priced import PricedRule

if TYPE_CHECKING:
    from ripple_place.select.rule import BlockView, PricedBlock


@compiled
def choose(slots: Any, worth: Any, is_resident: Any, arguments: Any, is_used: Any) -> None:
    """Write which of a row's active neurons are used: all at price 0; parameters as `flash_aware.choose`."""
    price = arguments[0]
    for access in range(slots.size):
        is_used[access] = is_resident[access] or worth[access] > price or price == 0.0


class FisherThreshold(PricedRule):
    """The rule, for a wanted rise of the loss or at a price of a microsecond of flash time."""

    name = "fisher"

    def of_block(self, block: BlockView) -> PricedBlock:
        """Return the kernel, the price of a neuron among others, and the values of the block's neurons."""
        return self.priced(block, choose, (self.price_for(block) * block.cost.neuron_cost,))
