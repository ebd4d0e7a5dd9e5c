"""Which FFNs of a model a capture records: those that `reorder` would move, or it is refused before it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import sorted_blocks
from ripple_place.capture.described_sites import described_sites
from ripple_place.capture.loading import missing_tensor
from ripple_place.capture.sites import Site, find_sites
from ripple_place.capture.tensor_names import TensorNames
from ripple_place.checkpoint.model.ffn import FfnModel, describe_by
from ripple_place.checkpoint.model.known_families import read_family
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.errors import CheckpointError, RipplePlaceError, UnsupportedError
from ripple_place.printable import listed

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ripple_place.tensorfile import TensorFile

_MAX_NAMED = 4


@dataclass(frozen=True, eq=False)
class Weights:
    """A checkpoint, and what `reorder` would move in it.

    Attributes
    ----------
    checkpoint : Checkpoint or None
        None where the weights are in no format that can be read a layer at a time.
    ffn : FfnModel or None
        None where `reorder` would refuse it.
    refusal : str
        In that case, why.
    """

    checkpoint: Checkpoint | None
    ffn: FfnModel | None
    refusal: str = ""

    @property
    def shards(self) -> tuple[TensorFile, ...]:
        """The files that the model is made of, and no other that may lie beside them."""
        return () if self.checkpoint is None else tuple(self.checkpoint.shards.values())


@dataclass(frozen=True, eq=False)
class ChosenSites:
    """What is recorded.

    Attributes
    ----------
    sites : tuple of Site
    notes : tuple of str
        What is not, and why.
    """

    sites: tuple[Site, ...]
    notes: tuple[str, ...]


def read_weights(path: Path, family: str | Path | None, *, allow_unsupported: bool) -> Weights:
    """Read the headers of a checkpoint, and find its FFN blocks, by a family file where one is given.

    Raises
    ------
    UnsupportedError, CheckpointError
        If `reorder` would refuse it, unless that is allowed.
    """
    checkpoint = None
    try:
        checkpoint = Checkpoint.open(path)
        return Weights(checkpoint, describe_by(checkpoint, None if family is None else read_family(family)))
    except (CheckpointError, UnsupportedError) as refusal:
        # Weights that are missing or damaged no option makes readable.
        if checkpoint is None and not isinstance(refusal, UnsupportedError):
            raise
        if not allow_unsupported:
            raise _with_remedy(refusal) from refusal
        return Weights(checkpoint, None, f"{refusal.where}: found {refusal.found}")


def _with_remedy(refusal: RipplePlaceError) -> RipplePlaceError:
    return type(refusal)(
        refusal.where, found=refusal.found, expected=refusal.expected,
        remedy=f"{refusal.remedy.rstrip('.')}; --allow-unsupported profiles what `reorder` refuses",
    )  # fmt: skip


def choose_sites(model: Any, path: Path, weights: Weights, *, allow_unsupported: bool) -> ChosenSites:
    """Return the sites of all blocks that `reorder` would move.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A skeleton will do.
    path : Path
        The model, for messages.
    weights : Weights
    allow_unsupported : bool
        Record what can be recorded; otherwise it must be all.

    Raises
    ------
    UnsupportedError
        If the model reads no text, or a block cannot be seen.
    CheckpointError
        If transformers has other names for all of it.
    """
    if model.main_input_name != "input_ids":
        raise UnsupportedError(
            path, found=f"{type(model).__name__}, which reads {model.main_input_name}",
            expected="a model that reads text", remedy="record a trace with your own code (docs/formats.md)",
        )  # fmt: skip
    if {"text_model", "vision_model"} <= {name for name, _ in model.named_children()}:
        raise UnsupportedError(
            path, found=f"{type(model).__name__}, which reads text and images each in a tower of its own",
            expected="a model that reads text", remedy="record a trace with your own code (docs/formats.md)",
        )  # fmt: skip
    if weights.ffn is None:
        note = f"`reorder` does not read this model ({weights.refusal}): its blocks were found by the names of modules"
        return ChosenSites(find_sites(model, path), (note,))
    found = described_sites(model, weights.ffn)
    if not found.sites and not any(".experts." in block for block in found.unseen):
        raise _names_error(model, path, weights.ffn)
    notes = [f"{few_blocks(blocks)} not recorded: {why}" for why, blocks in _by_reason(found.unseen).items()]
    if notes and not (allow_unsupported and found.sites):
        raise UnsupportedError(
            path, found="; ".join(notes), expected="every block that `reorder` would move",
            remedy="record a trace with your own code (docs/formats.md), or the other blocks with --allow-unsupported",
        )  # fmt: skip
    if found.left_out:
        notes.append(f"{few_blocks(found.left_out)} not recorded: transformers does not run them")
    return ChosenSites(found.sites, tuple(notes))


def _names_error(model: Any, path: Path, ffn: FfnModel) -> CheckpointError:
    """Return the error for a checkpoint none of whose blocks has the name that transformers reads."""
    stored = ffn.checkpoint.shard_of
    targets = {target for target, _ in TensorNames(model).translate(stored).values()}
    return missing_tensor(path, min(model.state_dict().keys() - targets, default="weights"), stored)


def _by_reason(unseen: dict[str, str]) -> dict[str, list[str]]:
    return {why: [block for block in unseen if unseen[block] == why] for why in dict.fromkeys(unseen.values())}


def few_blocks(blocks: Iterable[str]) -> str:
    """Name some blocks, the first few and how many more.

    >>> few_blocks(["layers.0", "layers.1"])
    'layers.0, layers.1'
    """
    return listed(sorted_blocks(blocks), at_most=_MAX_NAMED)
