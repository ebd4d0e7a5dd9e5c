"""LoRA adapters: what they add to up and gate has rows by neuron, what they take from down has columns.

The product of an up projection is ``W x + B (A x)``: B follows the neurons. Of a down projection, A does. Vectors of
DoRA have an entry for each output, so those of up and gate follow.

References
----------
huggingface/peft, tuners/lora/layer.py; arXiv 2106.09685.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from ripple_place.checkpoint.carriers.adapter_config import CONFIG_FILE, MERGE, check_adapter_config
from ripple_place.checkpoint.carriers.carrier import CarrierFile, CarrierPart, foreign_error, unsupported_error
from ripple_place.checkpoint.model.neuron_tensor import NeuronTensor
from ripple_place.checkpoint.model.patterns import matches_any
from ripple_place.errors import CheckpointError, UsageError
from ripple_place.tensorfile import TensorFile

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.tensorfile import TensorExtent

WEIGHTS_FILE = "adapter_model.safetensors"
_NAME = re.compile(
    r"(?:base_model\.model\.)?(?P<module>.+?)\.(?P<kind>lora_A|lora_B|lora_magnitude_vector|lora_bias)"
    r"(?:\.[^.]+)*?(?:\.weight|\.bias)?"
)
_WEIGHT_NAMES = ("weight", "qweight", "weight_packed")


def describe_adapter(model: FfnModel, directory: Path, name: str) -> list[CarrierFile]:
    """Return the files of an adapter directory, and what follows the neurons in its weights.

    Raises
    ------
    UsageError
        If it is no adapter directory.
    UnsupportedError
        If it is no LoRA, its config changes what the tensors mean, or it has weights that no rule covers.
    CheckpointError
        If it is malformed, or of another model.
    OSError
        If it cannot be read.
    """
    check_is_adapter(directory)
    check_adapter_config(directory)
    weights = open_adapter_weights(directory)
    parts: list[CarrierPart] = []
    for extent in weights.tensors.values():
        parts += _parts_of(model, weights.path, extent)
    files = []
    for file in sorted(directory.iterdir()):
        if file.is_file() and file.name != WEIGHTS_FILE and not file.name.endswith((".bin", ".pt", ".safetensors")):
            files.append(CarrierFile(file, f"{name}/{file.name}", "adapter"))
    return [*files, CarrierFile(weights.path, f"{name}/{WEIGHTS_FILE}", "adapter", tuple(parts))]


def check_is_adapter(directory: Path) -> None:
    """Raise a UsageError if a directory has no config of an adapter."""
    if not (directory / CONFIG_FILE).is_file():
        raise UsageError(
            directory, found=f"no {CONFIG_FILE}", expected="a directory that peft saved", remedy="correct the path"
        )


def open_adapter_weights(directory: Path) -> TensorFile:
    """Return the weights of an adapter, of which only the header was read.

    Raises
    ------
    UnsupportedError
        If they are not in safetensors.
    CheckpointError
        If they are malformed.
    OSError
        If they cannot be read.
    """
    if not (directory / WEIGHTS_FILE).is_file():
        raise unsupported_error(directory, f"no {WEIGHTS_FILE}", "weights in safetensors", "save it again with peft")
    return TensorFile.open(directory / WEIGHTS_FILE, CheckpointError)


def _parts_of(model: FfnModel, path: Path, extent: TensorExtent) -> list[CarrierPart]:
    """Return what follows the neurons in one of the adapter's tensors."""
    where = f"{path}: tensor {extent.name}"
    match = _NAME.fullmatch(extent.name)
    own = extent.name.removeprefix("base_model.model.")
    module = match["module"] if match else own.replace(".base_layer.", ".")
    base = _base_parts(model, [f"{module}.{ending}" for ending in _WEIGHT_NAMES] if match else [module])
    if base is None:
        short = _without_prefix(model, module if match is None else f"{module}.weight")
        kinds = [kind for kind in model.family.blocks if matches_any(kind.module, short)]
        if any(not matches_any(kind.free, short) for kind in kinds):
            raise unsupported_error(where, "a tensor of an FFN that no rule covers", "LoRA of gate, up or down", MERGE)
        return []
    parts = []
    for tensor, block in base:
        view = tensor if not match else _lora_view(tensor, match["kind"], extent)
        if view is None:
            continue
        if (not match and extent.shape != model.checkpoint.extent(tensor.name).shape) or (
            view.length_bytes * len(base) != extent.length_bytes
        ):
            raise foreign_error(where, f"shape {list(extent.shape)}", f"{tensor.n_neurons} neurons, as {block} has")
        parts.append(CarrierPart(extent.offset_bytes, view, block))
    return parts


def _is_mapped_side(kind: str, role: str) -> bool:
    """Tell whether a matrix of LoRA follows the neurons: B of what puts them out, A of what takes them in."""
    return (kind == "lora_A") == (role == "down")


def _lora_view(base: NeuronTensor, kind: str, extent: TensorExtent) -> NeuronTensor | None:
    """Return the neuron axis of a LoRA matrix, None where it has none. Both are ``[out, in]`` whatever the base is."""
    if not _is_mapped_side(kind, base.role):
        return None
    if base.role == "down":
        n_before, n_after = extent.shape[0], 1
    else:
        n_before, n_after = 1, math.prod(extent.shape[1:])
    return NeuronTensor(
        extent.name, base.role, "", extent.dtype, n_before=n_before, n_neurons=base.n_neurons, n_after=n_after,
        n_parts=base.n_parts, interleaved=base.interleaved,
    )  # fmt: skip


def _base_parts(model: FfnModel, names: list[str]) -> list[tuple[NeuronTensor, str]] | None:
    """Return the parts of the base model's tensor by one of some names, whatever stands before; None if it has none."""
    for name in names:
        short = _without_prefix(model, name)
        for prefix in ("", *model.family.prefixes):
            if parts := model.parts.get(model.prefix.wrapper + prefix + short):
                return list(parts)
    return None


def _without_prefix(model: FfnModel, name: str) -> str:
    """Return a tensor's name as family files have it."""
    for prefix in sorted(model.family.prefixes, key=len, reverse=True):
        if name.startswith(prefix):
            return name.removeprefix(prefix)
    return name
