"""How the neurons of one FFN block lie in a tensor.

However a family stores its matrices, the part of a tensor that belongs to one block is, in the file's order, an array
``[n_before, n_neurons, n_after]`` of items. A matrix with a neuron per row has n_before = 1, one with a neuron per
column n_after = 1. Gate and up in one tensor are two parts: halves give ``[n_before, 2, n_neurons, n_after]``, pairs
``[n_before, n_neurons, 2, n_after]``. An expert's part of a fused tensor begins `begin_bytes` into it. Permuting any of
them is one gather along one axis.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.tensorfile import DTYPE_BITS

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array


@dataclass(frozen=True)
class Packing:
    """How integers of a few bits lie in the words of a packed tensor.

    Attributes
    ----------
    bits : int
        Of one integer. Along the neuron axis they form one stream of bits, lowest first; 32 integers of 3 bits take
        three words.
    lanes : tuple of int
        Within a word, the integer at position k of the stream is number ``lanes[k]`` along the axis; empty where they
        lie in order.
    """

    bits: int
    lanes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        assert self.bits in (2, 3, 4, 8)
        assert not self.lanes or sorted(self.lanes) == list(range(len(self.lanes)))


@dataclass(frozen=True)
class NeuronTensor:
    """A tensor with a neuron axis, or the part of one that holds the neurons of one block.

    Attributes
    ----------
    name, role : str
        Of the tensor, and what it is to the FFN: gate, up, down, gate_up, up_bias and so on.
    shard : str
        Name of the file in which it lies.
    dtype : str
        safetensors name; only its width matters here.
    begin_bytes : int
        Where the part begins in the tensor.
    n_before, n_after : int
        Items before and after the neuron axis.
    n_neurons : int
        Of the block.
    n_parts : int
        2 where gate and up share the tensor.
    interleaved : bool
        Whether the parts of a neuron are neighbours, rather than halves of the axis.
    granule : int
        Neurons to which one place on the axis belongs: 32 where one scale covers 32 neurons.
    packing : Packing or None
        Where one item holds several neurons, or a few bits of one.
    kept_groups : tuple of int
        Sizes of groups of neighbours that must stay together although each neuron has a place of its own: 4 where
        weights are sparse by 2:4.
    """

    name: str
    role: str
    shard: str
    dtype: str
    n_before: int
    n_neurons: int
    n_after: int
    begin_bytes: int = 0
    n_parts: int = 1
    interleaved: bool = False
    granule: int = 1
    packing: Packing | None = None
    kept_groups: tuple[int, ...] = ()

    @property
    def item_bytes(self) -> int:
        """Bytes of one element."""
        return DTYPE_BITS[self.dtype] // 8

    @property
    def n_rows(self) -> int:
        """Number of times that the neuron axis is run through; the first axis of what is permuted."""
        return self.n_before * (1 if self.interleaved else self.n_parts)

    @property
    def n_units(self) -> int:
        """Places on the neuron axis: neurons, granules of them, or words."""
        if self.packing is not None:
            return self.n_neurons * self.packing.bits // (8 * self.item_bytes)
        return -(-self.n_neurons // self.granule)

    @property
    def unit_bytes(self) -> int:
        """Contiguous bytes that move together."""
        return self.n_after * (self.n_parts if self.interleaved else 1) * self.item_bytes

    @property
    def row_bytes(self) -> int:
        """Bytes of one run along the neuron axis."""
        return self.n_units * self.unit_bytes

    @property
    def length_bytes(self) -> int:
        """Bytes of the whole part."""
        return self.n_rows * self.row_bytes

    @property
    def action(self) -> str:
        """What permutes it: ``rows`` where a neuron's bytes are contiguous, ``columns``, or ``packed``."""
        if self.packing is not None:
            return "packed"
        return "rows" if self.n_before == 1 else "columns"

    def unit_order(self, order: Int32Array) -> Int32Array:
        """Return the order of the places on the axis, given that of the neurons, which keeps granules whole."""
        return order if self.granule == 1 else order[:: self.granule] // np.int32(self.granule)


@dataclass(frozen=True)
class Component:
    """One of a unit's vectors of weights: what a bundle is put together from.

    A unit is a neuron, with a weight for each input; or, `by_input`, an input, with a weight for each neuron.

    Attributes
    ----------
    role : str
        gate, up or down.
    tensor : NeuronTensor
    part : int
        Which of the tensor's parts.
    by_input : bool
        Whether units are inputs.
    """

    role: str
    tensor: NeuronTensor
    part: int = 0
    by_input: bool = False

    @property
    def name(self) -> str:
        """Name of the tensor."""
        return self.tensor.name

    @property
    def dtype(self) -> str:
        """The tensor's."""
        return self.tensor.dtype

    @property
    def n_inputs(self) -> int:
        """Inputs of a neuron, or outputs of a down projection."""
        return self.tensor.n_before * self.tensor.n_after

    @property
    def n_units(self) -> int:
        """Units, each of which has a place in the bundles."""
        return self.n_inputs if self.by_input else self.tensor.n_neurons

    @property
    def n_weights(self) -> int:
        """Weights of a unit."""
        return self.tensor.n_neurons if self.by_input else self.n_inputs

    @property
    def unit_bytes(self) -> int:
        """Bytes of a unit."""
        return self.n_weights * self.tensor.item_bytes

    @property
    def length_bytes(self) -> int:
        """Bytes of all units."""
        return self.n_units * self.unit_bytes

    @property
    def rows_begin_bytes(self) -> int | None:
        """Where the first unit lies in the tensor, if each one's bytes are contiguous and follow each other."""
        tensor = self.tensor
        if self.by_input:
            return tensor.begin_bytes if tensor.n_after == tensor.n_parts == 1 else None
        if tensor.n_before != 1 or (tensor.interleaved and tensor.n_parts > 1):
            return None
        return tensor.begin_bytes + self.part * self.length_bytes


def keeps_granules(order: Int32Array, granule: int) -> bool:
    """Tell whether an order moves granules as a whole: neurons of one granule stay together, in whatever order.

    A last granule that is not full must stay last.

    >>> keeps_granules(np.array([2, 3, 1, 0, 4]), 2), keeps_granules(np.array([4, 2, 3, 1, 0]), 2)
    (True, False)
    """
    # With every other granule full, each slot's must be as full as the one that moves there: the last stays last.
    homes = order // granule
    return bool((homes == np.repeat(homes[::granule], granule)[: order.size]).all()) and (
        order.size % granule == 0 or int(homes[-1]) == order.size // granule
    )
