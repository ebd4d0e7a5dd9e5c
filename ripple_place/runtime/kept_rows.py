"""The bundles that DRAM holds: the policy says which, this keeps their bytes."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.kernels.compiled import compiled
from ripple_place.kernels.fetched_rows import copy_kept, memcpy

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.arrays import AnyArray, Int32Array, UInt8Array
    from ripple_place.flash.caches.cache import Cache, CacheKernels

_NOT_KEPT = -1


class KeptRows:
    """Bytes of the units that a cache says are in DRAM.

    Parameters
    ----------
    policy : str
        Its name, for messages and compiled code.
    cache : Cache
    n_units : int
        That the cache may hold: of a block, or of all blocks of a pool.
    capacity : int
        Most that it holds at a time.
    row_bytes : int
        Of a unit.

    Raises
    ------
    UsageError
        If the policy knows the future, which nobody who reads for real does.

    Notes
    -----
    After each row, what the policy holds no more makes room, and what it holds of the row is copied: a pass over
    the places, about a nanosecond each.
    """

    def __init__(self, policy: str, cache: Cache, n_units: int, capacity: int, row_bytes: int) -> None:
        if cache.kernels is None:
            raise UsageError(
                f"--cache {policy}", found="a policy that knows what will be asked for later",
                expected="one that can run while text is generated", remedy="name another, such as lru or pinned+lru",
            )  # fmt: skip
        self._cache = cache
        self._settle = _settling_kernel(policy, cache.kernels)
        self._place_of = np.full(n_units, _NOT_KEPT, np.int32)
        self._unit_in = np.full(min(capacity, n_units), _NOT_KEPT, np.int32)
        self._rows = np.empty((self._unit_in.size, row_bytes), np.uint8)

    @property
    def n_bytes(self) -> int:
        """DRAM for the bundles."""
        return self._rows.nbytes

    def held(self, units: Int32Array) -> Int32Array:
        """Return those of some units that the cache holds."""
        assert self._cache.kernels is not None
        holds, arguments = self._cache.kernels.holds, self._cache.arguments
        return np.array([unit for unit in units.tolist() if holds(unit, arguments)], np.int32)

    def copy(self, units: Int32Array, is_hit: UInt8Array, rows: UInt8Array) -> None:
        """Copy the rows of hits; arrays as of `ripple_place.kernels.fetched_rows.copy_kept`."""
        n_missing = copy_kept(units, is_hit, self._place_of, self._rows, rows)
        assert n_missing == 0, "the cache holds what was never read"

    def settle(self, units: Int32Array, is_hit: UInt8Array, rows: UInt8Array) -> None:
        """Forget what the cache holds no more, and keep what it holds of a row that was read.

        Parameters
        ----------
        units : ndarray of shape (n,), int32
        is_hit : ndarray of shape (n,), uint8
        rows : ndarray of shape (n, row_bytes), uint8
        """
        n_left = self._settle(units, is_hit, rows, self._cache.arguments, self._place_of, self._unit_in, self._rows)
        assert n_left == 0, "the cache holds more than its capacity"


@functools.cache
def _settling_kernel(policy: str, kernels: CacheKernels) -> Callable[..., int]:
    """Return the kernel behind `KeptRows.settle`; it returns how many units found no place."""
    holds = kernels.holds

    @compiled(name=f"settle.{policy}".replace("+", "-").replace(":", "-"), made_of=(holds,))
    def settle(
        units: Any, is_hit: Any, rows: AnyArray, cache: Any, place_of: Any, unit_in: Any, kept: Any
    ) -> int:  # fmt: skip
        for place in range(unit_in.size):
            unit = unit_in[place]
            if unit >= 0 and not holds(unit, cache):
                unit_in[place] = -1
                place_of[unit] = -1
        place = n_left = 0
        for row in range(units.size):
            unit = units[row]
            if is_hit[row] or place_of[unit] >= 0 or not holds(unit, cache):
                continue
            while place < unit_in.size and unit_in[place] >= 0:
                place += 1
            if place == unit_in.size:
                n_left += 1
                continue
            unit_in[place] = unit
            place_of[unit] = place
            n_bytes = rows.shape[1]
            memcpy(kept.ctypes.data + place * n_bytes, rows.ctypes.data + row * n_bytes, n_bytes)
        return n_left

    return settle
