"""Mixtures of experts of transformers, run so that each expert's neurons are seen on the way.

Most experts run through one interface of transformers; those of Llama 4, DBRX and JetMoE each in a way of their own.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Show = Callable[[int, Any, Any], Any]
    """Given the expert, the positions that reach it (in the order of the rows) and their down input; returns the down
    input to go on with."""


def experts_around(path: str, modules: Mapping[str, Any]) -> str | None:
    """Return the name of the module to watch, of experts whose down projections lie in the module at `path`.

    Returns
    -------
    str or None
        None where experts run in an unknown way.
    """
    kind = type(modules[path]).__name__
    if hasattr(modules[path], "_apply_gate") and hasattr(modules[path], "is_transposed"):
        return path
    if kind == "Llama4TextExperts":
        return path
    if kind in ("DbrxExpertGLU", "JetMoeParallelExperts"):
        return path.rpartition(".")[0]
    return None


def watch_experts(module: Any, show: Show) -> Callable[[], None]:
    """Let `show` see what the neurons of experts put out; return a function that ends this.

    Parameters
    ----------
    module : torch.nn.Module
        One that `experts_around` names.
    show : Show
    """
    if type(module).__name__ == "JetMoeMoE":
        return _watch_jetmoe(module, show)
    own_ways: dict[str, Callable[..., Any]] = {"Llama4TextExperts": _run_llama4, "DbrxExperts": _run_dbrx}
    module.forward = partial(own_ways.get(type(module).__name__, run_experts), module, show=show)

    def end() -> None:
        del module.forward

    return end


def run_experts(module: Any, hidden_states: Any, top_k_index: Any, top_k_weights: Any, show: Show) -> Any:
    """Return what transformers' eager forward of the same experts returns, in the same order of operations.

    Parameters
    ----------
    module : torch.nn.Module
        Experts in transformers' common form: weights of all experts in one tensor, flags that say how they lie.
    hidden_states : torch.Tensor of shape (n_positions, hidden)
    top_k_index, top_k_weights : torch.Tensor of shape (n_positions, top_k)
        Which experts each position goes to, and with what weight.
    show : Show
    """
    import torch

    output = torch.zeros_like(hidden_states)
    for expert in range(module.num_experts):
        place, position = torch.where((top_k_index == expert).T)
        if position.numel() == 0:
            continue
        rows = hidden_states[position]
        if module.has_gate:
            rows = module._apply_gate(_project(module, "gate_up_proj", expert, rows))  # noqa: SLF001 - their interface
        else:
            rows = module.act_fn(_project(module, "up_proj", expert, rows))
        rows = _project(module, "down_proj", expert, show(expert, position, rows))
        if module.has_post_expert_norm:
            rows = module.post_expert_norm(rows)
        rows = rows * top_k_weights[position, place, None]
        output.index_add_(0, position, rows.to(output.dtype))
    return output


def _project(module: Any, name: str, expert: int, rows: Any) -> Any:
    import torch

    weight = getattr(module, name)[expert]
    product = rows @ weight if module.is_transposed else torch.nn.functional.linear(rows, weight)
    return product + getattr(module, f"{name}_bias")[expert] if module.has_bias else product


def _run_dbrx(module: Any, hidden_states: Any, top_k_index: Any, top_k_weights: Any, show: Show) -> Any:
    """Return what `DbrxExperts` returns: the neurons of one expert after those of the other, in one matrix."""
    import torch

    flat = hidden_states.reshape(-1, module.hidden_size)
    output = torch.zeros_like(flat)
    glu = module.mlp
    gate, up, down = (
        weight.view(-1, module.ffn_hidden_size, module.hidden_size) for weight in (glu.w1, glu.v1, glu.w2)
    )
    for expert in range(module.num_experts):
        place, position = torch.where((top_k_index == expert).T)
        if position.numel() == 0:
            continue
        rows = flat[position]
        rows = glu.activation_fn(rows.matmul(gate[expert].T)) * rows.matmul(up[expert].T)
        rows = show(expert, position, rows).matmul(down[expert])
        output.index_add_(0, position, rows * top_k_weights[position, place, None])
    return output.view(hidden_states.shape[0], -1, module.hidden_size)


def _run_llama4(module: Any, hidden_states: Any, show: Show) -> Any:
    """Return what `Llama4TextExperts` returns: every expert runs all positions, on zeros where it is not chosen."""
    import torch

    rows = hidden_states.view(module.num_experts, -1, module.hidden_size)
    gate, up = torch.bmm(rows, module.gate_up_proj).chunk(2, dim=-1)
    values = up * module.act_fn(gate)
    for expert in range(module.num_experts):
        position = rows[expert].any(dim=-1).nonzero().flatten()
        values[expert, position] = show(expert, position, values[expert, position])
    return torch.bmm(values, module.down_proj).view(-1, module.hidden_size)


def _watch_jetmoe(module: Any, show: Show) -> Callable[[], None]:
    """Watch JetMoE's experts: the rows of one after those of the other, in an order that the router gives."""
    routed: dict[str, Any] = {}

    def see_router(router: Any, inputs: Any, output: Any) -> None:
        routed["positions"] = output[1]

    def see_down(down: Any, inputs: tuple[Any, Any]) -> tuple[Any, Any]:
        import torch

        rows, sizes = inputs
        parts = zip(rows.split(sizes), routed.pop("positions").split(sizes), strict=True)
        seen = [show(expert, position, part) for expert, (part, position) in enumerate(parts)]
        return torch.cat(seen), sizes

    handles = [module.router.register_forward_hook(see_router),
               module.output_linear.register_forward_pre_hook(see_down)]  # fmt: skip

    def end() -> None:
        for handle in handles:
            handle.remove()

    return end
