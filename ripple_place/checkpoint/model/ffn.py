"""The FFN blocks of a checkpoint: found by its family, and all tensors that carry their neurons accounted for."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from ripple_place.blocks import COLUMN, NEURON, block_sort_key, format_ranges, sorted_blocks
from ripple_place.checkpoint.model.config_size import config_size
from ripple_place.checkpoint.model.coverage import refuse_unmapped
from ripple_place.checkpoint.model.describe import describe_blocks
from ripple_place.checkpoint.model.known_families import check_described, family_of, read_family
from ripple_place.checkpoint.model.nearest_family import unknown_type_error
from ripple_place.checkpoint.model.patterns import FIRST, fill, matches_any, matching
from ripple_place.checkpoint.model.prefix import NamePrefix, find_prefix
from ripple_place.checkpoint.model.quantised import Scheme, logical_name
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.errors import CheckpointError, UnsupportedError
from ripple_place.hub import download_command

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from ripple_place.checkpoint.model.family import BlockPattern, Family
    from ripple_place.checkpoint.model.ffn_block import FfnBlock
    from ripple_place.checkpoint.model.neuron_tensor import NeuronTensor

Numbers = tuple[tuple[str, str], ...]
"""Layer and perhaps expert number of a block: items of a dict."""

_MAX_MISSING_LAYERS = 10_000


@dataclass(frozen=True)
class FfnModel:
    """A checkpoint and its FFN blocks, by name and in model order.

    Attributes
    ----------
    checkpoint : Checkpoint
    family : Family
    ffns : mapping of str to FfnBlock
        Each FFN as a block of neurons.
    prefix : NamePrefix
        What stands before the family's tensor names.
    notes : tuple of str
        What the user should know of how the model was read.
    unit : str
        What `blocks` are made of, one of `ripple_place.blocks.UNITS`.
    """

    checkpoint: Checkpoint
    family: Family
    ffns: Mapping[str, FfnBlock]
    prefix: NamePrefix
    notes: tuple[str, ...] = ()
    unit: str = NEURON

    @cached_property
    def blocks(self) -> Mapping[str, FfnBlock]:
        """The blocks that are ordered: the FFNs, or two for each where units are columns."""
        if self.unit == NEURON:
            return self.ffns
        return {block.name: block for ffn in self.ffns.values() for block in ffn.by_column()}

    def of_unit(self, unit: str) -> FfnModel:
        """Return the same model with blocks of a unit.

        Raises
        ------
        UnsupportedError
            If units are columns, and weights are packed, or share scales with others.
        """
        for name, ffn in self.ffns.items():
            if unit == COLUMN and not ffn.has_columns:
                raise UnsupportedError(
                    f"{self.checkpoint.path}: {name}", found="weights that are packed, or that share scales in groups",
                    expected="whole bytes for each weight, and no groups, where columns are ordered",
                    remedy="give a profile or a placement of neurons instead of columns",
                )  # fmt: skip
        return replace(self, unit=unit)

    @cached_property
    def parts(self) -> Mapping[str, Sequence[tuple[NeuronTensor, str]]]:
        """Tensors with a neuron axis, by name: their parts in file order, each with the name of its block."""
        parts: dict[str, list[tuple[NeuronTensor, str]]] = defaultdict(list)
        for name, block in self.blocks.items():
            for tensor in block.tensors:
                parts[tensor.name].append((tensor, name))
        return {name: sorted(of_one, key=lambda part: part[0].begin_bytes) for name, of_one in parts.items()}


def open_model(path: Path, family: str | os.PathLike[str] | None = None) -> FfnModel:
    """Open a checkpoint and describe its FFNs, by a family file or the family that ships for its model type.

    Raises
    ------
    UsageError
        If `path` is no directory, or the family is none or for other model types.
    CheckpointError, UnsupportedError
        As `Checkpoint.open`, `read_family` and `describe_ffn`.
    OSError
        If a file cannot be read.
    """
    given = None if family is None else read_family(family)
    return describe_by(Checkpoint.open(path), given)


def describe_by(checkpoint: Checkpoint, given: Family | None) -> FfnModel:
    """Describe the FFNs of an open checkpoint by the family that is given, or the one that ships for its model type.

    Raises
    ------
    UsageError
        If the family is for other model types.
    CheckpointError, UnsupportedError
        As `describe_ffn`.
    """
    if given is not None:
        check_described(given, checkpoint.path, checkpoint.config)
    return describe_ffn(checkpoint, given)


def describe_ffn(checkpoint: Checkpoint, family: Family | None = None) -> FfnModel:
    """Find the FFN blocks of a checkpoint, and make sure that no other tensor carries their neuron axis.

    Parameters
    ----------
    checkpoint : Checkpoint
    family : Family, optional
        In place of the one that ships for this model type; whether it is for this type is not asked.

    Raises
    ------
    UnsupportedArchitectureError
        If no family describes the model, or its weights are quantised.
    CheckpointError
        If a layer or one of its components is missing, shapes do not fit each other or the config, or a tensor might
        carry the neuron axis and no family file says whether it does.
    """
    family = family or family_of(checkpoint.config)
    if family is None:
        raise unknown_type_error(checkpoint, lambda sample, family: _describe(sample, family).blocks)
    return _describe(checkpoint, family)


def _describe(checkpoint: Checkpoint, family: Family) -> FfnModel:
    """Describe a checkpoint by a family."""
    scheme = Scheme.of(checkpoint)
    weights = {logical_name(tensor) for tensor in checkpoint.shard_of}
    prefix = find_prefix(checkpoint.path, family, weights)
    blocks: dict[str, FfnBlock] = {}
    for kind_name in dict.fromkeys(kind.name for kind in family.blocks):
        kinds = [kind for kind in family.blocks if kind.name == kind_name]
        for numbers, candidates in _candidates(weights, prefix.text, kinds).items():
            for block in _describe_by_first_fit(checkpoint, scheme, prefix.text, candidates, dict(numbers)):
                blocks[block.name] = block
    notes = (*checkpoint.notes, *_check_layers(checkpoint, family, prefix, blocks))
    refuse_unstored(checkpoint, family, prefix)
    model = FfnModel(checkpoint, family, {name: blocks[name] for name in sorted_blocks(blocks)}, prefix, notes)
    untouched = {name for block in blocks.values() for name in block.untouched}
    sizes = {block.n_neurons for block in blocks.values()}
    refuse_unmapped(checkpoint, family, prefix, mapped=model.parts.keys() | untouched, sizes=sizes)
    return model


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


def _check_layers(
    checkpoint: Checkpoint, family: Family, prefix: NamePrefix, blocks: Mapping[str, FfnBlock]
) -> list[str]:
    """Return notes on layers without an FFN, in a stack (encoder, decoder) that has any.

    Raises
    ------
    CheckpointError
        If the config promises layers of which there is no tensor at all.
    """
    notes = []
    for stack in {block_sort_key(fill(kind.name, FIRST))[0]: None for kind in family.blocks}:
        kinds = [kind for kind in family.blocks if block_sort_key(fill(kind.name, FIRST))[0] == stack]
        present = {block_sort_key(name)[1] for name in blocks if block_sort_key(name)[0] == stack}
        n_layers = config_size(checkpoint.config, kinds[-1].n_layers_keys)
        # A config may promise any number; no more are counted than it takes to say so.
        n_counted = min(n_layers or 0, max(present, default=0) + _MAX_MISSING_LAYERS)
        missing = set(range(n_counted)) - present if present else set()
        if not missing:
            continue
        stored = _stored_layers(checkpoint, prefix, kinds)
        if absent := missing - stored:
            raise CheckpointError(
                checkpoint.path, found=f"no FFN in layers {format_ranges(absent)}, and no other tensors of theirs",
                expected=f"one in each of {n_layers}",
                remedy=f"if layers were cut out, set {kinds[-1].n_layers_keys[0]} in config.json to the number left, "
                f"and number these from 0; otherwise weights are missing: {download_command(checkpoint.path)}",
            )  # fmt: skip
        notes.append(f"layers {format_ranges(missing)} have no FFN by the names of family {family.name}: they stay as "
                     "they are")  # fmt: skip
    return notes


def _stored_layers(checkpoint: Checkpoint, prefix: NamePrefix, kinds: Sequence[BlockPattern]) -> set[int]:
    """Return the numbers of the layers of which there is any tensor."""
    starts = {component.tensor.partition("{layer}")[0] for kind in kinds for component in kind.components}
    return {
        int(match["layer"])
        for start in starts
        for match in matching(f"{prefix.text}{start}{{layer}}.*", checkpoint.shard_of)
    }


def refuse_unstored(checkpoint: Checkpoint, family: Family, prefix: NamePrefix) -> None:
    """Raise if the index names a tensor of an FFN that no shard has: loaders would make something up for it.

    Raises
    ------
    CheckpointError
    """
    for tensor, shard in checkpoint.unstored.items():
        if any(matches_any(kind.module, prefix.without(tensor)) for kind in family.blocks):
            raise CheckpointError(
                f"{checkpoint.path}/{checkpoint.index_name}: tensor {tensor}",
                found=f"it named in {shard}, which does not have it", expected="every tensor of an FFN in a shard",
                remedy=f"remove {checkpoint.index_name} if it is of another build of the model (the shards have all "
                f"FFNs without it), or download {shard} and the index of one revision",
            )  # fmt: skip
