"""FFN blocks of a checkpoint: which tensors hold the neurons of each, along which axis, and how large a neuron is."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import block_sort_key, format_ranges, sorted_blocks
from ripple_place.checkpoint.coverage import refuse_quantised, refuse_unmapped
from ripple_place.checkpoint.family import Family, family_of, name_regex
from ripple_place.errors import CheckpointError, UnsupportedArchitectureError
from ripple_place.tensorfile import DTYPE_BITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.checkpoint.family import BlockPattern, TensorPattern
    from ripple_place.checkpoint.shards import Checkpoint


@dataclass(frozen=True)
class NeuronTensor:
    """A tensor with a neuron axis.

    Attributes
    ----------
    name, role : str
        Of the tensor, and what it is to the FFN: gate, up, down, up_bias and so on.
    shard : str
        Name of the file in which it lies.
    dtype : str
        safetensors name; only its width matters here.
    shape : tuple of int
        One axis or two.
    axis : int
        The neuron axis.
    """

    name: str
    role: str
    shard: str
    dtype: str
    shape: tuple[int, ...]
    axis: int

    @property
    def item_bytes(self) -> int:
        """Bytes of one element."""
        return DTYPE_BITS[self.dtype] // 8

    @property
    def neuron_bytes(self) -> int:
        """Bytes that one neuron has in it."""
        return math.prod(self.shape) // self.shape[self.axis] * self.item_bytes

    @property
    def length_bytes(self) -> int:
        """Bytes of the whole tensor."""
        return math.prod(self.shape) * self.item_bytes

    @property
    def action(self) -> str:
        """What permutes it: ``rows`` where a neuron's bytes are contiguous, else ``columns``."""
        return "rows" if self.axis == 0 else "columns"


@dataclass(frozen=True)
class FfnBlock:
    """One FFN block: the unit whose neurons are reordered together.

    Attributes
    ----------
    name : str
    n_neurons : int
    components : tuple of NeuronTensor
        What makes up a neuron bundle, in bundle order: (gate,) up, down.
    carriers : tuple of NeuronTensor
        Biases and the like: permuted with the neurons, but resident.
    """

    name: str
    n_neurons: int
    components: tuple[NeuronTensor, ...]
    carriers: tuple[NeuronTensor, ...]

    @property
    def bundle_bytes(self) -> int:
        """Bytes of one neuron over all components."""
        return sum(component.neuron_bytes for component in self.components)

    @property
    def hidden(self) -> int:
        """Width of the hidden state: weights of a neuron in one component."""
        return self.components[0].neuron_bytes // self.components[0].item_bytes

    @property
    def dtype(self) -> str | None:
        """The components' dtype, None where they differ."""
        dtypes = {component.dtype for component in self.components}
        return dtypes.pop() if len(dtypes) == 1 else None

    @property
    def tensors(self) -> tuple[NeuronTensor, ...]:
        """All tensors with the neuron axis."""
        return self.components + self.carriers


@dataclass(frozen=True)
class FfnModel:
    """A checkpoint and its FFN blocks, by name and in model order."""

    checkpoint: Checkpoint
    family: Family
    blocks: Mapping[str, FfnBlock]


def describe_ffn(checkpoint: Checkpoint) -> FfnModel:
    """Find the FFN blocks of a checkpoint, and make sure that no other tensor carries their neuron axis.

    Raises
    ------
    UnsupportedArchitectureError
        If no family describes the model, or its weights are quantised.
    CheckpointError
        If a layer or one of its components is missing, shapes do not fit each other or the config, or a tensor might
        carry the neuron axis and no family file says whether it does.
    """
    family = family_of(checkpoint.path / "config.json", checkpoint.config)
    refuse_quantised(checkpoint)
    prefix = _find_prefix(checkpoint, family)
    blocks: dict[str, FfnBlock] = {}
    for kind in family.blocks:
        for name, numbers in _blocks_of(checkpoint, prefix, kind).items():
            blocks[name] = _describe_block(checkpoint, prefix, kind, name, numbers)
    _check_layers(checkpoint, family, blocks)
    refuse_unmapped(
        checkpoint, family, prefix,
        mapped={tensor.name for block in blocks.values() for tensor in block.tensors},
        sizes={block.n_neurons for block in blocks.values()},
    )  # fmt: skip
    return FfnModel(checkpoint, family, {name: blocks[name] for name in sorted_blocks(blocks)})


def _find_prefix(checkpoint: Checkpoint, family: Family) -> str:
    """Return the family's prefix that this checkpoint puts before its tensor names."""
    patterns = [component.tensor for kind in family.blocks for component in kind.components]
    used = [
        prefix
        for prefix in family.prefixes
        if any(name_regex(prefix + pattern).fullmatch(name) for pattern in patterns for name in checkpoint.shard_of)
    ]
    if len(used) != 1:
        raise CheckpointError(
            checkpoint.path,
            found="FFN tensors under " + " and ".join(repr(prefix) for prefix in used) if used else "no FFN tensors",
            expected=f"one model with tensors such as {family.prefixes[0]}{patterns[0]}",
            remedy="give a whole checkpoint of one model",
        )
    return used[0]


