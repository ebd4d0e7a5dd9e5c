"""Where a model's mixtures route tokens to experts: one site for each layer that has experts."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ripple_place.capture.routes import JETMOE, LLAMA4
from ripple_place.capture.sites import Site
from ripple_place.capture.writer import BlockLayout
from ripple_place.errors import UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

_LAYER = re.compile(r"(?:.*\.)?(?:layers|layer|h|blocks|block)\.(?P<layer>\d+)\.")
_ATTENTION = re.compile(r"(?:.*\.)?\w*att(?:entio)?n\w*\..*")
"""Mixtures of attention (JetMoE) are no FFNs."""
_STACK = re.compile(r"(?:.*\.)?(?P<stack>encoder|decoder)\.")
_CALLED_WITH = {"top_k_index", "top_k_weights"}
_OWN_CODE = "record a trace with your own code (docs/formats.md), or ask for this architecture"


@dataclass(frozen=True, eq=False)
class RoutedSite(Site):
    """A layer's mixture whose routes are recorded, not the neurons of its experts.

    Attributes
    ----------
    block : str
        The layer, ``layers.3``; `n_neurons` are its experts, and `module` is what `watch_routes` watches.
    weights : tuple of str
        Names of the modules that hold the weights of the experts and nothing else.
    """

    weights: tuple[str, ...] = ()

    def layouts(self) -> dict[str, BlockLayout]:
        """Return the one block of this site."""
        return {self.block: BlockLayout(self.n_neurons, routed=self.stack != "")}


def find_routed_sites(model: Any, where: Path) -> tuple[RoutedSite, ...]:
    """Return the sites of all mixtures of a model, in the order of its layers' modules.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A skeleton will do.
    where : Path
        The model, for messages.

    Raises
    ------
    UnsupportedError
        If the model has no experts, reads anything but text, or routes to some experts in a way of its own.

    Notes
    -----
    Experts are found by how they are called: since version 5, the mixtures of transformers hand ``top_k_index`` and
    ``top_k_weights`` to one module, whether its experts are fused or run one by one. Llama 4 and JetMoE have routers of
    their own.
    """
    if model.main_input_name != "input_ids":
        raise UnsupportedError(
            where, found=f"{type(model).__name__}, which reads {model.main_input_name}",
            expected="a model that reads text", remedy="record a trace with your own code (docs/formats.md)",
        )  # fmt: skip
    encoder_decoder = bool(getattr(model.config, "is_encoder_decoder", False))
    sites: dict[str, RoutedSite] = {}
    modules = dict(model.named_modules())
    for path, module in modules.items():
        layer = None if _ATTENTION.fullmatch(path) else _LAYER.match(path)
        site = None if layer is None else _site(path, module)
        if layer is None or site is None:
            continue
        stack = _STACK.match(path) if encoder_decoder else None
        name = f"layers.{int(layer['layer'])}"
        site = replace(site, block=f"{stack['stack']}.{name}" if stack else name, stack=stack["stack"] if stack else "")
        if site.block in sites and sites[site.block].module is not module:
            raise UnsupportedError(
                f"{where}: {site.block}", found=f"two mixtures, {sites[site.block].path} and {path}",
                expected="one of each layer", remedy=_OWN_CODE,
            )  # fmt: skip
        sites[site.block] = site
    _check_all_seen(modules, sites, where)
    return tuple(sites.values())


def _site(path: str, module: Any) -> RoutedSite | None:
    """Return the site of a module that routes, without its block; None for any other module."""
    kind = type(module).__name__
    if kind == LLAMA4:
        return _make(path, module, int(module.num_experts), (f"{path}.experts",))
    if kind == JETMOE:
        return _make(path, module, int(module.router.num_experts), (f"{path}.input_linear", f"{path}.output_linear"))
    is_common = hasattr(module, "_apply_gate") and hasattr(module, "is_transposed")
    # Those of gpt-oss name their arguments otherwise; those of DBRX only take the same.
    if not is_common and not {*inspect.signature(type(module).forward).parameters} >= _CALLED_WITH:
        return None
    n_experts = _n_experts(module)
    return None if n_experts is None else _make(path, module, n_experts, (path,))


def _make(path: str, module: Any, n_experts: int, weights: tuple[str, ...]) -> RoutedSite:
    return RoutedSite("", "", path, module, n_experts, 0, None, gated=False, weights=weights)


def _n_experts(module: Any) -> int | None:
    """Return how many experts a module of experts has: as many as it has weights of; None if it does not show."""
    down = getattr(module, "down_proj", None)
    if down is not None and getattr(down, "ndim", 0) == 3:  # [expert, out, in] or [expert, in, out]
        return int(down.shape[0])
    number = getattr(module, "num_experts", None)
    if isinstance(number, int):
        return number
    return len(module) if hasattr(module, "__len__") else None


def _check_all_seen(modules: dict[str, Any], sites: dict[str, RoutedSite], where: Path) -> None:
    """Raise if there are no experts, or some are run by no module that a site watches."""
    seen = {path for site in sites.values() for path in site.weights}
    around = {*seen, *(site.path for site in sites.values())}
    for path, module in modules.items():
        is_experts = path.rpartition(".")[2] == "experts" and _LAYER.match(path) and not _ATTENTION.fullmatch(path)
        if is_experts and not any(path == other or path.startswith(f"{other}.") for other in around):
            raise UnsupportedError(
                f"{where}: {path}", found=f"{type(module).__name__}, which routes in a way of its own",
                expected="experts that are called with top_k_index and top_k_weights", remedy=_OWN_CODE,
            )  # fmt: skip
    if not sites:
        raise UnsupportedError(
            where, found="a model without experts", expected="a mixture of experts, as --unit expert records",
            remedy="leave --unit expert out",
        )  # fmt: skip
