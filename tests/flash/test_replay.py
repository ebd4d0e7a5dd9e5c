"""Replaying a block: resets, admission, the bound, and the future that Belady needs, whatever the chunks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.flash.admission import Admission
from ripple_place.flash.caches.belady import Belady
from ripple_place.flash.caches.registry import find_policy
from ripple_place.flash.replay import replay_block
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.placement import NeuronPlacement
from tests.flash.builders import block_trace, layout_of, linear_device, trace_of
from tests.reference import caches

if TYPE_CHECKING:
    from ripple_place.trace.activation_trace import BlockTrace

N_NEURONS = 40


def random_block(seed: int, n_rows: int = 30) -> tuple[BlockTrace, NeuronPlacement, list[list[int]]]:
    """Return a trace, a placement in random order, and the neurons of each row in slot order."""
    rng = np.random.default_rng(seed)
    active = rng.random((n_rows, N_NEURONS)) < 0.2
    placement = NeuronPlacement(rng.permutation(N_NEURONS))
    rows = [[neuron for neuron in placement.order.tolist() if row[neuron]] for row in active]
    return block_trace(active), placement, rows


@pytest.mark.parametrize("chunk_bits", [1, 5 * N_NEURONS, 1 << 19])
@given(st.integers(0, 2**32 - 1), st.integers(0, 15))
@settings(max_examples=10, deadline=None)
def test_belady_knows_the_future_of_the_whole_trace(chunk_bits: int, seed: int, capacity: int) -> None:
    """Hits equal the twin's, which looks ahead in the stream, with one row a chunk, five, or all."""
    trace, placement, rows = random_block(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ripple_place.flash.replay.CHUNK_BITS", chunk_bits)
        chunks = list(replay_block(trace, placement, Belady(capacity, placement)))
        n_hits = sum(hits_of(trace, placement, "belady", capacity))
    assert sum(chunk.n_rows for chunk in chunks) == trace.n_rows
    assert n_hits == sum(caches.belady([neuron for row in rows for neuron in row], capacity))


def hits_of(
    trace: BlockTrace, placement: NeuronPlacement, policy: str, capacity: int, reset_rows: tuple[int, ...] = ()
) -> list[bool]:
    """Return the hits of a block's replay."""
    cache = find_policy(policy)(capacity, placement)
    chunks = replay_block(trace, placement, cache, reset_rows=reset_rows)
    return [bool(is_hit) for chunk in chunks for is_hit in chunk.is_hit]


@pytest.mark.parametrize("policy", ["lru", "belady"])
def test_a_reset_splits_the_trace(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Emptied caches serve the rest as if it were a trace of its own: of Belady too, for what it kept is lost."""
    trace, placement, rows = random_block(1)
    expected = [
        is_hit
        for start, stop in ((0, 7), (7, 8), (8, 30))
        for is_hit in getattr(caches, policy)([neuron for row in rows[start:stop] for neuron in row], 25)
    ]
    for chunk_bits in (1, 3 * N_NEURONS, 1 << 19):
        monkeypatch.setattr("ripple_place.flash.replay.CHUNK_BITS", chunk_bits)
        n_hits = sum(hits_of(trace, placement, policy, 25, (0, 7, 8)))
        assert n_hits == sum(expected)
    assert sum(hits_of(trace, placement, policy, 25)) > sum(expected)


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hits, what admission draws, and the hits of the bound, in one chunk and in chunks of a row."""
    trace, placement, _ = random_block(2)

    def counts(policy: str) -> tuple[list[bool], int]:
        chunks = replay_block(
            trace, placement, find_policy(policy)(9, placement), name="layers.3", admission=Admission(2, 0.5, 4),
            reset_rows=(11,), bound=Belady(9, placement),
        )  # fmt: skip
        pairs = [(chunk.is_hit.tolist(), chunk.n_bound_hits) for chunk in chunks]
        return [is_hit for hits, _ in pairs for is_hit in hits], sum(n for _, n in pairs)

    for policy in ("lru", "greedydual", "window:3", "belady"):
        monkeypatch.setattr("ripple_place.flash.replay.CHUNK_BITS", 1 << 19)
        whole = counts(policy)
        monkeypatch.setattr("ripple_place.flash.replay.CHUNK_BITS", 1)
        assert counts(policy) == whole
        assert sum(whole[0]) <= whole[1]


def test_simulator_counts_hits_by_tenth_and_the_bound() -> None:
    """Every access falls in one tenth; the bound is what the policy belady hits; an empty cache has none."""
    rng = np.random.default_rng(5)
    blocks = {"layers.0": block_trace(rng.random((23, 30)) < 0.3), "layers.1": block_trace(rng.random((23, 30)) < 0.2)}
    trace, device = trace_of(blocks, 23), linear_device()
    layout = layout_of({name: rng.permutation(30).tolist() for name in blocks})
    params = SimulationParams("lru", dict.fromkeys(blocks, 8), with_bound=True)
    result = simulate(trace, layout, device, params)
    totals, scores = result.totals, result.to_json()
    assert totals.hits.active_by_tenth.sum() == totals.n_active
    assert totals.hits.hits_by_tenth.sum() == totals.n_hits
    assert totals.n_hits + totals.n_misses == totals.n_active
    by_hand = [
        sum(int(np.unpackbits(block.active, axis=1)[token].sum()) for block in blocks.values()) for token in range(23)
    ]
    tenth = np.array([10 * token // 23 for token in range(23)])
    assert totals.hits.active_by_tenth.tolist() == [
        sum(n for n, of in zip(by_hand, tenth, strict=True) if of == i) for i in range(10)
    ]
    best = simulate(trace, layout, device, SimulationParams("belady", params.capacity_neurons))
    assert scores["cache_hit_ratio_belady"] == best.to_json()["cache_hit_ratio"] > scores["cache_hit_ratio"]
    assert best.to_json()["cache_hit_ratio_belady"] is None
    assert scores["cache_hit_ratio_by_tenth"][0] < scores["cache_hit_ratio"]
    assert simulate(trace, layout, device).to_json()["cache_hit_ratio_belady"] is None


def test_hits_by_byte_weigh_blocks_by_their_bundles() -> None:
    """Block 0 hits everything with bundles of 1000 bytes, block 1 nothing with 3000: a quarter of the bytes hit."""
    active = np.ones((1, 4))
    trace = trace_of({"layers.0": block_trace(active), "layers.1": block_trace(active)}, 1)
    frequency = np.ones(4, np.int64)
    blocks = {}
    for name, bundle_bytes in (("layers.0", 1000), ("layers.1", 3000)):
        (block,) = layout_of({name: [0, 1, 2, 3]}, bundle_bytes).blocks.values()
        blocks[name] = type(block)(NeuronPlacement.original(4, frequency), block.extent)
    layout = type(layout_of({"layers.0": [0]}))("mixed", blocks)
    params = SimulationParams("pinned", {"layers.0": 4})
    scores = simulate(trace, layout, linear_device(), params).to_json()
    assert scores["cache_hit_ratio"] == 1 / 2
    assert scores["cache_hit_ratio_bytes"] == 1 / 4


def test_routed_blocks_reset_and_count_by_token() -> None:
    """An expert that tokens 1, 4 and 9 of ten reach: tenths 1, 4, 9; emptied before token 5, so at its third row."""
    expert = block_trace(np.ones((3, 2)), token_index=[1, 4, 9])
    trace, device = trace_of({"layers.0.experts.1": expert}, 10), linear_device()
    layout = layout_of({"layers.0.experts.1": [0, 1]})
    params = SimulationParams("lru", {"layers.0.experts.1": 2}, with_bound=True)
    assert simulate(trace, layout, device, params).totals.hits.hits_by_tenth.tolist() == [0] * 4 + [2] + [0] * 4 + [2]
    params = SimulationParams("lru", {"layers.0.experts.1": 2}, with_bound=True, reset_tokens=(0, 5))
    hits = simulate(trace, layout, device, params).totals.hits
    assert hits.hits_by_tenth.tolist() == [0] * 4 + [2] + [0] * 5
    assert hits.active_by_tenth.tolist() == [0, 2, 0, 0, 2, 0, 0, 0, 0, 2]
    assert hits.n_bound_hits == 2


def test_threads_and_seeds() -> None:
    """Admission draws the same with one thread and three, and something else with another seed."""
    rng = np.random.default_rng(9)
    trace = trace_of({f"layers.{i}": block_trace(rng.random((40, 50)) < 0.4) for i in range(4)}, 40)
    layout = layout_of({name: rng.permutation(50).tolist() for name in trace.blocks})
    capacity = dict.fromkeys(trace.blocks, 15)

    def document(n_threads: int, seed: int) -> object:
        params = SimulationParams("lru", capacity, n_threads=n_threads, admission=Admission(2, 0.5, seed))
        return simulate(trace, layout, linear_device(), params).to_json()

    assert document(1, 3) == document(3, 3) != document(1, 4)
