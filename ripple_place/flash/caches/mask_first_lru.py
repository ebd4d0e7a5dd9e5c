"""Mask-first LRU: to make room for a token's mask, the residents whose last use lies furthest back leave.

No parameters. Neurons are used token by token: all neurons of one mask are used at the same time. `mask_first` says
what the policy shares with its siblings, and where it comes from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.flash.caches.cache import Accesses, CacheKernels
from ripple_place.flash.caches.mask_first import ROW, MaskFirstCache, admit_mask, holds
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray


@compiled
def replay(neurons: Any, row_starts: Any, admitted: Any, is_hit: Any, key: Any, scratch: Any, state: Any) -> None:
    """Judge each row, then admit it whole; writes `is_hit`, state in place. The rank is the row of the last use."""
    for i in range(row_starts.size - 1):
        start, stop = row_starts[i], row_starts[i + 1]
        for neuron in neurons[start:stop]:
            state.rank[neuron] = state.counts[ROW]
        admit_mask(neurons[start:stop], admitted[start:stop], is_hit[start:stop], key, scratch, state)


@compiled
def access(neurons: Any, admitted: Any, is_hit: Any, key: Any, scratch: Any, state: Any) -> None:
    """Replay one row."""
    replay(neurons, np.array([0, neurons.size]), admitted, is_hit, key, scratch, state)


class MaskFirstLru(MaskFirstCache):
    """A mask-first cache in which the least recently used neurons leave."""

    policy = "mask-first-lru"
    kernels = CacheKernels(access, holds, in_slot_order=True)

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Access neurons row by row and write 1 to `is_hit` where one was in DRAM."""
        replay(accesses.neurons, accesses.row_starts, accesses.admitted, is_hit, *self.arguments)
