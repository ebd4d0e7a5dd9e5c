"""The candidates whose gates are read: what a predictor named, or what fires and some more, drawn."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.gate_first import PREDICTED
from ripple_place.kernels.over_predict import draw_more
from ripple_place.trace.activation_trace import BlockTrace

if TYPE_CHECKING:
    from ripple_place.arrays import Int64Array
    from ripple_place.flash.gate_first import GateFirst
    from ripple_place.trace.activation_trace import ActivationTrace

_CHUNK_ROWS = 1024
_N_SET = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).sum(axis=1)
"""Set bits of each byte."""


def candidates_of(trace: BlockTrace, gate_first: GateFirst | None) -> tuple[BlockTrace, BlockTrace | None]:
    """Return what a reader asks for, and what of it fires; None where all of it does.

    Parameters
    ----------
    trace : BlockTrace
    gate_first : GateFirst or None
        Only ``predicted`` asks for what `trace` says was predicted; all others know what fires.
    """
    if gate_first is None or gate_first.mode != PREDICTED or trace.predicted is None:
        return trace, None
    return BlockTrace(trace.n_neurons, trace.predicted, trace.token_index), trace


def count_unpredicted(asked: BlockTrace, fired: BlockTrace) -> int:
    """Return how many neurons fire, over all rows, that nothing asks for."""
    n_unpredicted = 0
    for first in range(0, fired.n_rows, _CHUNK_ROWS):
        rows = slice(first, first + _CHUNK_ROWS)
        n_unpredicted += int(_N_SET[np.asarray(fired.active[rows]) & ~np.asarray(asked.active[rows])].sum())
    return n_unpredicted


def draw_candidates(trace: ActivationTrace, over_predict: float, seed: int) -> ActivationTrace:
    """Return a trace with predictions that name all that fires, and more.

    Parameters
    ----------
    trace : ActivationTrace
        What it has of predictions is replaced.
    over_predict : float
        Neurons named per neuron that fires, at least 1.
    seed : int

    Notes
    -----
    What is named beside what fires is drawn without replacement, a neuron in proportion to its firings in the trace
    plus one: a predictor errs on the side of neurons that fire often. Draws depend on seed, block, row and neuron, not
    on layouts or threads. Time is of the order of neurons and rows; memory is that of the packed trace once more.
    """
    blocks = {}
    for name, block in trace.blocks.items():
        active = np.asarray(block.active[:])
        named = np.empty_like(active)
        tree, chosen = np.zeros(block.n_neurons + 1, np.int64), np.empty(block.n_neurons, np.int32)
        key = np.uint64((seed * 0x100000001 ^ zlib.crc32(name.encode())) % 2**64)
        draw_more(active, _firings(block) + 1, over_predict - 1, key, tree, chosen, named)
        blocks[name] = replace(block, predicted=named)
    return replace(trace, blocks=blocks)


def _firings(block: BlockTrace) -> Int64Array:
    """Return how often each neuron fires."""
    counts = np.zeros(block.n_neurons, np.int64)
    for first in range(0, block.n_rows, _CHUNK_ROWS):
        rows = np.asarray(block.active[first : first + _CHUNK_ROWS])
        counts += np.unpackbits(rows, axis=1, count=block.n_neurons, bitorder="little").sum(axis=0, dtype=np.int64)
    return counts
