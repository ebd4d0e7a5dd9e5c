"""Neuron placements: the order in which the neurons of each FFN block lie on flash, and the file that holds it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.blocks import NEURON, UNITS_EXPECTED, is_block_name, sorted_blocks, unit_problem
from ripple_place.bundle_sizes import recorded_size
from ripple_place.errors import PlacementError
from ripple_place.tensorfile import TensorFile, TensorSource, replacing, tensor_file_pieces

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from ripple_place.arrays import AnyArray, Int32Array, Int64Array


PLACEMENT_FORMAT = "ripple-place.placement/1"
_PARTS = {"order": "I32", "order_2": "I32", "pinned": "I32", "frequency": "I64"}


def slots_of(order: Int32Array) -> Int32Array:
    """Return ``slot_of[neuron]``, the inverse of ``order[slot]``.

    >>> slots_of(np.array([2, 0, 1], np.int32)).tolist()
    [1, 2, 0]
    """
    slot_of = np.empty_like(order)
    slot_of[order] = np.arange(order.size, dtype=order.dtype)
    return slot_of


@dataclass(frozen=True, eq=False)
class NeuronPlacement:
    """The placement of one FFN block.

    Parameters
    ----------
    order : ndarray of shape (n_neurons,), int32
        ``order[slot]`` is the neuron that lies in the slot: a permutation.
    pinned : ndarray of shape (n_pinned,), int32, optional
        Neurons kept in DRAM, ascending.
    frequency : ndarray of shape (n_neurons,), int64, optional
        How often each neuron fired in the profile, by neuron: what pins and evicts by frequency goes by.
    order_2 : ndarray of shape (n_neurons,), int32, optional
        The same as `order`, of a second copy of all neurons; reads may go to either.

    Raises
    ------
    PlacementError
        If `order` is no permutation, or the others do not fit it.
    """

    order: Int32Array
    pinned: Int32Array | None = None
    frequency: Int64Array | None = None
    order_2: Int32Array | None = None

    def __post_init__(self) -> None:
        order = _permutation("order", self.order)
        n_neurons = order.size
        object.__setattr__(self, "order", order)
        if self.order_2 is not None:
            order_2 = _permutation("order_2", self.order_2)
            if order_2.size != n_neurons:
                raise PlacementError(
                    "order_2", found=f"{order_2.size} neurons", expected=f"{n_neurons}, as in order",
                    remedy="give both copies the same neurons",
                )  # fmt: skip
            object.__setattr__(self, "order_2", order_2)
        if self.pinned is not None:
            pinned = np.asarray(self.pinned)
            if pinned.size and (pinned[0] < 0 or pinned[-1] >= n_neurons or not (pinned[1:] > pinned[:-1]).all()):
                raise PlacementError(
                    "pinned", found="a neuron twice, out of order, or unknown",
                    expected=f"ascending neurons below {n_neurons}", remedy="sort and deduplicate the pinned set",
                )  # fmt: skip
            object.__setattr__(self, "pinned", np.ascontiguousarray(pinned, np.int32))
        if self.frequency is not None:
            frequency = np.asarray(self.frequency)
            if frequency.shape != order.shape or frequency.dtype.kind not in "iu" or (frequency < 0).any():
                raise PlacementError(
                    "frequency", found=f"{frequency.dtype} {list(frequency.shape)}, or negative counts",
                    expected=f"{n_neurons} counts", remedy="give one count a neuron",
                )  # fmt: skip
            object.__setattr__(self, "frequency", np.ascontiguousarray(frequency, np.int64))

    @classmethod
    def original(cls, n_neurons: int, frequency: Int64Array | None = None) -> NeuronPlacement:
        """Return checkpoint order: neuron i in slot i."""
        return cls(np.arange(n_neurons, dtype=np.int32), frequency=frequency)

    @property
    def n_neurons(self) -> int:
        """Neurons of the block."""
        return self.order.size

    @cached_property
    def slot_of(self) -> Int32Array:
        """``slot_of[neuron]``, the inverse of `order`; shape (n_neurons,), int32."""
        return slots_of(self.order)

    @cached_property
    def second_slot(self) -> Int32Array | None:
        """``second_slot[slot]``: the slot of the same neuron in the second copy; None without one."""
        return None if self.order_2 is None else slots_of(self.order_2)[self.order]


def _permutation(what: str, order: npt.ArrayLike) -> Int32Array:
    """Return an order, checked.

    Raises
    ------
    PlacementError
        If it is no permutation.
    """
    order = np.asarray(order)
    n_neurons = order.size
    if order.ndim != 1 or order.dtype.kind not in "iu" or n_neurons == 0 or n_neurons >= 2**31:
        raise PlacementError(
            what, found=f"{order.dtype} {list(order.shape)}", expected="a non-empty vector of integers",
            remedy=f"give {what}[slot] = neuron",
        )  # fmt: skip
    in_range = order[(order >= 0) & (order < n_neurons)]
    times_placed = np.bincount(in_range.astype(np.int64), minlength=n_neurons)
    if in_range.size < n_neurons or times_placed.max() > 1:
        neuron = int(np.flatnonzero(times_placed != 1)[0])
        raise PlacementError(
            what, found=f"neuron {neuron} {times_placed[neuron]} times in {n_neurons} slots",
            expected="each neuron once", remedy="give a permutation of 0 to n_neurons - 1",
        )  # fmt: skip
    return np.ascontiguousarray(order, np.int32)


@dataclass(frozen=True, eq=False)
class ModelPlacement:
    """The placements of a model's blocks, and how they came about.

    Parameters
    ----------
    blocks : mapping of str to NeuronPlacement
        By block name, kept in model order.
    metadata : mapping of str to str
        ordering, bundle_bytes, unit, seed, profile hash, tool version and the like; see `docs/formats.md`.

    Raises
    ------
    PlacementError
        If the unit is unknown or does not fit the blocks.
    """

    blocks: Mapping[str, NeuronPlacement]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", {name: self.blocks[name] for name in sorted_blocks(self.blocks)})
        if problem := unit_problem(self.unit, self.blocks):
            raise PlacementError(
                "unit", found=problem, expected=UNITS_EXPECTED,
                remedy="correct the metadata entry 'unit'",
            )  # fmt: skip

    @property
    def unit(self) -> str:
        """What a block is made of, one of `ripple_place.blocks.UNITS`."""
        return self.metadata.get("unit", NEURON)

    @property
    def bundle_bytes(self) -> int | None:
        """Bytes of one bundle as recorded; None if they are not, or blocks differ."""
        return recorded_size(self.metadata)


def write_placement(path: str | os.PathLike[str], placement: ModelPlacement) -> None:
    """Write a placement file (`ripple-place.placement/1`); it appears whole or not at all.

    Raises
    ------
    OSError
        If storage refuses.
    """
    with replacing(path) as file:
        for piece in placement_pieces(placement):
            file.write(piece)


def placement_pieces(placement: ModelPlacement) -> Iterator[memoryview]:
    """Return the bytes of a placement file, some at a time."""
    tensors = [
        TensorSource.of_array(f"{name}.{part}", array)
        # Widest dtype first keeps every tensor aligned to its own size.
        for part in ("frequency", "order", "order_2", "pinned")
        for name, block in placement.blocks.items()
        if (array := getattr(block, part)) is not None
    ]
    return tensor_file_pieces(tensors, {**placement.metadata, "format": PLACEMENT_FORMAT})


def read_placement(path: str | os.PathLike[str]) -> ModelPlacement:
    """Read and check a placement file.

    Raises
    ------
    PlacementError
        If the file is no placement, or a block's order is no permutation.
    OSError
        If it cannot be read.
    """
    file = TensorFile.open(path, PlacementError)
    file.require_format(PLACEMENT_FORMAT, remedy="give a file that `ripple-place reorder` wrote")
    parts: dict[str, dict[str, AnyArray]] = {}
    for tensor in file.tensors:
        name, _, part = tensor.rpartition(".")
        if part not in _PARTS or not is_block_name(name):
            raise PlacementError(
                f"{path}: tensor {tensor}", found="an unknown name",
                expected=f"a block name and one of {', '.join(_PARTS)}", remedy="write the file without this tensor",
            )  # fmt: skip
        parts.setdefault(name, {})[part] = file.array(tensor, dtype=_PARTS[part], n_axes=1)
    blocks = {}
    for name, arrays in parts.items():
        try:
            blocks[name] = NeuronPlacement(
                arrays.get("order", np.empty(0, np.int32)), arrays.get("pinned"), arrays.get("frequency"),
                arrays.get("order_2"),
            )  # fmt: skip
        except PlacementError as cause:
            raise PlacementError.relocated(cause, f"{path}: {name}.{cause.where}") from cause
    return ModelPlacement(blocks, {key: value for key, value in file.metadata.items() if key != "format"})
