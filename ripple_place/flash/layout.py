"""Layouts: at which byte of its file each neuron bundle lies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ripple_place.blocks import sorted_blocks
from ripple_place.bundle_sizes import recorded_sizes
from ripple_place.errors import PlacementError
from ripple_place.kernels.read_state import PagedExtent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.flash.bundle_form import BundleForm
    from ripple_place.placement import ModelPlacement, NeuronPlacement

MAX_BLOCK_BYTES = 2**36
"""Of one copy of a block: 64 GiB, far above any model's; planners tabulate times by its pages."""
MAX_OFFSET_BYTES = 2**60
COPY_ALIGNMENT_BYTES = 4096
"""A second copy of a block starts on a multiple of this, counted from the first."""


@dataclass(frozen=True)
class BlockExtent:
    """Where the bundles of one block lie: slot s at ``base_offset_bytes + s * stride_bytes``.

    Parameters
    ----------
    bundle_bytes : int
        Weights of one neuron, at least 1.
    stride_bytes : int
        From one bundle to the next; more than `bundle_bytes` where bundles are padded.
    base_offset_bytes : int
        Of slot 0, from the start of the file: a multiple of the device's page in every file that we write.

    Raises
    ------
    PlacementError
        If a size is not positive, bundles overlap, or no file is as long.
    """

    bundle_bytes: int
    stride_bytes: int
    base_offset_bytes: int = 0

    def __post_init__(self) -> None:
        sizes_fit = 0 < self.bundle_bytes <= self.stride_bytes <= MAX_BLOCK_BYTES
        if not (sizes_fit and 0 <= self.base_offset_bytes <= MAX_OFFSET_BYTES):
            raise PlacementError(
                "extent", found=str(self),
                expected=f"0 < bundle_bytes <= stride_bytes <= {MAX_BLOCK_BYTES} and an offset of 0 to 2**60",
                remedy="write the bundled file again",
            )  # fmt: skip

    @classmethod
    def packed(cls, bundle_bytes: int) -> BlockExtent:
        """Return bundles that lie without padding from offset 0 on."""
        return cls(bundle_bytes, bundle_bytes)

    @classmethod
    def padded(cls, bundle_bytes: int, page_bytes: int) -> BlockExtent:
        """Return bundles that each start on a page.

        >>> BlockExtent.padded(6912, 4096).stride_bytes
        8192
        """
        return cls(bundle_bytes, -(-bundle_bytes // page_bytes) * page_bytes)


@dataclass(frozen=True, eq=False)
class BlockLayout:
    """The layout of one block: which neuron lies in which slot, and where the slots lie.

    A second copy, where the placement has one, begins on the next multiple of `COPY_ALIGNMENT_BYTES` behind the first,
    as in every file that we write. Its slots count on from those of the first.

    Parameters
    ----------
    placement : NeuronPlacement
    extent : BlockExtent
        Where a bundle's gates lie apart, its `stride_bytes` is that of both regions together.
    form : BundleForm, optional
        Where gates and the rest lie; None where a neuron has no gate, or nobody asks.

    Raises
    ------
    PlacementError
        If the block is longer than `MAX_BLOCK_BYTES`.
    """

    placement: NeuronPlacement
    extent: BlockExtent
    form: BundleForm | None = None

    def __post_init__(self) -> None:
        n_bytes = self.n_neurons * self.extent.stride_bytes
        if n_bytes > MAX_BLOCK_BYTES:
            raise PlacementError(
                "layout", found=f"a block of {self.n_neurons} neurons of {self.extent.stride_bytes} bytes each",
                expected=f"at most {MAX_BLOCK_BYTES} bytes a block",
                remedy="correct --bundle-bytes, or the bundle size that the placement records",
            )  # fmt: skip

    @property
    def n_neurons(self) -> int:
        """Neurons of the block."""
        return self.placement.n_neurons

    @property
    def n_copies(self) -> int:
        """1, or 2 where a second copy lies behind the first."""
        return 1 if self.placement.order_2 is None else 2

    @property
    def is_apart(self) -> bool:
        """Whether each bundle lies in two places."""
        return self.form is not None and self.form.is_apart

    @property
    def span_bytes(self) -> int:
        """Bytes from the first bundle to the end of the last, both copies included."""
        if self.is_apart and self.form is not None:
            return self.form.rest_offset_bytes + self.n_neurons * self.form.rest_stride_bytes
        copy_bytes = self.n_neurons * self.extent.stride_bytes
        return copy_bytes if self.n_copies == 1 else copy_bytes + -copy_bytes % COPY_ALIGNMENT_BYTES + copy_bytes

    @property
    def second_extent(self) -> BlockExtent:
        """Where the slots of the second copy lie, those from `n_neurons` on, if there is one."""
        extent, first_bytes = self.extent, self.n_neurons * self.extent.stride_bytes
        return replace(extent, base_offset_bytes=extent.base_offset_bytes + -first_bytes % COPY_ALIGNMENT_BYTES)

    def paged_extent(self, page_bytes: int) -> PagedExtent:
        """Return what the read kernels take, for a device that reads whole pages."""
        extent, second = self.extent, self.second_extent
        return PagedExtent(
            extent.bundle_bytes, extent.stride_bytes, extent.base_offset_bytes, second.base_offset_bytes, page_bytes
        )


@dataclass(frozen=True, eq=False)
class Layout:
    """The layout of a model's FFN blocks on flash.

    Parameters
    ----------
    name : str
        As reports show it.
    blocks : mapping of str to BlockLayout
        By block name, kept in model order.
    """

    name: str
    blocks: Mapping[str, BlockLayout]

    @property
    def span_bytes(self) -> int:
        """Bytes from the first bundle to the last of all blocks: the range that a token's reads are spread over."""
        return sum(block.span_bytes for block in self.blocks.values())

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", {block: self.blocks[block] for block in sorted_blocks(self.blocks)})

    @classmethod
    def from_placement(
        cls, name: str, placement: ModelPlacement, bundle_bytes: int | Mapping[str, int] | None = None
    ) -> Layout:
        """Return the layout of packed bundles, each block at the start of a page.

        Parameters
        ----------
        name : str
        placement : ModelPlacement
        bundle_bytes : int or mapping of str to int, optional
            Of all blocks, or by block; None takes what the placement records.

        Raises
        ------
        PlacementError
            If nothing says how long the bundles of a block are.
        """
        if bundle_bytes is None:
            bundle_bytes = recorded_sizes(placement.metadata, placement.blocks)
        sizes = dict.fromkeys(placement.blocks, bundle_bytes) if isinstance(bundle_bytes, int) else bundle_bytes
        _check_covers(name, placement, sizes, "bundle_bytes", "give the bundle size (--bundle-bytes 4KiB)")
        return cls.from_extents(
            name, placement, {block: BlockExtent.packed(sizes[block]) for block in placement.blocks}
        )

    @classmethod
    def from_extents(
        cls, name: str, placement: ModelPlacement, extents: Mapping[str, BlockExtent],
        forms: Mapping[str, BundleForm] | None = None,
    ) -> Layout:  # fmt: skip
        """Return the layout of a file whose index says where each block's bundles lie.

        Parameters
        ----------
        name : str
        placement : ModelPlacement
        extents : mapping of str to BlockExtent
            By block.
        forms : mapping of str to BundleForm, optional
            Of some blocks.

        Raises
        ------
        PlacementError
            If a block has no extent.
        """
        _check_covers(name, placement, extents, "extent", "write the bundled file again")
        forms = forms or {}
        blocks = placement.blocks
        return cls(
            name, {block: BlockLayout(placed, extents[block], forms.get(block)) for block, placed in blocks.items()}
        )


def _check_covers(name: str, placement: ModelPlacement, by_block: Mapping[str, object], what: str, remedy: str) -> None:
    """Check that each placed block has an entry."""
    if missing := [block for block in placement.blocks if block not in by_block]:
        raise PlacementError(
            f"layout {name}",
            found=f"no {what} of {', '.join(missing)}",
            expected=f"one for each of {len(placement.blocks)} blocks",
            remedy=remedy,
        )
