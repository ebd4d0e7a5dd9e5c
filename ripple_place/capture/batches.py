"""Windows of a text as the model takes them: padded batches, and which of their positions are recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.arrays import AnyArray, Int32Array, Int64Array


@dataclass(frozen=True)
class Window:
    """Tokens that the model sees at once: ``ids[start : start + length]``.

    Those from `n_context` on are recorded; the first of them is token `token` of the trace.
    """

    start: int
    length: int
    n_context: int
    token: int


@dataclass(frozen=True)
class BatchLayout:
    """How a model takes its batches.

    Parameters
    ----------
    pad_id : int
        Token that fills up short windows; masked.
    decoder_start_id : int, optional
        First token that the decoder of an encoder-decoder model reads.
    """

    pad_id: int = 0
    decoder_start_id: int | None = None


@dataclass(frozen=True, eq=False)
class Rows:
    """Which positions of a padded batch are recorded.

    Attributes
    ----------
    positions : ndarray of shape (n_recorded,), int64
        Into the flattened batch, ascending.
    tokens : ndarray of shape (n_recorded,), int32
        Tokens of the trace, ascending.
    n_positions : int
        Positions of the flattened batch, pads included.
    """

    positions: Int64Array
    tokens: Int32Array
    n_positions: int


@dataclass(frozen=True, eq=False)
class Batch:
    """Windows that run together.

    An encoder-decoder model reads the earlier half of each window in its encoder and continues it in its decoder;
    encoder blocks record the one, decoder blocks the other.
    """

    ids: Int32Array = field(repr=False)
    windows: list[Window]
    layout: BatchLayout

    @property
    def n_recorded(self) -> int:
        """Tokens recorded in this batch, by any block."""
        return sum(window.length - window.n_context for window in self.windows)

    def inputs(self) -> dict[str, Int64Array]:
        """Return the model's arguments by name; ``attention_mask`` only where there are pads."""
        if self.layout.decoder_start_id is None:
            ids, mask = self._padded([self._ids(window, 0, window.length) for window in self.windows])
            return {"input_ids": ids} | ({} if mask.all() else {"attention_mask": mask})
        read, mask = self._padded([self._ids(w, 0, _split(w)) for w in self.windows])
        start = [self.layout.decoder_start_id]
        written, written_mask = self._padded(
            [np.concatenate([start, self._ids(w, _split(w), w.length)]) for w in self.windows]
        )
        inputs = {"input_ids": read, "decoder_input_ids": written}
        if not (mask.all() and written_mask.all()):
            inputs |= {"attention_mask": mask, "decoder_attention_mask": written_mask}
        return inputs

    def rows(self) -> dict[str, Rows]:
        """Return the recorded positions by stack: ``""``, or ``encoder`` and ``decoder``."""
        if self.layout.decoder_start_id is None:
            return {"": self._rows([(w.n_context, w.length, 0, w) for w in self.windows])}
        # A window's encoder reads the tokens that the decoder of the window before wrote. They are recorded there,
        # once, and so is every token of the first half.
        reading = [(max(0, w.n_context - w.length + _split(w)), _split(w), 0, w) for w in self.windows]
        writing = [(max(w.n_context, _split(w)), w.length, 1 - _split(w), w) for w in self.windows]
        return {"encoder": self._rows(reading), "decoder": self._rows(writing)}

    def targets(self) -> tuple[Int64Array, Int64Array]:
        """Return positions of the flattened logits and the token that follows each, where that is known.

        Counted for perplexity are recorded tokens whose successor lies in the same window.
        """
        positions, targets = [], []
        encoder_decoder = self.layout.decoder_start_id is not None
        width = max(w.length - _split(w) + 1 if encoder_decoder else w.length for w in self.windows)
        for i, w in enumerate(self.windows):
            first, shift = (max(w.n_context, _split(w)), -_split(w)) if encoder_decoder else (w.n_context + 1, -1)
            where = np.arange(first, w.length)
            positions.append(i * width + where + shift)
            targets.append(self.ids[w.start + where])
        return np.concatenate(positions), np.concatenate(targets).astype(np.int64)

    def _ids(self, window: Window, first: int, end: int) -> Int32Array:
        return self.ids[window.start + first : window.start + end]

    def _padded(self, rows: Sequence[AnyArray]) -> tuple[Int64Array, Int64Array]:
        width = max(row.size for row in rows)
        ids = np.full((len(rows), width), self.layout.pad_id, np.int64)
        mask = np.zeros((len(rows), width), np.int64)
        for i, row in enumerate(rows):
            ids[i, : row.size] = row
            mask[i, : row.size] = 1
        return ids, mask

    def _rows(self, spans: Sequence[tuple[int, int, int, Window]]) -> Rows:
        """Return the rows of recorded spans (first, end, shift, window), in positions of the window."""
        width = max(end + shift for _, end, shift, _ in spans)
        positions = [i * width + shift + np.arange(first, end) for i, (first, end, shift, _) in enumerate(spans)]
        tokens = [window.token - window.n_context + np.arange(first, end) for first, end, _, window in spans]
        return Rows(
            np.concatenate(positions).astype(np.int64), np.concatenate(tokens).astype(np.int32), len(spans) * width
        )


def _split(window: Window) -> int:
    """Return how many tokens of a window the encoder reads."""
    return (window.length + 1) // 2


def layout_of(config: Any, n_embeddings: int) -> BatchLayout:
    """Return the batch layout of a model with this config.

    Pads are masked, but looked up: one that the model has no embedding of, as of a tokenizer to which one was added,
    is any other token.
    """
    pad = getattr(config, "pad_token_id", None)
    pad_id = int(pad) if isinstance(pad, int) and 0 <= pad < n_embeddings else 0
    if not getattr(config, "is_encoder_decoder", False):
        return BatchLayout(pad_id)
    start = getattr(config, "decoder_start_token_id", None)
    return BatchLayout(pad_id, int(start) if isinstance(start, int) and 0 <= start < n_embeddings else pad_id)
