"""One placement of several blocks, as a DRAM cache that they share sees them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.caches.greedydual import NEIGHBOR_SLOTS
from ripple_place.placement import NeuronPlacement

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ripple_place.arrays import Int32Array


@dataclass(frozen=True, eq=False)
class Pool:
    """Blocks one after the other: neurons of a block count on from those of the blocks before.

    Attributes
    ----------
    placement : NeuronPlacement
        Of all neurons, and of some that nothing asks for: behind each block but the last lie as many slots of those as
        `greedydual` takes for neighbours, so that the edges of two blocks are none. Their neurons count on from the
        real ones, so that whatever ranks neurons with ties by lowest id ranks them last.
    first_neuron : mapping of str to int
        By block, in model order.
    """

    placement: NeuronPlacement
    first_neuron: Mapping[str, int]

    @classmethod
    def of_blocks(cls, placements: Mapping[str, NeuronPlacement]) -> Pool:
        """Put blocks together, in their order.

        Parameters
        ----------
        placements : mapping of str to NeuronPlacement
            Not empty.

        Notes
        -----
        Frequencies are known where those of every block are. Where some blocks have a pinned set, the pool pins those
        sets and nothing of the other blocks; where none has, what pins takes the hottest neurons of all blocks.
        """
        parts = list(placements.values())
        starts = list(accumulate((part.n_neurons for part in parts), initial=0))
        n_real, n_idle = starts[-1], NEIGHBOR_SLOTS * (len(parts) - 1)
        idle = np.arange(n_real, n_real + n_idle).reshape(-1, NEIGHBOR_SLOTS)
        order = [piece for part, start, apart in zip(parts, starts, [*idle, []], strict=False)
                 for piece in (part.order + start, apart)]  # fmt: skip
        frequencies = [part.frequency for part in parts if part.frequency is not None]
        pinned = [part.pinned + start for part, start in zip(parts, starts, strict=False) if part.pinned is not None]
        placement = NeuronPlacement(
            _joined(order), _joined(pinned) if pinned else None,
            np.concatenate([*frequencies, np.zeros(n_idle, np.int64)]) if len(frequencies) == len(parts) else None,
        )  # fmt: skip
        return cls(placement, dict(zip(placements, starts, strict=False)))


def _joined(parts: Sequence[Iterable[int]]) -> Int32Array:
    return np.concatenate([np.asarray(part, np.int32) for part in parts])


def check_one_size(layout: str, bundle_bytes: Mapping[str, int], gaps: Mapping[str, int]) -> None:
    """Check that blocks can share a pool: it is counted in neurons, and its policies in one cost of reading.

    Parameters
    ----------
    layout : str
        Its name.
    bundle_bytes, gaps : mapping of str to int
        By block.

    Raises
    ------
    UsageError
        If bundles differ in size, or gaps in length.
    """
    for what, values in (("bundles of {} bytes", bundle_bytes), ("gaps of {} neurons", gaps)):
        if len(numbers := sorted(set(values.values()))) > 1:
            raise UsageError(
                f"layout {layout}: one DRAM pool", found=what.format(" and ".join(map(str, numbers[:3]))),
                expected="the same in every block", remedy="leave --dram-pool (pool_neurons) out: a cache for each "
                "block goes with any sizes",
            )  # fmt: skip
