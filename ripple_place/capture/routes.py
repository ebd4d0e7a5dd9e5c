"""Watches where a mixture sends its tokens, without changing how it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

LLAMA4, JETMOE = "Llama4TextMoe", "JetMoeMoE"
"""Mixtures that do not hand what the router chose to a module of experts."""


class Routes(NamedTuple):
    """Where the positions of a batch go.

    Attributes
    ----------
    n_positions : int
        Positions that the router saw.
    positions, experts : torch.Tensor of shape (n_routings,), integers
    weights : torch.Tensor of shape (n_routings,), floating
        What each expert's output is multiplied by.
    """

    n_positions: int
    positions: Any
    experts: Any
    weights: Any


def watch_routes(module: Any, show: Callable[[Routes], None]) -> Callable[[], None]:
    """Let `show` see the routes of every batch; return a function that ends this.

    Parameters
    ----------
    module : torch.nn.Module
        Of a site of `ripple_place.capture.routed_sites`.
    show : callable
        Takes `Routes`.
    """
    kind = type(module).__name__
    if kind in (LLAMA4, JETMOE):
        read = _read_llama4 if kind == LLAMA4 else _read_jetmoe

        def see_router(router: Any, inputs: Any, output: Any) -> None:
            show(read(output))

        return _remover(module.router.register_forward_hook(see_router))

    def see_call(experts: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        _, index, weights = (*args, *kwargs.values())[:3]
        show(read_top_k(index, weights))

    return _remover(module.register_forward_pre_hook(see_call, with_kwargs=True))


def read_top_k(index: Any, weights: Any) -> Routes:
    """Return the routes of what transformers hands to a module of experts.

    Parameters
    ----------
    index : torch.Tensor of shape (..., top_k), integers
    weights : torch.Tensor of the same shape, or of shape (..., n_experts)
        Of the chosen experts, or of all.
    """
    import torch

    index, weights = index.detach().flatten(0, -2), weights.detach().flatten(0, -2)
    if weights.shape != index.shape:
        weights = weights.gather(1, index)
    n_positions, top_k = index.shape
    positions = torch.arange(n_positions, device=index.device).repeat_interleave(top_k)
    return Routes(n_positions, positions, index.flatten(), weights.flatten())


def _read_llama4(output: Any) -> Routes:
    """Return the routes of Llama 4: sigmoid scores of the chosen experts, zero for all others."""
    scores = output[0].detach().flatten(0, -2)
    positions, experts = scores.nonzero(as_tuple=True)
    return Routes(scores.shape[0], positions, experts, scores[positions, experts])


def _read_jetmoe(output: Any) -> Routes:
    """Return the routes of JetMoE: positions by expert, and how many go to each."""
    import torch

    _, positions, gates, sizes, logits = output
    counts = torch.as_tensor(sizes, device=positions.device)
    experts = torch.arange(counts.numel(), device=positions.device).repeat_interleave(counts)
    return Routes(logits.flatten(0, -2).shape[0], positions.detach(), experts, gates.detach())


def _remover(handle: Any) -> Callable[[], None]:
    def end() -> None:
        handle.remove()

    return end
