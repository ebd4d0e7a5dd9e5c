"""How the hits of a cache develop over a trace, and how many the best replacement would have had."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ripple_place.arrays import Int32Array, Int64Array
    from ripple_place.flash.replay import Chunk

N_TENTHS = 10


@dataclass(frozen=True, eq=False)
class HitCounts:
    """Accesses and hits of one block, or of several, by tenth of the trace's tokens.

    Attributes
    ----------
    active_by_tenth, hits_by_tenth : ndarray of shape (N_TENTHS,), int64
        Token t of n counts in tenth ``10 t // n``.
    n_bound_hits : int or None
        Hits of Belady's replacement at the same capacity, everything admitted; None where it was not asked for.
    """

    active_by_tenth: Int64Array
    hits_by_tenth: Int64Array
    n_bound_hits: int | None = None

    @classmethod
    def sum(cls, parts: Iterable[HitCounts]) -> HitCounts:
        """Return the counts of several blocks together; the bound is known if that of each is."""
        parts = list(parts)
        bound_hits = [part.n_bound_hits for part in parts if part.n_bound_hits is not None]
        return cls(
            np.sum([part.active_by_tenth for part in parts], axis=0, dtype=np.int64),
            np.sum([part.hits_by_tenth for part in parts], axis=0, dtype=np.int64),
            sum(bound_hits) if bound_hits and len(bound_hits) == len(parts) else None,
        )

    def scores(self) -> dict[str, Any]:
        """Return the ratios; one to nothing is None."""
        n_active = int(self.active_by_tenth.sum())
        known = self.n_bound_hits is not None and n_active > 0
        return {
            "cache_hit_ratio_by_tenth": [
                int(n_hits) / int(n) if n else None
                for n_hits, n in zip(self.hits_by_tenth, self.active_by_tenth, strict=True)
            ],
            "cache_hit_ratio_belady": (self.n_bound_hits or 0) / n_active if known else None,
        }


class HitCounter:
    """Counts the chunks of one block's replay.

    Parameters
    ----------
    tokens : ndarray of shape (n_rows,), int32
        Token of each row, ascending.
    n_tokens : int
        Of the whole trace.
    has_bound : bool
        Whether the chunks come with the hits of a bound.
    """

    def __init__(self, tokens: Int32Array, n_tokens: int, *, has_bound: bool) -> None:
        first_token = -(-np.arange(N_TENTHS + 1) * n_tokens // N_TENTHS)
        self._first_row = np.searchsorted(tokens, first_token)
        self._has_bound = has_bound
        self._n_bound_hits = 0
        self._active, self._hits = np.zeros(N_TENTHS, np.int64), np.zeros(N_TENTHS, np.int64)

    def count(self, chunk: Chunk) -> None:
        """Add the accesses of a chunk."""
        rows = np.clip(self._first_row - chunk.first_row, 0, chunk.n_rows)
        bounds = chunk.row_starts[rows]
        for tenth in np.flatnonzero(np.diff(bounds)):
            start, stop = bounds[tenth], bounds[tenth + 1]
            self._active[tenth] += stop - start
            self._hits[tenth] += np.count_nonzero(chunk.is_hit[start:stop])
        self._n_bound_hits += chunk.n_bound_hits

    def counts(self) -> HitCounts:
        """Return what was counted so far."""
        return HitCounts(self._active, self._hits, self._n_bound_hits if self._has_bound else None)
