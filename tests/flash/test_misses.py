"""What misses cost: as the simulator says on a line device whose page is the bundle, and as the objective says."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.flash.admission import Admission
from ripple_place.flash.caches.registry import POLICY_NAMES
from ripple_place.flash.layout import BlockExtent, BlockLayout
from ripple_place.flash.misses import replay_misses
from ripple_place.flash.read_cost import ReadCost
from ripple_place.flash.simulator import SimulationParams, simulate_block
from ripple_place.ordering.flash_cost import FlashCost
from ripple_place.placement import NeuronPlacement
from tests.flash.builders import linear_device
from tests.reference import misses as reference
from tests.trace_builders import block_of, planted_clusters, unpack

POLICIES = [name.replace("K", "2") for name in POLICY_NAMES]
LAMBDA = 10.0  # of the tests' device, for bundles of 4 KiB


def case(seed: int = 0, *, pinned: bool = False) -> tuple[np.ndarray, NeuronPlacement]:
    """Return activity with clusters, and a placement of it at random."""
    rng = np.random.default_rng(seed)
    active = planted_clusters(rng, n_clusters=6, cluster_size=20, n_rows=150)[0]
    chosen = np.flatnonzero(rng.random(120) < 0.1) if pinned else None
    return active, NeuronPlacement(rng.permutation(120), chosen, active.sum(0))


@pytest.mark.parametrize("policy", POLICIES)
def test_the_simulator_charges_the_same(policy: str) -> None:
    """On whole pages and a line: microseconds are neurons read times the microsecond that each takes."""
    active, placement = case(pinned=policy.startswith("pinned"))
    device = linear_device(max_request_bytes=4096 * 128)
    assert device.break_even_gap(4096) == LAMBDA
    trace = block_of(active)
    layout = BlockLayout(placement, BlockExtent.packed(4096))
    params = SimulationParams(policy, {"layers.0": 30}, admission=Admission(2, 0.5))
    result, rows = simulate_block("layers.0", trace, layout, device, params, len(active))
    misses = replay_misses(
        trace, placement, policy, 30, ReadCost.by_line(LAMBDA), name="layers.0", admission=Admission(2, 0.5)
    )
    assert misses.row_cost == pytest.approx(rows.flash_us)
    assert misses.row_reads.sum() == result.totals.n_reads


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("break_even_gap", [0.0, 2.5, 20.0])
def test_it_is_the_objective_on_the_misses(policy: str, break_even_gap: float) -> None:
    """The search sees the misses as a trace of their own: its cost of them is what the cache leaves to pay."""
    active, placement = case(1)
    misses = replay_misses(block_of(active), placement, policy, 30, ReadCost.by_line(break_even_gap), with_trace=True)
    assert misses.trace is not None
    left = unpack(misses.trace)
    assert not (left & ~active).any()
    assert misses.row_cost.mean() == pytest.approx(
        FlashCost(misses.trace, ReadCost.by_line(break_even_gap))(placement.order), rel=1e-3
    )
    expected = reference.row_costs(left, np.zeros_like(left), placement.order.tolist(), break_even_gap)
    assert misses.row_cost.tolist() == pytest.approx(expected)
    if policy == "none":
        np.testing.assert_array_equal(left, active)


def test_shares_of_the_first_rows() -> None:
    """What neurons add is counted over as many rows as asked for, in chunks or not."""
    active, placement = case(2, pinned=True)
    assert placement.pinned is not None
    for n_rows in (0, 1, 70, 150):
        found = replay_misses(
            block_of(active), placement, "pinned", 30, ReadCost.by_line(3.0), share_rows=n_rows
        ).read_shares
        expected = np.zeros(120)
        if n_rows:
            rows = active[:n_rows].tolist()
            expected = reference.read_shares(rows, placement.pinned, placement.order.tolist(), 3.0)
        assert found == pytest.approx(expected)


def test_blocks_without_rows_or_with_some_tokens_only() -> None:
    """No rows cost nothing; rows that stand for some tokens keep saying which."""
    empty = replay_misses(
        block_of(np.zeros((0, 9), bool)), NeuronPlacement.original(9), "lru", 3, ReadCost.by_line(2.0), with_trace=True
    )
    assert empty.row_cost.size == 0
    assert empty.trace is not None
    some = block_of(np.ones((3, 9), bool), token_index=[1, 4, 5])
    misses = replay_misses(some, NeuronPlacement.original(9), "none", 0, ReadCost.by_line(2.0), with_trace=True)
    assert misses.trace is not None
    assert misses.trace.token_index.tolist() == [1, 4, 5]  # type: ignore[union-attr]
    assert misses.row_cost.tolist() == [11.0, 11.0, 11.0]
