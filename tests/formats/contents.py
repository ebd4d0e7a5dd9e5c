"""What the golden files of formats hold, built anew from formulas and Python's own random numbers.

`random.Random(seed).random()` gives the same numbers in every version of Python; numpy's generators promise no such
thing.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.tensorfile import TensorSource, write_tensor_file
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace, Magnitudes
from tests.builders import llama_config, llama_tensors, opt_config, opt_tensors
from tests.trace_builders import block_of, pack

if TYPE_CHECKING:
    from pathlib import Path

    from tests.builders import Tensors

N_NEURONS = 24
"""Neurons of each block of the OPT model, its traces and its placements."""


def clustered(seed: int, n_rows: int, n_neurons: int = N_NEURONS) -> np.ndarray:
    """Return activity in which every third neuron fires with the others of its cluster."""
    draw = random.Random(seed).random
    rows = []
    for _ in range(n_rows):
        fires = [draw() < 0.3 for _ in range(3)]
        rows.append([draw() < (0.8 if fires[neuron % 3] else 0.03) for neuron in range(n_neurons)])
    return np.array(rows)


def shuffled(seed: int, n_neurons: int = N_NEURONS) -> np.ndarray:
    """Return an order."""
    draw = random.Random(seed).random
    return np.array(sorted(range(n_neurons), key=lambda _: draw()), np.int32)


def pico_trace() -> ActivationTrace:
    """Return 300 tokens of the OPT model in two segments, with all that the format has for a dense model."""
    blocks = {f"layers.{layer}": block_of(clustered(layer, 300)) for layer in range(2)}
    metadata = {"activity": "relu>0", "model": "pico-opt", "dataset": "made up"}
    return ActivationTrace(blocks, 300, np.array([0, 150]), np.arange(300, dtype=np.int32) * 7, metadata)


def routed_trace() -> ActivationTrace:
    """Return 16 tokens of a model with experts, one of which no token reaches, and layers that text would sort wrongly.

    Neuron j fires for row t if 5 divides 7 t + 3 j + t j.
    """

    def active(n_rows: int, n_neurons: int) -> np.ndarray:
        t, j = np.ogrid[:n_rows, :n_neurons]
        return (7 * t + 3 * j + t * j) % 5 == 0

    blocks = {
        "layers.9": block_of(active(16, 9)),
        "layers.10.experts.0": block_of(active(4, 12), [1, 4, 9, 15]),
        "layers.10.experts.3": block_of(active(0, 12), []),
        "layers.10.shared_expert": block_of(active(16, 20)),
    }
    thresholds = json.dumps({"layers.9": 0.25, "layers.10.experts": 0.5})
    return ActivationTrace(blocks, 16, np.array([0]), None, {"activity": "cats=70%", "thresholds": thresholds})


def magnitudes_trace() -> ActivationTrace:
    """Return 40 tokens of the OPT model with what its active neurons put out: t + j / 32 for token t and neuron j."""
    blocks = {}
    for layer in range(2):
        active = clustered(10 + layer, 40)
        token, neuron = np.nonzero(active)
        matrix = Magnitudes(
            np.concatenate(([0], np.cumsum(active.sum(axis=1)))),
            neuron.astype(np.int32),
            (token + neuron / 32).astype(np.float32),
        )
        blocks[f"layers.{layer}"] = BlockTrace(N_NEURONS, pack(active), None, matrix)
    return ActivationTrace(blocks, 40, np.array([0, 8, 24]), None, {"activity": "relu>0", "model": "pico-opt"})


def plain_placement() -> ModelPlacement:
    """Return the least that `reorder` writes: orders and how they came about."""
    blocks = {"layers.9": NeuronPlacement(np.array([2, 0, 1])), "layers.10": NeuronPlacement(np.array([3, 1, 0, 2]))}
    return ModelPlacement(blocks, {"ordering": "greedy", "seed": "0", "profile": "ab" * 32, "tool_version": "0.1.0"})


def full_placement() -> ModelPlacement:
    """Return a placement with every tensor and every entry that the format has; one block lacks what is optional."""
    blocks = {
        "layers.0": NeuronPlacement(
            np.array([4, 0, 3, 1, 2]), np.array([0, 3]), np.array([9, 5, 0, 2**40, 1]), np.array([1, 2, 0, 4, 3])
        ),
        "layers.1": NeuronPlacement(np.array([1, 0])),
    }
    metadata = {
        "ordering": "flash-time", "seed": "7", "profile": "cd" * 32, "tool_version": "0.1.0", "bundle_bytes": "8192",
        "device": "ufs4-oneplus12-neuralink", "break_even_gap": "2.25", "gap": "2", "refit": "true", "copies": "2",
        "effort": "10", "cut_short": "time limit", "cache": "pinned", "dram_budget_bytes": "24576",
        "capacity_neurons": '{"layers.0": 2, "layers.1": 1}', "dram_budget_share": "0.4",
    }  # fmt: skip
    return ModelPlacement(blocks, metadata)


@dataclass(frozen=True, eq=False)
class PicoModel:
    """A checkpoint, how it is rewritten, and the bytes from one bundle to the next."""

    tensors: Tensors
    config: dict[str, Any]
    placement: ModelPlacement
    stride: str = "packed"

    def write(self, path: Path) -> Path:
        """Write the checkpoint with our own writer, whose bytes no other library's version changes."""
        path.mkdir()
        (path / "config.json").write_text(json.dumps(self.config))
        (path / "tokenizer.json").write_text('{"model": "pico"}')
        tensors = [TensorSource.of_array(name, tensor) for name, tensor in self.tensors.items()]
        write_tensor_file(path / "model.safetensors", tensors, {"format": "pt"})
        return path


