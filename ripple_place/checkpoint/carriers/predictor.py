"""Sparsity predictors and firing counts as PowerInfer stores them: one torch file a layer.

``model_{layer}.pt`` holds two matrices: ``fc1.weight`` [rank, hidden] and ``fc2.weight`` [n_neurons, rank], whose rows
follow the neurons; ``config.json`` beside them has one threshold for all. ``activation_{layer}.pt`` is a vector of
counts by neuron.

References
----------
Tiiny-AI/PowerInfer, convert.py and powerinfer-py/powerinfer/export_split.py.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from ripple_place.checkpoint.carriers.carrier import CarrierFile, CarrierPart, foreign_error, unsupported_error
from ripple_place.checkpoint.model.neuron_tensor import NeuronTensor
from ripple_place.errors import CheckpointError
from ripple_place.torchfile import read_torch_file, refresh_checksums

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.checkpoint.model.ffn import FfnModel

CONFIG_FILE = "config.json"
LAYER_FILE = re.compile(r"(model|activation)_(0|[1-9]\d*)\.pt")


def describe_layer_file(model: FfnModel, path: Path, name: str) -> CarrierFile:
    """Return what follows the neurons in a predictor or a file of counts.

    Raises
    ------
    CheckpointError
        If it is not of this model, or has a tensor that might carry the neuron axis and is not known.
    UnsupportedError
        If the layer has experts: these files know nothing of them.
    OSError
        If it cannot be read.
    """
    match = LAYER_FILE.fullmatch(path.name)
    assert match is not None
    kind, block_name = {"model": "predictor", "activation": "counts"}[match[1]], f"layers.{match[2]}"
    if block_name not in model.ffns:
        if any(block.startswith(f"{block_name}.") for block in model.ffns):
            raise unsupported_error(
                path, f"one {kind} for a layer with experts", "one for each FFN",
                "leave it out and make it again for the reordered model",
            )  # fmt: skip
        raise foreign_error(path, f"layer {match[2]}", f"layers that {model.checkpoint.path} has")
    n_neurons = model.ffns[block_name].n_neurons
    parts = []
    moved = {"": True} if kind == "counts" else {"fc1.weight": False, "fc2.weight": True, "fc2.bias": True}
    for tensor_name, tensor in read_torch_file(path, CheckpointError).items():
        follows = moved.get(tensor_name)
        if follows is None:
            raise foreign_error(f"{path}: {tensor_name}", f"shape {list(tensor.shape)}", f"one of {sorted(moved)}")
        if not follows:
            continue
        if not tensor.shape or tensor.shape[0] != n_neurons:
            raise foreign_error(
                f"{path}: {tensor_name}", f"shape {list(tensor.shape)}", f"{n_neurons} neurons along axis 0"
            )
        view = NeuronTensor(
            tensor_name, kind, "", tensor.dtype, n_before=1, n_neurons=n_neurons, n_after=math.prod(tensor.shape[1:])
        )
        parts.append(CarrierPart(tensor.offset_bytes, view, block_name))
    if not parts:
        raise foreign_error(path, "no tensor by neuron", "fc2.weight" if kind == "predictor" else "a vector of counts")
    return CarrierFile(path, name, kind, tuple(parts), refresh_checksums)
