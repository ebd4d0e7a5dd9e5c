"""What an order of experts on storage is worth: reads that neighbours join, on tokens that did not make the order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ripple_place.arrays import BoolArray, Int64Array


@dataclass(frozen=True)
class OrderReads:
    """Reads per generated token of the second half, all layers together, where nothing is in DRAM.

    Attributes
    ----------
    alone : float
        If every expert were read by itself.
    original : float
        Where experts lie by their numbers, and neighbours are read together.
    greedy : float
        Where they lie by how often the first half used them together.
    """

    alone: float
    original: float
    greedy: float

    @property
    def saved_share(self) -> float:
        """Share of the reads in original order that the other order saves; negative where it makes more."""
        return 1 - self.greedy / self.original if self.original else 0.0


def count_reads(uses: BoolArray, order: Int64Array) -> int:
    """Return the reads of some tokens: runs of used experts among neighbours.

    Parameters
    ----------
    uses : ndarray of shape (n_tokens, n_experts), bool
    order : ndarray of shape (n_experts,), int64
        ``order[slot]`` is the expert that lies in the slot.
    """
    placed = uses[:, order]
    return int(placed[:, 0].sum() + (placed[:, 1:] & ~placed[:, :-1]).sum())


def greedy_order(uses: BoolArray) -> Int64Array:
    """Return experts in an order that joins those most often used together first, as ``order[slot]``.

    Parameters
    ----------
    uses : ndarray of shape (n_tokens, n_experts), bool

    Notes
    -----
    Pairs by falling count, then by number; a pair is joined if both are ends of different chains. Chains lie as their
    lowest experts do. Deterministic. Costs O(n^2 log n) of the experts.
    """
    n_experts = uses.shape[1]
    counts = uses.T.astype(np.int64) @ uses.astype(np.int64)
    first, second = np.triu_indices(n_experts, 1)
    ranked = np.argsort(-counts[first, second], kind="stable")
    chains: list[list[int]] = [[expert] for expert in range(n_experts)]
    chain_of = list(range(n_experts))
    for one, other in zip(first[ranked].tolist(), second[ranked].tolist(), strict=True):
        left, right = chain_of[one], chain_of[other]
        if counts[one, other] == 0:
            break
        if left == right or one not in _ends(chains[left]) or other not in _ends(chains[right]):
            continue
        head = chains[left] if chains[left][-1] == one else chains[left][::-1]
        tail = chains[right] if chains[right][0] == other else chains[right][::-1]
        chains[left], chains[right] = head + tail, []
        for expert in tail:
            chain_of[expert] = left
    return np.array([expert for chain in sorted(filter(None, chains), key=min) for expert in chain], np.int64)


def _ends(chain: list[int]) -> tuple[int, int]:
    return chain[0], chain[-1]
