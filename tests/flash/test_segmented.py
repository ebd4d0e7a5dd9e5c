"""PowerInfer-2's segmented cache, its plan, and hot rows computed densely: against plain twins."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.flash.caches.cache import Accesses
from ripple_place.flash.caches.registry import POLICY_NAMES, find_policy
from ripple_place.flash.caches.segmented import Segmented
from ripple_place.flash.caches.segments import HotSegments
from ripple_place.flash.dense_hot import dense_hot
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.placement import NeuronPlacement
from tests.flash.builders import block_trace, layout_of, linear_device, trace_of
from tests.reference import segmented as reference
from tests.trace_builders import unpack

SIZES = {"layers.0": 9, "layers.1": 7}
HOT = {1: {"layers.0": 3, "layers.1": 2}, 2: {"layers.0": 5, "layers.1": 2}, 4: {"layers.0": 8, "layers.1": 6}}


def placements(seed: int) -> dict[str, NeuronPlacement]:
    """Return two blocks in random order."""
    rng = np.random.default_rng(seed)
    return {name: NeuronPlacement(rng.permutation(n)) for name, n in SIZES.items()}


def plan(seed: int = 0) -> HotSegments:
    """Return clusters of two slots: 2, 3 and 4 of the first block are hot, and 1, 1 and 3 of the second."""
    return HotSegments.by_slots(placements(seed), HOT, cluster_rows=2)


def test_clusters_are_consecutive_slots() -> None:
    """Counted from the first slot of each block; those that are hot at no batch size are none."""
    order = {"layers.0": [4, 2, 0, 1, 3], "layers.1": [1, 0]}
    placed = {name: NeuronPlacement(np.array(slots)) for name, slots in order.items()}
    made = HotSegments.by_slots(placed, {2: {"layers.0": 3, "layers.1": 9}, 1: {"layers.0": 1}}, cluster_rows=2)
    assert made.cluster.tolist() == [1, 1, 0, -1, 0, 2, 2]
    assert dict(made.n_hot) == {1: (1, 0), 2: (2, 1)}
    assert list(made.n_hot) == [1, 2]
    assert made.cluster_sizes.tolist() == [2, 2, 2]
    assert made.hot_neurons(1).tolist() == [False, False, True, False, True, False, False]
    assert made.hot_clusters(3).tolist() == [True, True, True]
    short = HotSegments.by_slots(placed, {1: {"layers.0": 5}}, cluster_rows=3)
    assert short.cluster_sizes.tolist() == [3, 2]


def test_the_planned_size_that_applies() -> None:
    """The largest one not above the batch, else the smallest."""
    made = HotSegments.by_slots(placements(0), {2: {}, 4: {}})
    assert [made.planned(batch) for batch in (1, 2, 3, 4, 9)] == [2, 2, 2, 4, 4]


@pytest.mark.parametrize(
    "change",
    [
        {"cluster": np.array([1, 1, 0, 2, 2], np.int32)},
        {"cluster": np.array([0, 0, 2, 2, 2], np.int32)},
        {"cluster": np.array([0, 0, 1, 1], np.int32)},
        {"n_hot": {}},
        {"n_hot": {0: (1, 1)}},
        {"n_hot": {2: (1, 1), 1: (1, 1)}},
        {"n_hot": {1: (1,)}},
        {"n_hot": {1: (1, 3)}},
        {"n_hot": {1: (-1, 1)}},
    ],
)
def test_plans_that_are_none(change: dict[str, Any]) -> None:
    """Clusters that do not count through the blocks, sizes out of order, more hot than there are."""
    fields = {
        "n_neurons": {"layers.0": 2, "layers.1": 3}, "cluster": np.array([0, 0, 2, 1, 2], np.int32),
        "n_hot": {1: (1, 1), 2: (1, 2)},
    }  # fmt: skip
    HotSegments(**fields)
    with pytest.raises(UsageError, match="hot segments: found"):
        HotSegments(**{**fields, **change})


events = st.lists(
    st.one_of(
        st.sampled_from(["reset", 1, 2, 3, 4, 8]),
        st.lists(st.tuples(st.integers(0, 15), st.booleans()), max_size=9, unique_by=lambda pair: pair[0]),
    ),
    max_size=30,
)


@given(events, st.integers(0, 18), st.integers(0, 9))
@settings(max_examples=150, deadline=None)
def test_equals_its_twin(story: list[Any], capacity: int, seed: int) -> None:
    """Rows of any neurons, batches that change, resets; with room for all, for some and for none."""
    segments = plan(seed)
    hot = {batch: set(np.flatnonzero(segments.hot_clusters(batch)).tolist()) for batch in segments.n_hot}
    cache = Segmented(capacity, NeuronPlacement.original(18), segments)
    twin = reference.Segmented(capacity, [*segments.cluster.tolist(), -1, -1], hot)
    for event in story:
        if event == "reset":
            cache.reset()
            twin.empty()
        elif isinstance(event, int):
            cache.set_batch(event)
            twin.set_batch(event)
        else:
            neurons, admitted = [neuron for neuron, _ in event], [enters for _, enters in event]
            is_hit = np.full(len(event), 9, np.uint8)
            row = Accesses(
                np.array(neurons, np.int32), np.array([0, len(event)], np.int64), np.array(admitted, np.uint8)
            )
            cache.replay(row, is_hit)
            assert is_hit.tolist() == twin.serve(neurons, admitted)


def test_dense_hot_rows() -> None:
    """What fires and what is hot at the step's batch size; experts in the rows that they have."""
    rng = np.random.default_rng(2)
    active = rng.random((6, 9)) < 0.3
    expert = rng.random((3, 7)) < 0.3
    names = ("layers.0", "layers.1.experts.0")
    trace = trace_of({names[0]: block_trace(active), names[1]: block_trace(expert, [0, 2, 5])}, 6)
    placed = dict(zip(names, placements(1).values(), strict=True))
    segments = HotSegments.by_slots(placed, {1: {names[0]: 2}, 2: {names[0]: 4, names[1]: 2}}, cluster_rows=2)
    batches = np.array([2, 2, 2, 1, 1, 1], np.int32)
    dense = dense_hot(trace, segments, batches)
    for row, batch in enumerate(batches):
        n_hot = {1: 2, 2: 4}[int(batch)]
        expected = active[row] | np.isin(np.arange(9), placed[names[0]].order[:n_hot])
        assert unpack(dense.blocks[names[0]])[row].tolist() == expected.tolist()
    for row, n_hot in enumerate((2, 2, 0)):
        expected = expert[row] | np.isin(np.arange(7), placed[names[1]].order[:n_hot])
        assert unpack(dense.blocks[names[1]])[row].tolist() == expected.tolist()
    with pytest.raises(UsageError, match="hot segments: found a plan of 2 blocks, 16 neurons; expected of the 1 block"):
        dense_hot(trace.select([names[0]]), segments)


