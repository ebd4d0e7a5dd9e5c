"""Binned lift: pair by pair by hand, about 1 for independent neurons, NaN where too few are expected."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.graph import binned_lift as module
from ripple_place.graph.binned_lift import binned_lift
from tests.trace_builders import block_of, planted_clusters, random_activity


@pytest.mark.parametrize("chunk_rows", [7, 256])
def test_by_hand(monkeypatch: pytest.MonkeyPatch, chunk_rows: int) -> None:
    """The pairs of two bins that fire together, over what firing counts give; a neuron is no pair with itself."""
    monkeypatch.setattr(module, "CHUNK_ROWS", chunk_rows)
    rng = np.random.default_rng(0)
    active = planted_clusters(rng, n_clusters=3, cluster_size=4, n_rows=100)[0].astype(int)
    order = rng.permutation(12).astype(np.int32)
    lift = binned_lift(block_of(active), order, 5)
    starts = [0, 2, 4, 7, 9, 12]
    for a in range(5):
        for b in range(5):
            pairs = [
                (i, j)
                for i in order[starts[a] : starts[a + 1]]
                for j in order[starts[b] : starts[b + 1]]
                if i != j
            ]  # fmt: skip
            together = sum((active[:, i] & active[:, j]).sum() for i, j in pairs)
            expected = sum(active[:, i].sum() * active[:, j].sum() / 100 for i, j in pairs)
            assert lift[a, b] == pytest.approx(together / expected) if expected >= 4 else np.isnan(lift[a, b])


def test_independent_neurons_have_lift_one() -> None:
    """Nothing but noise; and no more bins than neurons."""
    active = random_activity(np.random.default_rng(0), 5000, 40)
    lift = binned_lift(block_of(active), np.arange(40, dtype=np.int32))
    assert lift.shape == (40, 40)
    assert np.isnan(np.diag(lift)).all()
    off = ~np.eye(40, dtype=bool)
    np.testing.assert_allclose(lift[off], 1, atol=0.4)


def test_nothing_to_tell() -> None:
    """Silent neurons, or no tokens: blank everywhere, and no error."""
    for shape in ((50, 20), (0, 20)):
        lift = binned_lift(block_of(np.zeros(shape)), np.arange(20, dtype=np.int32), 4)
        assert np.isnan(lift).all()