def pico_opt(*, copies: bool = False) -> PicoModel:
    """Return an OPT model of two layers with biases; its second block may lie in two orders."""
    placement = ModelPlacement({
        "layers.0": NeuronPlacement(shuffled(20)),
        "layers.1": NeuronPlacement(shuffled(21), order_2=shuffled(22) if copies else None),
    }, {"ordering": "greedy", "seed": "0", "tool_version": "0.1.0"})  # fmt: skip
    return PicoModel(_numbered(opt_tensors(hidden=4, vocab=8)), opt_config(), placement)


def pico_columns() -> PicoModel:
    """Return a Llama model of one layer, by its columns; those of its inputs lie in two orders."""
    sizes = {"n_layers": 1, "n_neurons": 6}
    blocks = {
        "layers.0.input": NeuronPlacement(shuffled(50, 4), order_2=shuffled(51, 4)),
        "layers.0": NeuronPlacement(shuffled(52, 6)),
    }
    tensors = _numbered(llama_tensors(hidden=4, vocab=8, **sizes))
    return PicoModel(tensors, llama_config(**sizes), ModelPlacement(blocks, {"unit": "column"}))


def pico_gates() -> PicoModel:
    """Return a Llama model of two layers, whose gates are to lie apart."""
    return pico_llama(2, 6)


def pico_llama(n_layers: int, n_neurons: int, *, stride: str = "packed", second: bool = False) -> PicoModel:
    """Return a Llama model; its last block may lie in two orders."""
    orders = {layer: shuffled(30 + layer, n_neurons) for layer in range(n_layers)}
    blocks = {f"layers.{layer}": NeuronPlacement(order) for layer, order in orders.items()}
    if second:
        last = n_layers - 1
        blocks[f"layers.{last}"] = NeuronPlacement(orders[last], order_2=shuffled(40, n_neurons))
    sizes = {"n_layers": n_layers, "n_neurons": n_neurons}
    tensors = _numbered(llama_tensors(hidden=4, vocab=8, **sizes))
    return PicoModel(tensors, llama_config(**sizes), ModelPlacement(blocks), stride)


def mixed_llama() -> PicoModel:
    """Return a Llama model whose gates have four bytes a weight, its ups and downs two, and a norm eight."""
    model = pico_llama(1, 6)
    for name, dtype in (("layers.0.mlp.gate_proj.weight", np.float32), ("norm.weight", np.float64)):
        model.tensors[f"model.{name}"] = model.tensors[f"model.{name}"].astype(dtype)
    return model


def _numbered(tensors: Tensors) -> Tensors:
    """Return tensors of the same shapes whose weights count through the model: 0, 1, 2 and so on."""
    numbered, first = {}, 0
    for name, tensor in tensors.items():
        numbered[name] = np.arange(first, first + tensor.size).reshape(tensor.shape).astype(tensor.dtype)
        first += tensor.size
    assert first <= 2048, "float16 has no larger whole numbers without gaps"
    return numbered
