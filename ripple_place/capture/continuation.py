"""Continues a text greedily, with and without choosers, to see how soon the two part."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.capture.batches import Rows
from ripple_place.capture.loss_run import ActiveRun
from ripple_place.capture.run_errors import explained
from ripple_place.capture.text import n_positions_of
from ripple_place.errors import UnsupportedError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import Int32Array
    from ripple_place.capture.loss import ScoredModel
    from ripple_place.capture.loss_hooks import LossHooks
    from ripple_place.capture.loss_run import Run

_CACHE_NAMES = ("cache", "past_key_values")
"""Newer versions of transformers 5 have the first, older ones the second."""
_ONE_SEGMENT = np.zeros(1, np.int64)


@dataclass(frozen=True, eq=False)
class Continuation:
    """Tokens that follow a prompt.

    Attributes
    ----------
    exact, lossy : ndarray of shape (n_tokens,), int32
        Without and with the choosers.
    """

    exact: Int32Array
    lossy: Int32Array

    @property
    def agreement(self) -> float:
        """Share of the places where both have the same token."""
        return float((self.exact == self.lossy).mean())

    @property
    def n_common(self) -> int:
        """Tokens before the first that differs."""
        differs = np.flatnonzero(self.exact != self.lossy)
        return int(differs[0]) if differs.size else self.exact.size


def continue_greedily(
    scored: ScoredModel, prompt_ids: Int32Array, n_tokens: int, runs: Mapping[str, Run]
) -> dict[str, Continuation]:
    """Append the likeliest token again and again, once exactly and once by each run.

    Parameters
    ----------
    scored : ScoredModel
        Its text is not used.
    prompt_ids : ndarray of shape (n_prompt,), int32
        At least one token. Its rows, too, go through the choosers.
    n_tokens : int
        At least 1. A token that ends a text does not end the continuation.
    runs : mapping of str to Run
        By name. Prompt and continuation are one segment. The choosers are new, or continue from an earlier prompt,
        with whatever their caches hold.

    Returns
    -------
    dict of str to Continuation

    Raises
    ------
    UsageError
        If prompt and continuation are longer than the model has positions, or as `check_runs`.
    UnsupportedError
        If the model keeps no keys and values of earlier tokens, or as `check_runs`.
    TraceFormatError
        If outputs are not finite.

    Notes
    -----
    Cost, for each run and once more: a forward of the prompt, and one of a single token for each further token.
    """
    import torch

    check_room(scored, len(prompt_ids), n_tokens)
    hooks = scored.hooks(runs.values())
    with torch.inference_mode(), hooks.attach():
        exact = _continue(scored, prompt_ids, n_tokens, hooks, None)
        return {
            name: Continuation(exact, _continue(scored, prompt_ids, n_tokens, hooks, ActiveRun(run, _ONE_SEGMENT)))
            for name, run in runs.items()
        }


def check_room(scored: ScoredModel, n_prompt: int, n_tokens: int) -> None:
    """Raise unless prompt and continuation fit the model, and it keeps the keys and values of earlier tokens.

    Raises
    ------
    UsageError, UnsupportedError
    """
    assert n_prompt >= 1
    assert n_tokens >= 1
    limit = n_positions_of(scored.model.config)
    if limit is not None and n_prompt + n_tokens > limit:
        raise UsageError(
            scored.name, found=f"a prompt of {n_prompt} tokens to be continued by {n_tokens}",
            expected=f"no more than {limit} together, the positions of the model",
            remedy="shorten the prompt, or ask for fewer tokens",
        )  # fmt: skip
    if _cache_name(scored.model) is None:
        raise UnsupportedError(
            scored.name, found=f"{type(scored.model).__name__}, which keeps no keys and values of earlier tokens",
            expected="a model that continues token by token", remedy="compare losses on a text instead",
        )  # fmt: skip


def _cache_name(model: Any) -> str | None:
    """Return what a model calls the argument, and the output, that hold earlier keys and values."""
    parameters = inspect.signature(model.forward).parameters
    return next((name for name in _CACHE_NAMES if name in parameters), None)


def _continue(
    scored: ScoredModel, prompt_ids: Int32Array, n_tokens: int, hooks: LossHooks, run: ActiveRun | None
) -> Int32Array:
    import torch

    ids = torch.from_numpy(np.asarray(prompt_ids, np.int64)[None]).to(scored.device)
    cache_name, cache = _cache_name(scored.model) or "", None
    n_seen, continuation = 0, np.empty(n_tokens, np.int32)
    for i in range(n_tokens):
        n_new = ids.shape[1]
        if run is None:
            hooks.off()
        else:
            positions = np.arange(n_new, dtype=np.int64)
            hooks.choosing(run, Rows(positions, (n_seen + positions).astype(np.int32), n_new))
        with explained(scored.model):
            output = scored.model(input_ids=ids, use_cache=True, **{cache_name: cache})
        cache, n_seen = getattr(output, cache_name), n_seen + n_new
        ids = output.logits[:, -1:].argmax(dim=-1)
        continuation[i] = int(ids)
    return continuation
