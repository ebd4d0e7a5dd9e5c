"""Makes traces with magnitudes, and what was fitted for their neurons."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.placement import NeuronPlacement
from ripple_place.select.rule import Tuning
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace, Magnitudes

if TYPE_CHECKING:
    from collections.abc import Mapping

N_NEURONS, N_TOKENS = 40, 30


def outputs_of(rng: np.random.Generator, n_rows: int = N_TOKENS, n_neurons: int = N_NEURONS) -> np.ndarray:
    """Return outputs of which most are 0, of either sign."""
    fires = rng.random((n_rows, n_neurons)) < np.linspace(0.6, 0.05, n_neurons)
    outputs: np.ndarray = np.where(fires, rng.standard_normal((n_rows, n_neurons)), 0).astype(np.float32)
    return outputs


def block_of(outputs: np.ndarray, token_index: np.ndarray | None = None, *, with_values: bool = True) -> BlockTrace:
    """Return the trace of a block, with what its neurons put out."""
    row, neurons = np.nonzero(outputs)
    values = Magnitudes(
        np.searchsorted(row, np.arange(len(outputs) + 1)).astype(np.int64), neurons.astype(np.int32),
        outputs[row, neurons],
    )  # fmt: skip
    bits = np.packbits(outputs != 0, axis=1, bitorder="little")
    return BlockTrace(
        outputs.shape[1], bits, None if token_index is None else token_index.astype(np.int32),
        values if with_values else None,
    )  # fmt: skip


def trace_of(
    outputs: Mapping[str, np.ndarray], n_tokens: int = N_TOKENS, *, token_index: Mapping[str, np.ndarray] | None = None,
    with_values: bool = True, segment_starts: tuple[int, ...] = (0,), metadata: Mapping[str, str] | None = None,
) -> ActivationTrace:  # fmt: skip
    """Return a trace of some blocks' outputs."""
    blocks = {
        name: block_of(rows, (token_index or {}).get(name), with_values=with_values) for name, rows in outputs.items()
    }
    return ActivationTrace(blocks, n_tokens, np.array(segment_starts), metadata=metadata or {})


def layout_of(rng: np.random.Generator, sizes: Mapping[str, int], bundle_bytes: int = 4096) -> Layout:
    """Return random orders, with firing counts."""
    extent = BlockExtent.packed(bundle_bytes)
    return Layout(
        "tested",
        {
            name: BlockLayout(NeuronPlacement(rng.permutation(n), frequency=rng.integers(1, 50, n)), extent)
            for name, n in sizes.items()
        },
    )


def known_of(rng: np.random.Generator, sizes: Mapping[str, int]) -> Tuning:
    """Return importance of all neurons."""
    importance = {name: rng.exponential(1, n).astype(np.float32) for name, n in sizes.items()}
    return replace(Tuning.nothing(), importance=importance)
