"""Which tokens of a text the model sees: segments, windows within them, and batches of windows.

Segments are spread evenly over the text, so that a short profile sees all of it. Within a segment, windows overlap by
half: of each only the second half is recorded (of the segment's first window, all), so that nearly every token is
recorded once, with at least half a window of context.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Int32Array = npt.NDArray[np.int32]
    Int64Array = npt.NDArray[np.int64]

BATCH_TOKENS = 1024
"""Tokens of a batch: enough for a matrix product to run at full speed, few enough for laptops."""


@dataclass(frozen=True)
class WindowParams:
    """How much of the text is looked at, and in what pieces; all in tokens.

    Parameters
    ----------
    max_tokens : int
        Tokens recorded, at most; rounded down to whole segments.
    segment_length : int
    sequence_length : int
        What the model sees at a time.
    """

    max_tokens: int = 8192
    segment_length: int = 2048
    sequence_length: int = 256

    def __post_init__(self) -> None:
        if self.max_tokens < 1 or self.segment_length < 1 or self.sequence_length < 2:
            raise UsageError(
                "--max-tokens, --segment-length, --sequence-length",
                found=f"{self.max_tokens}, {self.segment_length}, {self.sequence_length}",
                expected="at least 1, 1 and 2", remedy="ask for more tokens",
            )  # fmt: skip

    @property
    def batch_size(self) -> int:
        """Windows that run together."""
        return max(1, BATCH_TOKENS // self.sequence_length)


@dataclass(frozen=True)
class Window:
    """Tokens that the model sees at once: ``ids[start : start + length]``.

    Those from `n_context` on are recorded; the first of them is token `token` of the trace.
    """

    start: int
    length: int
    n_context: int
    token: int


@dataclass(frozen=True, eq=False)
class CalibrationText:
    """The tokens of one or several texts and the windows through which the model sees them.

    Attributes
    ----------
    ids : ndarray of shape (n_ids,), int32
        All texts, one after the other.
    segments : tuple of (int, int)
        Start in `ids` and length of each segment; none reaches from one text into the next.
    params : WindowParams
    """

    ids: Int32Array
    segments: tuple[tuple[int, int], ...]
    params: WindowParams

    @classmethod
    def of_texts(cls, texts: Sequence[Int32Array], params: WindowParams) -> CalibrationText:
        """Spread segments over texts, in proportion to their lengths.

        Raises
        ------
        UsageError
            If there are no tokens.
        """
        lengths = [text.size for text in texts]
        if not lengths or min(lengths) == 0:
            raise UsageError(
                "--text", found="a text without tokens", expected="text to run the model on", remedy="give another file"
            )
        length = min(params.segment_length, params.max_tokens)
        wanted = max(1, params.max_tokens // length)
        segments: list[tuple[int, int]] = []
        start = 0
        for size, n_segments in zip(lengths, _share_out(wanted, lengths), strict=True):
            fits = min(length, size)
            count = min(n_segments, max(1, (size - 1) // fits))  # As many as do not overlap.
            offsets = np.linspace(0, max(0, size - fits - 1), count).astype(np.int64)
            segments += [(start + int(offset), fits) for offset in offsets]
            start += size
        return cls(np.concatenate(texts).astype(np.int32), tuple(segments), params)

    @property
    def n_tokens(self) -> int:
        """Recorded tokens."""
        return sum(length for _, length in self.segments)

    @property
    def segment_starts(self) -> Int64Array:
        """First recorded token of each segment."""
        return np.cumsum([0, *(length for _, length in self.segments[:-1])]).astype(np.int64)

    @property
    def tokens(self) -> Int32Array:
        """Ids of the recorded tokens."""
        return np.concatenate([self.ids[start : start + length] for start, length in self.segments])

    def windows(self) -> Iterator[Window]:
        """Yield the windows in the order of the text.

        Full windows start at every half window; the last one of a segment ends with it.
        """
        size = self.params.sequence_length
        token = 0
        for start, length in self.segments:
            recorded = 0
            while recorded < length:
                end = min(size, length) if recorded == 0 else min(length, recorded + size // 2)
                first = max(0, end - size)
                yield Window(start + first, end - first, recorded - first, token)
                token += end - recorded
                recorded = end

    def batches(self, layout: BatchLayout) -> list[Batch]:
        """Return the windows in batches; arrays are made when a batch is asked for them."""
        windows = list(self.windows())
        size = self.params.batch_size
        return [Batch(self.ids, windows[i : i + size], layout) for i in range(0, len(windows), size)]


@dataclass(frozen=True)
class BatchLayout:
    """What the model wants of a batch.

    Parameters
    ----------
    pad_id : int
        Fills short windows up; masked.
    decoder_start_id : int, optional
        Of an encoder-decoder model: what the decoder reads first.
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
        """Return what is recorded, by stack: ``""``, or ``encoder`` and ``decoder``."""
        if self.layout.decoder_start_id is None:
            return {"": self._rows([(w.n_context, w.length, 0, w) for w in self.windows])}
        # The encoder of a later window reads again what the decoder of the one before wrote: it is recorded there,
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

    def _padded(self, rows: Sequence[npt.NDArray[Any]]) -> tuple[Int64Array, Int64Array]:
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


def _share_out(n: int, weights: Sequence[int]) -> list[int]:
    """Return whole shares of `n` in proportion to `weights`, at least 1 each; largest remainders first.

    >>> _share_out(4, [300, 100]), _share_out(1, [5, 5])
    ([3, 1], [1, 1])
    """
    total = sum(weights)
    exact = [n * weight / total for weight in weights]
    shares = [max(1, int(share)) for share in exact]
    by_remainder = sorted(range(len(weights)), key=lambda i: (int(exact[i]) - exact[i], i))
    for i in by_remainder[: max(0, n - sum(shares))]:
        shares[i] += 1
    return shares


def read_texts(paths: Sequence[Path], tokenizer: Any) -> list[Int32Array]:
    """Tokenise text files, each as a whole and without special tokens.

    Raises
    ------
    UsageError
        If a file is not there or no UTF-8 text.
    """
    texts = []
    for path in paths:
        if not path.is_file():
            raise UsageError(
                path, found="a directory" if path.is_dir() else "nothing there", expected="a text file",
                remedy="check the path",
            )  # fmt: skip
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as cause:
            raise UsageError(
                path, found=str(cause), expected="text in UTF-8", remedy="convert it, or give another file"
            ) from cause
        ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        texts.append(np.asarray(ids, np.int32))
    return texts


def layout_of(config: Any) -> BatchLayout:
    """Return the batch layout of a model with this config."""
    pad = getattr(config, "pad_token_id", None)
    pad_id = int(pad) if isinstance(pad, int) and pad >= 0 else 0
    if not getattr(config, "is_encoder_decoder", False):
        return BatchLayout(pad_id)
    start = getattr(config, "decoder_start_token_id", None)
    return BatchLayout(pad_id, int(start) if isinstance(start, int) else pad_id)


def check_sequence_length(where: object, config: Any, params: WindowParams) -> None:
    """Raise if the model has fewer positions than the windows are long.

    Raises
    ------
    UsageError
    """
    settings: Mapping[str, Any] = config.to_dict()
    limits: list[int] = [settings[key] for key in ("max_position_embeddings", "n_positions") if settings.get(key)]
    if limits and not getattr(config, "is_encoder_decoder", False) and params.sequence_length > min(limits):
        raise UsageError(
            f"{where}: --sequence-length {params.sequence_length}", found=f"a model of {min(limits)} positions",
            expected="windows that fit in it", remedy=f"give --sequence-length {min(limits)}",
        )  # fmt: skip
