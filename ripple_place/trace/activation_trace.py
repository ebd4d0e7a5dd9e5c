"""An activation trace: packed bits per block, in memory or in a file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.blocks import NEURON, UNITS_EXPECTED, sorted_blocks, unit_problem
from ripple_place.errors import TraceFormatError
from ripple_place.storedarray import StoredArray

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import AnyArray, Float32Array, Int32Array, Int64Array, UInt8Array


RECORD_AGAIN = "correct what recorded the trace (docs/formats.md), or record it again"
PREDICTED_RECALL = "predicted_recall"
"""Entry of the metadata: the share of what fires that predictions were set to contain, as text."""
PREFILL, DECODE = PHASES = (0, 1)
"""Of a token: read with others of a prompt, or generated after the one before."""
UNIT_BYTES = "unit_bytes"
"""Entry of the metadata: bytes of a unit by block, as JSON, where whoever recorded the trace knew them."""
ASSUMED = "assumed"
"""Entry of the metadata: what was assumed where a source did not say, as a sentence without its stop."""
_OF_WHAT_FIRED = (PREDICTED_RECALL, "perplexity", "perplexity_without_rule")
_MARK = ", as predicted"
"""In a trace's `activity`: its bits are what predictors said."""
_CHECKED_VALUES = 2**16
"""Magnitudes checked at a time, so that those in a file stay there."""


@dataclass(frozen=True, eq=False)
class Magnitudes:
    """What the active neurons of a block put out, as a sparse matrix by rows.

    Parameters
    ----------
    indptr : ndarray of shape (n_rows + 1,), int64
        Where each row begins in `indices` and `values`.
    indices : ndarray of shape (n_values,), int32
        Active neurons, ascending within a row; `BlockTrace` checks that they are.
    values : ndarray of shape (n_values,), float32
        Inputs of the down projection, finite.

    Raises
    ------
    TraceFormatError
        If the three do not fit each other.
    """

    indptr: Int64Array
    indices: Int32Array | StoredArray
    values: Float32Array | StoredArray

    def __post_init__(self) -> None:
        starts = self.indptr
        if (
            starts.ndim != 1 or starts.size == 0 or starts[0] != 0 or (starts[1:] < starts[:-1]).any()
            or not self.indices.shape == self.values.shape == (int(starts[-1]),)
        ):  # fmt: skip
            raise TraceFormatError(
                "magnitude",
                found=f"{list(starts.shape)} starts, {list(self.indices.shape)} indices, {list(self.values.shape)} "
                "values", expected="ascending starts from 0 up to the number of values",
                remedy=RECORD_AGAIN,
            )  # fmt: skip


@dataclass(frozen=True, eq=False)
class BlockTrace:
    """The activations of one FFN block.

    Parameters
    ----------
    n_neurons : int
    active : ndarray of shape (n_rows, ceil(n_neurons / 8)), uint8
        Neuron j of row t is bit ``j % 8`` of byte ``[t, j // 8]``; bits past the last neuron are 0. May stay in a file:
        ``numpy.asarray`` reads rows.
    token_index : ndarray of shape (n_rows,), int32, optional
        Token of each row, ascending, where not every token reaches the block (experts). None: row t is token t.
    magnitudes : Magnitudes, optional
        What the active neurons put out; one row for each of `active`.
    predicted : ndarray of the shape of `active`, uint8, optional
        Which neurons a predictor said would fire, packed the same way. May stay in a file.

    Raises
    ------
    TraceFormatError
        If shapes do not fit `n_neurons`, a bit past the last neuron is set, or a magnitude is of a neuron that there is
        not, that does not fire in that row or stands out of order, or is no finite number.
    """

    n_neurons: int
    active: UInt8Array | StoredArray
    token_index: Int32Array | None = None
    magnitudes: Magnitudes | None = None
    predicted: UInt8Array | StoredArray | None = None

    def __post_init__(self) -> None:
        row_bytes = (self.n_neurons + 7) // 8
        if self.n_neurons < 1 or self.active.ndim != 2 or self.active.shape[1] != row_bytes:
            raise TraceFormatError(
                "active", found=f"shape {list(self.active.shape)}",
                expected=f"[n_rows, {row_bytes}] for {self.n_neurons} neurons", remedy=RECORD_AGAIN,
            )  # fmt: skip
        _check_padding("active", self.n_neurons, self.active)
        if self.predicted is not None:
            if self.predicted.shape != self.active.shape:
                raise TraceFormatError(
                    "predicted", found=f"shape {list(self.predicted.shape)}",
                    expected=f"{list(self.active.shape)}, that of the bits that fire", remedy=RECORD_AGAIN,
                )  # fmt: skip
            _check_padding("predicted", self.n_neurons, self.predicted)
        if self.token_index is not None and (
            self.token_index.shape != (self.n_rows,) or not (self.token_index[1:] > self.token_index[:-1]).all()
        ):
            raise TraceFormatError(
                "token_index", found=f"shape {list(self.token_index.shape)} or tokens out of order",
                expected=f"{self.n_rows} ascending tokens", remedy=RECORD_AGAIN,
            )  # fmt: skip
        if self.magnitudes is not None:
            _check_magnitudes(self.n_neurons, self.active, self.magnitudes)

    @property
    def n_rows(self) -> int:
        """Recorded rows: tokens that reach the block."""
        return int(self.active.shape[0])


