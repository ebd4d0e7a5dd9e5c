"""An FFN block: which tensors hold its units, along which axis, and how large a unit is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ripple_place.blocks import input_block_of

if TYPE_CHECKING:
    from ripple_place.checkpoint.model.neuron_tensor import Component, NeuronTensor

_BITS_PER_BYTE = 8
"""Granules are whole bytes of a trace."""


@dataclass(frozen=True)
class FfnBlock:
    """One FFN block: what is reordered as a whole. Its units are neurons, or columns (`by_column`).

    Attributes
    ----------
    name : str
    n_neurons, hidden : int
        Units, and weights of a unit in one component: the width of the hidden state, or, of an input column, the
        number of neurons.
    components : tuple of Component
        What makes up a bundle, in bundle order: (gate,) up, down. Empty where weights are packed, so that a neuron has
        no bytes of its own.
    tensors : tuple of NeuronTensor
        All tensors with the neuron axis: those of the components, biases and the like. None where units are inputs.
    untouched : tuple of str
        Tensors that belong to quantised weights, but not to neurons.
    bundle_bytes : int
        Bytes of one unit's weights, rounded up to whole bytes in each matrix.
    """

    name: str
    n_neurons: int
    hidden: int
    components: tuple[Component, ...]
    tensors: tuple[NeuronTensor, ...]
    untouched: tuple[str, ...]
    bundle_bytes: int

    @property
    def granule(self) -> int:
        """Neurons that must stay together, as a number that orderings take: 1, or a multiple of 8."""
        needed = math.lcm(*(size for tensor in self.tensors for size in (tensor.granule, *tensor.kept_groups)))
        return needed if needed == 1 else math.lcm(needed, _BITS_PER_BYTE)

    @property
    def dtype(self) -> str | None:
        """The components' dtype, None where they differ."""
        dtypes = {component.dtype for component in self.components}
        return dtypes.pop() if len(dtypes) == 1 else None

    @property
    def carriers(self) -> tuple[NeuronTensor, ...]:
        """Tensors that are permuted with the neurons, but are no part of the bundles."""
        bundled = {component.name for component in self.components}
        return tuple(tensor for tensor in self.tensors if tensor.name not in bundled)

    @property
    def has_columns(self) -> bool:
        """Whether each column can be moved by itself: weights have bytes of their own, and no scale is of a group."""
        return bool(self.components) and self.granule == 1

    @property
    def has_gate(self) -> bool:
        """Whether a unit has a gate of its own, and more than that."""
        roles = [component.role for component in self.components]
        return "gate" in roles and len(roles) > 1

    @property
    def gate_bytes(self) -> int:
        """Bytes of a unit's gate; 0 without."""
        return self.gates_apart()[0].bundle_bytes if self.has_gate else 0

    def gates_apart(self) -> tuple[FfnBlock, FfnBlock]:
        """Return the block's gates alone, and the rest of its units' weights, as blocks of the same units."""
        gates = tuple(part for part in self.components if part.role == "gate")
        rest = tuple(part for part in self.components if part.role != "gate")
        of_gates, of_rest = (sum(part.unit_bytes for part in parts) for parts in (gates, rest))
        return (
            replace(self, components=gates, bundle_bytes=of_gates),
            replace(self, components=rest, bundle_bytes=of_rest),
        )

    def by_column(self) -> tuple[FfnBlock, FfnBlock]:
        """Return the FFN as two blocks: the columns of (gate and) up, and those of down, which has all tensors."""
        inputs = tuple(replace(part, by_input=True) for part in self.components if part.role != "down")
        down = tuple(part for part in self.components if part.role == "down")
        of_input, of_down = (sum(part.unit_bytes for part in parts) for parts in (inputs, down))
        return (
            FfnBlock(input_block_of(self.name), self.hidden, self.n_neurons, inputs, (), (), of_input),
            replace(self, components=down, bundle_bytes=of_down),
        )
