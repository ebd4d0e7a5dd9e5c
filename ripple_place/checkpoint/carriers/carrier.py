"""What all carriers have in common: a file in which some ranges are arrays with a neuron axis."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import CheckpointError, UnsupportedError
from ripple_place.inputfile import read_input
from ripple_place.placement import slots_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from ripple_place.arrays import Int32Array
    from ripple_place.checkpoint.model.neuron_tensor import NeuronTensor


@dataclass(frozen=True)
class CarrierPart:
    """A range of a file that is permuted like the neurons of one block.

    Attributes
    ----------
    offset_bytes : int
        Of the tensor in the file; its own `begin_bytes` come on top.
    tensor : NeuronTensor
    block : str
    """

    offset_bytes: int
    tensor: NeuronTensor
    block: str


@dataclass(frozen=True)
class CarrierFile:
    """A file that goes along with a model: where it lies, what it is called in OUT, and what moves in it.

    Attributes
    ----------
    source : Path
    name : str
        Relative to the output directory.
    kind : str
        adapter, predictor, imatrix or counts.
    parts : tuple of CarrierPart
        Empty for a file that is copied as it is.
    refresh : callable or None
        Called with the file's bytes after a change: puts its checksums right.
    """

    source: Path
    name: str
    kind: str
    parts: tuple[CarrierPart, ...] = ()
    refresh: Callable[[bytearray], None] | None = None

    def permuted(self, orders: Mapping[str, Int32Array], *, inverse: bool = False) -> bytearray:
        """Return the file's bytes with the neurons in the given orders, or put back from these orders.

        Raises
        ------
        OSError
            If it cannot be read.
        """
        return self.moved(bytearray(read_input(self.source, None)), orders, inverse=inverse)

    def moved(self, data: bytearray, orders: Mapping[str, Int32Array], *, inverse: bool = False) -> bytearray:
        """Return bytes that are laid out as the file's are, changed in place as by `permuted`."""
        for part in self.parts:
            order = slots_of(orders[part.block]) if inverse else orders[part.block]
            tensor = part.tensor
            begin = part.offset_bytes + tensor.begin_bytes
            view = np.frombuffer(data, np.uint8, tensor.length_bytes, begin)
            rows = view.reshape(tensor.n_rows, tensor.n_units, tensor.unit_bytes)
            rows[:] = rows[:, order]
        if self.refresh is not None:
            self.refresh(data)
        return data


def foreign_error(where: object, found: str, expected: str) -> CheckpointError:
    """Return the error for a carrier that does not fit the model."""
    return CheckpointError(where, found=found, expected=expected, remedy="give one that was made for this very model")


def unsupported_error(where: object, found: str, expected: str, remedy: str) -> UnsupportedError:
    """Return the error for a carrier that would silently break."""
    return UnsupportedError(where, found=found, expected=expected, remedy=remedy)
