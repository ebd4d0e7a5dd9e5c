"""Counting a profile's bits once more, against counts of dense matrices, and what does not agree."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array

from ripple_place.errors import TraceFormatError
from ripple_place.graph import recount
from tests.trace_builders import block_of, pack, random_activity

SHAPES = [(0, 5), (1, 1), (2, 9), (3, 8), (4, 17), (9, 64), (100, 65), (729, 30), (1000, 3)]


@pytest.mark.parametrize("chunk_bytes", [1, 64, 10**6])
@pytest.mark.parametrize(("n_rows", "n_neurons"), SHAPES)
def test_firings(monkeypatch: pytest.MonkeyPatch, n_rows: int, n_neurons: int, chunk_bytes: int) -> None:
    """Adders over any number of rows: none, powers of three, and what is left over."""
    monkeypatch.setattr(recount, "CHUNK_BYTES", chunk_bytes)
    active = random_activity(np.random.default_rng(n_rows), n_rows, n_neurons, 0.6)
    np.testing.assert_array_equal(recount.firing_counts(pack(active), n_neurons), active.sum(axis=0))


@pytest.mark.parametrize("chunk_bytes", [1, 64, 10**6])
@pytest.mark.parametrize(("n_rows", "n_neurons"), SHAPES)
def test_pairs(monkeypatch: pytest.MonkeyPatch, n_rows: int, n_neurons: int, chunk_bytes: int) -> None:
    """All pairs, a neuron with itself included."""
    monkeypatch.setattr(recount, "CHUNK_BYTES", chunk_bytes)
    active = random_activity(np.random.default_rng(n_rows), n_rows, n_neurons, 0.6)
    first, second = (part.ravel().astype(np.int32) for part in np.indices((n_neurons, n_neurons)))
    together = active.T.astype(int) @ active.astype(int)
    np.testing.assert_array_equal(recount.pair_counts(pack(active), first, second), together.ravel())


@pytest.mark.parametrize(("bit_reads", "n_compared"), [(0, 3), (1000, 10), (10**6, 45)])
def test_the_sample_is_spread_over_the_graph(monkeypatch: pytest.MonkeyPatch, bit_reads: int, n_compared: int) -> None:
    """As many pairs as the budget allows, first and last included; all of a small graph."""
    monkeypatch.setattr(recount, "BIT_READS", bit_reads)
    monkeypatch.setattr(recount, "LEAST_PAIRS", 3)
    active = np.ones((100, 10), bool)
    counts = np.full((10, 10), 99)
    np.fill_diagonal(counts, 0)
    match = rf"x: found a count of 99 for neurons 0 and 1, which fire together in 100 rows \({n_compared} of the "
    with pytest.raises(TraceFormatError, match=match):
        recount.check_counts("x", block_of(active), active.sum(axis=0), csr_array(counts))
