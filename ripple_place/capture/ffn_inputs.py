"""Where in a model the input of an FFN is seen: at the module that holds its up or gate projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.capture.tensor_names import TensorNames
from ripple_place.checkpoint.model.quantised import logical_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.capture.sites import Site
    from ripple_place.checkpoint.model.ffn import FfnModel

_ROLES = ("up", "gate_up", "gate")
"""Of the matrices that are multiplied with the FFN's input; the first that there is decides."""


def ffn_input_names(model: Any, sites: Sequence[Site], ffn: FfnModel | None) -> dict[str, str]:
    """Return the names of the modules whose first argument is the input of an FFN.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A skeleton will do.
    sites : sequence of Site
        Of `model`.
    ffn : FfnModel or None
        What the model's family says; None where no family describes it.

    Returns
    -------
    dict of str to str
        By `Site.block`, as ``model.get_submodule`` takes it. Experts get their input through the module that is their
        site. A dense FFN is missing where the family does not say which module reads its input.
    """
    modules = {name for name, _ in model.named_modules()}
    names = {} if ffn is None else TensorNames(model).translate(map(logical_name, ffn.checkpoint.shard_of))
    found: dict[str, str] = {}
    for site in sites:
        if site.n_experts:
            found[site.block] = site.path
        elif ffn is not None and site.block in ffn.blocks:
            tensors = {tensor.role.partition(".")[0]: tensor.name for tensor in ffn.blocks[site.block].tensors}
            paths = [names[logical_name(tensors[role])][0].rpartition(".")[0] for role in _ROLES if role in tensors]
            if known := [path for path in paths if path and path in modules]:
                found[site.block] = known[0]
    return found
