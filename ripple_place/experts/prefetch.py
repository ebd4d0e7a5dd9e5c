"""Reading experts ahead: what a layer is expected to use is read while the layer before is computed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array, Int64Array
    from ripple_place.experts.accesses import ExpertAccesses

PREVIOUS, HOTTEST = "previous", "hottest"


@dataclass(frozen=True)
class Prefetch:
    """What is read ahead for each layer of a token that is generated.

    Parameters
    ----------
    kind : {"previous", "hottest"}
        Those that the token before used in the layer, or the most frequent ones of the layer.
    n_experts : int
        Of ``hottest``.
    """

    kind: str
    n_experts: int = 0

    @classmethod
    def parse(cls, text: str) -> Prefetch:
        """Read ``previous`` or ``hottest:N``.

        >>> Prefetch.parse("hottest:8")
        Prefetch(kind='hottest', n_experts=8)

        Raises
        ------
        UsageError
            If it is neither.
        """
        if text == PREVIOUS:
            return cls(PREVIOUS)
        match = re.fullmatch(f"{HOTTEST}:([1-9][0-9]{{0,5}})", text)
        if match is None:
            raise UsageError(
                f"--prefetch {text}", found=repr(text), expected=f"{PREVIOUS}, or {HOTTEST}:N",
                remedy=f"write {PREVIOUS}, or for instance {HOTTEST}:8",
            )  # fmt: skip
        return cls(HOTTEST, int(match[1]))

    def __str__(self) -> str:
        """Write it as it is parsed."""
        return self.kind if self.kind == PREVIOUS else f"{self.kind}:{self.n_experts}"


@dataclass(frozen=True, eq=False)
class Guesses:
    """Experts that are read ahead unless they are there.

    Attributes
    ----------
    items : ndarray of shape (n_guesses,), int32
    before : ndarray of shape (n_guesses,), int64
        Place of the access that each comes before: the first one of a token in a layer.
    """

    items: Int32Array
    before: Int64Array


def guess(accesses: ExpertAccesses, prefetch: Prefetch, frequency: Int64Array, segment_starts: Int64Array) -> Guesses:
    """Return what is guessed for each layer of each token that is generated.

    Parameters
    ----------
    accesses : ExpertAccesses
        In execution order.
    prefetch : Prefetch
    frequency : ndarray of shape (n_items,), int64
        What the hottest are told by.
    segment_starts : ndarray of shape (n_segments,), int64
        First tokens of segments: no token guesses from the one before there.
    """
    key = accesses.steps * len(accesses.blocks) + accesses.layers
    firsts = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]) & accesses.is_decode)
    ends = np.searchsorted(key, key[firsts], side="right")
    if prefetch.kind == HOTTEST:
        hottest = [
            np.argsort(-frequency[first:end], kind="stable")[: prefetch.n_experts] + first
            for first, end in zip(accesses.first_item[:-1], accesses.first_item[1:], strict=True)
        ]
        parts = [hottest[layer] for layer in accesses.layers[firsts].tolist()]
    else:
        parts = _previous(accesses, firsts, ends, segment_starts)
    sizes = [part.size for part in parts]
    items = np.concatenate([np.empty(0, np.int64), *parts]).astype(np.int32)
    return Guesses(items, np.repeat(firsts, sizes))


def _previous(
    accesses: ExpertAccesses, firsts: Int64Array, ends: Int64Array, segment_starts: Int64Array
) -> list[Int32Array]:
    """Return for each group the experts of the token before in the same layer; nothing where there was none."""
    last: dict[int, tuple[int, Int32Array]] = {}
    segment = np.searchsorted(segment_starts, accesses.tokens[firsts], side="right")
    parts = []
    for first, end, number in zip(firsts.tolist(), ends.tolist(), segment.tolist(), strict=True):
        layer = int(accesses.layers[first])
        before = last.get(layer)
        is_known = before is not None and before[0] == number
        parts.append(before[1] if before is not None and is_known else np.empty(0, np.int32))
        last[layer] = (number, accesses.items[first:end])
    return parts
