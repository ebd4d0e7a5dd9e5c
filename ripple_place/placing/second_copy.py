"""A second copy of each block in a second order: made for what the first leaves fragmented, and what that is worth."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.ordering.second_copy import divide, second_order
from ripple_place.placing.block_report import known
from ripple_place.placing.cached_block import rows_of
from ripple_place.placing.dram.misses import REFIT_TURN

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from ripple_place.placing.cached_block import CachedBlock
    from ripple_place.placing.orderings import BlockSearch

    Int32Array = npt.NDArray[np.int32]

GIB = 1 << 30
COPY_TURN = REFIT_TURN + 1
"""Of a block's draws, behind those of its first order."""


@dataclass(frozen=True)
class BlockCopies:
    """What a block costs on the rows that judge, from one copy and from two.

    Attributes
    ----------
    one, two : float
        lambda x reads + neurons read, over all those rows.
    n_rows : int
    """

    one: float
    two: float
    n_rows: int

    def to_json(self) -> dict[str, Any]:
        """Return the block's entry in ``reorder --json``: costs per row."""
        n_rows = self.n_rows or math.nan
        return {"one": known(self.one / n_rows), "two": known(self.two / n_rows)}


@dataclass(frozen=True)
class CopiesReport:
    """What a second copy buys, all blocks together.

    Attributes
    ----------
    blocks : mapping of str to BlockCopies
    n_tokens : int
        Tokens that judge.
    held_out : bool
        False if the trace is too short to hold any out: then they are those that were searched.
    extra_bytes : int or None
        Flash that the second copy takes; None where the size of a neuron's weights is unknown.
    """

    blocks: Mapping[str, BlockCopies]
    n_tokens: int
    held_out: bool
    extra_bytes: int | None

    @property
    def one(self) -> float:
        """Cost per token from one copy."""
        return sum(block.one for block in self.blocks.values()) / max(1, self.n_tokens)

    @property
    def two(self) -> float:
        """Cost per token from two copies."""
        return sum(block.two for block in self.blocks.values()) / max(1, self.n_tokens)

    @property
    def gain(self) -> float:
        """Share of the cost that the second copy saves; 0 where there is none to save."""
        return 1 - self.two / self.one if self.one else 0.0

    @property
    def gain_per_gib(self) -> float | None:
        """`gain` by GiB of flash."""
        return self.gain * GIB / self.extra_bytes if self.extra_bytes else None

    def to_json(self) -> dict[str, Any]:
        """Return the ``copies`` entry of ``reorder --json``."""
        return {
            "n_tokens": self.n_tokens,
            "held_out": self.held_out,
            "cost_per_token": {"one": self.one, "two": self.two},
            "gain": self.gain,
            "extra_bytes": self.extra_bytes,
            "gain_per_gib": self.gain_per_gib,
            "blocks": {name: block.to_json() for name, block in self.blocks.items()},
        }


def copy_block(
    block: CachedBlock, order: Int32Array, pinned: Int32Array | None, search: BlockSearch
) -> tuple[Int32Array, BlockCopies]:
    """Return a second order of a block, made for what the rows searched read from flash, and what it is worth.

    Parameters
    ----------
    block : CachedBlock
        With the cache that it is to be served behind; which is planned on what misses, whatever the copies.
    order : ndarray of shape (n_neurons,), int32
        Of the first copy.
    pinned : ndarray of int32 or None
        As for `CachedBlock.serve`.
    search : BlockSearch
        How the second order is searched for; always by flash time.
    """
    served = block.serve(order, pinned, with_trace=True)
    misses = served.misses.trace
    assert misses is not None
    rng = np.random.default_rng([*search.seed, COPY_TURN])
    order_2 = second_order(rows_of(misses, 0, block.n_searched), order, search.params, rng)
    judging = rows_of(misses, misses.n_rows - block.n_judged, misses.n_rows)
    two = divide(judging, order, order_2, block.break_even_gap).cost * judging.n_rows if judging.n_rows else 0.0
    return order_2, BlockCopies(served.judged_total, two, judging.n_rows)


def copy_refitted(block: CachedBlock, order: Int32Array, pinned: Int32Array | None, search: BlockSearch) -> Int32Array:
    """Return a second order made for all rows, those held out included; parameters as for `copy_block`."""
    return copy_block(replace(block, n_searched=block.trace.n_rows), order, pinned, search)[0]


def copy_bytes(n_neurons: Mapping[str, int], bundle_bytes: Mapping[str, int]) -> int | None:
    """Return the flash that second copies of some blocks take, packed, each up to a full page of 4096 bytes.

    None where the sizes of bundles are unknown.
    """
    if not bundle_bytes:
        return None
    sizes = [n * bundle_bytes[name] for name, n in n_neurons.items()]
    return sum(size + -size % 4096 for size in sizes)
