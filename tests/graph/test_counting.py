"""A trace counted block by block, and the profile of counts that were imported."""

from __future__ import annotations

import numpy as np

from ripple_place.graph.counting import count_trace, profile_of_counts
from ripple_place.trace.counts import FiringCounts
from tests.trace_builders import random_activity, trace_of


def test_every_block_is_counted() -> None:
    """Frequency, graph and statistics of each block are those of its own rows; progress is over the blocks."""
    rng = np.random.default_rng(0)
    active = [random_activity(rng, 200, 12), random_activity(rng, 200, 20)]
    followed = []

    class Track:
        def __call__(self, items, what):
            followed.append((len(items), what))
            return items

    profile, statistics = count_trace(trace_of(*active), 3, Track())
    assert followed == [(2, "counting co-activations")]
    assert (list(profile.blocks), list(statistics)) == (["layers.0", "layers.1"], ["layers.0", "layers.1"])
    assert profile.n_neighbors == 3
    for rows, (name, block) in zip(active, profile.blocks.items(), strict=True):
        assert block.frequency.tolist() == rows.sum(axis=0).tolist()
        assert (statistics[name].n_rows, statistics[name].n_neurons) == rows.shape
        assert block.graph.max() <= (rows.T.astype(int) @ rows)[~np.eye(rows.shape[1], dtype=bool)].max()


def test_imported_counts_have_no_graph() -> None:
    """Nobody knows which neurons fire together: the graph is empty, and there is no trace."""
    profile, statistics = profile_of_counts(FiringCounts({"layers.0": np.array([3, 0, 5])}, 10), 64)
    assert profile.trace is None
    assert (profile.blocks["layers.0"].graph.nnz, profile.blocks["layers.0"].graph.shape) == (0, (3, 3))
    assert statistics["layers.0"].active_share == 8 / 30
    assert statistics["layers.0"].dead_neurons == 1
