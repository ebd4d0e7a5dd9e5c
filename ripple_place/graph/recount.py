"""Whether a profile's counts are those of its bits: all firings, and some of the co-firings, counted once more."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import TraceFormatError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

    from ripple_place.arrays import Int32Array, Int64Array, UInt8Array
    from ripple_place.storedarray import StoredArray
    from ripple_place.trace.activation_trace import BlockTrace

CHUNK_BYTES = 8 * 2**20
"""Bits looked at together, so that what is in a file stays there and sums stay in a cache."""

BIT_READS, LEAST_PAIRS = 2**23, 256
"""Bits that counting sampled pairs may look at, and how many pairs are counted in any case. At 16,384 neurons and
32,768 tokens that takes less time than counting firings."""


def check_counts(where: str, block: BlockTrace, frequency: Int64Array, graph: csr_array) -> None:
    """Refuse counts that are not those of a block's bits.

    Parameters
    ----------
    where : str
        File and block, for the message.
    block : BlockTrace
    frequency : ndarray of shape (n_neurons,), int64
        Compared for every neuron.
    graph : csr_array of shape (n_neurons, n_neurons)
        Symmetric. Compared for pairs that are spread evenly over it; for all of a graph of up to `BIT_READS` bits.

    Raises
    ------
    TraceFormatError
        At the first neuron or pair.
    """
    expected = "counts of the bits in the same file"
    remedy = "profile again: the counts are of another trace, or were changed"
    fired = firing_counts(block.active, block.n_neurons)
    if (wrong := np.flatnonzero(fired != frequency)).size:
        neuron = int(wrong[0])
        raise TraceFormatError(
            where, found=f"a count of {frequency[neuron]} for neuron {neuron}, which fires in {fired[neuron]} rows "
            f"({wrong.size} of {fired.size} neurons differ)", expected=expected, remedy=remedy,
        )  # fmt: skip
    first, second, counts = _sample(graph, max(LEAST_PAIRS, BIT_READS // max(1, block.n_rows)))
    together = pair_counts(block.active, first, second)
    if (wrong := np.flatnonzero(together != counts)).size:
        pair = int(wrong[0])
        raise TraceFormatError(
            where, found=f"a count of {counts[pair]} for neurons {first[pair]} and {second[pair]}, which fire together "
            f"in {together[pair]} rows ({wrong.size} of the {counts.size} pairs counted again differ)",
            expected=expected, remedy=remedy,
        )  # fmt: skip


def firing_counts(active: UInt8Array | StoredArray, n_neurons: int) -> Int64Array:
    """Return the rows in which each neuron fires, from bits by token; shape (n_neurons,), int64.

    Notes
    -----
    Rows are added bit by bit in a tree of full adders, which take three rows of one weight and give one of the same
    and one of twice the weight: about eight operations on whole rows for each row, without unpacking any.
    """
    counts = np.zeros(8 * active.shape[1], np.int64)
    step = max(1, CHUNK_BYTES // max(1, active.shape[1]))
    for start in range(0, active.shape[0], step):
        rows, weight = np.asarray(active[start : start + step]), 1
        while rows.shape[0]:
            carries = [rows[:0]]
            while rows.shape[0] > 2:
                n = rows.shape[0] // 3
                a, b, c = rows[:n], rows[n : 2 * n], rows[2 * n : 3 * n]
                differ = a ^ b
                carries.append((a & b) | (c & differ))
                rows = np.concatenate([differ ^ c, rows[3 * n :]])
            counts += weight * np.unpackbits(rows, axis=1, bitorder="little").sum(axis=0, dtype=np.int64)
            rows, weight = np.concatenate(carries), 2 * weight
    return counts[:n_neurons]


def pair_counts(active: UInt8Array | StoredArray, first: Int32Array, second: Int32Array) -> Int64Array:
    """Return the rows in which both neurons of each pair fire, from bits by token; shape (n_pairs,), int64."""
    counts = np.zeros(first.size, np.int64)
    step = max(1, CHUNK_BYTES // max(1, first.size))
    for start in range(0, active.shape[0], step):
        rows = np.asarray(active[start : start + step])
        fires = [
            # Checked indices: numpy takes them several times as fast if it need not look at their signs.
            rows.take((neurons >> 3).astype(np.intp), axis=1, mode="clip") >> (neurons & 7).astype(np.uint8)
            for neurons in (first, second)
        ]
        counts += (fires[0] & fires[1] & 1).sum(axis=0, dtype=np.int64)
    return counts


def _sample(graph: csr_array, n_pairs: int) -> tuple[Int32Array, Int32Array, Int64Array]:
    """Return some edges ``first < second`` and their counts, spread evenly over the graph; always the same ones."""
    first = np.repeat(np.arange(graph.shape[0], dtype=np.int32), np.diff(graph.indptr))
    edges = np.flatnonzero(first < graph.indices)
    edges = edges[np.linspace(0, edges.size - 1, min(n_pairs, edges.size)).astype(np.int64)]
    return first[edges], graph.indices[edges], graph.data[edges].astype(np.int64)
