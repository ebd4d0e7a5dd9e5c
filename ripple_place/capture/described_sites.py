"""The sites of the FFN blocks that `reorder` would move, as the model's family describes them."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import block_sort_key
from ripple_place.capture.experts import experts_around
from ripple_place.capture.sites import Site, activation_module
from ripple_place.capture.tensor_names import TensorNames
from ripple_place.checkpoint.model.quantised import logical_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.checkpoint.model.ffn_block import FfnBlock


@dataclass(frozen=True)
class DescribedSites:
    """Where a model's blocks are seen.

    Attributes
    ----------
    sites : tuple of Site
        Several of one block where layers share their weights.
    unseen : dict of str to str
        Blocks that the model runs so that their neurons cannot be seen, and why.
    left_out : tuple of str
        Blocks that the model does not have although the checkpoint does: layers after the last, which predict several
        tokens at once.
    """

    sites: tuple[Site, ...]
    unseen: dict[str, str]
    left_out: tuple[str, ...]


def described_sites(model: Any, ffn: FfnModel) -> DescribedSites:
    """Find the modules of a model that hold the down projections of its checkpoint's blocks.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A skeleton will do.
    ffn : FfnModel
    """
    down_of = {name: _down(block) for name, block in ffn.blocks.items()}
    names = TensorNames(model).translate(map(logical_name, ffn.checkpoint.shard_of))
    modules = dict(model.named_modules())
    encoder_decoder = bool(getattr(model.config, "is_encoder_decoder", False))
    held: dict[str, list[str]] = defaultdict(list)
    absent: list[str] = []
    sharing = _sharing(model)
    for name, down in down_of.items():
        target = names[down][0]
        paths = [same.rpartition(".")[0] for same in sharing.get(target, [target])]
        if paths[0] not in modules:
            absent.append(name)
            continue
        for path in paths:
            held[path].append(name)
    sites: list[Site] = []
    unseen: dict[str, str] = {}
    for path, blocks in held.items():
        site = _site(path, modules, [ffn.blocks[name] for name in blocks])
        if site is None:
            unseen |= dict.fromkeys(blocks, f"{type(modules[path]).__name__}, which runs experts in a way of its own")
        else:
            # An encoder alone reads all tokens.
            sites.append(site if encoder_decoder else replace(site, stack=""))
    last = max((block_sort_key(block)[1] for site in sites for block in site.layouts()), default=0)
    left_out = tuple(name for name in absent if block_sort_key(name)[1] > last)
    unseen |= dict.fromkeys(sorted({*absent} - {*left_out}), f"{type(model).__name__}, which has no such module")
    return DescribedSites(tuple(sites), unseen, left_out)


def _sharing(model: Any) -> dict[str, list[str]]:
    """Return, for each parameter, all names that it has: layers with the same weights are modules of their own."""
    names: dict[int, list[str]] = defaultdict(list)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in parameters.items():
        names[id(parameter)].append(name)
    return {name: names[id(parameter)] for name, parameter in parameters.items()}


def _down(block: FfnBlock) -> str:
    """Return the name that a block's down projection has in a checkpoint that is not quantised."""
    return next(logical_name(tensor.name) for tensor in block.tensors if tensor.role.partition(".")[0] == "down")


def _site(path: str, modules: dict[str, Any], blocks: Sequence[FfnBlock]) -> Site | None:
    first = blocks[0]
    gated = any(tensor.role.partition(".")[0] in ("gate", "gate_up") for tensor in first.tensors)
    stack = block_sort_key(first.name)[0]
    if ".experts." not in first.name:
        if len(blocks) > 1:
            return None
        gate = activation_module(modules[path.rpartition(".")[0]]) if gated else None
        return Site(first.name, stack, path, modules[path], first.n_neurons, 0, gate, gated)
    around = experts_around(path, modules)
    name = first.name.rpartition(".")[0]
    if around is None or [block.name for block in blocks] != [f"{name}.{i}" for i in range(len(blocks))]:
        return None
    gate = activation_module(modules[path]) if gated and type(modules[path]).__name__ != "Llama4TextExperts" else None
    return Site(name, stack, around, modules[around], first.n_neurons, len(blocks), gate, gated)
