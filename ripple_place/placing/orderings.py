"""The orderings of one block by name, and the search that starts from them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import TraceFormatError
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.ordering.baselines import frequency_order, original_order, random_order
from ripple_place.ordering.flash_time import FlashTimeParams, FlashTimeResult, flash_time_order
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.path_search import PathParams, PathResult, path_order
from ripple_place.placing.search_clock import SearchClock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy.typing as npt

    from ripple_place.graph.profile import BlockProfile
    from ripple_place.trace.activation_trace import BlockTrace

    Int32Array = npt.NDArray[np.int32]

SEARCH_STARTS = ("greedy", "frequency", "original")
"""Orders from the cheapest of which ``flash-time`` searches."""


def order_block(block: BlockProfile, bits: NeuronBits | None, ordering: str, seed: list[int]) -> Int32Array:
    """Return a block's order by an ordering that needs no search.

    Raises
    ------
    TraceFormatError
        If ``greedy`` is asked for and nothing is known of which neurons fire together.
    """
    if ordering == "greedy":
        if bits is None and block.graph.nnz == 0:
            raise TraceFormatError(
                "--ordering greedy", found="a profile of firing counts alone",
                expected="one that knows which neurons fire together", remedy="order by frequency, or profile a trace",
            )  # fmt: skip
        return greedy_path(bits, block.graph)
    if ordering == "frequency":
        return frequency_order(block.frequency)
    if ordering == "random":
        return random_order(block.n_neurons, np.random.default_rng(seed))
    return original_order(block.n_neurons)


def order_bits(bits: NeuronBits, ordering: str, seed: list[int], effort: int) -> Int32Array:
    """Return the order of activations alone, without a profile's graph; `effort` is that of ``path``."""
    if ordering == "greedy":
        return greedy_path(bits)
    if ordering == "path":
        return search_path(bits, greedy_path(bits), seed, effort).order
    if ordering == "frequency":
        return frequency_order(bits.frequency())
    if ordering == "random":
        return random_order(bits.n_neurons, np.random.default_rng(seed))
    return original_order(bits.n_neurons)


def search_path(bits: NeuronBits, greedy: Int32Array, seed: list[int], effort: int) -> PathResult:
    """Search for the path of fewest reads, from greedy's or whichever plain order is better, and bound it."""
    starts = {
        "greedy": greedy,
        "frequency": frequency_order(bits.frequency()),
        "original": original_order(bits.n_neurons),
    }
    return path_order(bits, starts, PathParams(effort), np.random.default_rng(seed))


def starts_of(bits: NeuronBits, seed: list[int]) -> dict[str, Int32Array]:
    """Return the orders from which ``flash-time`` searches."""
    return {name: order_bits(bits, name, seed, effort=0) for name in SEARCH_STARTS}


@dataclass(frozen=True)
class BlockSearch:
    """How ``flash-time`` orders one block.

    Parameters
    ----------
    params : FlashTimeParams
    seed : list of int
        Of the run and of the block.
    clock : SearchClock
        Says how long.
    tell : callable
        Told how far the search has come.
    """

    params: FlashTimeParams
    seed: list[int]
    clock: SearchClock = field(default_factory=lambda: SearchClock(1))
    tell: Callable[[float, float], object] = lambda done_share, gain_share: None

    def __call__(
        self, searched: BlockTrace, held_out: BlockTrace | None, starts: Mapping[str, Int32Array], turn: int = 0
    ) -> FlashTimeResult:
        """Search from the cheapest of `starts`; each `turn` of a block draws anew."""
        rng = np.random.default_rng([*self.seed, turn] if turn else self.seed)
        pulse = self.clock.begin(self.tell)
        return flash_time_order(searched, held_out, starts, self.params, rng, pulse, self.clock.counting)

    def order_misses(
        self, searched: BlockTrace, held_out: BlockTrace | None, order: Int32Array, turn: int
    ) -> Int32Array:
        """Search for an order of what a cache leaves, from the present one on; in the first turn from others, too."""
        starts = {"present": order}
        if turn == 1:
            starts |= starts_of(NeuronBits.of_block(searched), self.seed)
        return self(searched, held_out, starts, turn).order
