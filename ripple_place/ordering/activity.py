"""What an ordering is given, and what it gives back: a block's activity and parameters, an order and its figures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from ripple_place.graph.neuron_bits import NeuronBits

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from scipy.sparse import csr_array

    from ripple_place.arrays import Int32Array, Int64Array
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.trace.split_block import SplitBlock


class Pulse(Protocol):
    """Receives how far a search has come, and decides whether it goes on."""

    def __call__(self, done_share: float, gain_share: float) -> bool:
        """Return whether to go on.

        Parameters
        ----------
        done_share : float
            Of the effort, from 0 to 1.
        gain_share : float
            By how much the cost has fallen below the best start's.
        """
        ...


@dataclass(frozen=True, eq=False)
class Activity:
    """What is known of a block when its neurons are ordered.

    Parameters
    ----------
    frequency : ndarray of shape (n_neurons,), int64
        Firing counts.
    rows : SplitBlock, optional
        The activations: rows to learn from, and rows held out to judge. None for a profile of imported counts.
    bits : NeuronBits, optional
        The rows to learn from, by neuron.
    graph : csr_array of shape (n_neurons, n_neurons), optional
        The neighbour graph, which stands in where there are no rows.
    starts : mapping of str to ndarray of shape (n_neurons,), int32
        Orders made before, by name: a search begins at the cheapest.
    """

    frequency: Int64Array
    rows: SplitBlock | None = None
    bits: NeuronBits | None = None
    graph: csr_array | None = None
    starts: Mapping[str, Int32Array] = field(default_factory=dict)

    @classmethod
    def of_rows(cls, rows: SplitBlock) -> Activity:
        """Return what the rows to learn from say, and nothing else."""
        bits = NeuronBits.of_block(rows.searched)
        return cls(bits.frequency(), rows, bits)

    def with_starts(self, starts: Mapping[str, Int32Array]) -> Activity:
        """Return the same activity with other orders to start from."""
        return replace(self, starts=starts)

    @property
    def n_neurons(self) -> int:
        """Neurons of the block."""
        return self.frequency.size


@dataclass(frozen=True)
class OrderingParams:
    """How to order.

    Parameters
    ----------
    seed : tuple of int
        Seed of whatever is random.
    effort : int
        Rounds of perturbations, for orderings that take effort.
    cost : ReadCost, optional
        What reads cost; a searched ordering needs it.
    pulse : Pulse
        Receives progress of a searched ordering, and may stop it.
    counting : context manager
        Held while kernels run on all threads.
    """

    seed: tuple[int, ...] = (0,)
    effort: int = 10
    cost: ReadCost | None = None
    pulse: Pulse = lambda done_share, gain_share: True
    counting: AbstractContextManager[object] = field(default_factory=threading.Lock)

    def rng(self) -> np.random.Generator:
        """Return a new generator."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True, eq=False)
class Ordered:
    """What an ordering made.

    Attributes
    ----------
    order : ndarray of shape (n_neurons,), int32
        ``order[slot] -> neuron``.
    chosen : str
        Of a searched ordering: its own name, or the start that serves the held-out rows better; else empty.
    cost, held_out : mapping of str to float
        Of a searched ordering: the cost per row of each start and of itself, on the rows searched and on the rows held
        out (NaN if there are none), in the unit of `OrderingParams.cost`.
    lower_bound, gap_to_bound : float or None
        Reads per row that no order can fall below, and ``reads / lower_bound - 1``, if the ordering knows them.
    """

    order: Int32Array
    chosen: str = ""
    cost: Mapping[str, float] = field(default_factory=dict)
    held_out: Mapping[str, float] = field(default_factory=dict)
    lower_bound: float | None = None
    gap_to_bound: float | None = None


Make = Callable[[Activity, OrderingParams], Ordered]
