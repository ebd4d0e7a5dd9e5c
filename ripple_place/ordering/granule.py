"""Granules: blocks of consecutive neurons that are ordered, moved and read as one.

Quantised weights share scales between 32, 64 or 128 neighbours. A granule counts as active where any of its neurons is,
and is then ordered as a neuron would be: every ordering respects granules without knowing of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.trace.activation_trace import BlockTrace

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array, Int64Array


_ROWS_AT_ONCE = 4096


def n_granules(n_neurons: int, granule: int) -> int:
    """Return the number of granules that can move; a last one that is not full cannot.

    >>> n_granules(200, 64), n_granules(20, 64)
    (3, 1)
    """
    return max(1, n_neurons // granule)


def granule_trace(block: BlockTrace, granule: int) -> BlockTrace:
    """Return which granules are active in each row: those with any active neuron.

    Parameters
    ----------
    block : BlockTrace
    granule : int
        A multiple of 8.

    Returns
    -------
    BlockTrace
        Of as many "neurons" as there are full granules.
    """
    assert granule % 8 == 0, "granules are whole bytes of the trace"
    n_units = n_granules(block.n_neurons, granule)
    row_bytes = min(granule // 8, block.active.shape[1])
    active = np.zeros((block.n_rows, (n_units + 7) // 8), np.uint8)
    for first in range(0, block.n_rows, _ROWS_AT_ONCE):
        rows = np.asarray(block.active[first : first + _ROWS_AT_ONCE])[:, : n_units * row_bytes]
        any_active = rows.reshape(len(rows), n_units, row_bytes).any(axis=2)
        active[first : first + len(rows)] = np.packbits(any_active, axis=1, bitorder="little")
    return BlockTrace(n_units, active, block.token_index)


def granule_frequency(frequency: Int64Array, granule: int) -> Int64Array:
    """Return the sum of the firing counts of each full granule.

    >>> granule_frequency(np.array([1, 2, 3, 4, 5]), 2).tolist()
    [3, 7]
    """
    n_units = n_granules(frequency.size, granule)
    sums: Int64Array = frequency[: n_units * granule].reshape(n_units, -1).sum(axis=1)
    return sums


def expand_order(granule_order: Int32Array, granule: int, n_neurons: int) -> Int32Array:
    """Return the order of the neurons, given that of their granules; a last granule that is not full stays last.

    >>> expand_order(np.array([1, 0], np.int32), 2, 5).tolist()
    [2, 3, 0, 1, 4]
    """
    order = np.arange(n_neurons, dtype=np.int32)
    if n_neurons >= granule:
        moved = granule_order[:, None] * np.int32(granule) + np.arange(granule, dtype=np.int32)
        order[: moved.size] = moved.ravel()
    return order
