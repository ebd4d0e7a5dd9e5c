"""The cost of a rule: the perplexity of the text with and without it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.errors import TraceFormatError

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray

_MAX_NATS = 700
"""Whose exponential is a number still."""


@dataclass
class LogLikelihood:
    """Sum of the negative log-likelihoods of tokens, in nats, and how many there are."""

    nats: float = 0.0
    n_tokens: int = 0

    def add(self, logits: Any, positions: AnyArray, targets: AnyArray) -> None:
        """Count tokens.

        Parameters
        ----------
        logits : torch.Tensor of shape (n_sequences, length, n_vocabulary)
        positions : ndarray of shape (n,), int64
            Into the flattened sequences.
        targets : ndarray of shape (n,), int64
            The token that follows each position.
        """
        import torch

        if targets.size == 0:
            return
        flat = logits.flatten(0, 1)
        where = torch.from_numpy(positions).to(flat.device)
        truth = torch.from_numpy(targets).to(flat.device)
        loss = torch.nn.functional.cross_entropy(flat[where].float(), truth, reduction="none")
        self.nats += float(loss.double().sum())
        self.n_tokens += int(targets.size)

    def check(self) -> None:
        """Refuse likelihoods whose mean is no number, or the exponential of it.

        Raises
        ------
        TraceFormatError
            In that case.
        """
        if self.n_tokens and not self.nats / self.n_tokens <= _MAX_NATS:
            raise TraceFormatError(
                "perplexity of the text", found=f"{self.nats / self.n_tokens:.4g} nats a token",
                expected="logits from which a perplexity follows",
                remedy="compute with --dtype float32, or leave the score out by --no-perplexity",
            )  # fmt: skip

    @property
    def perplexity(self) -> float | None:
        """The exponential of the mean; None if nothing was counted. Raises as `check` does."""
        self.check()
        return math.exp(self.nats / self.n_tokens) if self.n_tokens else None
