"""What the neurons of a block put out for consecutive tokens, as a sparse matrix."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray, BoolArray, Float32Array, Int32Array, Int64Array


@dataclass(frozen=True, eq=False)
class ActiveRows:
    """The neurons that fire, row by row.

    Attributes
    ----------
    starts : ndarray of shape (n_rows + 1,), int64
        Row t has the entries from ``starts[t]`` to before ``starts[t + 1]``; the first is 0.
    neurons : ndarray of shape (n_active,), int32
        Ascending within a row.
    values : ndarray of shape (n_active,), float32
        What they put out.
    """

    starts: Int64Array
    neurons: Int32Array
    values: Float32Array

    @classmethod
    def from_outputs(cls, outputs: Float32Array) -> ActiveRows:
        """Return what is not zero of outputs by neuron, shape (n_rows, n_neurons)."""
        row, neurons = np.nonzero(outputs)
        starts = np.searchsorted(row, np.arange(outputs.shape[0] + 1)).astype(np.int64)
        return cls(starts, neurons.astype(np.int32), outputs[row, neurons])

    @classmethod
    def from_mask(cls, is_in: BoolArray) -> ActiveRows:
        """Return the neurons of a mask, shape (n_rows, n_neurons), with the value 1."""
        row, neurons = np.nonzero(is_in)
        starts = np.searchsorted(row, np.arange(is_in.shape[0] + 1)).astype(np.int64)
        return cls(starts, neurons.astype(np.int32), np.ones(neurons.size, np.float32))

    @property
    def n_rows(self) -> int:
        """Rows."""
        return self.starts.size - 1

    @cached_property
    def row(self) -> AnyArray:
        """Row of each entry, shape (n_active,)."""
        return np.repeat(np.arange(self.n_rows), np.diff(self.starts))

    def spread_out(self, n_neurons: int) -> Float32Array:
        """Return the outputs by neuron, shape (n_rows, n_neurons), 0 where a neuron does not fire."""
        outputs = np.zeros((self.n_rows, n_neurons), np.float32)
        outputs[self.row, self.neurons] = self.values
        return outputs

    def are_in(self, others: ActiveRows, n_neurons: int) -> BoolArray:
        """Return which entries are also entries of others, whose rows are the same."""
        is_in = np.zeros((self.n_rows, n_neurons), bool)
        is_in[others.row, others.neurons] = True
        found: BoolArray = is_in[self.row, self.neurons]
        return found

    def only(self, is_kept: BoolArray) -> ActiveRows:
        """Return the entries that are kept."""
        n_before = np.concatenate([[0], np.cumsum(is_kept)])
        return ActiveRows(n_before[self.starts].astype(np.int64), self.neurons[is_kept], self.values[is_kept])
