"""The experts of a checkpoint directory, found by its family: which tensors belong to which expert of which layer.

Only names and first axes count. So this describes checkpoints whose neurons could not be moved, quantised ones above
all, and does not ask what their tensors mean.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.blocks import sorted_blocks
from ripple_place.checkpoint.model.config_size import config_size
from ripple_place.checkpoint.model.expert_block import ExpertBlock, ExpertModel, Resident, Runs
from ripple_place.checkpoint.model.expert_tensors import (
    Role,
    StoredTensor,
    block_of_own,
    block_of_shared,
    layout_error,
    role_of,
)
from ripple_place.checkpoint.model.ffn import describe_ffn, refuse_unstored
from ripple_place.checkpoint.model.gguf_experts import describe_gguf, is_gguf, no_experts_error
from ripple_place.checkpoint.model.known_families import check_described, family_of
from ripple_place.checkpoint.model.patterns import FIRST, fill
from ripple_place.checkpoint.model.prefix import find_prefix
from ripple_place.checkpoint.model.quantised import logical_name
from ripple_place.checkpoint.model.routers import find_routers
from ripple_place.checkpoint.model.shards import Checkpoint

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from ripple_place.checkpoint.model.family import BlockPattern, Family, TensorPattern

_EXPERT = "{expert}"
_WEIGHT = ".weight"
_NUMBER = r"(0|[1-9][0-9]{0,8})"


def open_experts(path: str | os.PathLike[str], family: Family | None = None) -> ExpertModel:
    """Open a checkpoint directory, or a GGUF file, and find its experts.

    Parameters
    ----------
    path : path-like
    family : Family, optional
        In place of the one that ships for the checkpoint's model type. GGUF files need none.

    Raises
    ------
    UsageError
        If there is nothing at `path`, or the family is for other model types.
    CheckpointError
        If it is malformed, or has no FFNs of the family.
    UnsupportedError
        If it has no experts, they differ from each other, no family describes the model, or the gguf package is
        missing.
    OSError
        If a file cannot be read.

    Notes
    -----
    Reads headers only. Costs some hundred bytes for each expert and tensor.
    """
    path = Path(path)
    if is_gguf(path):
        return describe_gguf(path)
    checkpoint = Checkpoint.open(path)
    if family is not None:
        check_described(family, path, checkpoint.config)
    found = family or family_of(checkpoint.config)
    if found is None:
        describe_ffn(checkpoint)  # Raises: it says which family the tensors fit.
        raise AssertionError("a model type without family, and yet described")
    return describe_experts(checkpoint, found)


def describe_experts(checkpoint: Checkpoint, family: Family) -> ExpertModel:
    """Find the experts of a checkpoint by its family; errors as of `open_experts`."""
    # A quantised weight may be stored under any name in its module.
    stored = {logical_name(tensor) for tensor in checkpoint.shard_of}
    stored |= {f"{tensor.rpartition('.')[0]}{_WEIGHT}" for tensor in checkpoint.shard_of}
    prefix = find_prefix(checkpoint.path, family, stored)
    refuse_unstored(checkpoint, family, prefix)
    blocks: dict[str, ExpertBlock] = {}
    shared: list[str] = []
    for kind in family.blocks:
        if _EXPERT not in kind.name:
            continue
        if _EXPERT in kind.components[0].tensor:
            found = _blocks_of_own(checkpoint, prefix.text, kind)
        else:
            found, rest = _blocks_of_shared(checkpoint, prefix.text, kind)
            shared += rest
        # Kinds of one name are alternatives: the first that is there describes a layer.
        blocks = found | blocks
    if not blocks:
        raise no_experts_error(checkpoint.path, f"family {family.name}")
    blocks = {name: blocks[name] for name in sorted_blocks(blocks)}
    packed = {name for block in blocks.values() for part in block.parts for name in names_of(part.tensor, block)}
    residents = tuple(
        Resident(name, extent.dtype, extent.shape, _runs_of(checkpoint, name))
        for name in checkpoint.shard_of
        if name not in packed
        for extent in [checkpoint.extent(name)]
    )
    sizes = {name: shard.size_bytes for name, shard in checkpoint.shards.items()}
    return ExpertModel(
        checkpoint.path, checkpoint.path, family.name, str(checkpoint.config.get("model_type")), blocks, sizes,
        tuple(checkpoint.shard_of), residents, checkpoint, (*checkpoint.notes, *notes_on(blocks, shared)),
        find_routers(checkpoint, family, prefix.text, blocks, packed),
    )  # fmt: skip


def notes_on(blocks: dict[str, ExpertBlock], shared: Sequence[str]) -> list[str]:
    """Return what the user should know of how experts are stored."""
    notes = []
    gathered = [part.tensor for block in blocks.values() for part in block.parts if part.is_gathered]
    if gathered:
        notes.append(
            f"{len(gathered)} tensors such as {gathered[0]} have an expert's weights apart: they are gathered, which "
            "reads them once for each expert"
        )
    shared = [name for name in dict.fromkeys(shared) if name not in gathered]
    if shared:
        notes.append(f"{len(shared)} tensors such as {shared[0]} are of no one expert: they lie with the rest")
    return notes


def _blocks_of_own(checkpoint: Checkpoint, prefix: str, kind: BlockPattern) -> dict[str, ExpertBlock]:
    """Return the blocks whose experts have tensors of their own: all below the module of an expert belongs to it."""
    module = kind.components[0].tensor.partition(_EXPERT)[0]
    regex = _regex(f"{prefix}{module}{_EXPERT}.")
    stems = [
        (part.role, part.tensor.partition(f"{_EXPERT}.")[2].removesuffix(_WEIGHT)) for part in kind.components
    ]  # fmt: skip
    layers: dict[str, dict[int, dict[str, tuple[Role, StoredTensor]]]] = defaultdict(lambda: defaultdict(dict))
    for name in checkpoint.shard_of:
        if (match := regex.match(name)) is None:
            continue
        rest = name[match.end() :]
        role = role_of(rest, stems) or Role(rest, len(stems))
        stored = _stored(checkpoint, name)._replace(name=f"{name[: match.start(2)]}{_EXPERT}.{rest}")
        layers[_block_name(kind, match[1])][int(match[2])][stored.name] = role, stored
    projections = set(range(len(stems)))
    return {
        name: block_of_own(name, checkpoint.path, experts)
        for name, experts in layers.items()
        # Another kind of the family may have tensors here, below other names.
        if projections <= {role.place for tensors in experts.values() for role, _ in tensors.values()}
    }


def _blocks_of_shared(
    checkpoint: Checkpoint, prefix: str, kind: BlockPattern
) -> tuple[dict[str, ExpertBlock], list[str]]:
    """Return the blocks whose experts share tensors, and the tensors below their names that are of no expert."""
    names = [part.tensor.removesuffix(_WEIGHT) for part in kind.components]
    module = _common_start(names)
    regex = _regex(f"{prefix}{module}")
    stems = [(part.role, name[len(module) :]) for part, name in zip(kind.components, names, strict=True)]
    layers: dict[str, list[tuple[Role, StoredTensor]]] = defaultdict(list)
    numbers: dict[str, int] = {}
    for name in checkpoint.shard_of:
        if (match := regex.match(name)) is None or (role := role_of(name[match.end() :], stems)) is None:
            continue
        block = _block_name(kind, match[1])
        numbers[block] = int(match[1])
        layers[block].append((role, _stored(checkpoint, name)))
    blocks, rest = {}, []
    for block, tensors in layers.items():
        if {role.place for role, _ in tensors} != set(range(len(stems))):
            continue
        n_experts, in_rows = _n_experts(checkpoint, kind, numbers[block], tensors)
        blocks[block], of_none = block_of_shared(block, checkpoint.path, n_experts, tensors, in_rows=in_rows)
        rest += of_none
    return blocks, rest


def _n_experts(
    checkpoint: Checkpoint, kind: BlockPattern, layer: int, tensors: Sequence[tuple[Role, StoredTensor]]
) -> tuple[int, bool]:
    """Return how many experts the tensors of a layer are of, and whether their first axis has rows of each."""
    pattern: TensorPattern = kind.components[0]
    of_first = [tensor for role, tensor in tensors if role.place == 0]
    weight = max(of_first, key=lambda tensor: (tensor.length_bytes, tensor.name))
    in_rows = pattern.axes[0] == "expert_neuron"
    n_axes = len(weight.shape)
    is_plain = weight.name.endswith(fill(pattern.tensor, {"layer": layer}))
    n_experts = weight.shape[0] if n_axes > 1 and (not is_plain or n_axes == len(pattern.axes)) else 0
    if in_rows:
        n_neurons = config_size(checkpoint.config, kind.n_neurons_keys, layer)
        n_experts = n_experts // n_neurons if n_neurons and n_experts % n_neurons == 0 else 0
    if not n_experts:
        raise layout_error(checkpoint.path, f"tensor {weight.name} of shape {list(weight.shape)}")
    return n_experts, in_rows


def _stored(checkpoint: Checkpoint, name: str) -> StoredTensor:
    extent = checkpoint.extent(name)
    file = checkpoint.file_of(name)
    return StoredTensor(name, extent.dtype, extent.shape, file, extent.offset_bytes, extent.length_bytes)


def _runs_of(checkpoint: Checkpoint, name: str) -> Runs:
    extent = checkpoint.extent(name)
    return Runs(checkpoint.file_of(name), extent.offset_bytes, extent.length_bytes)


def _regex(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of names that begin with a pattern: the layer is group 1, the expert group 2."""
    text = re.escape(pattern)
    for placeholder in ("{layer}", _EXPERT):
        text = text.replace(re.escape(placeholder), _NUMBER)
    return re.compile(text)


def _block_name(kind: BlockPattern, layer: str) -> str:
    """Return the name of a layer's block of experts: that of its experts, without their numbers.

    The family has ``layers.{layer}.experts.{expert}``.
    """
    return fill(kind.name, {**FIRST, "layer": layer}).partition(".experts.")[0]


def _common_start(names: Sequence[str]) -> str:
    """Return the modules that all names lie in, with the dot behind them."""
    module = names[0].rpartition(".")[0]
    while not all(name.startswith(f"{module}.") for name in names):
        module = module.rpartition(".")[0]
    return f"{module}."


def names_of(tensor: str, block: ExpertBlock) -> list[str]:
    """Return the names in the checkpoint that the name of a part stands for."""
    if _EXPERT not in tensor:
        return [tensor]
    return [tensor.replace(_EXPERT, str(expert)) for expert in range(block.n_neurons)]
