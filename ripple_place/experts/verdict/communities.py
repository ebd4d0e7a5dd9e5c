"""Communities of experts that fire together, and whether they mean anything: more than shuffled routes have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import networkx as nx
import numpy as np

if TYPE_CHECKING:
    from ripple_place.arrays import BoolArray, Float64Array

_SHUFFLES = 4
_TRADES = 5
MEANINGFUL = 0.05
"""Modularity above that of shuffled routes at which communities are said to mean something."""


@dataclass(frozen=True)
class Communities:
    """Communities in the graph of experts that are used together more often than independent ones.

    Attributes
    ----------
    n_communities : int
        Of more than one expert.
    modularity : float
        Of the best division found (greedy modularity maximisation, Clauset, Newman, Moore 2004).
    shuffled_modularity : float
        The same, on average, where uses are dealt to other tokens.
    """

    n_communities: int
    modularity: float
    shuffled_modularity: float

    @property
    def mean_something(self) -> bool:
        """Whether the division is better than chance by `MEANINGFUL`."""
        return self.modularity - self.shuffled_modularity >= MEANINGFUL


def communities(uses: BoolArray, seed: int = 0) -> Communities:
    """Return the communities of a layer.

    Parameters
    ----------
    uses : ndarray of shape (n_tokens, n_experts), bool
    seed : int
        Of the shuffles.

    Notes
    -----
    An edge's weight is what two experts are used together more often, in tokens, than where uses are dealt to other
    tokens. Dealing keeps how often each expert is used and how many a token uses. Takes seconds for 512 experts.
    """
    rng = np.random.default_rng(seed)
    dealt = [_together(_dealt(uses, rng)) for _ in range(_SHUFFLES)]
    found, modularity = _divide(_excess(_together(uses), dealt))
    shuffled = [_divide(_excess(one, [*dealt[:at], *dealt[at + 1 :]]))[1] for at, one in enumerate(dealt)]
    return Communities(sum(len(members) > 1 for members in found), modularity, float(np.mean(shuffled)))


def _together(uses: BoolArray) -> Float64Array:
    """Return by pair the tokens in which both are used."""
    counted = uses.astype(np.float64)
    return np.asarray(counted.T @ counted)


def _excess(together: Float64Array, dealt: list[Float64Array]) -> Float64Array:
    """Return by pair the tokens in which both are used beyond the mean of dealt uses, at least 0."""
    excess = np.maximum(together - np.mean(dealt, axis=0), 0.0)
    np.fill_diagonal(excess, 0.0)
    return np.asarray(excess)


def _dealt(uses: BoolArray, rng: np.random.Generator) -> BoolArray:
    """Return uses with the same sums of rows and columns, otherwise random.

    By trades of pairs of tokens, which deal anew what only one of the two uses (Strona et al., Nature Communications
    2014, "curveball"); `_TRADES` a token are enough to forget where uses were.
    """
    dealt = [np.flatnonzero(row) for row in uses]
    for _ in range(_TRADES):
        order = rng.permutation(len(dealt))
        for left, right in zip(order[::2], order[1::2], strict=False):
            own, others = dealt[left], dealt[right]
            both = np.intersect1d(own, others, assume_unique=True)
            pot = rng.permutation(np.setxor1d(own, others, assume_unique=True))
            n_left = own.size - both.size
            dealt[left], dealt[right] = np.concatenate([both, pot[:n_left]]), np.concatenate([both, pot[n_left:]])
    result = np.zeros_like(uses)
    for row, used in enumerate(dealt):
        result[row, used] = True
    return result


def _divide(weights: Float64Array) -> tuple[list[set[int]], float]:
    """Return the best division found, and its modularity; none and 0 where there are no edges."""
    graph = nx.from_numpy_array(weights)
    if graph.number_of_edges() == 0:
        return [], 0.0
    found = nx.community.greedy_modularity_communities(graph, weight="weight")
    members = [set(map(int, community)) for community in found]
    return members, float(nx.community.modularity(graph, members, weight="weight"))
