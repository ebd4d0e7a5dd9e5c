"""Hot neurons computed densely: they are asked for whether they fire or not."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.trace.activation_trace import BlockTrace

if TYPE_CHECKING:
    from ripple_place.arrays import BoolArray, Int32Array, UInt8Array
    from ripple_place.flash.caches.segments import HotSegments
    from ripple_place.storedarray import StoredArray
    from ripple_place.trace.activation_trace import ActivationTrace


def dense_hot(
    trace: ActivationTrace, segments: HotSegments, batch_of_step: Int32Array | None = None
) -> ActivationTrace:
    """Return the trace of what a token, or a step of several sequences, asks for: what fires, and the hot neurons.

    Parameters
    ----------
    trace : ActivationTrace
        Of the blocks of `segments`.
    segments : HotSegments
        Which neurons are hot at which batch size.
    batch_of_step : ndarray of shape (n_tokens,), int32, optional
        Sequences of each step (`ripple_place.trace.union.batch_steps`); None: 1.

    Raises
    ------
    UsageError
        If the trace has other blocks.

    Notes
    -----
    A block's hot neurons are asked for by the tokens that reach it, and where there are predictions, they name them.
    Costs as much memory as the trace's bits, those of predictions included. What neurons put out is left out.
    """
    segments.check_blocks({name: block.n_neurons for name, block in trace.blocks.items()})
    batches = np.ones(trace.n_tokens, np.int32) if batch_of_step is None else batch_of_step
    hot = {int(batch): segments.hot_neurons(int(batch)) for batch in np.unique(batches)}
    blocks, first = {}, 0
    for name, block in trace.blocks.items():
        of_block = {batch: neurons[first : first + block.n_neurons] for batch, neurons in hot.items()}
        blocks[name] = _with_hot(block, of_block, batches)
        first += block.n_neurons
    return replace(trace, blocks=blocks)


def _with_hot(block: BlockTrace, hot: dict[int, BoolArray], batches: Int32Array) -> BlockTrace:
    """Return a block's trace with its hot neurons, by batch size, in every row."""
    of_row = batches if block.token_index is None else batches[block.token_index]

    def with_hot(bits: UInt8Array | StoredArray) -> UInt8Array:
        joined = np.array(bits)
        for batch, neurons in hot.items():
            joined[of_row == batch] |= np.packbits(neurons, bitorder="little")
        return joined

    predicted = None if block.predicted is None else with_hot(block.predicted)
    return BlockTrace(block.n_neurons, with_hot(block.active), block.token_index, predicted=predicted)
