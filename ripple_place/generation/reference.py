"""The model in memory, run by transformers on the same tokens: what a layout's tokens are compared with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ripple_place.capture.model import load_model, read_config

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Reference:
    """What a model in memory says.

    Attributes
    ----------
    best_ids : tuple of int
        Tokens of its greedy continuation; or, of a text, the one that it would choose after each token but the last.
    nll : float or None
        Of a text, in nats a token.
    """

    best_ids: tuple[int, ...]
    nll: float | None = None


def run_reference(
    model: Path, token_ids: Sequence[int], *, dtype: str, n_new: int | None, ending: frozenset[int]
) -> Reference:
    """Run a checkpoint by transformers; it is in memory only as long as this takes.

    Parameters
    ----------
    model : Path
    token_ids : sequence of int
        A prompt, or a text.
    dtype : str
        What it computes in.
    n_new : int or None
        Tokens to generate; None: those of a text are scored.
    ending : frozenset of int
        Tokens that end a continuation.

    Raises
    ------
    CheckpointError, UnsupportedError, OSError
        If transformers cannot load it.
    """
    import torch

    with torch.inference_mode():
        loaded = load_model(model, read_config(model), dtype=dtype, device="cpu")
        given = torch.tensor([list(token_ids)])
        if n_new is None:
            logits = loaded(input_ids=given).logits[0, :-1].float()
            nll = torch.nn.functional.cross_entropy(logits, given[0, 1:])
            return Reference(tuple(logits.argmax(1).tolist()), float(nll))
        output = loaded.generate(
            given, attention_mask=torch.ones_like(given), do_sample=False, num_beams=1, max_new_tokens=n_new,
            eos_token_id=sorted(ending) or None, pad_token_id=0,
        )  # fmt: skip
        return Reference(tuple(output[0, len(token_ids) :].tolist()))
