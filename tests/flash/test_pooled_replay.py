"""One DRAM pool of all blocks: policies against plain twins on the accesses in the model's order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.flash.admission import Admission
from ripple_place.flash.caches.greedydual import PRIOR_WEIGHT
from ripple_place.flash.caches.registry import POLICY_NAMES
from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.flash.pool import Pool
from ripple_place.flash.requests import list_requests
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.flash.token_reads import reads_of_row
from ripple_place.placement import NeuronPlacement
from tests.flash.builders import block_trace, linear_device, trace_of
from tests.reference import caches
from tests.reference.pool import Row, by_block, ends_of, rows_of_pool

if TYPE_CHECKING:
    from ripple_place.trace.activation_trace import ActivationTrace

DEVICE = linear_device()
NAMES = ("layers.0", "layers.1", "layers.1.experts.2")
POLICIES = tuple(name.replace("window:K", "window:3") for name in POLICY_NAMES)


@dataclass
class Model:
    """A trace with its layout, and the rows of the pool as the twins get them."""

    trace: ActivationTrace
    layout: Layout
    rows: list[Row]
    frequency: list[int]

    @property
    def stream(self) -> list[int]:
        """Every access, in the model's order."""
        return [neuron for row in self.rows for neuron in row.neurons]

    @property
    def neurons(self) -> list[list[int]]:
        """The same by row."""
        return [row.neurons for row in self.rows]

    def hits(self, policy: str, capacity: int, **params: Any) -> dict[str, list[bool]]:
        """Return what the pool hits, by block."""
        found: dict[str, list[bool]] = {}
        simulation = SimulationParams(policy, pool_neurons=capacity, **params)
        for chunks in simulation.replay_pool(self.trace, self.layout, DEVICE):
            for name, chunk in chunks.items():
                found.setdefault(name, []).extend(chunk.is_hit.astype(bool).tolist())
        return found


def random_model(seed: int, n_tokens: int = 25, names: tuple[str, ...] = NAMES, share: float = 0.3) -> Model:
    """Return blocks of different sizes in random order; about half of the tokens reach the expert."""
    rng = np.random.default_rng(seed)
    blocks, placed, plain = {}, {}, {}
    for name in names:
        n_neurons = int(rng.integers(3, 20))
        is_expert = "experts" in name
        tokens = np.flatnonzero(rng.random(n_tokens) < 0.5) if is_expert else np.arange(n_tokens)
        active = rng.random((tokens.size, n_neurons)) < share
        frequency = rng.integers(0, 9, n_neurons)
        placement = NeuronPlacement(rng.permutation(n_neurons), frequency=frequency)
        blocks[name] = block_trace(active, tokens.tolist() if is_expert else None)
        placed[name] = BlockLayout(placement, BlockExtent.packed(4096))
        plain[name] = (active, tokens.tolist(), placement.order.tolist())
    frequencies = [n for layout in placed.values() for n in layout.placement.frequency.tolist()]
    return Model(trace_of(blocks, n_tokens), Layout("tested", placed), rows_of_pool(plain), frequencies)


seeds, capacities = st.integers(0, 2**32 - 1), st.integers(0, 30)
each_policy = pytest.mark.parametrize("policy", POLICIES)


