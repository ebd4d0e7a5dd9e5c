"""Outputs with bundles of a size that matters, traces of them, and what a reader of them is to be compared with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.rewrite import execute
from ripple_place.flash.layout import Layout
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.runtime.output_layout import read_output_layout
from tests.builders import llama_config, llama_tensors, opt_config, opt_tensors, write_checkpoint
from tests.flash.builders import block_trace, trace_of

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.trace.activation_trace import ActivationTrace

N_NEURONS, HIDDEN, N_LAYERS = 96, 200, 2
"""Bundles of 800 bytes (OPT) and 1200 (Llama): they straddle pages, and several lie in one."""


def write_output(path: Path, *, gated: bool = False, copies: int = 1, seed: int = 1, **options: Any) -> Path:
    """Write a checkpoint, and an output of it in a random order with random firing counts; return the output."""
    make, config = (llama_tensors, llama_config) if gated else (opt_tensors, opt_config)
    tensors = make(n_layers=N_LAYERS, n_neurons=N_NEURONS, hidden=HIDDEN)
    source = write_checkpoint(path / "source", tensors, config(n_layers=N_LAYERS, n_neurons=N_NEURONS))
    model = describe_ffn(Checkpoint.open(source))
    rng = np.random.default_rng(seed)
    blocks = {}
    for name, block in model.blocks.items():
        orders = [rng.permutation(block.n_neurons).astype(np.int32) for _ in range(copies)]
        counts = rng.integers(0, 50, block.n_neurons)
        blocks[name] = NeuronPlacement(orders[0], frequency=counts, order_2=orders[1] if copies == 2 else None)
    execute(plan_rewrite(model, ModelPlacement(blocks), path / "out", **options))
    return path / "out"


def random_trace(layout: Layout, n_tokens: int = 40, seed: int = 2) -> ActivationTrace:
    """Return a trace in which clusters of slots fire, so that reads merge, and some tokens fire nothing."""
    rng = np.random.default_rng(seed)
    blocks = {}
    for name, block in layout.blocks.items():
        active = rng.random((n_tokens, block.n_neurons)) < 0.1
        for token in range(n_tokens):
            first = int(rng.integers(0, block.n_neurons - 8))
            active[token, block.placement.order[first : first + 8]] |= rng.random(8) < 0.8
        active[::11] = False
        blocks[name] = block_trace(active)
    return trace_of(blocks, n_tokens)


def layout_of_output(out: Path) -> Layout:
    """Return the layout of an output."""
    output = read_output_layout(str(out), read_manifest(out))
    return Layout.from_extents(str(out), output.placement, output.extents, output.forms)


def slots_of_token(trace: ActivationTrace, layout: Layout, block: str, token: int) -> np.ndarray:
    """Return the slots that a token asks for, ascending."""
    n_neurons = trace.blocks[block].n_neurons
    active = np.unpackbits(np.asarray(trace.blocks[block].active[token]), count=n_neurons, bitorder="little")
    order = layout.blocks[block].placement.order
    return np.flatnonzero(active[order]).astype(np.int32)


def bundles_by_index(out: Path, block: str) -> np.ndarray:
    """Return the bundles of a block, gates first, uint8 [n_neurons, bundle_bytes], by the manifest's index alone."""
    manifest = read_manifest(out)
    assert manifest.bundled_path is not None
    data = np.frombuffer(manifest.bundled_path.read_bytes(), np.uint8)
    entry = manifest.document["bundled"][block]
    regions = [entry["gates"], entry] if "gates" in entry else [entry]
    parts = []
    for region in regions:
        n_bytes = sum(part["length_bytes"] for part in region["components"])
        starts = region["offset_bytes"] + np.arange(entry["n_neurons"]) * region["stride_bytes"]
        parts.append(data[starts[:, None] + np.arange(n_bytes)])
    return np.concatenate(parts, axis=1)
