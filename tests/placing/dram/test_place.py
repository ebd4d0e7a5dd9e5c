"""`reorder` for a DRAM budget, end to end: what is split, recorded, guarded, and honoured by `simulate`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import pytest

from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.ordering.registry import compared_orderings, plain_orderings
from ripple_place.placement import read_placement
from ripple_place.placing.params import PlacingParams
from ripple_place.placing.recorded_dram import RecordedDram
from ripple_place.workflows.profile import profile
from ripple_place.workflows.reorder import reorder
from ripple_place.workflows.simulate import SimulateParams, simulate
from tests.builders import contents
from tests.trace_builders import planted_clusters, random_activity, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.placing.reorder_report import ReorderReport

N_TOKENS, N_NEURONS = 480, 60


@pytest.fixture
def learned(tmp_path: Path) -> Path:
    """Return a profile of a block with much to gain from DRAM, and of one whose neurons fire rarely and alike."""
    rng = np.random.default_rng(0)
    busy = planted_clusters(rng, n_clusters=10, cluster_size=6, n_rows=N_TOKENS)[0]
    busy[:, rng.permutation(N_NEURONS)[:8]] |= rng.random((N_TOKENS, 8)) < 0.6
    rare = random_activity(rng, N_TOKENS, N_NEURONS, 0.02)
    starts = np.arange(0, N_TOKENS, 60)
    trace = write_stock_trace(tmp_path / "t", {"layers.0": busy, "layers.1": rare}, tensors={"segment_starts": starts})
    profile([trace], tmp_path / "profile")
    return tmp_path / "profile"


def run(learned: Path, out: Path, **params: Any) -> ReorderReport:
    """Reorder at lambda 4, with little effort."""
    settings = {
        "ordering": "flash-time",
        "break_even_gap": 4.0,
        "effort": 3,
        "dram_budget": 0.2,
        "refit": False,
        **params,
    }
    return reorder(None, learned, out, PlacingParams(**settings))


@pytest.mark.parametrize("cache", ["pinned", "lru", "greedydual", "pinned+lru", "s3fifo", "window:3", "auto"])
def test_a_placement_for_dram(tmp_path: Path, learned: Path, cache: str) -> None:
    """Recorded with budget, policy, split and pinned set; never worse, on what was held out, than plain orders."""
    report = run(learned, tmp_path / "p", cache=cache)
    assert report.dram is not None
    placement = read_placement(tmp_path / "p")
    recorded = RecordedDram.of("p", placement)
    assert recorded == report.dram.recorded
    assert recorded.share == 0.2
    assert recorded.budget_bytes is None
    assert sum(recorded.capacity_neurons.values()) <= 24
    assert cache in (recorded.cache, "auto")
    assert ("greedydual" in report.dram.cost_by_cache) == (cache == "auto")
    for name, block in report.blocks.items():
        assert block.held_out == min(tried.held_out for tried in block.tried if tried.held_out is not None)
        assert {"greedy", "frequency", "original", "flash-time"} <= {tried.name for tried in block.tried}
        assert block.capacity_neurons == recorded.capacity_neurons[name]
        pinned = placement.blocks[name].pinned
        assert block.n_pinned == (None if pinned is None else pinned.size)
        assert (pinned is not None) == recorded.cache.startswith("pinned")
    document = json.loads(json.dumps(report.to_json()))
    assert document["dram"]["cache"] == recorded.cache
    assert [entry["order"] for entry in document["blocks"]["layers.0"]["tried"]][:1] == ["greedy"]
    assert list(document["orderings"]["cost_per_token"]) == [
        name for name in compared_orderings() if name in (*plain_orderings(), "flash-time")
    ]


def test_the_split_goes_where_dram_saves_most(tmp_path: Path, learned: Path) -> None:
    """The busy block gets more than its even share, and the report says what either split costs."""
    dram = run(learned, tmp_path / "p", cache="pinned").dram
    assert dram is not None
    assert dram.split == "gain"
    assert dram.cost_by_split["gain"] < dram.cost_by_split["even"]
    assert dram.recorded.capacity_neurons["layers.0"] > 12 > dram.recorded.capacity_neurons["layers.1"]


def test_what_was_measured_is_what_simulate_finds(tmp_path: Path, learned: Path) -> None:
    """`--dram-budget placement` serves the whole trace as `reorder` did: same misses, reads and neurons."""
    report = run(learned, tmp_path / "p", cache="pinned", bundle_bytes=4096)
    n_searched = round(7 / 8 * N_TOKENS)
    params = SimulateParams(dram_budget="placement", gap=4, bundle_bytes=4096)
    simulated = simulate([learned], [str(tmp_path / "p"), "original"], params)
    assert (simulated.params.cache, simulated.split_by) == ("pinned", str(tmp_path / "p"))
    for name, block in report.blocks.items():
        totals = simulated.results[0].blocks[name].totals
        assert block.objective is not None
        assert block.held_out is not None
        cost = block.objective * n_searched + block.held_out * (N_TOKENS - n_searched)
        assert 4 * totals.n_reads + totals.n_neurons_read == pytest.approx(cost)
    assert "was made for DRAM" not in " ".join(simulated.warnings)
    assert simulated.to_json()["dram_split_by"] == str(tmp_path / "p")


def test_how_simulate_takes_a_recorded_budget(tmp_path: Path, learned: Path) -> None:
    """Without a budget it warns; with this very budget it takes the split; with another it splits evenly."""
    run(learned, tmp_path / "p", cache="lru", bundle_bytes=4096)
    layouts = [str(tmp_path / "p"), "original"]
    bare = simulate([learned], layouts)
    assert bare.params.cache == "none"
    assert "p was made for DRAM under lru and is scored without it" in bare.warnings[-1]
    recorded = RecordedDram.of("p", read_placement(tmp_path / "p"))
    assert recorded is not None
    assert recorded.budget_bytes == 24 * 4096
    for budget in (0.2, 24 * 4096):
        same = simulate([learned], layouts[::-1], SimulateParams(dram_budget=budget))
        assert (same.params.cache, dict(same.params.capacity_neurons)) == ("s3fifo", dict(recorded.capacity_neurons))
    other = simulate([learned], layouts, SimulateParams(dram_budget=0.1))
    assert (other.split_by, dict(other.params.capacity_neurons)) == (None, {"layers.0": 6, "layers.1": 6})
    part = simulate([learned], layouts, SimulateParams(dram_budget="placement", layers="1"))
    assert dict(part.params.capacity_neurons) == {"layers.1": recorded.capacity_neurons["layers.1"]}


def test_layouts_that_disagree(tmp_path: Path, learned: Path) -> None:
    """There is one DRAM to score with: budgets must be the same, policies too unless one is named."""
    for name, params in {
        "a": {"cache": "lru"}, "b": {"cache": "pinned"}, "c": {"cache": "lru", "dram_budget": 0.1}
    }.items():  # fmt: skip
        run(learned, tmp_path / name, ordering="frequency", bundle_bytes=4096, **params)
    a, b, c = (str(tmp_path / name) for name in "abc")
    wanted = SimulateParams(dram_budget="placement")
    with pytest.raises(UsageError, match=r"found .*a made for lru, .*b for pinned; expected one policy. Name one"):
        simulate([learned], [a, b], wanted)
    with pytest.raises(UsageError, match=r"found .*a and .*c, made for different budgets"):
        simulate([learned], [a, c], wanted)
    with pytest.raises(UsageError, match=r"--dram-budget placement: found no layout that was made for a DRAM budget"):
        simulate([learned], ["original"], SimulateParams(dram_budget="placement", bundle_bytes=4096))
    with pytest.raises(UsageError, match=r"--dram-budget much: found no budget"):
        SimulateParams(dram_budget="much")
    assert simulate([learned], [a, b], SimulateParams(dram_budget="placement", cache="fifo")).params.cache == "fifo"


@pytest.mark.parametrize("ordering", ["greedy", "frequency", "random", "original"])
def test_other_orderings(tmp_path: Path, learned: Path, ordering: str) -> None:
    """Those that look at activations order the misses, by their own method; the others keep their order."""
    report = run(learned, tmp_path / "p", ordering=ordering, cache="pinned")
    names = {tried.name for block in report.blocks.values() for tried in block.tried}
    assert ordering in names
    assert ("misses 1" in names) == (ordering in ("greedy", "frequency"))
    assert names - {"misses 1", "misses 2", "misses 3", "misses 4"} == {
        ordering, f"{ordering}, pinned by worth",
    }  # fmt: skip
    assert report.dram is not None


@pytest.mark.parametrize("budget", [0.0, 0.001, 1.0, 1, 10**9])
@pytest.mark.parametrize("cache", ["s3fifo", "pinned"])
def test_budgets_at_the_ends(tmp_path: Path, learned: Path, budget: float | int, cache: str) -> None:
    """Less than one neuron leaves everything to read, all of them nothing once the cache is warm."""
    report = run(learned, tmp_path / "p", dram_budget=budget, cache=cache, bundle_bytes=4096)
    capacities = [block.capacity_neurons for block in report.blocks.values()]
    if budget == 10**9 or (isinstance(budget, float) and budget == 1):
        assert all(block.held_out == 0 for block in report.blocks.values())
        assert max(capacities) <= N_NEURONS  # type: ignore[type-var]
    else:
        assert capacities == [0, 0]


def test_same_bytes_again_and_on_other_threads(tmp_path: Path, learned: Path) -> None:
    """Rounds, pinned sets and splits are functions of input and seed."""
    before = numba.get_num_threads()
    for run_, n_threads in enumerate((1, 2, 2)):
        numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))
        run(learned, tmp_path / f"{run_}", cache="pinned+lru")
    numba.set_num_threads(before)
    assert len({(tmp_path / f"{run_}").read_bytes() for run_ in range(3)}) == 1


def test_experts_and_dead_blocks(tmp_path: Path) -> None:
    """Blocks that only some tokens reach, that never fire, or that see one token, are placed among others."""
    rng = np.random.default_rng(1)
    active = {
        "layers.0.experts.0": planted_clusters(rng, n_clusters=3, cluster_size=8, n_rows=90)[0],
        "layers.0.experts.1": random_activity(rng, 1, 24),
        "layers.1": np.zeros((200, 24), bool),
    }
    tensors = {
        "layers.0.experts.0.token_index": np.sort(rng.permutation(200)[:90]).astype(np.int32),
        "layers.0.experts.1.token_index": np.array([3], np.int32),
    }
    trace = write_stock_trace(tmp_path / "t", active, tensors=tensors, n_tokens="200")
    profile([trace], tmp_path / "profile")
    for cache in ("s3fifo", "pinned", "auto"):
        report = run(tmp_path / "profile", tmp_path / cache, cache=cache, dram_budget=0.3, bundle_bytes=512)
        assert report.blocks["layers.1"].note == "placement cannot help: none of its neurons is ever active"
        assert "1 tokens, too few" in report.blocks["layers.0.experts.1"].note
        assert report.blocks["layers.1"].capacity_neurons == (0 if report.dram.split == "gain" else 7)  # type: ignore[union-attr]
        simulate([trace], [str(tmp_path / cache)], SimulateParams(dram_budget="placement"))


def test_a_checkpoint(tmp_path: Path, pico_opt: Path, profile_path: Path) -> None:
    """Rewritten in the order made for DRAM, with bundle sizes of its own; the output is a layout that says so."""
    params = PlacingParams(ordering="flash-time", break_even_gap=3.0, dram_budget=2000, cache="pinned", effort=2)
    report = reorder(pico_opt, profile_path, tmp_path / "out", params)
    assert report.dram is not None
    bundle_bytes = report.plan.model.blocks["layers.0"].bundle_bytes  # type: ignore[union-attr]
    assert report.dram.recorded.budget_bytes == 2000
    assert sum(report.dram.recorded.capacity_neurons.values()) <= 2000 // bundle_bytes
    simulated = simulate([profile_path], [str(tmp_path / "out")], SimulateParams(dram_budget="placement"))
    assert dict(simulated.params.capacity_neurons) == dict(report.dram.recorded.capacity_neurons)


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"cache": "lru", "dram_budget": None}, UsageError, "--cache lru: found no DRAM budget; expected one"),
        ({"cache": "none"}, UsageError, "--cache none: found a DRAM budget as well"),
        ({"cache": "arc"}, UsageError, "cache arc: found no policy by that name"),
        ({"dram_budget": 1.5}, UsageError, "dram_budget: found 1.5; expected a share from 0.0 to 1.0"),
        ({"dram_budget": 4096}, UsageError, "--dram-budget 4096: found bytes, and nothing that says how long"),
        ({"break_even_gap": None, "ordering": "greedy"}, UsageError, "--dram-budget: found nothing that says what"),
        (
            {"break_even_gap": None, "ordering": "greedy", "dram_budget": None, "compare": True}, UsageError,
            "--compare: found nothing that says what",
        ),
    ],
)  # fmt: skip
def test_what_is_refused(
    tmp_path: Path, learned: Path, params: dict[str, Any], error: type[Exception], match: str
) -> None:
    """Before anything is searched, and nothing is written."""
    before = contents(tmp_path)
    with pytest.raises(error, match=match):
        run(learned, tmp_path / "p", **params)
    assert contents(tmp_path) == before


def test_imported_counts_cannot_be_judged(tmp_path: Path, learned: Path) -> None:
    """What a cache would miss needs the activations themselves."""
    from safetensors.numpy import load_file, save_file

    tensors = {name: tensor for name, tensor in load_file(learned).items() if not name.endswith(".active")}
    sizes = json.dumps({"layers.0": N_NEURONS, "layers.1": N_NEURONS})
    save_file(tensors, tmp_path / "counts", {"format": "ripple-place.profile/1", "blocks": sizes})
    with pytest.raises(TraceFormatError, match=r"layers.0: found a profile without activation bits"):
        run(tmp_path / "counts", tmp_path / "p", ordering="greedy")


def test_compare(tmp_path: Path, learned: Path) -> None:
    """Other orderings are computed for the table alone: what is written is what it is without."""
    plain = PlacingParams(ordering="greedy", break_even_gap=4.0)
    assert reorder(None, learned, tmp_path / "a", plain).comparison is None
    compared = PlacingParams(ordering="greedy", break_even_gap=4.0, compare=True, effort=2)
    comparison = reorder(None, learned, tmp_path / "b", compared).comparison
    assert comparison is not None
    assert (comparison.unit, comparison.n_tokens, comparison.held_out) == ("neurons", 60, True)
    assert set(comparison.cost_per_token) >= {"original", "frequency", "greedy", "flash-time"}
    assert comparison.beyond_hot_cold[0] > 1
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("dram_budget", [None, 0.2])
def test_refit(tmp_path: Path, learned: Path, dram_budget: float | None) -> None:
    """Found orders are searched on over the whole trace, which they then serve better; judged figures are reported.

    Without DRAM the tokens held out prefer a plain order here, which stays.
    """
    cost, reports = {}, {}
    for refit in (False, True):
        out = tmp_path / f"{refit}"
        reports[refit] = run(
            learned, out, dram_budget=dram_budget, cache="pinned" if dram_budget else None, refit=refit
        )
        assert read_placement(out).metadata.get("refit") == ("true" if refit else None)
        params = SimulateParams(dram_budget="placement" if dram_budget else None, gap=4, bundle_bytes=4096)
        totals = simulate([learned], [str(out)], params).results[0].totals
        cost[refit] = 4 * totals.n_reads + totals.n_neurons_read
    was_searched = any(block.chosen.startswith(("flash", "misses")) for block in reports[True].blocks.values())
    assert was_searched == (dram_budget is not None)
    assert cost[True] < cost[False] if was_searched else cost[True] == cost[False]
    for name, block in reports[True].blocks.items():
        assert block.held_out == reports[False].blocks[name].held_out
    with pytest.raises(UsageError, match="--refit: found ordering greedy, which looks at the whole trace"):
        PlacingParams(ordering="greedy", refit=True)
