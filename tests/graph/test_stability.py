"""Agreement on best companions: by hand, at chance for neurons that fire by themselves, high in planted clusters."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.graph import stability
from ripple_place.graph.stability import neighbors_kept
from tests.trace_builders import bits_of, planted_clusters, random_activity


def by_hand(one: np.ndarray, other: np.ndarray) -> float:
    """Return the share of agreement, neuron by neuron."""
    often = [j for j in range(one.shape[1]) if min(one[:, j].sum(), other[:, j].sum()) >= 8]
    agreed = weights = 0.0
    for i in often:
        best = []
        for active in (one, other):
            expected = {j: active[:, i].sum() * active[:, j].sum() / len(active) for j in often if j != i}
            excess = {j: ((active[:, i] & active[:, j]).sum() - e) / e**0.5 for j, e in expected.items()}
            best.append(set(sorted(excess, key=lambda j: (-excess[j], j))[:8]))
        weight = one[:, i].sum() + other[:, i].sum()
        agreed += weight * len(best[0] & best[1]) / 8
        weights += weight
    return agreed / weights


@pytest.mark.parametrize("chunk_pairs", [1, 50, 2**20])
def test_by_hand(monkeypatch: pytest.MonkeyPatch, chunk_pairs: int) -> None:
    """The same as counted one by one, whatever is counted at a time; rare neurons are no candidates."""
    monkeypatch.setattr(stability, "CHUNK_PAIRS", chunk_pairs)
    active = planted_clusters(np.random.default_rng(3), n_clusters=5, cluster_size=5, n_rows=300)[0]
    active[9:, 0] = False
    result = neighbors_kept(bits_of(active[:140]), bits_of(active[140:]))
    assert result is not None
    assert result[0] == pytest.approx(by_hand(active[:140], active[140:]))
    assert result[1] == 8 / 23


def test_chance_and_clusters() -> None:
    """Independent neurons of unlike frequency agree as chance has it; members of clusters of nine nearly always."""
    rng = np.random.default_rng(0)
    alone = rng.random((4096, 300)) < np.linspace(0.02, 0.4, 300)
    kept, by_chance = neighbors_kept(bits_of(alone[:2048]), bits_of(alone[2048:])) or (0, 0)
    assert kept == pytest.approx(by_chance, abs=0.015)
    clusters = planted_clusters(rng, n_clusters=20, cluster_size=9, n_rows=4096)[0]
    kept, by_chance = neighbors_kept(bits_of(clusters[:2048]), bits_of(clusters[2048:])) or (0, 0)
    assert kept > 0.99
    assert by_chance < 0.05


def test_too_little_to_tell() -> None:
    """Fewer than sixteen neurons that fire often enough have no eight best."""
    few = random_activity(np.random.default_rng(0), 300, 15, share=0.5)
    rare = random_activity(np.random.default_rng(0), 300, 50, share=0.01)
    for active in (few, rare):
        assert neighbors_kept(bits_of(active), bits_of(active)) is None
