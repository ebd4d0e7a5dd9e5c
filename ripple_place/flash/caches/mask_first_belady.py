"""Mask-first Belady: to make room for a token's mask, the residents that are needed again last leave.

No parameters. It knows the future, so that no reader can have it, but it is no bound: it must admit what a bound would
decline, and `belady` has at least as many hits. `mask_first` says what the policy shares with its siblings, and where
it comes from; DIP's code appends a mask of all neurons to the trace, which makes those that are never needed again
equals.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.flash.caches.mask_first import MaskFirstCache, admit_mask
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray
    from ripple_place.flash.caches.cache import Accesses


@compiled
def replay(
    neurons: Any, row_starts: Any, next_row: Any, admitted: Any, is_hit: Any, key: Any, scratch: Any, state: Any
) -> None:
    """Judge each row, then admit it whole; writes `is_hit`, state in place. The rank is the next row, negated."""
    for i in range(row_starts.size - 1):
        start, stop = row_starts[i], row_starts[i + 1]
        for access in range(start, stop):
            state.rank[neurons[access]] = -next_row[access]
        admit_mask(neurons[start:stop], admitted[start:stop], is_hit[start:stop], key, scratch, state)


class MaskFirstBelady(MaskFirstCache):
    """A mask-first cache in which the neurons with the furthest next use leave."""

    policy = "mask-first-belady"
    needs_future = True

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Access neurons row by row and write 1 to `is_hit` where one was in DRAM."""
        assert accesses.next_row is not None
        replay(accesses.neurons, accesses.row_starts, accesses.next_row, accesses.admitted, is_hit, *self.arguments)
