"""What stands before the tensor names of a family in a checkpoint: the family's own prefix, and those of wrappers.

Training wraps a model in others, and each leaves a part in the names of a raw state dict. Parts before the whole model
are set aside: the tensors keep their names, so that whatever loads the source loads the output. A part within the names
is not, and `names_error` says what it is.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from ripple_place.checkpoint.model.patterns import matching
from ripple_place.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet

    from ripple_place.checkpoint.model.family import Family

_WRAPPERS = {
    "_orig_mod": "torch.compile", "module": "DataParallel, DDP or DeepSpeed", "_forward_module": "Lightning Fabric",
    "_fsdp_wrapped_module": "FSDP", "_checkpoint_wrapped_module": "activation checkpointing",
    "base_layer": "peft, around each layer that it adapts", "base_model": "peft",
}  # fmt: skip
"""Parts that wrappers leave in names, and who they are."""
_BEFORE = re.compile(rf"(?:(?:{'|'.join(_WRAPPERS)}|model)\.)+")
_SAVE_CLEAN = (
    "save the model without its wrapper (save_pretrained of the model inside; peft: merge_and_unload first), or rename "
    "the tensors with safetensors.torch.load_file and save_file"
)


class NamePrefix(NamedTuple):
    """What stands before a family's tensor names.

    Attributes
    ----------
    wrapper : str
        Left by wrappers around the whole model, such as ``_orig_mod.``; usually empty.
    own : str
        One of the family's.
    """

    wrapper: str = ""
    own: str = ""

    @property
    def text(self) -> str:
        """Return all of it."""
        return self.wrapper + self.own

    def without(self, tensor: str) -> str:
        """Return a tensor's name as family files have it.

        >>> [NamePrefix("_orig_mod.", "model.").without(f"_orig_mod.{name}") for name in ("model.norm", "lm_head")]
        ['norm', 'lm_head']
        """
        short = tensor.removeprefix(self.text)
        return tensor.removeprefix(self.wrapper) if short == tensor else short


def find_prefix(where: object, family: Family, weights: AbstractSet[str]) -> NamePrefix:
    """Return what a checkpoint puts before the tensor names of a family.

    Parameters
    ----------
    where : object
        The checkpoint, for messages.
    family : Family
    weights : set of str
        Names of its tensors, as in a checkpoint that is not quantised.

    Raises
    ------
    CheckpointError
        If there are no FFN tensors of the family, or under several prefixes.
    """
    used: list[NamePrefix] = []
    for wrapper in sorted(_wrappers_of(weights), key=len):
        used = [NamePrefix(wrapper, own) for own in family.prefixes if _has_ffn(family, wrapper + own, weights)]
        if used:
            break
    if len(used) == 1:
        return used[0]
    expected = f"one model with tensors such as {family.prefixes[0]}{_patterns(family)[0]}"
    if used:
        raise CheckpointError(
            where, found="FFN tensors under " + " and ".join(repr(prefix.text) for prefix in used), expected=expected,
            remedy="give a checkpoint of one model; split this one with safetensors.torch.load_file and save_file",
        )  # fmt: skip
    name = _nearest(family, weights)
    raise names_error(
        where, [name], found="no FFN tensors" + (f", but names such as {name}" if name else ""), expected=expected,
        remedy="give a whole checkpoint whose model_type is that of its tensors, or give a family file that names "
        "them (docs/families.md) with --family",
    )  # fmt: skip


def names_error(where: object, names: Iterable[str], *, found: str, expected: str, remedy: str) -> CheckpointError:
    """Return the error for tensor names that do not fit; `remedy` is for names in which no wrapper left a part."""
    for part in (part for name in names for part in name.split(".")):
        if part in _WRAPPERS:
            return CheckpointError(
                where, found=found, expected=expected,
                remedy=f"its names have a part {part}, left by {_WRAPPERS[part]}: {_SAVE_CLEAN}",
            )  # fmt: skip
    return CheckpointError(where, found=found, expected=expected, remedy=remedy)


def _wrappers_of(weights: AbstractSet[str]) -> set[str]:
    """Return what wrappers may have left before the names, nothing included."""
    found = {""}
    for before in {match[0] for name in weights if (match := _BEFORE.match(name))}:
        parts = before.split(".")[:-1]
        found |= {"".join(f"{part}." for part in parts[:n]) for n in range(1, len(parts) + 1)}
    return found


def _patterns(family: Family) -> list[str]:
    return [component.tensor for kind in family.blocks for component in kind.components]


def _has_ffn(family: Family, prefix: str, weights: AbstractSet[str]) -> bool:
    return any(True for pattern in _patterns(family) for _ in matching(prefix + pattern, weights))


def _nearest(family: Family, weights: AbstractSet[str]) -> str:
    """Return a name out of a checkpoint that says most about how it names its tensors, empty if there is none."""
    endings = {f".{pattern.split('.')[-2]}." for pattern in _patterns(family) if "." in pattern}
    likely = [name for name in weights if any(ending in name for ending in endings)]
    return min(likely or weights, default="")
