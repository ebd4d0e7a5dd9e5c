"""Column gather: moves the neurons of a matrix that stores one neuron per column."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    AnyArray = npt.NDArray[Any]
    UInt32Array = npt.NDArray[np.uint32]


@compiled
def gather_columns(source: AnyArray, order: UInt32Array, out: AnyArray) -> None:
    """Set ``out[row, slot] = source[row, order[slot]]``; caller allocates.

    Parameters
    ----------
    source : ndarray of shape (n_rows, n_neurons), any unsigned dtype, C-contiguous
    order : ndarray of shape (n_slots,), uint32
        Unsigned, so that no index is tested for being negative.
    out : ndarray of shape (n_rows, n_slots), dtype of `source`, C-contiguous

    Notes
    -----
    O(n_rows n_slots) time. A row of `source` stays in the nearest caches, where random access is cheap. On one thread:
    as a parallel loop the compiler keeps neither `neurons` nor `slots` in registers, and two threads reach a quarter of
    the rate of one.
    """
    for row in range(source.shape[0]):
        neurons, slots = source[row], out[row]
        for slot in range(order.size):
            slots[slot] = neurons[order[slot]]
