"""The FFN blocks of a checkpoint: found by its family, and all tensors that carry their neurons accounted for."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ripple_place.blocks import block_sort_key, format_ranges, sorted_blocks
from ripple_place.checkpoint.model.config_size import config_size
from ripple_place.checkpoint.model.coverage import refuse_unmapped
from ripple_place.checkpoint.model.describe import describe_blocks
from ripple_place.checkpoint.model.known_families import family_of
from ripple_place.checkpoint.model.patterns import fill, matching
from ripple_place.checkpoint.model.quantised import Scheme, logical_name
from ripple_place.errors import CheckpointError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from ripple_place.checkpoint.model.family import BlockPattern, Family
    from ripple_place.checkpoint.model.ffn_block import FfnBlock
    from ripple_place.checkpoint.model.neuron_tensor import NeuronTensor
    from ripple_place.checkpoint.model.shards import Checkpoint

Numbers = tuple[tuple[str, str], ...]
"""Layer and perhaps expert number of a block: items of a dict."""

_MAX_MISSING_LAYERS = 10_000
_FIRST = {"layer": 0, "expert": 0}


@dataclass(frozen=True)
class FfnModel:
    """A checkpoint and its FFN blocks, by name and in model order."""

    checkpoint: Checkpoint
    family: Family
    blocks: Mapping[str, FfnBlock]

    @cached_property
    def parts(self) -> Mapping[str, Sequence[tuple[NeuronTensor, str]]]:
        """Tensors with a neuron axis, by name: their parts in file order, each with the name of its block."""
        parts: dict[str, list[tuple[NeuronTensor, str]]] = defaultdict(list)
        for name, block in self.blocks.items():
            for tensor in block.tensors:
                parts[tensor.name].append((tensor, name))
        return {name: sorted(of_one, key=lambda part: part[0].begin_bytes) for name, of_one in parts.items()}


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
    scheme = Scheme.of(checkpoint)
    weights = {logical_name(tensor) for tensor in checkpoint.shard_of}
    prefix = _find_prefix(checkpoint, family, weights)
    blocks: dict[str, FfnBlock] = {}
    for kind_name in dict.fromkeys(kind.name for kind in family.blocks):
        kinds = [kind for kind in family.blocks if kind.name == kind_name]
        for numbers, candidates in _candidates(weights, prefix, kinds).items():
            for block in _describe_by_first_fit(checkpoint, scheme, prefix, candidates, dict(numbers)):
                blocks[block.name] = block
    _check_layers(checkpoint, family, blocks)
    model = FfnModel(checkpoint, family, {name: blocks[name] for name in sorted_blocks(blocks)})
    untouched = {name for block in blocks.values() for name in block.untouched}
    sizes = {block.n_neurons for block in blocks.values()}
    refuse_unmapped(checkpoint, family, prefix, mapped=model.parts.keys() | untouched, sizes=sizes)
    return model


def _find_prefix(checkpoint: Checkpoint, family: Family, weights: AbstractSet[str]) -> str:
    """Return the family's prefix that this checkpoint puts before its tensor names."""
    patterns = [component.tensor for kind in family.blocks for component in kind.components]
    used = [
        prefix
        for prefix in family.prefixes
        if any(True for pattern in patterns for _ in matching(prefix + pattern, weights))
    ]
    if len(used) != 1:
        raise CheckpointError(
            checkpoint.path,
            found="FFN tensors under " + " and ".join(repr(prefix) for prefix in used) if used else "no FFN tensors",
            expected=f"one model with tensors such as {family.prefixes[0]}{patterns[0]}",
            remedy="give a whole checkpoint of one model",
        )
    return used[0]


def _candidates(
    weights: AbstractSet[str], prefix: str, kinds: Sequence[BlockPattern]
) -> dict[Numbers, list[BlockPattern]]:
    """Return the blocks of which any component is there, by layer and expert number, and the kinds they might be.

    Kinds of one name are alternatives: the kind that has the most components comes first, else their order in the
    family file counts.
    """
    ordered = sorted(weights)
    n_present: dict[Numbers, dict[int, int]] = defaultdict(lambda: defaultdict(int))
    for i, kind in enumerate(kinds):
        for component in kind.components:
            for match in matching(prefix + component.tensor, ordered):
                n_present[tuple(match.groupdict().items())][i] += 1
    return {
        numbers: [kinds[i] for i in sorted(counts, key=lambda i: (len(kinds[i].components) - counts[i], i))]
        for numbers, counts in n_present.items()
    }


def _describe_by_first_fit(
    checkpoint: Checkpoint, scheme: Scheme, prefix: str, kinds: Sequence[BlockPattern], numbers: Mapping[str, str]
) -> list[FfnBlock]:
    """Describe the blocks of one layer (several where experts share a tensor) by the first kind whose shapes fit."""
    refusals: list[CheckpointError] = []
    for kind in kinds:
        try:
            described = describe_blocks(checkpoint, scheme, prefix, kind, numbers)
        except CheckpointError as refusal:
            refusals.append(refusal)
            if isinstance(refusal, UnsupportedError):
                break  # The names fit: it is no other kind.
        else:
            return described
    raise refusals[-1] if isinstance(refusals[-1], UnsupportedError) else refusals[0]


def _check_layers(checkpoint: Checkpoint, family: Family, blocks: Mapping[str, FfnBlock]) -> None:
    """Raise if the config promises layers of which no block was found, in a stack (encoder, decoder) that has any."""
    keys_of = {block_sort_key(fill(kind.name, _FIRST))[0]: kind.n_layers_keys for kind in family.blocks}
    for stack, keys in keys_of.items():
        present = {block_sort_key(name)[1] for name in blocks if block_sort_key(name)[0] == stack}
        n_layers = config_size(checkpoint.config, keys)
        # A config may promise any number; no more are counted than it takes to say so.
        n_counted = min(n_layers or 0, max(present, default=0) + _MAX_MISSING_LAYERS)
        if present and (missing := set(range(n_counted)) - present):
            raise CheckpointError(
                checkpoint.path, found=f"no FFN in layers {format_ranges(missing)}",
                expected=f"one in each of {n_layers}", remedy="download the checkpoint again",
            )  # fmt: skip
