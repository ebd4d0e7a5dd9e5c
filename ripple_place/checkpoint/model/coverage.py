"""Coverage: no tensor that might carry the neuron axis is left behind when the neurons move.

A forgotten bias or norm gives a model that loads, runs, and is wrong. So whatever has an axis as long as the FFN is
wide must be mapped by the family file or named there as free of the neuron axis; shapes alone cannot tell, since a
vocabulary or a hidden state may be just as wide. The same holds for matrices that are named as those of FFNs are: they
may be FFNs of another width, which would keep their order without a word.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.checkpoint.model.patterns import matches_any
from ripple_place.checkpoint.model.quantisation_config import REORDER_FIRST
from ripple_place.errors import CheckpointError, UnsupportedArchitectureError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from ripple_place.checkpoint.model.family import Family
    from ripple_place.checkpoint.model.prefix import NamePrefix
    from ripple_place.checkpoint.model.shards import Checkpoint

_FFN_MODULES = frozenset({
    "block_sparse_moe", "expert", "experts", "feed_forward", "ffn", "mlp", "moe", "shared_expert", "shared_experts",
    "shared_mlp",
})  # fmt: skip
_QUANTISED_ENDINGS = (
    ".qweight", ".qzeros", ".g_idx", ".scales", ".weight_packed", ".weight_scale", ".weight_scale_inv",
    ".weight_zero_point", ".SCB", ".absmax", ".quant_map", "_blocks", "_scales",
)  # fmt: skip
"""Of GPTQ, AWQ, compressed-tensors, FP8, bitsandbytes and MXFP4 checkpoints."""


def refuse_unmapped(
    checkpoint: Checkpoint, family: Family, prefix: NamePrefix, *, mapped: AbstractSet[str], sizes: AbstractSet[int]
) -> None:
    """Raise if a tensor might carry the neuron axis and the family file does not say whether it does.

    Parameters
    ----------
    checkpoint : Checkpoint
    family : Family
    prefix : NamePrefix
        What stands before the family's tensor names in this checkpoint.
    mapped : set of str
        Tensors that will be permuted.
    sizes : set of int
        Numbers of neurons of the blocks. Twice a size counts too: fused gate and up matrices have it.

    Raises
    ------
    UnsupportedArchitectureError
        If such a tensor is one of quantised weights.
    CheckpointError
        If there is such a tensor, or one that lies in an FFN module, or is named as if it did, without being mentioned.
    """
    suspicious = sizes | {2 * size for size in sizes}
    for tensor in checkpoint.shard_of:
        if tensor in mapped:
            continue
        name = prefix.without(tensor)
        shape = checkpoint.extent(tensor).shape
        kind = next((kind for kind in family.blocks if matches_any(kind.module, name)), None)
        if kind is not None:
            refused = None if matches_any(kind.free, name) else "lies in an FFN module"
        elif not suspicious.isdisjoint(shape) and not matches_any(family.free, name):
            refused = "has an axis as long as the FFN is wide"
        elif len(shape) > 1 and not _FFN_MODULES.isdisjoint(name.split(".")) and not matches_any(family.free, name):
            refused = "has the name of an FFN's"
        else:
            refused = None
        if refused is not None and tensor.endswith(_QUANTISED_ENDINGS):
            raise UnsupportedArchitectureError(
                checkpoint.path, found=f"tensor {tensor} of a quantised checkpoint", remedy=REORDER_FIRST,
                expected="quantised weights that a rule covers",
            )  # fmt: skip
        if refused is not None:
            raise CheckpointError(
                f"{checkpoint.path}: tensor {tensor}",
                found=f"shape {list(shape)}, which {refused}",
                expected=f"every such tensor in the family file {family.name}.toml",
                remedy="say in a copy of that file whether it follows the neurons (docs/families.md), and give it with "
                "--family: an unknown tensor left behind could change the model silently",
            )  # fmt: skip
