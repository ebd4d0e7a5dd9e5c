"""Where in a model the input of an FFN is seen: at the module that holds its gate or up projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.capture.tensor_names import TensorNames
from ripple_place.checkpoint.model.quantised import logical_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.capture.sites import Site
    from ripple_place.checkpoint.model.ffn import FfnModel

_READS_INPUT = ("gate", "up", "gate_up")
"""Roles of the matrices that are multiplied with the FFN's input."""


def ffn_input_modules(model: Any, sites: Sequence[Site], ffn: FfnModel | None) -> dict[str, Any]:
    """Return the modules whose first argument is the input of an FFN.

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
    dict of str to torch.nn.Module
        By `Site.block`. Experts get their input through the module that is their site. A dense FFN is missing where
        the family does not say which module reads its input.
    """
    modules = dict(model.named_modules())
    names = {} if ffn is None else TensorNames(model).translate(map(logical_name, ffn.checkpoint.shard_of))
    found: dict[str, Any] = {}
    for site in sites:
        if site.n_experts:
            found[site.block] = site.module
            continue
        for tensor in () if ffn is None else ffn.blocks[site.block].tensors:
            path = names[logical_name(tensor.name)][0].rpartition(".")[0]
            if tensor.role.partition(".")[0] in _READS_INPUT and path in modules:
                found.setdefault(site.block, modules[path])
    return found