@dataclass(frozen=True, eq=False)
class ActivationTrace:
    """Which neurons fired for each token of a text.

    Parameters
    ----------
    blocks : mapping of str to BlockTrace
        By block name, kept in model order; not empty.
    n_tokens : int
        At least 1.
    segment_starts : ndarray of shape (n_segments,), int64
        First token of each text segment, ascending from 0: locality means nothing across them.
    tokens : ndarray of shape (n_tokens,), int32, optional
        Token ids.
    phases : ndarray of shape (n_tokens,), uint8, optional
        What each token was served for: `PREFILL`, many at a time, layer by layer, or `DECODE`, one after the other.
    metadata : mapping of str to str
        ``activity`` (the rule by which a neuron counts as active), ``unit`` (what a block is made of; absent:
        neurons), ``thresholds`` (JSON, by block, where the rule fitted some), ``model``, ``dataset``,
        ``predicted_recall`` (of the blocks' predictions).
    sources : tuple of str
        Digests of what it was made of (`ripple_place.trace.origin`), if it is not its own one source.

    Raises
    ------
    TraceFormatError
        If a block has rows that are no tokens of the trace, segments are out of order, the recall of predictions is no
        share, or the unit is unknown or does not fit the blocks.
    """

    blocks: Mapping[str, BlockTrace]
    n_tokens: int
    segment_starts: Int64Array
    tokens: Int32Array | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)
    sources: tuple[str, ...] = ()
    phases: UInt8Array | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", {name: self.blocks[name] for name in sorted_blocks(self.blocks)})
        if not self.blocks or self.n_tokens < 1:
            raise TraceFormatError(
                "trace", found=f"{len(self.blocks)} blocks, {self.n_tokens} tokens", expected="at least one of each",
                remedy="record the trace again, on some text",
            )  # fmt: skip
        starts = self.segment_starts
        if starts.ndim != 1 or starts.size == 0 or starts[0] != 0 or starts[-1] >= self.n_tokens or not (
            starts[1:] > starts[:-1]
        ).all():  # fmt: skip
            raise TraceFormatError(
                "segment_starts", found=f"{starts[:8].tolist()}",
                expected=f"ascending tokens from 0, below {self.n_tokens}", remedy=RECORD_AGAIN,
            )  # fmt: skip
        if self.tokens is not None and self.tokens.shape != (self.n_tokens,):
            raise TraceFormatError(
                "tokens", found=f"shape {list(self.tokens.shape)}", expected=f"[{self.n_tokens}]",
                remedy=RECORD_AGAIN,
            )  # fmt: skip
        if self.phases is not None and (
            self.phases.shape != (self.n_tokens,) or self.phases.max(initial=0) > max(PHASES)
        ):  # fmt: skip
            raise TraceFormatError(
                "phases", found=f"shape {list(self.phases.shape)}, or other numbers",
                expected=f"[{self.n_tokens}] of {PREFILL} (prefill) and {DECODE} (decode)", remedy=RECORD_AGAIN,
            )  # fmt: skip
        for name, block in self.blocks.items():
            if block.token_index is None:
                fits = block.n_rows == self.n_tokens
            else:
                fits = block.n_rows == 0 or 0 <= block.token_index[0] <= block.token_index[-1] < self.n_tokens
            if not fits:
                raise TraceFormatError(
                    name, found=f"{block.n_rows} rows", expected=f"tokens below {self.n_tokens}",
                    remedy="record all blocks on the same tokens",
                )  # fmt: skip
        recall = self.metadata.get(PREDICTED_RECALL)
        if recall is not None and not _is_share(recall):
            raise TraceFormatError(
                PREDICTED_RECALL, found=repr(recall), expected="a share above 0 and below 1, such as 0.99",
                remedy=RECORD_AGAIN,
            )  # fmt: skip
        if problem := unit_problem(self.unit, self.blocks):
            raise TraceFormatError(
                "unit", found=problem, expected=UNITS_EXPECTED, remedy=RECORD_AGAIN,
            )  # fmt: skip

    @property
    def unit(self) -> str:
        """What a block is made of, one of `ripple_place.blocks.UNITS`."""
        return self.metadata.get("unit", NEURON)

    def without_magnitudes(self) -> ActivationTrace:
        """Return the trace without what neurons put out."""
        return replace(self, blocks={name: replace(block, magnitudes=None) for name, block in self.blocks.items()})

    @property
    def has_predictions(self) -> bool:
        """Whether some block says what a predictor said."""
        return any(block.predicted is not None for block in self.blocks.values())

    @property
    def predicted_recall(self) -> float | None:
        """The recall that predictions were set to; None without predictions, or where the trace does not say."""
        text = self.metadata.get(PREDICTED_RECALL)
        return None if text is None or not self.has_predictions else float(text)

    @property
    def is_as_predicted(self) -> bool:
        """Whether its bits, or some of them, are what predictors said instead of what fired."""
        return _MARK in self.metadata.get("activity", "")

    def as_predicted(self) -> ActivationTrace:
        """Return the trace whose bits are those that were predicted, without magnitudes.

        Raises
        ------
        TraceFormatError
            If a block has no predictions.
        """
        blocks = {}
        for name, block in self.blocks.items():
            if block.predicted is None:
                raise TraceFormatError(
                    name, found="no predictions",
                    expected="what a predictor said of each token, in every trace at one recall",
                    remedy="record them with `ripple-place profile MODEL --text FILE --predictor-from PROFILE "
                    "--record-predicted RECALL`",
                )  # fmt: skip
            blocks[name] = BlockTrace(block.n_neurons, block.predicted, block.token_index)
        metadata = {key: value for key, value in self.metadata.items() if key not in _OF_WHAT_FIRED}
        recall = self.metadata.get(PREDICTED_RECALL)
        at_recall = "" if recall is None else f" at recall {recall}"
        metadata["activity"] = f"{metadata.get('activity', 'unknown')}{_MARK}{at_recall}"
        return replace(self, blocks=blocks, metadata=metadata)

    def select(self, names: list[str]) -> ActivationTrace:
        """Return the trace of some of the blocks."""
        blocks = {name: self.blocks[name] for name in names}
        return ActivationTrace(
            blocks, self.n_tokens, self.segment_starts, self.tokens, self.metadata, phases=self.phases
        )  # fmt: skip


