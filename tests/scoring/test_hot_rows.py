"""PowerInfer-2's plan in simulations, against plain Python: what is resident, read ahead, cold, and a hit."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.errors import PlacementError, UsageError
from ripple_place.flash.device.files import load_device
from ripple_place.flash.layout import BlockExtent, Layout
from ripple_place.flash.sequential import sequential_read_us
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement, write_placement
from ripple_place.placing.params import PlacingParams
from ripple_place.scoring.hot_rows import HotRows
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.score import score
from ripple_place.systems.plan import METADATA_KEY, BlockPlan, HotCounts, NeuronPlan
from ripple_place.systems.plan_params import PlanParams
from ripple_place.trace.files import read_trace
from ripple_place.workflows.reorder import reorder
from tests.reference.segmented import Segmented
from tests.scoring.system_runs import BUNDLE_BYTES, LAYERS, N_NEURONS, N_TOKENS, Texts, compare, costs, entries
from tests.scoring.system_runs import write_texts as write_texts_to
from tests.trace_builders import unpack, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

POOL = N_NEURONS
"""Half of the neurons of two blocks."""


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    """Return a profile of one text, and what fires on another."""
    return write_texts_to(tmp_path_factory.mktemp("hot-rows"))


def planned(texts: Texts, out: Path) -> tuple[Path, NeuronPlan, ModelPlacement]:
    """Return a placement made by a plan, cold neurons in checkpoint order."""
    placing = PlacingParams(ordering="original", bundle_bytes=BUNDLE_BYTES, dram_budget=0.5, n_threads=1)
    reorder(None, texts.profile, out, placing, neuron_plan=PlanParams())
    placement = read_placement(out)
    found = NeuronPlan.of("planned", placement)
    assert found is not None
    return out, found, placement


def by_hand(
    texts: Texts, out: Path, hot: dict[int, tuple[int, int]], rows: int = 4
) -> tuple[Path, NeuronPlan, ModelPlacement]:
    """Return a placement with a plan of ours: by batch size, resident and hot neurons of each block."""
    _, _, placement = planned(texts, out.with_suffix(".planner"))
    counts = {batch: HotCounts(n_hot, n_resident, 0.0, 0.0) for batch, (n_resident, n_hot) in hot.items()}
    plan = NeuronPlan("by hand", POOL, dict.fromkeys(LAYERS, BlockPlan(N_NEURONS, rows, counts)), {})
    placement = ModelPlacement(placement.blocks, {**placement.metadata, METADATA_KEY: json.dumps(plan.to_json())})
    write_placement(out, placement)
    return out, plan, placement


def with_predictions(texts: Texts, folder: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """Return a trace whose predictions name some more than fires, and miss some; and the predictions."""
    rng = np.random.default_rng(7)
    named = {
        name: (active & (rng.random(active.shape) < 0.95)) | (rng.random(active.shape) < 0.1)
        for name, active in texts.active.items()
    }
    tensors = {f"{name}.predicted": np.packbits(bits, axis=1, bitorder="little") for name, bits in named.items()}
    tensors["segment_starts"] = np.array([0, 40], np.int64)
    return write_stock_trace(folder / "named", texts.active, tensors=tensors), named


class Twin:
    """Serves steps by a plan, in plain Python; counts what `simulate` counts."""

    def __init__(self, plan: NeuronPlan, placement: ModelPlacement, pool: int) -> None:
        """Cluster the resident rows of the largest batch, and empty the DRAM."""
        self.plan, self.order = plan, {name: placement.blocks[name].order.tolist() for name in LAYERS}
        cluster_of, hot, n_clusters = [-1] * (len(LAYERS) * N_NEURONS), {}, 0
        hot = {size: set() for size in plan.batch_sizes}
        for at, (name, block) in enumerate(plan.blocks.items()):
            most = max(counts.n_resident for counts in block.hot.values())
            for first in range(0, most, block.cluster_rows):
                for slot in range(first, min(first + block.cluster_rows, N_NEURONS)):
                    cluster_of[at * N_NEURONS + self.order[name][slot]] = n_clusters
                for size, counts in block.hot.items():
                    if first < counts.n_resident:
                        hot[size].add(n_clusters)
                n_clusters += 1
        self.cache = Segmented(pool, cluster_of, hot)
        self.n_asked = self.n_hits = self.n_fired = self.n_fired_hits = self.n_rest = self.n_looked_at = 0

    def serve(self, fires: dict[str, set[int]], named: dict[str, set[int]], batch: int) -> None:
        """Ask for the resident rows and, of cold ones, for what is named; only what fires may stay."""
        size = self.plan.batch_of(batch)
        for at, name in enumerate(LAYERS):
            counts, order = self.plan.blocks[name].hot[size], self.order[name]
            resident, ahead = set(order[: counts.n_resident]), set(order[counts.n_resident : counts.n_hot])
            used = (fires[name] | resident) - ahead
            asked = [neuron for neuron in order if neuron in (named[name] | resident) - ahead]
            may_enter = [neuron in used for neuron in asked]
            hits = self.cache.serve([at * N_NEURONS + neuron for neuron in asked], may_enter)
            self.n_asked += len(asked)
            self.n_hits += sum(hits)
            self.n_looked_at += len(asked) - sum(hits)
            self.n_rest += sum(is_used and not is_hit for is_used, is_hit in zip(may_enter, hits, strict=True))
            held = {neuron for neuron, is_hit in zip(asked, hits, strict=True) if is_hit}
            told = fires[name] & (named[name] | resident | ahead)
            self.n_fired += len(told)
            self.n_fired_hits += len(told & held)


def sets(bits: dict[str, np.ndarray], step: int) -> dict[str, set[int]]:
    """Return what is set in a row of each block."""
    return {name: set(np.flatnonzero(rows[step]).tolist()) for name, rows in bits.items()}


def totals_of(entry: dict[str, Any], n_tokens: int = N_TOKENS) -> tuple[int, int]:
    """Return accesses and misses of an entry of the document."""
    return round(entry["active_per_token"] * n_tokens), round(entry["misses_per_token"] * n_tokens)


def test_powerinfer2_against_plain_python(texts: Texts, tmp_path: Path) -> None:
    """Gates of candidates first; resident rows hit from the second token on; cold ones in one LRU cache.

    And the hit ratio is of what fires and was named, where the counts are of what was asked for.
    """
    trace, named = with_predictions(texts, tmp_path)
    _, plan, placement = planned(texts, tmp_path / "planned")
    counts = [block.hot[1] for block in plan.blocks.values()]
    assert all(each.n_resident > 0 for each in counts)
    assert any(each.n_prefetched > 0 for each in counts)
    twin = Twin(plan, placement, POOL)
    for token in range(N_TOKENS):
        twin.serve(sets(texts.active, token), sets(named, token), 1)
    entry = entries(compare(texts, "powerinfer2", trace=trace))["powerinfer2"]
    assert totals_of(entry) == (twin.n_asked, twin.n_asked - twin.n_hits)
    assert entry["gate"]["candidates_per_token"] == pytest.approx(twin.n_asked / N_TOKENS)
    assert entry["gate"]["rest_saved_share"] == pytest.approx(1 - twin.n_rest / twin.n_looked_at)
    assert entry["cache_hit_ratio"] == pytest.approx(twin.n_fired_hits / twin.n_fired)
    assert entry["cache_hit_ratio"] != pytest.approx(twin.n_hits / twin.n_asked)


def test_emptied_at_segments(texts: Texts, tmp_path: Path) -> None:
    """Resident rows are read again then, and count as misses where they fire."""
    _, plan, placement = planned(texts, tmp_path / "planned")
    twin = Twin(plan, placement, POOL)
    for token in range(N_TOKENS):
        if token == 40:
            twin.cache.empty()
        twin.serve(sets(texts.active, token), sets(texts.active, token), 1)
    system = "powerinfer2,gate_first=no,bundle_form=whole"
    entry = entries(compare(texts, system, reset_at_segments=True))[system]
    assert totals_of(entry) == (twin.n_asked, twin.n_asked - twin.n_hits)
    assert entry["cache_hit_ratio"] == pytest.approx(twin.n_fired_hits / twin.n_fired)
    without = entries(compare(texts, system))[system]
    assert without["cache_hit_ratio"] > entry["cache_hit_ratio"]


def test_rows_read_ahead_are_charged_once_a_token(texts: Texts, tmp_path: Path) -> None:
    """In one sequence, for every token and block, and nothing asks for them again."""
    _, plan, placement = planned(texts, tmp_path / "planned")
    device, trace = load_device("ufs4-oneplus12-powerinfer2"), read_trace(texts.trace)
    layout = Layout.from_extents("planned", placement, dict.fromkeys(LAYERS, BlockExtent.packed(BUNDLE_BYTES)))
    hot = HotRows.of_plan(plan, layout)
    for name, block in plan.blocks.items():
        ahead = placement.blocks[name].order[block.hot[1].n_resident : block.hot[1].n_hot]
        assert np.flatnonzero(hot.ahead[name]).tolist() == sorted(ahead)
        assert hot.read_ahead_neurons[name] == block.hot[1].n_prefetched
        asked = unpack(hot.served(trace).blocks[name])
        assert not asked[:, ahead].any()
        assert asked[:, placement.blocks[name].order[: block.hot[1].n_resident]].all()
    params = SimulationParams("segmented", gap=0, pool_neurons=POOL, segments=hot.segments)
    charged = simulate(hot.served(trace), layout, device, replace(params, read_ahead_neurons=hot.read_ahead_neurons))
    free = simulate(hot.served(trace), layout, device, params)
    reads = [sequential_read_us(device, n * BUNDLE_BYTES) for n in hot.read_ahead_neurons.values() if n]
    assert reads
    np.testing.assert_allclose(charged.token_us, free.token_us + sum(us for us, _, _ in reads))
    assert charged.totals.bytes_read == free.totals.bytes_read + N_TOKENS * sum(n_bytes for _, _, n_bytes in reads)
    assert charged.totals.n_requests == free.totals.n_requests + N_TOKENS * sum(n for _, n, _ in reads)


def test_clusters_of_different_sizes() -> None:
    """Where blocks differ in the rows of a cluster, no more rows are resident than the plan says."""
    sizes = {"layers.0": (20, 6, 6, 12), "layers.1": (16, 4, 8, 8)}
    blocks = {
        name: BlockPlan(n, rows, {1: HotCounts(n_hot, resident, 0.0, 0.0)})
        for name, (n, rows, resident, n_hot) in sizes.items()
    }
    placed = {name: NeuronPlacement(np.arange(n, dtype=np.int32)[::-1].copy()) for name, (n, *_) in sizes.items()}
    layout = Layout.from_extents("t", ModelPlacement(placed, {}), dict.fromkeys(sizes, BlockExtent.packed(64)))
    hot = HotRows.of_plan(NeuronPlan("d", 14, blocks, {}), layout)
    assert np.flatnonzero(hot.segments.hot_neurons(1)).tolist() == [*range(14, 20), *range(28, 36)]
    assert hot.read_ahead_neurons == {"layers.0": 6, "layers.1": 0}
    # A block that was not planned has nothing hot; one that is not simulated does not matter.
    partial = NeuronPlan("d", 14, {"layers.9": blocks["layers.1"], "layers.0": blocks["layers.0"]}, {})
    hot = HotRows.of_plan(partial, layout)
    assert np.flatnonzero(hot.segments.hot_neurons(1)).tolist() == list(range(14, 20))


def segmented(**more: Any) -> SimulateParams:
    """Return what ``--cache segmented --collapse off`` asks for."""
    return SimulateParams(**{"cache": "segmented", "dram_budget": 0.5, "gap": 0, "n_threads": 1, **more})


def test_a_segmented_cache_by_name_is_that_of_the_system(texts: Texts, tmp_path: Path) -> None:
    """Alike but for the hit ratio, which is of what is asked for, as for every layout."""
    out, *_ = planned(texts, tmp_path / "planned")
    report = score([texts.trace], [out], segmented(gate_first="predicted", bundle_form="gate-first"))
    document = report.to_json()
    assert (document["dram_pool"], document["pool_neurons"], document["cache"]) == (True, POOL, "segmented")
    found, expected = (
        costs(entry)
        for entry in (document["layouts"][0], entries(compare(texts, "powerinfer2"))["powerinfer2"])
    )  # fmt: skip
    assert found.pop("cache_hit_ratio") > expected.pop("cache_hit_ratio")
    assert found == expected


def test_the_plan_of_the_first_layout_that_has_one(texts: Texts, tmp_path: Path) -> None:
    """It holds for all layouts; the same neurons are in DRAM, wherever they lie."""
    out, *_ = planned(texts, tmp_path / "planned")
    other, *_ = by_hand(texts, tmp_path / "other", {1: (12, 16)})
    first = score([texts.trace], ["original", out, other], segmented(bundle_bytes=BUNDLE_BYTES)).to_json()["layouts"]
    second = score([texts.trace], [other, out], segmented()).to_json()["layouts"]
    assert len({entry["misses_per_token"] for entry in first}) == 1
    assert len({entry["misses_per_token"] for entry in second}) == 1
    assert first[0]["active_per_token"] != second[0]["active_per_token"]
    assert first[0]["reads_per_token"] != first[1]["reads_per_token"]


@pytest.mark.parametrize("batch", [(2,), (1,), (4,), (7,)])
def test_batches_change_what_is_hot(texts: Texts, tmp_path: Path, batch: tuple[int, ...]) -> None:
    """As many rows as the plan has for the largest planned batch below; a step asks for what any sequence needs."""
    out, plan, placement = by_hand(texts, tmp_path / "planned", {1: (8, 12), 3: (24, 40)})
    n_segments, length = 8, 11
    tensors = {"segment_starts": np.arange(n_segments, dtype=np.int64) * length}
    active = {name: bits[: n_segments * length] for name, bits in texts.active.items()}
    trace = write_stock_trace(tmp_path / "t", active, tensors=tensors)
    n_groups = n_segments // batch[0]
    twin = Twin(plan, placement, POOL)
    twin.cache.set_batch(batch[0])
    for step in range(n_groups * length):
        group, row = divmod(step, length)
        tokens = [(group + k * n_groups) * length + row for k in range(batch[0])]
        fires = {name: set(np.flatnonzero(bits[tokens].any(axis=0)).tolist()) for name, bits in active.items()}
        twin.serve(fires, fires, batch[0])
    entry = score([trace], [out], segmented(batch=batch)).to_json()["layouts"][0]
    assert totals_of(entry, n_groups * length * batch[0]) == (twin.n_asked, twin.n_asked - twin.n_hits)


def test_schedules(texts: Texts, tmp_path: Path) -> None:
    """Where the plan reads nothing ahead, a batch may grow and shrink; otherwise one batch size at a time."""
    out, plan, placement = by_hand(texts, tmp_path / "no-ahead", {1: (8, 8), 2: (20, 20)})
    tensors = {"segment_starts": np.array([0, 20, 40, 60], np.int64)}
    active = {name: bits[:80] for name, bits in texts.active.items()}
    trace = write_stock_trace(tmp_path / "t", active, tensors=tensors)
    twin = Twin(plan, placement, POOL)
    twin.cache.set_batch(2)
    for step in range(60):
        if step == 20:
            twin.cache.set_batch(1)
        tokens = [step, 20 + step] if step < 20 else [20 + step]
        fires = {name: set(np.flatnonzero(bits[tokens].any(axis=0)).tolist()) for name, bits in active.items()}
        twin.serve(fires, fires, len(tokens))
    entry = score([trace], [out], segmented(batch=(2, 1))).to_json()["layouts"][0]
    assert totals_of(entry, 80) == (twin.n_asked, twin.n_asked - twin.n_hits)
    ahead, *_ = by_hand(texts, tmp_path / "ahead", {1: (8, 8), 2: (8, 12)})
    with pytest.raises(UsageError, match="--batch 2,1: found batch sizes for which the plan reads other rows ahead"):
        score([trace], [ahead], segmented(batch=(2, 1)))
    assert score([trace], [ahead], segmented(batch=(2,))).results


def test_threads_change_nothing(texts: Texts, tmp_path: Path) -> None:
    """Blocks of a pool are tallied at once."""
    out, *_ = planned(texts, tmp_path / "planned")
    one, four = (score([texts.trace], [out], segmented(n_threads=n)).to_json() for n in (1, 4))
    assert one == four


def test_what_is_refused(texts: Texts, tmp_path: Path) -> None:
    """No plan, no budget, a rule, another model's plan, and one that is malformed."""
    with pytest.raises(UsageError, match=r"cache segmented: found no plan of hot clusters.*reorder --plan powerinfer2"):
        score([texts.trace], ["original"], segmented(bundle_bytes=BUNDLE_BYTES))
    with pytest.raises(UsageError, match="--cache segmented: found no DRAM budget"):
        segmented(dram_budget=None)
    with pytest.raises(UsageError, match="--select top-k=20%: found one DRAM pool"):
        segmented(select=("top-k=20%",))
    out, _, placement = planned(texts, tmp_path / "planned")
    broken = {**placement.metadata, METADATA_KEY: placement.metadata[METADATA_KEY].replace("layers.0", "layers.7")}
    write_placement(tmp_path / "broken", ModelPlacement(placement.blocks, broken))
    with pytest.raises(PlacementError, match="broken: metadata: found a plan that is malformed, or of other blocks"):
        score([texts.trace], [tmp_path / "broken"], segmented())
    # Some of the layers alone are served by their part of the plan.
    report = score([texts.trace], [out], segmented(layers="1"))
    assert report.params.segments is not None
    assert list(report.params.segments.n_neurons) == ["layers.1"]
