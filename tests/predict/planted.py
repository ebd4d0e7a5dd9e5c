"""Rows of a block whose neurons follow a low-rank rule, so that a predictor of that rank can know everything."""

from __future__ import annotations

import numpy as np

from ripple_place.predict.examples import Examples, split_examples
from ripple_place.trace.activation_trace import BlockTrace, Magnitudes

RANK = 6


def planted_block(
    n_rows: int = 1200, n_inputs: int = 24, n_neurons: int = 100, *, is_gated: bool = False, seed: int = 0
) -> tuple[np.ndarray, BlockTrace]:
    """Return inputs, and a block with magnitudes: ReLU of a low-rank product, times another one if gated."""
    random = np.random.default_rng(seed)
    x = random.normal(1.0, random.uniform(0.3, 3.0, n_inputs), (n_rows, n_inputs)).astype(np.float32)
    standard = (x - x.mean(axis=0)) / x.std(axis=0)
    product = standard @ random.normal(size=(n_inputs, RANK)) @ random.normal(size=(RANK, n_neurons))
    outputs = np.maximum(product - np.quantile(product, random.uniform(0.7, 0.95, n_neurons), axis=0).diagonal(), 0)
    if is_gated:
        outputs = outputs * (standard @ random.normal(size=(n_inputs, RANK)) @ random.normal(size=(RANK, n_neurons)))
    return x, block_with_magnitudes(outputs.astype(np.float32))


def block_with_magnitudes(outputs: np.ndarray) -> BlockTrace:
    """Return the block of dense outputs: what is not 0 fires."""
    row, neurons = np.nonzero(outputs)
    starts = np.searchsorted(row, np.arange(len(outputs) + 1)).astype(np.int64)
    magnitudes = Magnitudes(starts, neurons.astype(np.int32), outputs[row, neurons])
    return BlockTrace(outputs.shape[1], np.packbits(outputs != 0, axis=1, bitorder="little"), None, magnitudes)


def planted_examples(**more: object) -> tuple[Examples, Examples]:
    """Return the rows to fit on and those held out, of one segment."""
    x, block = planted_block(**more)  # type: ignore[arg-type]
    return split_examples(x, block, np.array([0]), len(x))
