"""Where the bytes of a unit lie: in one piece, or its gate apart from the rest; each is planned and read by itself."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.block_reader import BlockReader
from ripple_place.flash.gate_reader import gap_of_part
from ripple_place.flash.layout import BlockExtent

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import BlockLayout
    from ripple_place.flash.simulation_params import SimulationParams
    from ripple_place.kernels.read_state import PagedExtent

WHOLE, REST = PARTS = ("whole", "rest")
"""What is read of a unit: all of it, or all but its gate, which is known already."""


@dataclass(frozen=True, eq=False)
class BlockPart:
    """One piece of each bundle.

    Attributes
    ----------
    reader : BlockReader
        Plans the reads, and charges them as the simulator does.
    extent : PagedExtent
        Where the piece of each slot lies.
    row_at_bytes : int
        Where it stands in a row.
    """

    reader: BlockReader
    extent: PagedExtent
    row_at_bytes: int


def parts_of_block(
    name: str, layout: BlockLayout, device: DeviceProfile, params: SimulationParams, parts: str
) -> tuple[BlockPart, ...]:
    """Return the pieces that are read of a block's bundles, with the gaps that the simulator takes.

    Parameters
    ----------
    name : str
    layout : BlockLayout
    device : DeviceProfile
    params : SimulationParams
    parts : {"whole", "rest"}

    Raises
    ------
    UsageError
        If files are mapped, or gates are to be left out that do not lie apart.
    """
    if device.is_mapped:
        raise UsageError(
            "--access mmap", found="reads that the kernel decides on", expected="reads by request",
            remedy="leave --access mmap out",
        )  # fmt: skip
    gap, form = params.gap_of(name, layout, device), layout.form
    if form is None or not form.is_apart:
        if parts == REST:
            raise UsageError(
                name, found="gates that lie in the bundles", expected="gates apart, so that the rest can be read alone",
                remedy="run `ripple-place reorder` with --gates apart",
            )  # fmt: skip
        return (_part(replace(layout, form=None), device, params.planner, gap, 0),)
    whole, base = replace(layout, form=None), layout.extent.base_offset_bytes
    gates = replace(whole, extent=BlockExtent(form.gate_bytes, form.gate_stride_bytes, base))
    rest = replace(whole, extent=BlockExtent(form.rest_bytes, form.rest_stride_bytes, base + form.rest_offset_bytes))
    is_given = params.gap_is_given(name)
    pieces = [(rest, 0)] if parts == REST else [(gates, 0), (rest, form.gate_bytes)]
    return tuple(
        _part(piece, device, params.planner, gap if is_given else gap_of_part(piece.extent, device), row_at)
        for piece, row_at in pieces
    )


def _part(layout: BlockLayout, device: DeviceProfile, planner: str, gap: int, row_at_bytes: int) -> BlockPart:
    reader = BlockReader(layout, device, planner, gap if planner == "fixed" else max(0, gap))
    return BlockPart(reader, layout.paged_extent(device.page_bytes), row_at_bytes)


def second_slots(layout: BlockLayout) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    """Return the slot of the second copy by that of the first; empty where there is one copy."""
    second = layout.placement.second_slot
    return np.empty(0, np.int32) if second is None else np.ascontiguousarray(second, np.int32)
