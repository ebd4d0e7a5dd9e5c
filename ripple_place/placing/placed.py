"""What placing has made so far: the value that each stage takes and returns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ripple_place.placement import ModelPlacement

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import Int32Array
    from ripple_place.placement import NeuronPlacement
    from ripple_place.placing.block_report import BlockReport
    from ripple_place.placing.cached_block import CachedBlock
    from ripple_place.placing.comparison import OrderingComparison
    from ripple_place.placing.copies import CopiesReport
    from ripple_place.placing.dram_report import DramReport
    from ripple_place.placing.orderer import BlockOrderer, MissOrderer


@dataclass(frozen=True, eq=False)
class SearchedBlock:
    """A block with the orders that were made on the rows searched, without regard to any cache.

    Attributes
    ----------
    block : CachedBlock
        Without a cache.
    orders : mapping of str to ndarray of shape (n_neurons,), int32
        By ordering.
    orderer : BlockOrderer
    order_misses : MissOrderer or None
        Orders what a cache leaves; None for orderings that do not look at activity.
    report : BlockReport
        Of the ordering that was asked for, if it is a searched one.
    """

    block: CachedBlock
    orders: Mapping[str, Int32Array]
    orderer: BlockOrderer
    order_misses: MissOrderer | None
    report: BlockReport


@dataclass(frozen=True, eq=False)
class PlacedBlock:
    """One block on its way through the stages.

    Attributes
    ----------
    placement : NeuronPlacement
    report : BlockReport
    served : CachedBlock or None
        The block as it will be served, behind its cache if it has one; None where no rows were held out.
    is_searched : bool
        Whether the order came out of a search, which may then go on.
    """

    placement: NeuronPlacement
    report: BlockReport
    served: CachedBlock | None = None
    is_searched: bool = False

    def with_seconds(self, seconds: float) -> PlacedBlock:
        """Return the block with some more time spent on it."""
        return replace(self, report=replace(self.report, seconds=self.report.seconds + seconds))


@dataclass(frozen=True, eq=False)
class Placed:
    """A model on its way through the stages, and at their end what placing made.

    Attributes
    ----------
    blocks : mapping of str to PlacedBlock
        Empty before a stage has placed them.
    metadata : mapping of str to str
        What the placement says of its origin.
    searched : mapping of str to SearchedBlock
        Orders made on the rows searched; empty where no rows are held out.
    comparison : OrderingComparison or None
        What orderings cost on the rows held out.
    dram : DramReport or None
        How a DRAM budget was used.
    copies : CopiesReport or None
        What a second copy is worth.
    cut_short : str or None
        What ended a search before its effort was spent; see `SearchClock`.
    """

    blocks: Mapping[str, PlacedBlock]
    metadata: Mapping[str, str]
    searched: Mapping[str, SearchedBlock] = field(default_factory=dict)
    comparison: OrderingComparison | None = None
    dram: DramReport | None = None
    copies: CopiesReport | None = None
    cut_short: str | None = None

    @property
    def placement(self) -> ModelPlacement:
        """The placement, as it is written."""
        metadata = dict(self.metadata)
        if self.dram is not None:
            metadata |= self.dram.recorded.to_metadata()
        if self.cut_short is not None:
            metadata["cut_short"] = self.cut_short
        return ModelPlacement({name: block.placement for name, block in self.blocks.items()}, metadata)

    @property
    def reports(self) -> Mapping[str, BlockReport]:
        """What became of each block."""
        return {name: block.report for name, block in self.blocks.items()}
