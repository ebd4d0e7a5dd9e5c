"""Replay a model's trace through one DRAM cache that all its blocks share, a chunk of tokens at a time.

Accesses come in the order in which a model makes them: token by token, in each token block by block, in a block in slot
order. What a cache takes for a row is one token's accesses to one block.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash import replay
from ripple_place.flash.admission import Admission
from ripple_place.flash.caches.cache import Accesses
from ripple_place.flash.pool_block import PoolBlock, PoolBuffers
from ripple_place.flash.replay import Chunk
from ripple_place.kernels.rows import copy_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ripple_place.arrays import AnyArray, Int64Array, UInt8Array
    from ripple_place.flash.caches.cache import Cache
    from ripple_place.flash.pool import Pool
    from ripple_place.placement import NeuronPlacement
    from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace

WIDEST_CHUNK = 32
"""Bits in a chunk of tokens, at most so many times those in a chunk of one block: large models get fewer tokens."""


def replay_pool(
    trace: ActivationTrace,
    placements: Mapping[str, NeuronPlacement],
    pool: Pool,
    cache: Cache,
    *,
    admission: Admission | None = None,
    reset_tokens: Sequence[int] = (),
    before_token: Mapping[int, Callable[[], None]] | None = None,
    bound: Cache | None = None,
    fired: Mapping[str, BlockTrace] | None = None,
) -> Iterator[dict[str, Chunk]]:
    """Yield what consecutive tokens access in each block, in slot order, and what of it was in DRAM.

    Parameters
    ----------
    trace : ActivationTrace
    placements : mapping of str to NeuronPlacement
        Of each of the trace's blocks.
    pool : Pool
        Of those placements.
    cache : Cache
        Made for the pool's placement; its state advances.
    admission : Admission, optional
        Which misses may enter `cache`; None admits all. What it draws is what it draws for caches of single blocks.
    reset_tokens : sequence of int
        Ascending tokens before which caches are emptied.
    before_token : mapping of int to callable, optional
        What else is done before a token, after emptying.
    bound : Cache, optional
        Asked for the same neurons, all of them admitted; its hits are counted beside.
    fired : mapping of str to BlockTrace, optional
        By block, what fires; then `trace` says what is asked for there, and only what fires may enter `cache`.

    Yields
    ------
    dict of str to Chunk
        By block, in model order, of those that the tokens reach; arrays are reused by the next ones.

    Notes
    -----
    Memory is that of one chunk of tokens, whatever the length of the trace, at most about 20 bytes for each access in
    it; caches that know the future need what they need for single blocks (`ripple_place.flash.replay.replay_block`).

    Beside listing the slots and replaying the policy, each access is copied three times: to the order of the model,
    with its admission, and its hit back. On opt-relu (4 blocks of 4096, 10 % in DRAM) a replay of LRU takes 29 ns an
    access instead of the 21 ns of four caches, one of S3-FIFO 29 instead of 21; what the copies do not explain is
    larger state, which misses the processor's caches more often. The replay is the work of one thread.
    """
    admission, events = admission or Admission(), before_token or {}
    all_admitted = admission.cutoff is None and not fired
    caches = [cache] if bound is None else [cache, bound]
    resets = frozenset(map(int, reset_tokens))
    bounds = _bounds(trace, {*resets, *events})
    blocks = [
        PoolBlock(
            name,
            block,
            placements[name],
            number,
            pool.first_neuron[name],
            len(trace.blocks),
            trace.n_tokens,
            bounds,
            (fired or {}).get(name),
        )
        for number, (name, block) in enumerate(trace.blocks.items())
    ]
    n_chunks = bounds.size - 1
    buffers = PoolBuffers.allocate(max(sum(block.n_bits(chunk) for block in blocks) for chunk in range(n_chunks)))
    needs_future = any(each.needs_future for each in caches)
    if needs_future:
        for block in blocks:
            block.look_ahead()
    for chunk in range(n_chunks):
        first_token = int(bounds[chunk])
        if first_token in resets:
            for each in caches:
                each.reset()
        if first_token in events:
            events[first_token]()
        present = [block for block in blocks if block.n_bits(chunk)]
        if not present:
            continue
        starts, place = [], 0
        for block in present:
            starts.append(block.list_accesses(chunk, place, buffers, admission))
            place += int(starts[-1][-1])
        rows = _Rows.of_blocks(chunk, present, starts)
        accesses = rows.accesses(buffers, with_future=needs_future, all_admitted=all_admitted)
        is_hit = buffers.pooled_hit[: accesses.neurons.size]
        n_bound_hits = {block.name: 0 for block in present}
        if bound is not None:
            everything = np.ones(accesses.neurons.size, np.uint8)
            bound.replay(
                Accesses(accesses.neurons, accesses.row_starts, everything, accesses.next_row, accesses.token_ends),
                is_hit,
            )
            rows.bring_back(buffers)
            for block, row_starts in zip(present, starts, strict=True):
                hits = buffers.is_hit[block.place : block.place + int(row_starts[-1])]
                n_bound_hits[block.name] = int(np.count_nonzero(hits))
        cache.replay(accesses, is_hit)
        rows.bring_back(buffers)
        yield {
            block.name: Chunk(
                int(block.bounds[chunk]), buffers.slots[block.place : block.place + int(row_starts[-1])],
                buffers.is_hit[block.place : block.place + int(row_starts[-1])], row_starts, n_bound_hits[block.name],
                block.fires(buffers, int(row_starts[-1])),
            )
            for block, row_starts in zip(present, starts, strict=True)
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Rows:
    """The rows of a chunk in the order of the model.

    Attributes
    ----------
    places, lengths, offsets : ndarray of shape (n_rows,), int64
        Where each row's accesses lie block by block, how many they are, and the first neuron of its block.
    row_starts : ndarray of shape (n_rows + 1,), int64
        Where they lie in the order of the model.
    token_ends : ndarray of shape (n_rows,), uint8
    """

    places: Int64Array
    lengths: Int64Array
    offsets: Int64Array
    row_starts: Int64Array
    token_ends: UInt8Array

    @classmethod
    def of_blocks(cls, chunk: int, blocks: Sequence[PoolBlock], starts: Sequence[Int64Array]) -> _Rows:
        """Sort the rows of blocks by token, those of one token in model order."""
        tokens = np.concatenate([block.tokens(chunk) for block in blocks])
        by_token = np.argsort(tokens, kind="stable")
        places = np.concatenate([block.place + each[:-1] for block, each in zip(blocks, starts, strict=True)])
        lengths = np.concatenate([np.diff(each) for each in starts])[by_token]
        offsets = np.repeat([block.first_neuron for block in blocks], [each.size - 1 for each in starts])
        tokens = tokens[by_token]
        return cls(
            places[by_token], lengths, offsets[by_token],
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.append(tokens[1:] != tokens[:-1], True).astype(np.uint8),
        )  # fmt: skip

    def accesses(self, buffers: PoolBuffers, *, with_future: bool, all_admitted: bool) -> Accesses:
        """Return the accesses in the order of the model."""
        n, nothing = int(self.row_starts[-1]), np.zeros(self.lengths.size, np.int64)
        self._put(buffers.neurons, buffers.pooled, self.offsets)
        if all_admitted:
            buffers.pooled_admitted[:n] = 1
        else:
            self._put(buffers.admitted, buffers.pooled_admitted, nothing)
        if with_future:
            self._put(buffers.next_row, buffers.pooled_next, nothing)
        return Accesses(
            buffers.pooled[:n], self.row_starts, buffers.pooled_admitted[:n],
            buffers.pooled_next[:n] if with_future else None, self.token_ends,
        )  # fmt: skip

    def bring_back(self, buffers: PoolBuffers) -> None:
        """Copy the hits from the order of the model to that of the blocks."""
        nothing = np.zeros(self.lengths.size, np.int64)
        copy_rows(buffers.pooled_hit, self.row_starts, buffers.is_hit, self.places, self.lengths, nothing)

    def _put(self, source: AnyArray, target: AnyArray, offsets: Int64Array) -> None:
        copy_rows(source, self.places, target, self.row_starts, self.lengths, offsets)


def _bounds(trace: ActivationTrace, cuts: set[int]) -> Int64Array:
    """Return the first token of each chunk and the end of the trace; no chunk crosses a cut."""
    widest = max(block.n_neurons for block in trace.blocks.values())
    token_bits = max(1, sum(block.n_rows * block.n_neurons for block in trace.blocks.values()) // trace.n_tokens)
    n_tokens = max(1, min(replay.CHUNK_BITS // widest, WIDEST_CHUNK * replay.CHUNK_BITS // token_bits))
    edges = sorted({0, trace.n_tokens, *(token for token in cuts if 0 < token < trace.n_tokens)})
    firsts = [first for start, stop in pairwise(edges) for first in range(start, stop, n_tokens)]
    return np.array([*firsts, trace.n_tokens], np.int64)
