"""The path and its bound, around the exact optimum: bound <= optimum <= path <= every start."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace

import networkx as nx
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.objective import reads_per_token
from ripple_place.ordering.original import original_order
from ripple_place.ordering.path_bound import PairTable, path_bound
from ripple_place.ordering.path_search import PathParams, PathResult, path_order
from tests.reference import hamiltonian_path as reference
from tests.trace_builders import bits_of, planted_chain, planted_clusters, random_activity

HAS_JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") == "0"
N_EXAMPLES = 40 if HAS_JIT else 6
EFFORT = 20 if HAS_JIT else 2


def search(active: np.ndarray, params: PathParams | None = None, seed: int = 0) -> PathResult:
    """Search from the greedy path and from checkpoint order."""
    bits = bits_of(active)
    starts = {"greedy": greedy_path(bits), "original": original_order(bits.n_neurons)}
    return path_order(bits, starts, params or PathParams(EFFORT), np.random.default_rng(seed))


def counts_of(active: np.ndarray) -> np.ndarray:
    """Return the co-firing counts, 0 on the diagonal."""
    counts = active.T.astype(int) @ active.astype(int)
    np.fill_diagonal(counts, 0)
    return counts


@given(st.integers(0, 20), st.integers(1, 9), st.sampled_from([0.1, 0.3, 0.6, 0.95]), st.integers(0, 10_000))
@settings(max_examples=N_EXAMPLES, deadline=None)
def test_bound_optimum_path(n_rows: int, n_neurons: int, share: float, seed: int) -> None:
    """On every small trace, in integers: the bound never exceeds the optimum, nor the path falls below it."""
    active = random_activity(np.random.default_rng(seed), n_rows, n_neurons, share)
    result = search(active)
    rows = max(1, n_rows)
    optimum = (int(active.sum()) - reference.most_kept(counts_of(active).tolist())) / rows
    assert result.lower_bound is not None
    assert result.lower_bound <= optimum <= result.reads <= result.start_reads
    assert result.reads == reads_per_token(bits_of(active), result.order)
    assert sorted(result.order) == list(range(n_neurons))


@pytest.mark.parametrize("seed", range(6))
def test_small_blocks_are_solved(seed: int) -> None:
    """Eleven neurons with some structure: the path is the optimum, and the bound within a tenth of it."""
    rng = np.random.default_rng(seed)
    active = planted_clusters(rng, n_clusters=3, cluster_size=4, n_rows=200, noise=0.1)[0][:, :11]
    result = search(active)
    optimum = (int(active.sum()) - reference.most_kept(counts_of(active).tolist())) / 200
    assert result.reads == optimum
    assert result.lower_bound is not None
    assert 0.9 * optimum < result.lower_bound <= optimum


@pytest.mark.parametrize("table_limit_neurons", [10, 8192])
@pytest.mark.parametrize("n_rows", [40, 400])
def test_never_worse_than_its_starts(n_rows: int, table_limit_neurons: int) -> None:
    """With all pairs or from the sparse graph, and better than greedy where greedy is not already the best."""
    active = random_activity(np.random.default_rng(n_rows), n_rows, 70, 0.2)
    result = search(active, PathParams(1, table_limit_neurons=table_limit_neurons))
    assert result.reads < result.start_reads
    assert (result.gap_to_bound is None) == (table_limit_neurons == 10)
    assert result.reads == reads_per_token(bits_of(active), result.order)


def test_a_bad_start_is_enough() -> None:
    """From checkpoint order alone the search comes nearly as low as from greedy's path."""
    active = planted_clusters(np.random.default_rng(0), n_clusters=8, cluster_size=8)[0]
    bits = bits_of(active)
    alone = path_order(bits, {"original": original_order(64)}, PathParams(EFFORT), np.random.default_rng(0))
    assert alone.start_reads == reads_per_token(bits, original_order(64))
    assert alone.reads <= 1.005 * search(active).reads < 0.5 * alone.start_reads


def test_gap_to_bound_of_a_planted_chain() -> None:
    """Every token is one read in the hidden order: the bound says that no order needs less, and the search stops."""
    active, _ = planted_chain(np.random.default_rng(0), 60, 200)
    result = search(active)
    assert (result.reads, result.lower_bound, result.gap_to_bound) == (1.0, 1.0, 0.0)
    assert result.bound is not None
    assert result.bound.is_converged


@pytest.mark.parametrize("seed", range(3))
def test_more_steps_raise_the_bound_until_it_has_converged(seed: int) -> None:
    """Few steps are told from enough; however few, none is above the path."""
    active = planted_clusters(np.random.default_rng(seed), n_clusters=6, cluster_size=10, noise=0.05)[0]
    table = PairTable.of_bits(bits_of(active))
    result = search(active)
    kept = int(active.sum()) - round(result.start_reads * len(active))
    bounds = [path_bound(table, kept, n_steps) for n_steps in (1, 5, 300 if HAS_JIT else 100)]
    assert bounds[0].reads < bounds[1].reads < bounds[2].reads <= result.reads
    assert bounds[2].is_converged
    assert result.reads <= 1.01 * bounds[2].reads


