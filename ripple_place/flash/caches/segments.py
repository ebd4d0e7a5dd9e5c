"""Hot clusters of neurons: which rows a batch of sequences computes densely, and in which pieces they are read."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import BoolArray, Int32Array, Int64Array
    from ripple_place.placement import NeuronPlacement

CLUSTER_ROWS = 512
"""Rows of a cluster: the chunk of 512 x 4096 in which PowerInfer-2 hands rows to a core (arXiv 2406.06282)."""
NEVER_HOT = -1


@dataclass(frozen=True, eq=False)
class HotSegments:
    """Which neurons of a pool are hot at which batch size.

    Parameters
    ----------
    n_neurons : mapping of str to int
        By block, in model order; neurons of the pool are those of all blocks, one block after the other.
    cluster : ndarray of shape (sum of n_neurons,), int32
        Cluster of each neuron of the pool, `NEVER_HOT` where it is in none. Clusters count from 0 through all blocks,
        those of a block together and most active first; none is without neurons.
    n_hot : mapping of int to tuple of int
        By planned batch size, ascending: how many clusters of each block are hot, from its first on.

    Raises
    ------
    UsageError
        If clusters do not count so, or more of them are hot than a block has.

    References
    ----------
    .. [1] Xue et al., "PowerInfer-2: Fast Large Language Model Inference on a Smartphone", arXiv:2406.06282,
       sections 4.1 and 4.2.
    """

    n_neurons: Mapping[str, int]
    cluster: Int32Array
    n_hot: Mapping[int, tuple[int, ...]]

    def __post_init__(self) -> None:
        parts = np.split(self.cluster, np.cumsum(list(self.n_neurons.values()))[:-1])
        ids = [np.unique(part[part != NEVER_HOT]) for part in parts]
        numbers, n_of_blocks = np.concatenate(ids), [part.size for part in ids]
        sizes = list(self.n_hot)
        fits = self.cluster.size == sum(self.n_neurons.values()) and (numbers == np.arange(numbers.size)).all()
        if not (
            fits and sizes and sizes[0] >= 1 and sizes == sorted(sizes)
            and all(
                len(hot) == len(n_of_blocks) and all(0 <= n <= most for n, most in zip(hot, n_of_blocks, strict=True))
                for hot in self.n_hot.values()
            )
        ):  # fmt: skip
            raise UsageError(
                "hot segments", found=f"{self.cluster.size} neurons, clusters of blocks {n_of_blocks}, hot by batch "
                f"size {dict(self.n_hot)}", expected="a cluster for each neuron, clusters counting through the blocks, "
                "ascending batch sizes, and no more clusters hot than there are",
                remedy="make them with HotSegments.by_slots",
            )  # fmt: skip

    @classmethod
    def by_slots(
        cls, placements: Mapping[str, NeuronPlacement], n_hot: Mapping[int, Mapping[str, int]],
        cluster_rows: int = CLUSTER_ROWS,
    ) -> HotSegments:  # fmt: skip
        """Return clusters of consecutive slots, so that each is one long read.

        Parameters
        ----------
        placements : mapping of str to NeuronPlacement
            By block, in model order; hot neurons lie first, most active ones foremost.
        n_hot : mapping of int to mapping of str to int
            By batch size and block, how many neurons are hot; rounded up to whole clusters. A block that is not named
            has none.
        cluster_rows : int
            Neurons of a cluster, at least 1; the last one of a block may have fewer.
        """
        most = {name: max((hot.get(name, 0) for hot in n_hot.values()), default=0) for name in placements}
        n_clusters = {name: -(-min(most[name], part.n_neurons) // cluster_rows) for name, part in placements.items()}
        firsts = accumulate(n_clusters.values(), initial=0)
        clusters = []
        for (name, placement), first in zip(placements.items(), firsts, strict=False):
            of_slot = np.arange(placement.n_neurons) // cluster_rows
            of_slot = np.where(of_slot < n_clusters[name], of_slot + first, NEVER_HOT)
            clusters.append(of_slot[placement.slot_of].astype(np.int32))
        return cls(
            {name: placement.n_neurons for name, placement in placements.items()}, np.concatenate(clusters),
            {
                batch: tuple(-(-min(n_hot[batch].get(name, 0), part.n_neurons) // cluster_rows)
                             for name, part in placements.items())
                for batch in sorted(n_hot)
            },
        )  # fmt: skip

    def check_blocks(self, n_neurons: Mapping[str, int]) -> None:
        """Check that the plan is of these blocks.

        Parameters
        ----------
        n_neurons : mapping of str to int
            By block, in model order.

        Raises
        ------
        UsageError
            If not.
        """
        if list(n_neurons.items()) != list(self.n_neurons.items()):
            raise UsageError(
                "hot segments", found=f"a plan of {len(self.n_neurons)} blocks, {sum(self.n_neurons.values())} neurons",
                expected=f"of the {len(n_neurons)} blocks that are simulated, {sum(n_neurons.values())} neurons",
                remedy="simulate all layers of the model that the plan was made for",
            )  # fmt: skip

    @cached_property
    def cluster_sizes(self) -> Int64Array:
        """Neurons of each cluster, shape (n_clusters,), int64."""
        return np.bincount(self.cluster[self.cluster != NEVER_HOT]).astype(np.int64)

    def planned(self, batch: int) -> int:
        """Return the planned batch size that applies: the largest one not above `batch`, else the smallest.

        >>> HotSegments({"layers.0": 1}, np.zeros(1, np.int32), {2: (1,), 4: (1,)}).planned(3)
        2
        """
        return max((size for size in self.n_hot if size <= batch), default=min(self.n_hot))

    def hot_clusters(self, batch: int) -> BoolArray:
        """Return which clusters are hot at a batch size, shape (n_clusters,), bool."""
        is_hot = np.zeros(self.cluster_sizes.size, bool)
        parts = np.split(self.cluster, np.cumsum(list(self.n_neurons.values()))[:-1])
        for part, n_hot in zip(parts, self.n_hot[self.planned(batch)], strict=True):
            if n_hot:
                first = int(part[part != NEVER_HOT].min())
                is_hot[first : first + n_hot] = True
        return is_hot

    def hot_neurons(self, batch: int) -> BoolArray:
        """Return which neurons of the pool are hot at a batch size, shape (n_neurons,), bool."""
        return np.append(self.hot_clusters(batch), False)[self.cluster]  # NEVER_HOT is the last entry
