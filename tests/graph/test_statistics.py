"""Statistics of a block: hand-computed cases, planted clusters, and traces too short to tell."""

from __future__ import annotations

import json

import numpy as np
import pytest

from ripple_place.graph.coactivation import neighbor_graph
from ripple_place.graph.statistics import BlockStatistics, block_statistics
from tests.trace_builders import bits_of, planted_clusters, random_activity


def statistics_of(active: np.ndarray, k: int = 16) -> BlockStatistics:
    """Return the statistics of a dense matrix."""
    bits = bits_of(active)
    return block_statistics(bits.frequency(), neighbor_graph(bits, k), bits)


def test_four_neurons_by_hand() -> None:
    """Tokens {0, 2}, {}, {0, 1, 3}: 5 of 12 are active, none is dead, neuron 0 makes 2 of 5 activations."""
    statistics = statistics_of(np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]]))
    assert statistics == BlockStatistics(
        n_neurons=4, n_rows=3, active_share=5 / 12, dead_neurons=0, hottest_tenth_share=2 / 5,
        lift_of_best_neighbors=None, lift_rank_correlation=None,
    )  # fmt: skip


def test_hottest_tenth_by_hand() -> None:
    """Of 20 neurons the hottest two count: 9 + 8 of 9 + 8 + 18 x 1 activations; the dead ones beside are counted."""
    active = np.zeros((10, 30), bool)
    active[:9, 4] = active[:8, 7] = True
    active[9, 10:23] = True
    statistics = statistics_of(active)
    assert statistics.dead_neurons == 15
    assert statistics.hottest_tenth_share == (9 + 8 + 1) / (9 + 8 + 13)


@pytest.mark.parametrize("shape", [(9, 5), (0, 5), (200, 5)])
def test_nothing_fires(shape: tuple[int, int]) -> None:
    """Shares of nothing are unknown, not zero and not an error; so are lifts, however long the trace."""
    statistics = statistics_of(np.zeros(shape, bool))
    assert (statistics.active_share, statistics.dead_neurons) == (0.0, 5)
    assert statistics.hottest_tenth_share is None
    assert statistics.lift_of_best_neighbors is None
    assert statistics.lift_rank_correlation is None


def test_everything_fires() -> None:
    """All lifts are 1; equal lifts have no rank correlation."""
    statistics = statistics_of(np.ones((128, 5), bool))
    assert (statistics.active_share, statistics.lift_of_best_neighbors) == (1.0, 1.0)
    assert statistics.lift_rank_correlation is None


@pytest.mark.parametrize("n_rows", [1, 64, 127])
def test_short_traces_cannot_tell(n_rows: int) -> None:
    """Below two halves of 64 rows there is nothing to compare."""
    statistics = statistics_of(random_activity(np.random.default_rng(0), n_rows, 20))
    assert (statistics.lift_of_best_neighbors, statistics.lift_rank_correlation) == (None, None)


def test_rare_neurons_cannot_tell() -> None:
    """A neuron that fires a few times in a half has no lift worth the name."""
    active = np.zeros((256, 6), bool)
    active[::40] = True
    assert statistics_of(active).lift_of_best_neighbors is None


def test_lift_by_hand() -> None:
    """Neurons 0 and 1 fire for the same half of the tokens: together twice as often as by chance."""
    active = np.zeros((256, 3), bool)
    active[::2, :2] = True
    statistics = statistics_of(active)
    assert statistics.lift_of_best_neighbors == 2.0


def test_planted_clusters_have_high_lift() -> None:
    """A neuron that fires for 15 % of tokens fires six times likelier with its own than by chance; so it is found."""
    statistics = statistics_of(planted_clusters(np.random.default_rng(0), n_clusters=6, cluster_size=9)[0])
    assert statistics.lift_of_best_neighbors == pytest.approx(6, rel=0.25)


def test_independent_neurons_have_none() -> None:
    """The best of many neighbours look good on the half that chose them; on the other they are back at 1."""
    statistics = statistics_of(random_activity(np.random.default_rng(0), 1024, 40))
    assert statistics.lift_of_best_neighbors == pytest.approx(1, abs=0.1)
    assert abs(statistics.lift_rank_correlation or 0) < 0.3


def test_document() -> None:
    """All attributes, as JSON has them."""
    document = statistics_of(planted_clusters(np.random.default_rng(0))[0]).to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert list(document) == list(BlockStatistics.__dataclass_fields__)