def twin_of(policy: str, model: Model, capacity: int) -> list[bool]:
    """Return the hits that a plain twin counts."""
    name, rows = policy.partition(":")[0].replace("-", "_").replace("+", "_"), model.neurons
    hottest = sorted(range(len(model.frequency)), key=lambda neuron: (-model.frequency[neuron], neuron))
    if name == "none":
        return [False] * len(model.stream)
    if name == "window":
        tokens = sorted({row.token for row in model.rows})
        return caches.window(rows, capacity, 3, tokens=[tokens.index(row.token) for row in model.rows])
    if name == "pinned":
        return caches.pinned(model.stream, set(hottest[:capacity]))
    if name == "pinned_lru":
        return caches.pinned_lru(model.stream, set(hottest[: capacity // 2]), capacity)
    if name == "greedydual":
        return greedydual_twin(model, capacity)
    if name.startswith("mask_first"):
        return caches.mask_first(rows, capacity, name.rpartition("_")[2])[0]
    twin: list[bool] = getattr(caches, name)(model.stream, capacity)
    return twin


def greedydual_twin(model: Model, capacity: int) -> list[bool]:
    """Return the twin's hits, with slots far apart where blocks meet, and memory of tokens."""
    slot_of, first_slot = [], 0
    for layout in model.layout.blocks.values():
        slot_of += [first_slot + slot for slot in layout.placement.slot_of.tolist()]
        first_slot += layout.n_neurons + 1000
    n_all = len(model.frequency) + 2 * (len(model.layout.blocks) - 1)
    mean = sum(model.frequency) / n_all  # two neurons behind each block that nothing asks for
    prior = [PRIOR_WEIGHT * n / mean if mean else 0.0 for n in model.frequency]
    gap = 10  # the device's: lambda is 10
    return caches.greedydual(model.neurons, capacity, slot_of, prior, gap, 10.0, ends=ends_of(model.rows))


@each_policy
@given(seeds, capacities)
@settings(max_examples=25, deadline=None)
def test_policies_equal_their_twins(policy: str, seed: int, capacity: int) -> None:
    """Token by token, in a token block by block, in a block in slot order; experts see some tokens only."""
    model = random_model(seed)
    assert model.hits(policy, capacity) == by_block(model.rows, twin_of(policy, model, capacity))


@each_policy
def test_chunks_change_nothing(policy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one token, of some, or one for all, with an admission rule, a reset and a bound."""
    model = random_model(3, n_tokens=40)

    def counts() -> tuple[dict[str, list[bool]], object]:
        params: dict[str, Any] = {"admission": Admission(2, 0.5, 7), "reset_tokens": (0, 11), "with_bound": True}
        simulation = SimulationParams(policy, pool_neurons=12, **params)
        return model.hits(policy, 12, **params), simulate(model.trace, model.layout, DEVICE, simulation).to_json()

    whole = counts()
    for chunk_bits in (1, 5 * 20):
        monkeypatch.setattr("ripple_place.flash.replay.CHUNK_BITS", chunk_bits)
        assert counts() == whole


@each_policy
@pytest.mark.parametrize("name", ["layers.0", "layers.1.experts.2"])
def test_a_pool_of_one_block_is_its_own_cache(policy: str, name: str) -> None:
    """To the last request, whether every token reaches the block or some do."""
    model = random_model(4, n_tokens=60, names=(name,))
    params: dict[str, Any] = {"admission": Admission(2, 0.5, 7), "reset_tokens": (0, 20), "with_bound": True}
    apart = SimulationParams(policy, {name: 7}, **params)
    together = SimulationParams(policy, pool_neurons=7, **params)
    documents = [simulate(model.trace, model.layout, DEVICE, each).to_json() for each in (apart, together)]
    assert [document["blocks"][name].pop("capacity_neurons") for document in documents] == [7, None]
    assert documents[0] == documents[1]


@given(seeds, st.integers(1, 30))
@settings(max_examples=20, deadline=None)
def test_what_enters_is_drawn_as_for_single_blocks(seed: int, capacity: int) -> None:
    """The draws depend on block, row and neuron of the block; LRU then keeps what they let in."""
    model, admission = random_model(seed, share=0.6), Admission(2, 0.5, 3)
    admitted = {}
    for name, block in model.trace.blocks.items():
        placement = model.layout.blocks[name].placement
        active = np.unpackbits(block.active, axis=1, bitorder="little", count=block.n_neurons).astype(bool)
        slots = [np.flatnonzero(row[placement.order]) for row in active]
        flat = np.concatenate([np.empty(0, np.int64), *slots]).astype(np.int32)
        may_enter = np.zeros(flat.size, np.uint8)
        starts = np.concatenate([[0], np.cumsum([row.size for row in slots])]).astype(np.int64)
        admission.admit(name, flat, placement.order[flat], starts, 0, may_enter)
        admitted[name] = iter(may_enter.astype(bool).tolist())
    in_order = [next(admitted[row.block]) for row in model.rows for _ in row.neurons]
    expected = caches.lru(model.stream, capacity, in_order)
    assert model.hits("lru", capacity, admission=admission) == by_block(model.rows, expected)


def test_a_reset_empties_the_pool() -> None:
    """Before token 9, in whichever block it begins: hits are those of two traces."""
    model = random_model(5)
    parts = [[row for row in model.rows if (row.token < 9) == is_first] for is_first in (True, False)]
    for policy in ("belady", "lru"):
        expected = [
            is_hit for part in parts
            for is_hit in getattr(caches, policy)([neuron for row in part for neuron in row.neurons], 9)
        ]  # fmt: skip
        assert model.hits(policy, 9, reset_tokens=(9,)) == by_block(model.rows, expected)


def test_the_bound_is_belady_s_and_counts_add_up() -> None:
    """Whatever the number of threads; what is asked for is what single caches are asked for."""
    model = random_model(6, n_tokens=50)
    params = [SimulationParams("lru", pool_neurons=14, with_bound=True, n_threads=n) for n in (1, 3)]
    one, three = (simulate(model.trace, model.layout, DEVICE, each) for each in params)
    assert one.to_json() == three.to_json()
    best = simulate(model.trace, model.layout, DEVICE, SimulationParams("belady", pool_neurons=14))
    assert one.totals.hits.n_bound_hits == best.totals.n_hits > one.totals.n_hits
    apart = simulate(model.trace, model.layout, DEVICE, SimulationParams("lru", dict.fromkeys(NAMES, 5)))
    assert one.totals.n_active == apart.totals.n_active == len(model.stream)
    assert all(block.capacity_neurons is None for block in one.blocks.values())


def test_requests_and_pictures_are_those_of_the_pool() -> None:
    """What is listed for storage, and drawn row by row, is what the simulator counts."""
    model, params = random_model(7), SimulationParams("lru", pool_neurons=14)
    result = simulate(model.trace, model.layout, DEVICE, params)
    requests = list_requests(model.trace, model.layout, DEVICE, params, np.arange(25))
    assert requests.n_requests == result.totals.n_requests
    assert requests.predicted_us == pytest.approx(result.totals.flash_time_us)
    reads = [
        reads_of_row("layers.1", model.trace, model.layout, DEVICE, params, row).first_slot.size for row in range(25)
    ]
    assert sum(reads) == result.blocks["layers.1"].totals.n_reads


def test_sets_that_placements_pin_stay_pinned() -> None:
    """Those of each block where one has some, by number in the pool; else the hottest of all."""
    own = NeuronPlacement(np.array([2, 0, 1]), pinned=np.array([1]), frequency=np.array([0, 1, 2]))
    free = NeuronPlacement(np.array([1, 0]), frequency=np.array([9, 8]))
    pool = Pool.of_blocks({"layers.0": own, "layers.1": free})
    assert pool.first_neuron == {"layers.0": 0, "layers.1": 3}
    assert pool.placement.order.tolist() == [2, 0, 1, 5, 6, 4, 3]
    assert pool.placement.pinned is not None
    assert pool.placement.pinned.tolist() == [1]
    assert pool.placement.frequency is not None
    assert pool.placement.frequency.tolist() == [0, 1, 2, 9, 8, 0, 0]
    assert Pool.of_blocks({"layers.0": free, "layers.1": free}).placement.pinned is None
    unknown = Pool.of_blocks({"layers.0": free, "layers.1": NeuronPlacement.original(2)})
    assert unknown.placement.frequency is None


def test_blocks_that_cannot_share() -> None:
    """A pool is counted in neurons: bundles of one size, and read through the same gaps."""
    model = random_model(8)
    blocks = dict(model.layout.blocks)
    blocks["layers.1"] = BlockLayout(blocks["layers.1"].placement, BlockExtent.packed(2048))
    params = SimulationParams("lru", pool_neurons=9)
    with pytest.raises(UsageError, match="layout odd: one DRAM pool: found bundles of 2048 and 4096 bytes"):
        simulate(model.trace, Layout("odd", blocks), DEVICE, params)
    params = SimulationParams("lru", pool_neurons=9, gap={"layers.0": 3})
    with pytest.raises(UsageError, match="found gaps of 3 and 10 neurons; expected the same in every block"):
        simulate(model.trace, model.layout, DEVICE, params)
    with pytest.raises(UsageError, match="a negative capacity"):
        SimulationParams("lru", pool_neurons=-1)