def test_hot_clusters_are_one_read_each() -> None:
    """By hand: ten neurons in order, clusters of four, room for eight. The batch falls from 2 to 1 before step 3.

    Steps 0 and 1 want the two clusters at batch 2: a read of eight, then nothing but hits. Neuron 9 fires in steps 1
    to 4: cold, without room until cluster 1 leaves; from step 3 on there are four places. Neuron 5 fires in steps 3
    and 4, when it is cold, and is read once.
    """
    active = np.zeros((5, 10), bool)
    active[1:, 9] = active[3:, 5] = True
    trace = trace_of({"layers.0": block_trace(active)}, 5)
    layout = layout_of({"layers.0": list(range(10))})
    placed = {"layers.0": layout.blocks["layers.0"].placement}
    segments = HotSegments.by_slots(placed, {1: {"layers.0": 4}, 2: {"layers.0": 8}}, cluster_rows=4)
    batches = np.array([2, 2, 2, 1, 1], np.int32)
    params = SimulationParams("segmented", pool_neurons=8, segments=segments, batch_of_step=batches, gap=0)
    chunks = params.replay_pool(dense_hot(trace, segments, batches), layout, linear_device())
    rows = [
        [slot for slot, is_hit in zip(*chunk["layers.0"].row(row), strict=True) if not is_hit]
        for chunk in chunks
        for row in range(chunk["layers.0"].first_row, chunk["layers.0"].first_row + chunk["layers.0"].n_rows)
    ]
    assert rows == [list(range(8)), [9], [9], [5, 9], []]
    result = simulate(dense_hot(trace, segments, batches), layout, linear_device(), params)
    assert result.totals.n_reads == 5
    assert [(each.batch, each.n_steps) for each in result.steps] == [(2, 3), (1, 2)]
    assert result.n_tokens == 8


def test_it_needs_a_plan() -> None:
    """And a pool; by name alone there is none, and messages do not offer it."""
    with pytest.raises(UsageError, match="cache segmented: found no plan of hot clusters, or no pool"):
        find_policy("segmented")
    for params in ({}, {"pool_neurons": 3}, {"segments": plan()}):
        with pytest.raises(UsageError, match="cache segmented"):
            SimulationParams("segmented", **params)  # type: ignore[arg-type]
    assert "segmented" not in POLICY_NAMES
