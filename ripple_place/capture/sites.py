"""Where in a model the neurons of each FFN put out: its down projections, and the experts of fused runtimes.

`find_sites` goes by the names of modules; `ripple_place.capture.described_sites` by what the model's family says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import input_block_of
from ripple_place.capture.writer import BlockLayout
from ripple_place.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

_LAYER = r"(?:.*\.)?(?:layers|layer|h|blocks|block)\.(?P<layer>\d+)\."
_STACK = re.compile(r"(?:.*\.)?(?P<stack>encoder|decoder)\.")
DOWN_PROJECTIONS = (
    # OPT; BART and its kin.
    r"fc2",
    # Llama and its many kin, Phi-3; Phi-1 to 2; GPT-NeoX, Falcon, BLOOM; GPT-2, GPTBigCode, StarCoder2; GPT-J, CodeGen.
    r"mlp\.(?:down_proj|fc2|dense_4h_to_h|c_proj|fc_out)",
    # MPT; InternLM2.
    r"ffn\.down_proj",
    r"feed_forward\.w2",
    # T5: layer 1 of a block in the encoder, layer 2 in the decoder.
    r"layer\.\d+\.DenseReluDense\.wo",
    # Experts that all tokens reach.
    r"(?:\w+\.)?(?P<shared>shared_experts?|shared_mlp)\.(?:down_proj|w2)",
)
"""Names of down projections after that of their layer (facts of the families: each one's modelling code)."""
_DOWN = re.compile(_LAYER + "(?:" + "|".join(DOWN_PROJECTIONS) + ")")
_FUSED = re.compile(_LAYER + r"(?:\w+\.)*experts")
_SINGLE_EXPERT = re.compile(_LAYER + r"(?:\w+\.)*experts\.\d+\.(?:down_proj|down|w2|fc2)")
_ACTIVATIONS = ("act_fn", "activation_fn", "act", "activation", "intermediate_act_fn")
_GATES = ("gate_proj", "gate_up_proj", "wi_1", "w3", "dense_h_to_4h_gate")


@dataclass(frozen=True, eq=False)
class Site:
    """A module whose neurons are recorded.

    Attributes
    ----------
    block : str
        The block of a dense FFN, ``layers.3``; the common prefix of fused experts' blocks, ``layers.3.experts``.
    stack : str
        ``""``, ``encoder`` or ``decoder``: whose positions reach it.
    path : str
        Name of the module in the model.
    module : torch.nn.Module
        The down projection, or the experts (`ripple_place.capture.experts`).
    n_neurons : int
    n_experts : int
        0 for a dense FFN.
    gate : torch.nn.Module or None
        The activation function of a gated FFN.
    gated : bool
    inputs : tuple of torch.nn.Module
        The up and gate projections of a dense FFN whose units are columns; else empty.
    """

    block: str
    stack: str
    path: str
    module: Any
    n_neurons: int
    n_experts: int
    gate: Any
    gated: bool
    inputs: tuple[Any, ...] = ()

    def with_inputs(self, modules: tuple[Any, ...]) -> Site:
        """Return the site of an FFN whose input columns are a block, read by these modules."""
        return replace(self, inputs=modules)

    def layouts(self) -> dict[str, BlockLayout]:
        """Return the blocks of this site."""
        if self.n_experts:
            return {f"{self.block}.{i}": BlockLayout(self.n_neurons, routed=True) for i in range(self.n_experts)}
        # An encoder's tokens are not the decoder's.
        routed = self.stack != ""
        down = {self.block: BlockLayout(self.n_neurons, routed=routed)}
        if not self.inputs:
            return down
        return {input_block_of(self.block): BlockLayout(_n_inputs(self.inputs[0]), routed=routed)} | down


def find_sites(model: Any, where: object) -> tuple[Site, ...]:
    """Return the sites of a model that no family describes, in the order in which they lie in it.

    Raises
    ------
    UnsupportedError
        If there are none, two of one name, or experts that run one by one and do not say which tokens they got.
    """
    encoder_decoder = bool(getattr(model.config, "is_encoder_decoder", False))
    modules = dict(model.named_modules())
    sites: dict[str, Site] = {}
    for path, module in modules.items():
        if _SINGLE_EXPERT.fullmatch(path):
            raise UnsupportedError(
                f"{where}: {path}", found="an expert in a module of its own, which does not learn which tokens it gets",
                expected="fused experts, as transformers 5 makes them",
                remedy="update transformers, or record a trace with your own code (docs/formats.md)",
            )  # fmt: skip
        site = _dense_site(path, module, modules) or _fused_site(path, module, where)
        if site is None:
            continue
        stack = _STACK.match(path) if encoder_decoder else None
        site = _in_stack(site, stack["stack"] if stack else "")
        if site.block in sites and sites[site.block].module is not module:
            raise UnsupportedError(
                f"{where}: {site.block}", found=f"two FFNs, {sites[site.block].path} and {path}",
                expected="one FFN of each layer", remedy="record a trace with your own code (docs/formats.md)",
            )  # fmt: skip
        sites.setdefault(site.block, site)
    if not sites:
        raise UnsupportedError(
            where, found=f"no FFN in {type(model).__name__}", expected="down projections by a known name",
            remedy="record a trace with your own code (docs/formats.md), or ask for this architecture",
        )  # fmt: skip
    return tuple(sites.values())


def _in_stack(site: Site, stack: str) -> Site:
    if not stack:
        return site
    values = {**vars(site), "stack": stack, "block": f"{stack}.{site.block}"}
    return Site(**values)


def _dense_site(path: str, module: Any, modules: dict[str, Any]) -> Site | None:
    match = _DOWN.fullmatch(path)
    weight = getattr(module, "weight", None)
    if match is None or weight is None or weight.ndim != 2:
        return None
    parent = modules[path.rpartition(".")[0]]
    n_neurons = _n_inputs(module)
    block = f"layers.{int(match['layer'])}" + (".shared_expert" if match["shared"] else "")
    gated = any(hasattr(parent, name) for name in _GATES)
    gate = activation_module(parent) if gated else None
    return Site(block, "", path, module, n_neurons, 0, gate, gated)


def _fused_site(path: str, module: Any, where: object) -> Site | None:
    match = _FUSED.fullmatch(path)
    down = getattr(module, "down_proj", None)
    if match is None or down is None or getattr(down, "ndim", 0) != 3:
        return None
    if not hasattr(module, "_apply_gate") or not hasattr(module, "is_transposed"):
        raise UnsupportedError(
            f"{where}: {path}", found=f"{type(module).__name__}, whose experts run in a way of their own",
            expected="experts that run through transformers' common interface",
            remedy="record a trace with your own code (docs/formats.md), or ask for this architecture",
        )  # fmt: skip
    n_neurons = int(down.shape[1] if module.is_transposed else down.shape[2])
    gated = bool(module.has_gate)
    block = f"layers.{int(match['layer'])}.experts"
    gate = activation_module(module) if gated else None
    return Site(block, "", path, module, n_neurons, int(down.shape[0]), gate, gated)


def _n_inputs(module: Any) -> int:
    """Return the width of the input of a linear module."""
    # GPT-2's Conv1D holds its weight as [in, out] and says so by `nf`.
    return int(getattr(module, "in_features", 0) or module.weight.shape[0 if hasattr(module, "nf") else 1])


def activation_module(parent: Any) -> Any:
    """Return the activation function of an FFN, where it is a module of its own."""
    functions = [getattr(parent, name, None) for name in _ACTIVATIONS]
    return next((function for function in functions if hasattr(function, "register_forward_hook")), None)


def check_gates(sites: Sequence[Site], where: object) -> None:
    """Raise unless the activation function of every gated FFN can be watched, as ``cats`` needs.

    Raises
    ------
    UnsupportedError
    """
    for site in sites:
        if site.gated and site.gate is None:
            raise UnsupportedError(
                f"{where}: {site.path}", found="a gate whose activation function is no module of its own",
                expected="one to watch, as --active cats needs", remedy="use --active teal",
            )  # fmt: skip
