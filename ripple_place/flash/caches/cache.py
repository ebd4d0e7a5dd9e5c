"""What a cache is told, what it must do, and the state that all policies keep in the same way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

import numpy as np

from ripple_place.flash.read_cost import ReadCost

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray
    from ripple_place.placement import NeuronPlacement


LONE_READS = ReadCost.by_line(0.0)
"""Each read serves one neuron, and costs nothing but its bytes."""


@dataclass(frozen=True, eq=False)
class Accesses:
    """The neurons that consecutive rows of a trace ask for.

    Parameters
    ----------
    neurons : ndarray of shape (n_accesses,), int32
        Row by row, in slot order; no neuron twice in a row.
    row_starts : ndarray of shape (n_rows + 1,), int64
        Row i has the accesses from ``row_starts[i]`` to before ``row_starts[i + 1]``.
    admitted : ndarray of shape (n_accesses,), uint8
        1 where a neuron that misses may enter the cache.
    next_row : ndarray of shape (n_accesses,), int32, optional
        Row of the whole trace that asks for the neuron next, its number of rows where none does. Only for policies
        with `Cache.needs_future`. Of a pool int64: it has rows of many blocks.
    token_ends : ndarray of shape (n_rows,), uint8, optional
        1 where the row is the last one of its token. None: each row is a token. A pool has a row for each token and
        block.
    """

    neurons: AnyArray
    row_starts: AnyArray
    admitted: AnyArray
    next_row: AnyArray | None = None
    token_ends: AnyArray | None = None

    @property
    def ends(self) -> AnyArray:
        """`token_ends`, written out where each row is a token."""
        return np.ones(self.row_starts.size - 1, np.uint8) if self.token_ends is None else self.token_ends


class CacheKernels(NamedTuple):
    """A policy as two kernels, for a rule that asks what is in DRAM before it says what to access.

    Attributes
    ----------
    access : compiled function
        ``access(neurons, admitted, is_hit, *arguments)``: one row's neurons, as `Cache.replay`. Residents come first,
        then what is read, both in slot order, unless `in_slot_order`.
    holds : compiled function
        ``holds(neuron, arguments)``: whether the next row would find a neuron in DRAM.
    in_slot_order : bool
        The policy judges a row as a whole, and wants all of it in slot order.
    """

    access: Any
    holds: Any
    in_slot_order: bool = False


class Cache(Protocol):
    """What keeps some neurons of one block, or of a pool of blocks, in DRAM."""

    @property
    def kernels(self) -> CacheKernels | None:
        """The policy as kernels; None if it needs to know later accesses."""
        ...

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the kernels take: the state, which they change in place, and constants."""
        ...

    @property
    def needs_future(self) -> bool:
        """Whether accesses must come with `Accesses.next_row`."""
        ...

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Get, then admit, each neuron in order; write 1 to `is_hit` where one was in DRAM, else 0.

        Nothing is evicted for a neuron that misses and is not admitted.
        """
        ...

    def reset(self) -> None:
        """Return to the state before the first access."""
        ...


class CacheFactory(Protocol):
    """Makes the cache of one block: a policy's class, or that with its parameters."""

    def __call__(self, capacity: int, placement: NeuronPlacement, reads: ReadCost = ...) -> Cache:
        """Return a cache of at most `capacity` neurons, empty but for what it never evicts."""
        ...


class ArrayCache:
    """A cache whose state is arrays that a kernel changes in place.

    Parameters
    ----------
    *state : ndarray
        Of the empty cache.
    """

    needs_future: ClassVar[bool] = False
    kernels: ClassVar[CacheKernels | None] = None

    def __init__(self, *state: AnyArray) -> None:
        self._state = state
        self._empty = tuple(array.copy() for array in state)

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What the kernels take beside the accesses."""
        return self._state

    def reset(self) -> None:
        """Return to the state before the first access."""
        for array, empty in zip(self._state, self._empty, strict=True):
            array[...] = empty
