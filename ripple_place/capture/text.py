"""Which tokens of a text the model sees: segments, and windows within them.

Segments are spread evenly over the text, so that a short profile sees all of it. Within a segment, windows overlap by
half: of each only the second half is recorded (of the segment's first window, all), so that nearly every token is
recorded once, with at least half a window of context. Losses are summed over windows that do not overlap.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.capture.batches import Batch, Window
from ripple_place.errors import CheckpointError, UsageError
from ripple_place.foreign import file_error, recognised_error
from ripple_place.inputfile import read_input

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from ripple_place.arrays import Int32Array, Int64Array
    from ripple_place.capture.batches import BatchLayout
    from ripple_place.capture.params import WindowParams

_POINTER = "version https://git-lfs.github.com/spec/"
"""How a Git LFS pointer begins, which is text, too."""


MAX_TEXT_BYTES = 1 << 30
"""Of a text file, which is read and tokenised as a whole."""


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
        length = params.length_of_segments
        wanted = max(1, params.max_tokens // length)
        segments: list[tuple[int, int]] = []
        start = 0
        for size, n_segments in zip(lengths, _share_out(wanted, lengths), strict=True):
            fits = min(length, size)
            count = min(n_segments, max(1, (size - 1) // fits))  # As many as do not overlap.
            room = max(0, size - fits - 1)
            offsets = np.linspace(0, room, count).astype(np.int64) if count > 1 else [room // 2]
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

    def windows_apart(self) -> Iterator[Window]:
        """Yield windows that do not overlap, in the order of the text: each begins without context.

        They cover the same tokens as `windows`, each once, so that a loss summed over their positions counts no token
        twice. The last one of a segment may be shorter.
        """
        size = self.params.sequence_length
        token = 0
        for start, length in self.segments:
            for first in range(0, length, size):
                n_tokens = min(size, length - first)
                yield Window(start + first, n_tokens, 0, token)
                token += n_tokens

    def batches(self, layout: BatchLayout) -> list[Batch]:
        """Return the windows in batches; arrays are made when a batch is asked for them."""
        return self._batches(self.windows(), layout)

    def batches_apart(self, layout: BatchLayout) -> list[Batch]:
        """Return the windows that do not overlap in batches; arrays are made when a batch is asked for them."""
        return self._batches(self.windows_apart(), layout)

    def _batches(self, windows: Iterable[Window], layout: BatchLayout) -> list[Batch]:
        ordered = list(windows)
        size = self.params.batch_size
        return [Batch(self.ids, ordered[i : i + size], layout) for i in range(0, len(ordered), size)]


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


def read_text_file(path: Path) -> bytes:
    """Return the bytes of a text; what more than `MAX_TEXT_BYTES` say, a part of them says too.

    Raises
    ------
    UsageError
        If it is longer, or no regular file: a text is read twice, which a pipe is not.
    OSError
        If it cannot be read.
    """
    return read_input(path, MAX_TEXT_BYTES)


def read_texts(paths: Sequence[Path], tokenizer: Any) -> list[Int32Array]:
    """Tokenise text files, each as a whole and without special tokens.

    Raises
    ------
    UsageError
        If a file is not there, no regular file, or no UTF-8 text.
    CheckpointError
        If the tokenizer fails on it.
    """
    texts = []
    for path in paths:
        if path.is_dir() or not path.exists():
            raise UsageError(
                path, found="a directory" if path.is_dir() else "nothing there", expected="a text file",
                remedy="check the path",
            )  # fmt: skip
        data = read_text_file(path)
        try:
            text = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig").read()  # Of any line ends makes newlines.
        except UnicodeDecodeError as cause:
            raise file_error(
                UsageError, path, found=str(cause), expected="text in UTF-8", remedy="convert it, or give another file"
            ) from cause
        if text.startswith(_POINTER) and (error := recognised_error(UsageError, path, expected="a text file")):
            raise error
        texts.append(_tokenise(path, text, tokenizer))
    return texts


def _tokenise(path: Path, text: str, tokenizer: Any) -> Int32Array:
    """Return the ids of a text's tokens."""
    try:
        ids = np.asarray(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], np.int64).reshape(-1)
    except Exception as cause:  # A damaged tokenizer can raise anything.
        raise CheckpointError(
            path, found=f"text that the model's tokenizer fails on ({type(cause).__name__}: {cause})",
            expected="token ids", remedy="use the tokenizer files that the model was published with",
        ) from cause  # fmt: skip
    # What fits in no int32 is beyond any embedding, and is refused there.
    return np.minimum(ids, np.iinfo(np.int32).max).astype(np.int32)


def check_token_ids(where: object, text: CalibrationText, n_words: int) -> None:
    """Refuse tokens that the model has no embedding of: they are another model's.

    Raises
    ------
    UsageError
        At the largest or the smallest.
    """
    for token in (int(text.ids.max()), int(text.ids.min())):
        if not 0 <= token < n_words:
            raise UsageError(
                f"{where}: tokenizer", found=f"token {token}", expected=f"tokens 0 to {n_words - 1}, which the model "
                "has embeddings of", remedy="use the tokenizer files that the model was published with",
            )  # fmt: skip


def check_sequence_length(where: object, config: Any, params: WindowParams) -> None:
    """Raise if the model has fewer positions than the windows are long.

    Raises
    ------
    UsageError
    """
    limit = n_positions_of(config)
    if limit is not None and not getattr(config, "is_encoder_decoder", False) and params.sequence_length > limit:
        raise UsageError(
            f"{where}: --sequence-length {params.sequence_length}", found=f"a model of {limit} positions",
            expected="windows that fit in it", remedy=f"give --sequence-length {limit}",
        )  # fmt: skip


def n_positions_of(config: Any) -> int | None:
    """Return how many positions a model has; None where its config does not tell.

    Parameters
    ----------
    config : transformers.PreTrainedConfig
    """
    settings: Mapping[str, Any] = config.to_dict()
    limits: list[int] = [settings[key] for key in ("max_position_embeddings", "n_positions") if settings.get(key)]
    return min(limits, default=None)
