"""An FFN block: which tensors hold its neurons, along which axis, and how large a neuron is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ripple_place.checkpoint.model.neuron_tensor import Component, NeuronTensor

_BITS_PER_BYTE = 8
"""Granules are whole bytes of a trace."""


@dataclass(frozen=True)
class FfnBlock:
    """One FFN block: the unit whose neurons are reordered together.

    Attributes
    ----------
    name : str
    n_neurons, hidden : int
        `hidden` is the width of the hidden state: weights of a neuron in one component.
    components : tuple of Component
        What makes up a neuron bundle, in bundle order: (gate,) up, down. Empty where weights are packed, so that a
        neuron has no bytes of its own.
    tensors : tuple of NeuronTensor
        All tensors with the neuron axis: those of the components, biases and the like.
    untouched : tuple of str
        Tensors that belong to quantised weights, but not to neurons.
    bundle_bytes : int
        Bytes of one neuron's weights, rounded up to whole bytes in each matrix.
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
