"""Makes activations with known structure, and trace files written by nobody's library but safetensors' own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.graph.neuron_bits import NeuronBits

TRACE_FORMAT = "ripple-place.trace/1"
"""Written out here: a test that imports it would not notice that it changed."""


def pack(active: np.ndarray) -> np.ndarray:
    """Return a dense matrix as packed bits, little order."""
    return np.packbits(active.astype(bool), axis=1, bitorder="little")


def unpack(block: BlockTrace) -> np.ndarray:
    """Return a block's trace as a dense boolean matrix."""
    return np.unpackbits(np.asarray(block.active), axis=1, bitorder="little")[:, : block.n_neurons].astype(bool)


def block_of(active: np.ndarray, token_index: list[int] | None = None) -> BlockTrace:
    """Pack a dense activity matrix of shape (n_rows, n_neurons)."""
    return BlockTrace(active.shape[1], pack(active), None if token_index is None else np.array(token_index, np.int32))


def trace_of(*blocks: np.ndarray) -> ActivationTrace:
    """Return a trace of one segment whose blocks are ``layers.0``, ``layers.1``, ..."""
    return ActivationTrace(
        {f"layers.{layer}": block_of(active) for layer, active in enumerate(blocks)}, len(blocks[0]), np.array([0])
    )


def bits_of(active: np.ndarray) -> NeuronBits:
    """Return a dense matrix as neuron-major bits."""
    from ripple_place.graph.neuron_bits import NeuronBits

    return NeuronBits.of_block(block_of(active))


def write_stock_trace(
    path: Path, activity: dict[str, np.ndarray], /, *, tensors: dict[str, np.ndarray] | None = None, **metadata: str
) -> Path:
    """Write a trace file as an outside producer would: with safetensors' own library, from docs/formats.md alone.

    Parameters
    ----------
    path : Path
    activity : dict of str to ndarray
        Dense activity by block name.
    tensors : dict of str to ndarray, optional
        More tensors, or others in place of those made from `activity`.
    **metadata : str
        More metadata, or other.
    """
    made = {f"{name}.active": pack(active) for name, active in activity.items()}
    sizes = {name: active.shape[1] for name, active in activity.items()}
    save_file({**made, **(tensors or {})}, path, {"format": TRACE_FORMAT, "blocks": json.dumps(sizes), **metadata})
    return path


def random_activity(rng: np.random.Generator, n_rows: int, n_neurons: int, share: float = 0.2) -> np.ndarray:
    """Return independent activations."""
    return rng.random((n_rows, n_neurons)) < share


def planted_clusters(
    rng: np.random.Generator, *, n_clusters: int = 8, cluster_size: int = 8, n_rows: int = 512, noise: float = 0.01
) -> tuple[np.ndarray, np.ndarray]:
    """Return activity in which clusters of scattered neurons fire together, and the cluster of each neuron."""
    cluster_of = rng.permutation(np.repeat(np.arange(n_clusters), cluster_size))
    fires = rng.random((n_rows, n_clusters)) < 0.15
    members = rng.random((n_rows, cluster_of.size)) < 0.9
    return (fires[:, cluster_of] & members) | (rng.random(members.shape) < noise), cluster_of


def planted_chain(rng: np.random.Generator, n_neurons: int, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Return activity in which each token fires two neurons that follow each other in a hidden order, and that order.

    Every two that follow each other fire together somewhere.
    """
    order = rng.permutation(n_neurons)
    start = np.concatenate([np.arange(n_neurons - 1), rng.integers(0, n_neurons - 1, n_rows - n_neurons + 1)])
    active = np.zeros((n_rows, n_neurons), bool)
    active[np.arange(n_rows), order[start]] = True
    active[np.arange(n_rows), order[start + 1]] = True
    return active, order
