"""What all stages of placing work on: the profile, the parameters, what reads cost, and the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ripple_place.blocks import sorted_blocks
from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.ordering.registry import find_ordering
from ripple_place.placement import NeuronPlacement
from ripple_place.placing.orderer import BlockOrderer

if TYPE_CHECKING:
    from ripple_place.flash.read_cost import ReadCost, ReadCosts
    from ripple_place.graph.profile import Profile
    from ripple_place.ordering.ordering import Ordering
    from ripple_place.placing.params import PlacingParams
    from ripple_place.placing.search_clock import SearchClock
    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.tracking import Track


@dataclass(frozen=True)
class Job:
    """One run of placing.

    Parameters
    ----------
    profile : Profile
    names : tuple of str
        Blocks to place, in model order.
    params : PlacingParams
        Resolved.
    costs : ReadCosts
    clock : SearchClock
    track : Track
        Receives progress.
    """

    profile: Profile
    names: tuple[str, ...]
    params: PlacingParams
    costs: ReadCosts
    clock: SearchClock
    track: Track

    @property
    def ordering(self) -> Ordering:
        """The ordering that was asked for."""
        return find_ordering(self.params.ordering)

    @property
    def trace(self) -> ActivationTrace:
        """The profile's activations.

        Raises
        ------
        TraceFormatError
            If it has none.
        """
        if self.profile.trace is None:
            raise TraceFormatError(
                self.names[0] if self.names else "profile", found="a profile without activation bits",
                expected="a trace to search on",
                remedy=f"profile a trace, or {self._without(self.ordering.takes_effort)}",
            )  # fmt: skip
        return self.profile.trace

    def cost_of(self, name: str) -> ReadCost:
        """Return what reads of a block cost.

        Raises
        ------
        UsageError
            If nothing says it.
        """
        cost = self.costs.of_block(name)
        if cost is None:
            raise UsageError(
                self.params.asked_by, found="nothing that says what a read costs",
                expected="a device and the size of a neuron's weights, or a break-even gap",
                remedy="add --bundle-bytes 4KiB (with --device), or --break-even-gap 5; or "
                + self._without(self.ordering.is_searched),
            )  # fmt: skip
        return cost

    def _without(self, is_for_ordering: bool) -> str:
        """Return how to do without rows or costs: ordering by frequency needs neither."""
        return "order by frequency" if is_for_ordering else f"leave {self.params.asked_by} out"

    def seed_of(self, name: str) -> tuple[int, ...]:
        """Return what a block's draws depend on: not on which other blocks are ordered."""
        return self.params.seed, sorted_blocks(self.profile.blocks).index(name)

    def orderer_of(self, name: str, cost: ReadCost | None) -> BlockOrderer:
        """Return what makes a block's orders."""
        return BlockOrderer(cost, self.params.effort, self.seed_of(name), self.clock)

    def learned_of(self, name: str) -> NeuronPlacement:
        """Return a block in original order, with all that the profile knows of its neurons."""
        block = self.profile.blocks[name]
        return NeuronPlacement.original(block.n_neurons, block.frequency)