def _blocks_of(checkpoint: Checkpoint, prefix: str, kind: BlockPattern) -> dict[str, dict[str, str]]:
    """Return the blocks of one kind that have any component: block name -> layer and expert number."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for component in kind.components:
        regex = name_regex(prefix + component.tensor)
        for tensor in checkpoint.shard_of:
            if match := regex.fullmatch(tensor):
                numbers = match.groupdict()
                found[kind.name.format(**numbers)] = numbers
    return found


def _describe_block(
    checkpoint: Checkpoint, prefix: str, kind: BlockPattern, block: str, numbers: Mapping[str, str]
) -> FfnBlock:
    components = tuple(_find_tensor(checkpoint, prefix, pattern, numbers) for pattern in kind.components)
    missing = [pattern for pattern, tensor in zip(kind.components, components, strict=True) if tensor is None]
    if missing:
        raise CheckpointError(
            f"{checkpoint.path}: {block}", found=f"no tensor {prefix}{missing[0].tensor.format(**numbers)}",
            expected=f"all of {', '.join(pattern.role for pattern in kind.components)}",
            remedy="download the checkpoint again",
        )  # fmt: skip
    present = tuple(tensor for tensor in components if tensor is not None)
    carriers = tuple(
        tensor for pattern in kind.carriers if (tensor := _find_tensor(checkpoint, prefix, pattern, numbers))
    )
    first = present[0]
    for tensor in present + carriers:
        if len(tensor.shape) != (2 if tensor in present else 1) or 0 in tensor.shape:
            raise _shape_error(checkpoint, tensor, f"a {'matrix' if tensor in present else 'vector'}, not empty")
        if DTYPE_BITS[tensor.dtype] % 8:
            raise UnsupportedArchitectureError(
                f"{checkpoint.path}: tensor {tensor.name}", found=tensor.dtype,
                expected="a dtype of whole bytes", remedy="reorder first, then quantise",
            )  # fmt: skip
    n_neurons = first.shape[first.axis]
    expected = _configured_neurons(checkpoint, kind, int(numbers.get("layer", 0)), n_neurons)
    for tensor in present + carriers:
        if tensor.axis >= len(tensor.shape) or tensor.shape[tensor.axis] != expected:
            raise _shape_error(checkpoint, tensor, f"{expected} neurons along axis {tensor.axis}")
    for tensor in present:
        if tensor.shape[1 - tensor.axis] != first.shape[1 - first.axis]:
            raise _shape_error(checkpoint, tensor, f"{first.shape[1 - first.axis]} along axis {1 - tensor.axis}")
    return FfnBlock(block, n_neurons, present, carriers)


def _find_tensor(
    checkpoint: Checkpoint, prefix: str, pattern: TensorPattern, numbers: Mapping[str, str]
) -> NeuronTensor | None:
    name = prefix + pattern.tensor.format(**numbers)
    if name not in checkpoint.shard_of:
        return None
    extent = checkpoint.extent(name)
    return NeuronTensor(name, pattern.role, checkpoint.shard_of[name], extent.dtype, extent.shape, pattern.axis)


def _configured_neurons(checkpoint: Checkpoint, kind: BlockPattern, layer: int, default: int) -> int:
    """Return the number of neurons that the config gives this layer; `default` where it gives none."""
    for key in kind.n_neurons_keys:
        value: Any = checkpoint.config.get(key)
        if isinstance(value, list) and layer < len(value):
            value = value[layer]
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return default


def _check_layers(checkpoint: Checkpoint, family: Family, blocks: Mapping[str, FfnBlock]) -> None:
    """Raise if the config promises layers of which no block was found."""
    n_layers = checkpoint.config.get(family.n_layers_key)
    present = {block_sort_key(name)[1] for name in blocks}
    if isinstance(n_layers, int) and (missing := set(range(n_layers)) - present):
        raise CheckpointError(
            checkpoint.path, found=f"no FFN in layers {format_ranges(missing)}", expected=f"one in each of {n_layers}",
            remedy="download the checkpoint again",
        )  # fmt: skip


def _shape_error(checkpoint: Checkpoint, tensor: NeuronTensor, expected: str) -> CheckpointError:
    return CheckpointError(
        f"{checkpoint.path}: tensor {tensor.name}", found=f"shape {list(tensor.shape)}", expected=expected,
        remedy="make sure that config.json and the weights belong to the same model",
    )  # fmt: skip
