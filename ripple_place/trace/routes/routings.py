"""A table of routings, one row for each expert that a token used in a layer, and the trace that it makes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.blocks import EXPERT, unit_metadata
from ripple_place.errors import TraceFormatError
from ripple_place.trace.activation_trace import DECODE, ActivationTrace, BlockTrace, Magnitudes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import BoolArray, Float32Array, Float64Array, Int64Array, UInt8Array

MAX_EXPERTS = 4096
"""Experts of a layer, at most: twice those of Switch-C, the widest mixture whose weights are published (arXiv
2101.03961, table 9). Large numbers take few bytes in a text, but every row has a bit for each expert."""
MAX_LAYERS = 10**9
"""Layer numbers end below this, as in the names of blocks."""
ROUTED = "routed"
"""The activity rule of such traces: an expert is active for the tokens that are routed to it."""


@dataclass(frozen=True, eq=False)
class Routings:
    """Which experts tokens were routed to, in any order.

    Attributes
    ----------
    turns, tokens : ndarray of shape (n_routings,), int64
        A token is told by both. Tokens follow each other by turn, then by number; numbers may be left out.
    layers, experts : ndarray of shape (n_routings,), int64
    weights : ndarray of shape (n_routings,), float64, or None
        The router's.
    phases : ndarray of shape (n_routings,), uint8, or None
        `PREFILL` or `DECODE`, of the token.
    """

    turns: Int64Array
    tokens: Int64Array
    layers: Int64Array
    experts: Int64Array
    weights: Float64Array | None = None
    phases: UInt8Array | None = None

    @property
    def n_routings(self) -> int:
        """Rows of the table."""
        return self.experts.size


def routes_error(where: object, *, found: str, expected: str) -> TraceFormatError:
    """Return the error for routes that contradict themselves or their format."""
    return TraceFormatError(
        where, found=found, expected=expected,
        remedy="correct what wrote the routes (docs/formats.md), or record them again",
    )  # fmt: skip


def cut_off_error(where: object, *, found: str, expected: str) -> TraceFormatError:
    """Return the error for routes of which some token was not written to its end."""
    return TraceFormatError(
        where, found=found, expected=expected, remedy="remove the rows of that token, or record the routes again"
    )


def trace_of_routings(
    where: object, routings: Routings, n_experts: int | None, metadata: Mapping[str, str]
) -> ActivationTrace:
    """Return the trace of experts that routings make: a block for each layer, a segment for each turn.

    Parameters
    ----------
    where : object
        Their source, for messages.
    routings : Routings
    n_experts : int or None
        Experts of every layer; by default, up to the highest number there is.
    metadata : mapping of str to str
        Of the trace, besides its unit and activity.

    Raises
    ------
    TraceFormatError
        If there are none; a number is negative or too large, or a weight no finite number; an expert is named twice for
        one token and layer; or a token is in two phases.

    Notes
    -----
    Sorts the table twice: O(n log n) time, about 100 bytes a routing.
    """
    if routings.n_routings == 0:
        raise routes_error(where, found="no routing", expected="at least one")
    n_experts = _check_numbers(where, routings, n_experts)
    token_of, is_first = _number_tokens(routings)
    n_tokens = int(token_of.max()) + 1
    segment_starts = np.unique(token_of[is_first])
    phases = None if routings.phases is None else _phase_of_tokens(where, routings, token_of, n_tokens)

    order = np.lexsort((routings.experts, token_of, routings.layers))
    layers, tokens, experts = routings.layers[order], token_of[order], routings.experts[order]
    _check_distinct(where, routings, order, layers, tokens, experts)
    weights = None if routings.weights is None else routings.weights[order].astype(np.float32)
    starts = np.flatnonzero(np.append(True, layers[1:] != layers[:-1]))
    blocks = {}
    for first, end in zip(starts, np.append(starts[1:], layers.size), strict=True):
        part = slice(int(first), int(end))
        of_layer = None if weights is None else weights[part]
        blocks[f"layers.{layers[first]}"] = _block(tokens[part], experts[part], of_layer, n_experts, n_tokens)
    said = {**unit_metadata(EXPERT), "activity": ROUTED, **metadata}
    return ActivationTrace(blocks, n_tokens, segment_starts.astype(np.int64), None, said, phases=phases)


def check_whole(where: object, routings: Routings) -> None:
    """Refuse routes in which a token that was generated lacks a layer that others have, as where a file was cut off.

    Tokens of a prompt may lack some: engines skip what no later layer needs, such as the last layer of all but the
    last token.

    Raises
    ------
    TraceFormatError
    """
    if routings.phases is None:
        return
    chosen = routings.phases == DECODE
    keys = np.unique(np.stack([part[chosen] for part in (routings.turns, routings.tokens, routings.layers)]), axis=1)
    n_layers = np.unique(keys[2]).size
    _, place, counts = np.unique(keys[:2], axis=1, return_index=True, return_counts=True)
    short = np.flatnonzero(counts < n_layers)
    if short.size:
        turn, token = keys[:2, place[short[0]]].tolist()
        raise cut_off_error(
            f"{where}: turn {turn}, token {token}", found=f"{counts[short[0]]} layers",
            expected=f"{n_layers}, as of other tokens that were generated",
        )  # fmt: skip


def _check_numbers(where: object, routings: Routings, n_experts: int | None) -> int:
    """Return the number of experts, or raise at the first number out of range."""
    highest = int(routings.experts.max()) + 1 if n_experts is None else n_experts
    for what, values, limit in (
        ("expert", routings.experts, min(highest, MAX_EXPERTS)), ("layer", routings.layers, MAX_LAYERS),
        ("token", routings.tokens, 2**53), ("turn", routings.turns, 2**53),
    ):  # fmt: skip
        bad = (values < 0) | (values >= limit)
        if bad.any():
            raise routes_error(
                f"{where}: routing {int(bad.argmax())}", found=f"{what} {values[bad.argmax()]}",
                expected=f"0 to {limit - 1}",
            )  # fmt: skip
    if not 1 <= highest <= MAX_EXPERTS:
        raise routes_error(where, found=f"{highest} experts", expected=f"1 to {MAX_EXPERTS}")
    if routings.weights is not None:
        with np.errstate(over="ignore"):
            bad = ~np.isfinite(routings.weights.astype(np.float32))
        if bad.any():
            at = int(bad.argmax())
            raise routes_error(
                f"{where}: routing {at}", found=f"weight {routings.weights[at]}", expected="a finite float32"
            )
    return highest


def _number_tokens(routings: Routings) -> tuple[Int64Array, BoolArray]:
    """Return the token of each routing, counted from 0, and which routings are of the first token of a turn."""
    order = np.lexsort((routings.tokens, routings.turns))
    turns, tokens = routings.turns[order], routings.tokens[order]
    turned = np.append(True, turns[1:] != turns[:-1])
    numbers = np.cumsum(turned | np.append(True, tokens[1:] != tokens[:-1])) - 1
    token_of = np.empty(order.size, np.int64)
    token_of[order] = numbers
    is_first = np.zeros(order.size, bool)
    is_first[order] = turned
    return token_of, is_first


def _phase_of_tokens(where: object, routings: Routings, token_of: Int64Array, n_tokens: int) -> UInt8Array:
    assert routings.phases is not None
    lowest, highest = np.full(n_tokens, 255, np.uint8), np.zeros(n_tokens, np.uint8)
    np.minimum.at(lowest, token_of, routings.phases)
    np.maximum.at(highest, token_of, routings.phases)
    if (mixed := lowest != highest).any():
        at = int(np.flatnonzero(mixed[token_of])[0])
        raise routes_error(_token(where, routings, at), found="two phases", expected="one phase for each token")
    return lowest


def _check_distinct(
    where: object, routings: Routings, order: Int64Array, layers: Int64Array, tokens: Int64Array, experts: Int64Array
) -> None:
    """Raise at an expert that is named twice for one token and layer; all sorted by layer, token and expert."""
    again = (layers[1:] == layers[:-1]) & (tokens[1:] == tokens[:-1]) & (experts[1:] == experts[:-1])
    if again.any():
        at = int(again.argmax())
        raise routes_error(
            f"{_token(where, routings, int(order[at]))}, layer {layers[at]}", found=f"expert {experts[at]} twice",
            expected="each expert once for a token and layer",
        )  # fmt: skip


def _token(where: object, routings: Routings, at: int) -> str:
    """Name the token of a routing."""
    return f"{where}: turn {routings.turns[at]}, token {routings.tokens[at]}"


def _block(
    tokens: Int64Array, experts: Int64Array, weights: Float32Array | None, n_experts: int, n_tokens: int
) -> BlockTrace:
    """Return the trace of a layer from its routings, sorted by token and expert."""
    reached, counts = np.unique(tokens, return_counts=True)
    row = np.repeat(np.arange(reached.size), counts)
    active = np.zeros((reached.size, (n_experts + 7) // 8), np.uint8)
    np.bitwise_or.at(active, (row, experts >> 3), np.left_shift(1, experts & 7).astype(np.uint8))
    magnitudes = None
    if weights is not None:
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        magnitudes = Magnitudes(indptr, experts.astype(np.int32), weights)
    index = None if reached.size == n_tokens else reached.astype(np.int32)
    return BlockTrace(n_experts, active, index, magnitudes)
