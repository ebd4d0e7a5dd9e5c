"""Window: the neurons of the last K tokens stay in DRAM; older ones are dropped, needed or not.

``window:K``. LLM in a Flash keeps the neurons of a sliding window of tokens and loads only what a token needs beyond
them [1]_; it reports K = 4 and 5. There DRAM holds whatever the window takes (24 % of the FFN at K = 4). Here a
budget holds as well: where the window needs more, the neurons used longest ago leave first. Tokens are those that
reach the block, or in a pool some block of it: a pool has several rows a token, which count as one.

References
----------
.. [1] Alizadeh et al., "LLM in a flash: Efficient Large Language Model Inference with Limited Memory",
       arXiv:2312.11514, section 3.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.flash.caches import lru
from ripple_place.flash.caches.cache import LONE_READS, Accesses, ArrayCache, CacheKernels
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.placement import NeuronPlacement

_ABSENT = -1
_RESIDENT = 1
_TOKEN, _WINDOW = 0, 1


def allocate(capacity: int, n_neurons: int, n_tokens: int) -> tuple[AnyArray, ...]:
    """Return the state of an empty cache: that of LRU, the token of each neuron's last access, the token, and K."""
    return (*lru.allocate(capacity, n_neurons), np.zeros(n_neurons, np.int64), np.array([0, n_tokens], np.int64))


@compiled
def replay(
    neurons: Any, row_starts: Any, token_ends: Any, admitted: Any, is_hit: Any, newer: Any, older: Any, counts: Any,
    last_token: Any, clock: Any,
) -> None:  # fmt: skip
    """Before each row drop what the last K tokens did not ask for; then as LRU; writes `is_hit`, state in place."""
    anchor = newer.size - 1
    for i in range(row_starts.size - 1):
        token = clock[_TOKEN]
        oldest = newer[anchor]
        while oldest != anchor and last_token[oldest] < token - clock[_WINDOW]:
            following = newer[oldest]
            newer[anchor] = following
            older[following] = anchor
            older[oldest] = _ABSENT
            counts[_RESIDENT] -= 1
            oldest = following
        start, stop = row_starts[i], row_starts[i + 1]
        lru.replay(neurons[start:stop], admitted[start:stop], is_hit[start:stop], newer, older, counts)
        for access in range(start, stop):
            last_token[neurons[access]] = token
        clock[_TOKEN] = token + token_ends[i]


@compiled
def access(
    neurons: Any, admitted: Any, is_hit: Any, newer: Any, older: Any, counts: Any, last_token: Any, clock: Any
) -> None:  # fmt: skip
    """Replay one row."""
    row_starts = np.array([0, neurons.size])
    replay(neurons, row_starts, np.ones(1, np.uint8), admitted, is_hit, newer, older, counts, last_token, clock)


@compiled
def holds(neuron: int, arguments: Any) -> bool:
    """Return whether a neuron is in DRAM, and the next row will not drop it."""
    is_recent = arguments[3][neuron] >= arguments[4][_TOKEN] - arguments[4][_WINDOW]
    return is_recent and lru.holds(neuron, arguments)


class Window(ArrayCache):
    """A cache of the neurons of the last `n_tokens` tokens, at most `capacity` of them; empty at first."""

    policy = "window"
    kernels = CacheKernels(access, holds)

    def __init__(
        self, capacity: int, placement: NeuronPlacement, reads: ReadCost = LONE_READS, *, n_tokens: int
    ) -> None:
        super().__init__(*allocate(capacity, placement.n_neurons, n_tokens))

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Access neurons in order and write 1 to `is_hit` where one was in DRAM."""
        replay(accesses.neurons, accesses.row_starts, accesses.ends, accesses.admitted, is_hit, *self._state)
