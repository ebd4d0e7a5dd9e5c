"""The cost of misses against plain Python, and what pinning a neuron saves against pinning it."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.kernels.misses import add_read_shares, charge_misses
from ripple_place.kernels.read_state import SlotAccesses
from tests.reference import misses as reference
from tests.trace_builders import random_activity

LAMBDAS = [0.0, 0.5, 2.0, 5.0, 40.0]


def accesses(active: np.ndarray, hit: np.ndarray, order: np.ndarray) -> SlotAccesses:
    """Return slots, row starts and hits of a dense matrix in an order."""
    rows, slots = np.nonzero(active[:, order])
    starts = np.searchsorted(rows, np.arange(len(active) + 1)).astype(np.int64)
    return SlotAccesses(slots.astype(np.int32), starts, hit[:, order][rows, slots].astype(np.uint8))


@pytest.mark.parametrize("break_even_gap", LAMBDAS)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_rows_cost_what_their_reads_cost(break_even_gap: float, share: float) -> None:
    """Runs, gaps and reads of what missed, whatever was hit; rows without misses cost nothing."""
    rng = np.random.default_rng(0)
    active, hit = random_activity(rng, 30, 19, share), random_activity(rng, 30, 19, 0.4)
    order = rng.permutation(19).astype(np.int32)
    row_cost, row_reads = np.full(30, np.nan), np.full(30, -1)
    run_cost = break_even_gap + np.arange(20.0)
    run_cost[0] = 0
    charge_misses(accesses(active, hit, order), int(break_even_gap), run_cost, row_cost, row_reads)
    assert row_cost.tolist() == pytest.approx(reference.row_costs(active, hit, order.tolist(), break_even_gap))
    if break_even_gap == 0:
        runs = [np.diff(row[order], prepend=0).clip(0).sum() for row in (active & ~hit).astype(int)]
        assert row_reads.tolist() == runs


@pytest.mark.parametrize("break_even_gap", LAMBDAS)
def test_a_neurons_share_is_what_pinning_it_changes(break_even_gap: float) -> None:
    """Exact for one neuron at a time: pinned ones count what they would cost, others what they do."""
    rng = np.random.default_rng(1)
    active = random_activity(rng, 25, 17, 0.3)
    order = rng.permutation(17).astype(np.int32)
    is_pinned = rng.random(17) < 0.3
    share = np.zeros(17)
    hit = np.broadcast_to(is_pinned, active.shape)
    add_read_shares(accesses(active, hit, order), order, is_pinned.astype(np.uint8), break_even_gap, share)
    expected = reference.read_shares(active, np.flatnonzero(is_pinned), order.tolist(), break_even_gap)
    assert share.tolist() == pytest.approx(expected)


def test_shares_count_only_what_misses() -> None:
    """An access that some other cache serves is none that pinning the neuron saves."""
    wanted = SlotAccesses(np.array([0, 1, 5], np.int32), np.array([0, 3]), np.array([0, 1, 0], np.uint8))
    share = np.zeros(6)
    add_read_shares(wanted, np.arange(6, dtype=np.int32), np.zeros(6, np.uint8), 1.0, share)
    assert share.tolist() == [2, 0, 0, 0, 0, 2]
