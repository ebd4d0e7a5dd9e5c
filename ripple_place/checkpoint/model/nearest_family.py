"""Which family's names and shapes a model of an unknown type has."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import block_sort_key
from ripple_place.checkpoint.model.known_families import families
from ripple_place.checkpoint.model.patterns import FIRST, fill
from ripple_place.errors import CheckpointError, UnsupportedArchitectureError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ripple_place.checkpoint.model.family import Family
    from ripple_place.checkpoint.model.ffn_block import FfnBlock
    from ripple_place.checkpoint.model.shards import Checkpoint

_WRITE = "write a family file for this model (docs/families.md) and give it with --family"
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
"""Of a layer or an expert; that of `fc1` is part of a name."""


def unknown_type_error(
    checkpoint: Checkpoint, describe: Callable[[Checkpoint, Family], Mapping[str, FfnBlock]]
) -> UnsupportedArchitectureError:
    """Return the error for a model type that no family describes, with the family that its tensors fit.

    Parameters
    ----------
    checkpoint : Checkpoint
    describe : callable
        Returns the blocks of a checkpoint by a family, or raises.
    """
    fitting = _nearest(_sample(checkpoint), describe)
    known = sorted({family.name for family in families().values()})
    return UnsupportedArchitectureError(
        f"{checkpoint.path}/config.json: model_type", found=repr(checkpoint.config.get("model_type")),
        expected=f"one of {len(families())} types, in families {', '.join(known)}",
        remedy=_WRITE if fitting is None else f"its tensors have the names and shapes of family {fitting.name}: if its "
        f"code computes the FFN as those models do, add --family {fitting.name}; else {_WRITE}",
    )  # fmt: skip


def _nearest(sample: Checkpoint, describe: Callable[[Checkpoint, Family], Mapping[str, FfnBlock]]) -> Family | None:
    """Return the family that names most FFN tensors and leaves none over.

    Of several, one whose stacks (encoder, decoder) are all there comes first, then the one of most model types.
    """
    by_name = {family.name: family for family in families().values()}
    ranks: dict[str, tuple[int, bool, int]] = {}
    for name, family in by_name.items():
        try:
            blocks = describe(sample, family)
        except CheckpointError:
            continue
        n_tensors = len({tensor.name for block in blocks.values() for tensor in block.tensors})
        has_all = {block_sort_key(fill(kind.name, FIRST))[0] for kind in family.blocks} == {
            block_sort_key(block)[0] for block in blocks
        }
        ranks[name] = n_tensors, has_all, len(family.model_types)
    return by_name[max(ranks, key=ranks.__getitem__)] if ranks else None


def _sample(checkpoint: Checkpoint) -> Checkpoint:
    """Return a checkpoint with only the first of all tensors that differ by layer or expert number."""
    first: dict[str, tuple[list[int], str]] = {}
    for tensor in checkpoint.shard_of:
        numbered = ([int(number) for number in _NUMBER.findall(tensor)], tensor)
        alike = _NUMBER.sub("0", tensor)
        first[alike] = min(first.get(alike, numbered), numbered)
    kept = {tensor for _, tensor in first.values()}
    shard_of = {tensor: shard for tensor, shard in checkpoint.shard_of.items() if tensor in kept}
    return replace(checkpoint, config=_without_layers(checkpoint.config), shard_of=shard_of)


def _without_layers(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config that does not say how many layers there are, nor has lists of one entry for each."""
    return {
        key: _without_layers(value) if isinstance(value, dict) else value
        for key, value in config.items()
        if "layer" not in key and not isinstance(value, list)
    }
