"""The layout of a bundled file: its tensors, the index that says where units lie, and its header."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import COLUMN, EXPERT, NEURON
from ripple_place.checkpoint.fileio import PAGE_BYTES
from ripple_place.errors import CheckpointError, UnsupportedError
from ripple_place.tensorfile import MAX_HEADER_BYTES, build_header

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

BUNDLED_FORMATS = {
    NEURON: "ripple-place.bundled/1", COLUMN: "ripple-place.bundled/2", EXPERT: "ripple-place.bundled/2",
}  # fmt: skip
"""By what blocks are made of; the index of ``/2`` says which unit that is."""
APART_FORMAT = "ripple-place.bundled/3"
"""Of neurons, some of whose gates lie apart."""
INSIDE, APART = GATES = ("inside", "apart")
"""Where gates lie: in the bundles, or in a region of their own."""


@dataclass(frozen=True)
class BundleLayout:
    """What `bundled.safetensors` will hold.

    Attributes
    ----------
    tensors : tuple of (name, dtype, shape)
        In file order.
    index : mapping of str to mapping
        Per block: offset_bytes from the file's start, stride_bytes, components (role, tensor, dtype, offset_bytes in
        the bundle, length_bytes), dtype, n_neurons, order; with a second copy its offset_2_bytes and order_2; where its
        gates lie apart, ``gates`` with their own offset_bytes, stride_bytes and components; the unit, unless that is
        neurons.
    header_bytes, size_bytes : int
        Of the file.
    unit : str
        What blocks are made of, one of `ripple_place.blocks.UNITS`.
    """

    tensors: tuple[tuple[str, str, tuple[int, ...]], ...]
    index: Mapping[str, Mapping[str, Any]]
    header_bytes: int
    size_bytes: int
    unit: str = NEURON

    @property
    def metadata(self) -> dict[str, str]:
        """Metadata strings of the file."""
        return _metadata(self.index, self.unit)

    @property
    def gates(self) -> str:
        """Where gates lie, one of `GATES`."""
        return APART if any("gates" in block for block in self.index.values()) else INSIDE

    @property
    def second_copy_bytes(self) -> int:
        """Bytes that second copies add, their padding included; 0 without."""
        sizes = [b["n_neurons"] * b["stride_bytes"] for b in self.index.values() if "order_2" in b]
        return sum(size + -size % PAGE_BYTES for size in sizes)


def lay_out(
    where: object,
    tensors: Sequence[tuple[str, str, tuple[int, ...]]],
    data_bytes: int,
    index_at: Callable[[int], dict[str, dict[str, Any]]],
    unit: str,
) -> BundleLayout:
    """Return the layout of a bundled file with these tensors, whose data starts on a page.

    Parameters
    ----------
    where : object
        The checkpoint, for messages.
    tensors : sequence of (name, dtype, shape)
        In file order.
    data_bytes : int
        Of all tensors.
    index_at : callable
        Returns the index, given where in the file the data starts, in bytes.
    unit : str

    Raises
    ------
    CheckpointError, UnsupportedError
        As `plan_bundle`.
    """
    names = [name for name, _, _ in tensors]
    if len(set(names)) < len(names):
        raise CheckpointError(
            where, found="a tensor named like a neuron bundle", expected="none like layers.0.bundles",
            remedy="give the original checkpoint; this one seems to be a bundled file",
        )  # fmt: skip
    # Offsets stand in the header, whose length they change: start short and repeat. A later start never makes the
    # header shorter, so this ends.
    start = PAGE_BYTES
    while True:
        index = index_at(start)
        header = build_header(tensors, _metadata(index, unit), data_alignment_bytes=PAGE_BYTES)
        if len(header) == start:
            break
        start = len(header)
    if start > MAX_HEADER_BYTES:
        raise UnsupportedError(
            "bundled.safetensors", found=f"an index of {start} bytes", expected=f"at most {MAX_HEADER_BYTES}",
            remedy="write the drop-in format only (--format drop-in)",
        )  # fmt: skip
    return BundleLayout(tuple(tensors), index, start, start + data_bytes, unit)


def _metadata(index: Mapping[str, Mapping[str, Any]], unit: str) -> dict[str, str]:
    is_apart = any("gates" in block for block in index.values())
    return {
        "format": APART_FORMAT if is_apart else BUNDLED_FORMATS[unit],
        "index": json.dumps(index, separators=(",", ":")),
    }
