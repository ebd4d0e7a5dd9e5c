"""Pinned: a fixed set of neurons stays in DRAM; nothing is admitted and nothing evicted.

The set is the placement's own `pinned` where it has one, else the `capacity` neurons that fired most often in the
profile, ties by lowest id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.caches.cache import LONE_READS, Accesses, ArrayCache, CacheKernels
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray, Int32Array, Int64Array
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.placement import NeuronPlacement


def hottest(frequency: Int64Array, n_hottest: int) -> Int32Array:
    """Return the neurons with the highest counts, ascending by id; ties go to the lowest id.

    >>> hottest(np.array([3, 5, 3, 9]), 3)
    array([0, 1, 3], dtype=int32)
    """
    by_count = np.argsort(-frequency, kind="stable")
    return np.sort(by_count[:n_hottest]).astype(np.int32)


def allocate(resident: Int32Array, n_neurons: int) -> tuple[AnyArray, ...]:
    """Return the state: 1 for each neuron in DRAM."""
    is_resident = np.zeros(n_neurons, np.uint8)
    is_resident[resident] = 1
    return (is_resident,)


@compiled
def replay(neurons: Any, is_hit: Any, is_resident: Any) -> None:
    """Look each neuron up; writes `is_hit`."""
    for access in range(neurons.size):
        is_hit[access] = is_resident[neurons[access]]


@compiled
def access(neurons: Any, admitted: Any, is_hit: Any, is_resident: Any) -> None:
    """Look each neuron up; writes `is_hit`."""
    replay(neurons, is_hit, is_resident)


@compiled
def holds(neuron: int, arguments: Any) -> bool:
    """Return whether a neuron is in DRAM."""
    return arguments[0][neuron] != 0  # type: ignore[no-any-return]


def pinned_set(policy: str, placement: NeuronPlacement, capacity: int, n_hottest: int) -> Int32Array:
    """Return the neurons to pin: the placement's own, else its `n_hottest` hottest.

    Raises
    ------
    UsageError
        If the placement pins more than `capacity`, or says neither what to pin nor how often neurons fired.
    """
    if placement.pinned is None:
        if placement.frequency is None:
            raise UsageError(
                f"cache {policy}", found="a placement without pinned neurons and without frequencies",
                expected="one of the two",
                remedy="name a --profile or a layout that `ripple-place reorder` made, or another cache policy",
            )  # fmt: skip
        return hottest(placement.frequency, n_hottest)
    if placement.pinned.size > capacity:
        raise UsageError(
            f"cache {policy}", found=f"{placement.pinned.size} pinned neurons",
            expected=f"at most the {capacity} that fit",
            remedy="raise the DRAM budget to the one that the placement was made for",
        )  # fmt: skip
    return placement.pinned


class Pinned(ArrayCache):
    """A fixed set of at most `capacity` neurons.

    Raises
    ------
    UsageError
        As for `pinned_set`.
    """

    policy = "pinned"
    kernels = CacheKernels(access, holds)

    def __init__(self, capacity: int, placement: NeuronPlacement, reads: ReadCost = LONE_READS) -> None:
        super().__init__(*allocate(pinned_set(self.policy, placement, capacity, capacity), placement.n_neurons))

    def replay(self, accesses: Accesses, is_hit: AnyArray) -> None:
        """Write 1 to `is_hit` where a neuron is in the set."""
        replay(accesses.neurons, is_hit, *self._state)
