"""The forward of fused experts, one expert after the other, that shows each one's neurons on the way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def run_experts(
    module: Any,
    hidden_states: Any,
    top_k_index: Any,
    top_k_weights: Any,
    show: Callable[[int, Any, Any], Any],
) -> Any:
    """Return what transformers' eager forward of the same experts returns, in the same order of operations.

    Parameters
    ----------
    module : torch.nn.Module
        Experts in transformers' common form: weights of all experts in one tensor, flags that say how they lie.
    hidden_states : torch.Tensor of shape (n_positions, hidden)
    top_k_index, top_k_weights : torch.Tensor of shape (n_positions, top_k)
        Which experts each position goes to, and with what weight.
    show : callable
        Given the expert, the positions that reach it (in the order of the rows) and their down input; returns the
        down input to go on with.
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
