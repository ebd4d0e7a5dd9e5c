"""One FFN block of a checkpoint, as its family describes it: shapes checked, every tensor cut into experts' parts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ripple_place.checkpoint.family import config_size
from ripple_place.checkpoint.neuron_tensor import Component, NeuronTensor
from ripple_place.errors import CheckpointError, UnsupportedArchitectureError
from ripple_place.tensorfile import DTYPE_BITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.checkpoint.family import BlockPattern, Family, TensorPattern
    from ripple_place.checkpoint.shards import Checkpoint
    from ripple_place.tensorfile import TensorExtent

_ORDINALS = {1: "a vector", 2: "a matrix", 3: "a matrix for each expert"}


class DescribedBlock(NamedTuple):
    """What `ripple_place.checkpoint.ffn.FfnBlock` is made of; attributes as there."""

    name: str
    n_neurons: int
    hidden: int
    components: tuple[Component, ...]
    tensors: tuple[NeuronTensor, ...]


class _Sizes(NamedTuple):
    """What all tensors of a block must agree on; `n_experts` is None where experts have tensors of their own."""

    n_neurons: int
    hidden: int
    n_experts: int | None


def describe_blocks(
    checkpoint: Checkpoint, family: Family, prefix: str, kind: BlockPattern, numbers: Mapping[str, str]
) -> list[DescribedBlock]:
    """Describe the block of one layer (and expert), or those of all experts that share its tensors.

    Raises
    ------
    CheckpointError
        If a component is missing, or shapes do not fit each other or the config.
    UnsupportedArchitectureError
        If a neuron's weights are no whole bytes.
    """
    present: list[tuple[TensorPattern, TensorExtent]] = []
    for pattern in kind.components + kind.carriers:
        name = prefix + pattern.tensor.format(**numbers)
        if name in checkpoint.shard_of:
            present.append((pattern, checkpoint.extent(name)))
        elif pattern in kind.components:
            raise CheckpointError(
                f"{checkpoint.path}: {kind.name.format(**{'expert': '*', **numbers})}", found=f"no tensor {name}",
                expected=f"all of {', '.join(pattern.role for pattern in kind.components)}",
                remedy="download the checkpoint again",
            )  # fmt: skip
    for pattern, extent in present:
        if len(extent.shape) != len(pattern.axes) or 0 in extent.shape:
            raise _shape_error(checkpoint, extent, f"{_ORDINALS[len(pattern.axes)]}, not empty")
        if DTYPE_BITS[extent.dtype] % 8:
            raise UnsupportedArchitectureError(
                f"{checkpoint.path}: tensor {extent.name}", found=extent.dtype, expected="a dtype of whole bytes",
                remedy="reorder first, then quantise",
            )  # fmt: skip
    sizes = _agreed_sizes(checkpoint, family, kind, *present[0], int(numbers.get("layer", 0)))
    for pattern, extent in present:
        _check_shape(checkpoint, pattern, extent, sizes)
    blocks = []
    for expert in range(sizes.n_experts or 1):
        of_expert = dict(numbers) if sizes.n_experts is None else {**numbers, "expert": str(expert)}
        tensors, components = [], []
        for pattern, extent in present:
            tensor = _part(checkpoint, pattern, extent, sizes, expert)
            tensors.append(tensor)
            if pattern in kind.components:
                components += [Component(role, tensor, part) for part, role in enumerate(pattern.roles)]
        name = kind.name.format(**of_expert)
        blocks.append(DescribedBlock(name, sizes.n_neurons, sizes.hidden, tuple(components), tuple(tensors)))
    return blocks


def _agreed_sizes(
    checkpoint: Checkpoint, family: Family, kind: BlockPattern, pattern: TensorPattern, extent: TensorExtent, layer: int
) -> _Sizes:
    """Return the sizes by the config, or where it does not say, by the first component."""
    by_axis = dict(zip(pattern.axes, extent.shape, strict=True))
    configured = config_size(checkpoint.config, kind.n_neurons_keys, layer)
    hidden = config_size(checkpoint.config, family.hidden_keys) or by_axis["hidden"]
    n_experts = by_axis.get("expert")
    if "expert_neuron" in by_axis:
        if not configured or by_axis["expert_neuron"] % configured:
            raise CheckpointError(
                f"{checkpoint.path}/config.json", found=f"{configured} neurons an expert",
                expected=f"{' or '.join(kind.n_neurons_keys)}, a divisor of {by_axis['expert_neuron']}",
                remedy="make sure that config.json and the weights belong to the same model",
            )  # fmt: skip
        n_experts = by_axis["expert_neuron"] // configured
    n_neurons = extent.shape[pattern.neuron_axis] // pattern.n_parts
    return _Sizes(n_neurons if configured is None else configured, hidden, n_experts)


def _check_shape(checkpoint: Checkpoint, pattern: TensorPattern, extent: TensorExtent, sizes: _Sizes) -> None:
    expected = {
        "expert": (sizes.n_experts or 0, "experts"),
        "expert_neuron": ((sizes.n_experts or 0) * sizes.n_neurons, "neurons of all experts"),
        "hidden": (sizes.hidden, ""),
        "neuron": (sizes.n_neurons, "neurons"),
        "neuron_halves": (2 * sizes.n_neurons, "gate and up neurons"),
        "neuron_pairs": (2 * sizes.n_neurons, "gate and up neurons"),
    }
    # Neurons first: of all that may be wrong, they tell most.
    for axis in sorted(range(len(pattern.axes)), key=lambda axis: axis != pattern.neuron_axis):
        size, what = expected[pattern.axes[axis]]
        if extent.shape[axis] != size:
            raise _shape_error(checkpoint, extent, f"{size} {what} along axis {axis}".replace("  ", " "))


def _part(
    checkpoint: Checkpoint, pattern: TensorPattern, extent: TensorExtent, sizes: _Sizes, expert: int
) -> NeuronTensor:
    """Return the part of a tensor that belongs to one expert; all of it where there is none."""
    axis = pattern.neuron_axis
    first = 1 if pattern.axes[0] == "expert" else 0
    part_bytes = extent.length_bytes // (sizes.n_experts or 1)
    return NeuronTensor(
        extent.name, pattern.role, checkpoint.shard_of[extent.name], extent.dtype,
        n_before=math.prod(extent.shape[first:axis]), n_neurons=sizes.n_neurons,
        n_after=math.prod(extent.shape[axis + 1 :]), begin_bytes=expert * part_bytes, n_parts=pattern.n_parts,
        interleaved=pattern.axes[axis] == "neuron_pairs",
    )  # fmt: skip


def _shape_error(checkpoint: Checkpoint, extent: TensorExtent, expected: str) -> CheckpointError:
    return CheckpointError(
        f"{checkpoint.path}: tensor {extent.name}", found=f"shape {list(extent.shape)}", expected=expected,
        remedy="make sure that config.json and the weights belong to the same model",
    )  # fmt: skip
