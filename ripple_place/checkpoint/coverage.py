"""Coverage: no tensor that might carry the neuron axis is left behind when the neurons move.

A forgotten bias or norm gives a model that loads, runs, and is wrong. So whatever has an axis as long as the FFN is
wide must be mapped by the family file or named there as free of the neuron axis; shapes alone cannot tell, since a
vocabulary or a hidden state may be just as wide.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.checkpoint.family import matches_any
from ripple_place.errors import CheckpointError, UnsupportedArchitectureError

if TYPE_CHECKING:
    from collections.abc import Set as AbstractSet

    from ripple_place.checkpoint.family import Family
    from ripple_place.checkpoint.shards import Checkpoint

_QUANTISED_ENDINGS = (
    ".qweight", ".qzeros", ".g_idx", ".scales", ".weight_packed", ".weight_scale", ".weight_scale_inv",
    ".weight_zero_point", ".SCB", ".absmax", ".quant_map", "_blocks", "_scales",
)  # fmt: skip
"""Of GPTQ, AWQ, compressed-tensors, FP8, bitsandbytes and MXFP4 checkpoints."""
_ACTIVATION_SCALES = (".act.scales", ".act_fn.scales", ".activation_fn.scales", ".gelu_impl.scales")
"""Vectors over neurons that AWQ leaves beside weights of any kind: family files map them."""


def refuse_quantised(checkpoint: Checkpoint) -> None:
    """Raise UnsupportedArchitectureError if the config or a tensor name tells of quantised weights."""
    found = None
    if (quantisation := checkpoint.config.get("quantization_config")) is not None:
        method = quantisation.get("quant_method", "unnamed") if isinstance(quantisation, dict) else quantisation
        found = f"a quantization_config ({method})"
    else:
        for tensor in checkpoint.shard_of:
            if tensor.endswith(_QUANTISED_ENDINGS) and not tensor.endswith(_ACTIVATION_SCALES):
                found = f"tensor {tensor} of a quantised checkpoint"
                break
    if found is not None:
        raise UnsupportedArchitectureError(
            checkpoint.path, found=found, expected="weights that are not quantised",
            remedy="reorder the original checkpoint, then quantise the result",
        )  # fmt: skip


def refuse_unmapped(
    checkpoint: Checkpoint, family: Family, prefix: str, *, mapped: AbstractSet[str], sizes: AbstractSet[int]
) -> None:
    """Raise if a tensor might carry the neuron axis and the family file does not say whether it does.

    Parameters
    ----------
    checkpoint : Checkpoint
    family : Family
    prefix : str
        What stands before the family's tensor names in this checkpoint.
    mapped : set of str
        Tensors that will be permuted.
    sizes : set of int
        Numbers of neurons of the blocks. Twice a size counts too: fused gate and up matrices have it.

    Raises
    ------
    CheckpointError
        If there is such a tensor, or one that lies in an FFN module without being mentioned.
    """
    suspicious = sizes | {2 * size for size in sizes}
    for tensor in checkpoint.shard_of:
        if tensor in mapped:
            continue
        name = tensor.removeprefix(prefix)
        kind = next((kind for kind in family.blocks if matches_any(kind.module, name)), None)
        if kind is not None:
            refused = None if matches_any(kind.free, name) else "lies in an FFN module"
        elif not suspicious.isdisjoint(checkpoint.extent(tensor).shape) and not matches_any(family.free, name):
            refused = "has an axis as long as the FFN is wide"
        else:
            refused = None
        if refused is not None:
            raise CheckpointError(
                f"{checkpoint.path}: tensor {tensor}",
                found=f"shape {list(checkpoint.extent(tensor).shape)}, which {refused}",
                expected=f"every such tensor in the family file {family.name}.toml",
                remedy="ask for this model: permuting around an unknown tensor could change it silently",
            )  # fmt: skip
