"""The modules that read an FFN's state: the up projections, as the model's family names them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ripple_place.capture.tensor_names import TensorNames
from ripple_place.checkpoint.model.quantised import logical_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.capture.site_choice import Weights
    from ripple_place.capture.sites import Site

_ROLES = ("up", "gate_up", "gate")
"""Of tensors that the state is multiplied by, the first that there is."""


def up_projections(model: Any, weights: Weights, sites: Sequence[Site]) -> dict[str, str]:
    """Return, by block, the name of the module whose input is the FFN's state.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    weights : Weights
    sites : sequence of Site
        Of `model`.

    Returns
    -------
    dict of str to str
        Without experts, blocks that several layers share, and models that no family describes.
    """
    if weights.ffn is None:
        return {}
    names = TensorNames(model).translate(map(logical_name, weights.ffn.checkpoint.shard_of))
    modules = {name for name, _ in model.named_modules()}
    n_sites = Counter(site.block for site in sites)
    found = {}
    for site in sites:
        if site.n_experts or n_sites[site.block] > 1 or site.block not in weights.ffn.blocks:
            continue
        tensors = {tensor.role.partition(".")[0]: tensor.name for tensor in weights.ffn.blocks[site.block].tensors}
        tensor = next((tensors[role] for role in _ROLES if role in tensors), None)
        path = "" if tensor is None else names[logical_name(tensor)][0].rpartition(".")[0]
        if path in modules and path:
            found[site.block] = path
    return found