@pytest.mark.skipif(not HAS_JIT, reason="needs all 300 steps")
@pytest.mark.parametrize("seed", range(2))
def test_steps_that_overshoot_are_taken_back(seed: int) -> None:
    """From an order that keeps nothing the first steps are far too long: the ascent recovers from them."""
    active = planted_clusters(np.random.default_rng(seed), n_clusters=6, cluster_size=10, noise=0.05)[0]
    table = PairTable.of_bits(bits_of(np.concatenate([active, np.ones((512, 2), bool)], axis=1)))
    assert path_bound(table, 0).reads > 0.99 * path_bound(table, 3000).reads


@pytest.mark.parametrize(
    "active",
    [
        np.ones((20, 9)), np.zeros((20, 9)), np.ones((1, 7)), np.eye(2), np.ones((4, 2)), np.ones((5, 1)),
        np.repeat(np.eye(3), 4, axis=1), np.zeros((0, 6)), np.eye(8)[:, :3], np.eye(5)[:1],
    ],
    ids=[
        "all on", "none on", "one token", "two apart", "two alike", "one neuron", "duplicates", "no tokens",
        "three apart", "one of five on",
    ],
)  # fmt: skip
@pytest.mark.parametrize("table_limit_neurons", [0, 8192])
def test_degenerate_blocks(active: np.ndarray, table_limit_neurons: int) -> None:
    """Whatever the trace holds, a permutation with the fewest reads, and a bound that meets them exactly."""
    active = active.astype(bool)
    if table_limit_neurons == 0 and not active.any():
        table_limit_neurons = 8192  # No neuron fires: the table is empty anyhow.
    result = search(active, PathParams(2, table_limit_neurons=table_limit_neurons))
    assert sorted(result.order) == list(range(active.shape[1]))
    assert result.order.dtype == np.int32
    optimum = (int(active.sum()) - reference.most_kept(counts_of(active).tolist())) / max(1, len(active))
    assert result.reads == optimum
    if table_limit_neurons:
        assert (result.lower_bound, result.gap_to_bound) == (optimum, 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_no_longer_than_networkx_finds(seed: int) -> None:
    """The Hamming tour through networkx's Christofides, greedy and annealing is never the shorter one."""
    rng = np.random.default_rng(seed)
    active = random_activity(rng, 50, 10, 0.3)
    counts, frequency = counts_of(active), active.sum(axis=0)
    graph = nx.Graph()
    for i in range(10):
        graph.add_edge(i, 10, weight=int(frequency[i]))
        for j in range(i):
            graph.add_edge(i, j, weight=int(frequency[i] + frequency[j] - 2 * counts[i, j]))
    tours = [
        nx.approximation.christofides(graph),
        nx.approximation.greedy_tsp(graph),
        nx.approximation.simulated_annealing_tsp(graph, "greedy", seed=seed),
    ]
    for tour in tours:
        length = sum(graph[i][j]["weight"] for i, j in itertools.pairwise(tour))
        assert 2 * 50 * search(active).reads <= length + 1e-9


def test_same_order_whatever_the_threads() -> None:
    """Integers and a seeded generator: cores must not show in the result, the seed may."""
    active = random_activity(np.random.default_rng(3), 100, 90 if HAS_JIT else 30, 0.15)
    before = numba.get_num_threads()
    results = []
    for n_threads in (1, 2):
        numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))
        results.append(search(active, PathParams(2)))
    numba.set_num_threads(before)
    assert results[0].order.tolist() == results[1].order.tolist()
    assert results[0].lower_bound == results[1].lower_bound


def test_more_effort_is_never_worse() -> None:
    """Each round starts where the one before ended."""
    active = random_activity(np.random.default_rng(4), 200, 80 if HAS_JIT else 40, 0.15)
    reads = [search(active, PathParams(effort)).reads for effort in (0, 1, 3)]
    assert reads == sorted(reads, reverse=True)
    assert reads[-1] < reads[0]


@pytest.mark.parametrize("setting", [{"effort": -1}, {"n_candidates": 0}, {"n_steps": 0}])
def test_parameters_out_of_range_are_refused(setting: dict[str, int]) -> None:
    """A search without candidates, or a bound without a step, is a mistake of the caller."""
    with pytest.raises(UsageError, match="an effort of at least 0, and at least one candidate and step"):
        PathParams(**setting)


def test_longer_traces_have_coarser_penalties() -> None:
    """So that weights fit into 32 bits; the bound still is one, and nearly as good."""
    active = planted_clusters(np.random.default_rng(0), n_clusters=4, cluster_size=6, noise=0.05)[0]
    table = PairTable.of_bits(bits_of(active))
    long = replace(table, bits=replace(table.bits, n_rows=1 << 25))
    kept = int(active.sum()) - round(search(active).reads * len(active))
    fine, coarse = path_bound(table, kept), path_bound(long, kept)
    assert (fine.scale, coarse.scale) == (64, 4)
    least = round(coarse.reads * (1 << 25))
    assert 0.99 * fine.reads * len(active) <= least <= int(active.sum()) - kept


def test_a_bound_needs_a_step() -> None:
    """The same for the bound alone."""
    with pytest.raises(UsageError, match="0 steps; expected at least 1"):
        path_bound(PairTable.of_bits(bits_of(np.eye(3, dtype=bool))), 0, 0)