def _is_share(text: str) -> bool:
    """Tell whether a text is a number above 0 and below 1."""
    try:
        return 0 < float(text) < 1
    except ValueError:
        return False


def _check_padding(tensor: str, n_neurons: int, bits: UInt8Array | StoredArray) -> None:
    """Refuse bits past the last neuron; raises TraceFormatError."""
    if n_neurons % 8 and any(
        (rows[:, -1] >> np.uint8(n_neurons % 8)).any()
        for rows in (bits.chunks() if isinstance(bits, StoredArray) else [bits])
    ):
        raise TraceFormatError(
            tensor, found=f"bits set past neuron {n_neurons - 1}", expected="zeros there",
            remedy="pack them with numpy.packbits(..., bitorder='little'), or correct the number of neurons",
        )  # fmt: skip


def _check_magnitudes(n_neurons: int, active: UInt8Array | StoredArray, magnitudes: Magnitudes) -> None:
    """Refuse magnitudes that are not those of a block's active neurons.

    Raises
    ------
    TraceFormatError
        At the first, by row.
    """
    starts, n_rows = magnitudes.indptr, active.shape[0]
    if starts.size != n_rows + 1:
        raise TraceFormatError(
            "magnitude.indptr", found=f"{starts.size} starts", expected=f"{n_rows + 1}", remedy=RECORD_AGAIN
        )
    first = 0
    while first < n_rows:
        end = max(first + 1, int(np.searchsorted(starts, starts[first] + _CHECKED_VALUES, side="right")) - 1)
        here = slice(int(starts[first]), int(starts[end]))
        _check_rows(
            first, n_neurons, np.asarray(active[first:end]), starts[first : end + 1],
            np.asarray(magnitudes.indices[here]), np.asarray(magnitudes.values[here]),
        )  # fmt: skip
        first = end


def _check_rows(
    first: int, n_neurons: int, active: UInt8Array, starts: Int64Array, neurons: Int32Array, values: Float32Array
) -> None:
    """Check the magnitudes of some rows, from row `first` on; as `_check_magnitudes`."""
    row = np.repeat(np.arange(active.shape[0]), np.diff(starts))

    def refuse(tensor: str, bad: AnyArray, found: str, expected: str) -> None:
        if bad.any():
            at = int(bad.argmax())
            raise TraceFormatError(
                f"magnitude.{tensor}", found=f"{found} ".replace("#", str(neurons[at])) + f"in row {first + row[at]}",
                expected=expected, remedy=RECORD_AGAIN,
            )  # fmt: skip

    refuse("indices", (neurons < 0) | (neurons >= n_neurons), "neuron #", f"neurons from 0 to {n_neurons - 1}")
    unsorted = (neurons[1:] <= neurons[:-1]) & (row[1:] == row[:-1])
    refuse("indices", np.append(False, unsorted), "neuron # out of order", "ascending neurons in each row")
    bits = active.reshape(-1).take(row * active.shape[1] + (neurons >> 3))
    idle = bits >> (neurons & 7).astype(np.uint8) & 1 == 0
    refuse("indices", idle, "neuron #, which does not fire,", "magnitudes of active neurons only")
    refuse("values", ~np.isfinite(values), "a value of neuron # that is NaN or infinite", "finite numbers")
