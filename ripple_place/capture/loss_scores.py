"""Losses of one batch: the logits of an exact forward, against those of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.capture.loss_result import LossResult
from ripple_place.errors import TraceFormatError

if TYPE_CHECKING:
    from ripple_place.capture.batches import Batch

_CHUNK_VALUES = 1 << 21
"""Logits that are compared at once: a handful of arrays of 16 MiB in float64, whatever the vocabulary."""


class ExactLogits:
    """The logits of a batch's exact forward, kept until all runs of the batch were compared with them.

    Parameters
    ----------
    batch : Batch
        Of windows that do not overlap.
    logits : torch.Tensor of shape (n_windows, length, n_vocabulary)
    first_window : int
        Number in the text of the batch's first window.
    """

    def __init__(self, batch: Batch, logits: Any, first_window: int) -> None:
        import torch

        assert all(window.n_context == 0 for window in batch.windows)
        positions, targets = batch.targets()
        self._where = torch.from_numpy(positions).to(logits.device)
        self._targets = torch.from_numpy(targets).to(logits.device)
        self._text_block = first_window + positions // logits.shape[1]
        self._logits = logits.flatten(0, 1)[self._where]

    def compare(self, logits: Any) -> LossResult:
        """Return the losses of another forward of the same batch.

        Parameters
        ----------
        logits : torch.Tensor of shape (n_windows, length, n_vocabulary)

        Raises
        ------
        TraceFormatError
            If logits are NaN or infinite, so that no likelihood follows.

        Notes
        -----
        In float64, some thousand tokens or fewer at a time. Equal logits give losses that are equal bit for bit.
        """
        lossy = logits.flatten(0, 1)[self._where]
        size = max(1, _CHUNK_VALUES // lossy.shape[-1])
        parts = [self._compare(lossy, slice(i, i + size)) for i in range(0, lossy.shape[0], size)]
        columns = [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [np.empty(0)] * 4
        exact, nll, divergence, agrees = columns
        if not all(np.isfinite(column).all() for column in (exact, nll, divergence)):
            raise TraceFormatError(
                "loss of the text", found="logits that are NaN or infinite",
                expected="logits from which a loss follows",
                remedy="compute with --dtype float32",
            )  # fmt: skip
        return LossResult(exact, nll, divergence, agrees.astype(np.bool_), self._text_block)

    def _compare(self, lossy: Any, rows: slice) -> tuple[Any, Any, Any, Any]:
        import torch

        p, q = (torch.log_softmax(logits[rows].double(), dim=-1) for logits in (self._logits, lossy))
        targets = self._targets[rows, None]
        # What is impossible adds nothing, though its logarithm is infinite. Rounding may end below zero.
        divergence = torch.where(p.isneginf(), 0, p.exp() * (p - q)).sum(dim=-1).clamp(min=0)
        agrees = self._logits[rows].argmax(dim=-1) == lossy[rows].argmax(dim=-1)
        columns = (-p.gather(1, targets)[:, 0], -q.gather(1, targets)[:, 0], divergence, agrees)
        return tuple(column.cpu().numpy() for column in columns)
