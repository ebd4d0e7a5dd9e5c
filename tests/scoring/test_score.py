"""One simulation: what is compared with what, and what is refused; the simulator itself is tested in tests/flash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.flash.caches.segments import HotSegments
from ripple_place.placement import read_placement
from ripple_place.placing.params import PlacingParams
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.score import Scores, score
from ripple_place.trace.files import read_trace
from ripple_place.workflows.reorder import reorder
from tests.trace_builders import random_activity, unpack, write_stock_trace


def totals(report: Scores) -> list[tuple[Any, ...]]:
    """Return the counts of each layout."""
    return [
        (t.n_active, t.n_hits, t.n_reads, t.n_neurons_read, t.n_requests, t.bytes_read, t.flash_time_us)
        for t in (result.totals for result in report.results)
    ]


def test_layouts_are_scored_in_the_order_given(trace_path: Path, greedy: str) -> None:
    """Nothing is added in front; speedups are against the first unless another is named."""
    report = score([trace_path], ["original", greedy])
    assert [layout["name"] for layout in report.to_json()["layouts"]] == ["original", greedy]
    assert report.to_json()["layouts"][0]["speedup"] == 1
    assert report.to_json()["layouts"][1]["speedup"] > 1.2
    turned = score([trace_path], [greedy, "original"])
    assert totals(turned) == totals(report)[::-1]
    assert turned.to_json()["layouts"][0]["speedup"] == 1


def test_baseline(trace_path: Path, greedy: str) -> None:
    """Any of the layouts, as it was given."""
    document = score([trace_path], ["original", greedy], SimulateParams(baseline=greedy)).to_json()
    assert document["layouts"][1]["speedup"] == 1
    assert document["layouts"][0]["speedup"] < 1
    with pytest.raises(
        UsageError, match=rf"--baseline nonsense: found no such layout; expected one of original, {greedy}"
    ):
        score([trace_path], ["original", greedy], SimulateParams(baseline="nonsense"))


def test_same_numbers_again_and_on_other_threads(trace_path: Path, greedy: str) -> None:
    """Blocks are simulated side by side; the result does not show it."""
    documents = [
        json.dumps(
            score([trace_path], ["original", greedy], SimulateParams(dram_budget=0.25, n_threads=n_threads)).to_json()
        )
        for n_threads in (1, 2, 7, 1)
    ]
    assert len(set(documents)) == 1


def test_reads_are_the_objective(trace_path: Path, profile_path: Path, tmp_path: Path) -> None:
    """Without collapse and cache, what the simulator counts is what `reorder` reported."""
    report = reorder(None, profile_path, tmp_path / "p", PlacingParams(ordering="greedy", bundle_bytes=4096))
    document = score([trace_path], ["original", str(tmp_path / "p")], SimulateParams(gap=0)).to_json()
    for name, block in report.blocks.items():
        original, greedy = (layout["blocks"][name]["reads_per_token"] for layout in document["layouts"])
        assert original == pytest.approx(block.objective_before)
        assert greedy == pytest.approx(block.objective)


def test_layers(trace_path: Path, greedy: str) -> None:
    """One layer alone costs what it costs among others."""
    whole = score([trace_path], [greedy]).to_json()["layouts"][0]
    part = score([trace_path], [greedy], SimulateParams(layers="1")).to_json()["layouts"][0]
    assert list(part["blocks"]) == ["layers.1"]
    assert part["blocks"]["layers.1"] == whole["blocks"]["layers.1"]
    with pytest.raises(UsageError, match=r"--layers 7: found layers 7; expected layers 0-1"):
        score([trace_path], [greedy], SimulateParams(layers="7"))


@pytest.mark.parametrize("budget", [0.25, 2 * 6 * 4096])
def test_dram_budget(trace_path: Path, greedy: str, budget: float | int) -> None:
    """A share of each block, or bytes shared evenly: a quarter of 24 neurons either way; S3-FIFO unless told."""
    report = score([trace_path], [greedy], SimulateParams(dram_budget=budget))
    assert report.params.cache == "s3fifo"
    assert dict(report.params.capacity_neurons) == {"layers.0": 6, "layers.1": 6}


def test_one_pool(trace_path: Path, greedy: str) -> None:
    """As many neurons as the caches of the blocks have in all, of which no block has a number of its own."""
    document = score([trace_path], [greedy], SimulateParams(dram_budget=0.25, cache="lru", dram_pool=True)).to_json()
    assert (document["dram_pool"], document["pool_neurons"]) == (True, 12)
    assert document["capacity_neurons"] == {"layers.0": None, "layers.1": None}
    assert {block["capacity_neurons"] for block in document["layouts"][0]["blocks"].values()} == {None}
    apart = score([trace_path], [greedy], SimulateParams(dram_budget=0.25, cache="lru")).to_json()
    assert (apart["dram_pool"], apart["pool_neurons"], apart["batch"], apart["n_steps"]) == (False, None, [1], None)
    assert document["layouts"][0]["active_per_token"] == apart["layouts"][0]["active_per_token"]
    assert document["layouts"][0]["cache_hit_ratio"] != apart["layouts"][0]["cache_hit_ratio"]


def test_segments_are_asked_for_densely(trace_path: Path, greedy: str) -> None:
    """A plan from Python: eight neurons of each block are hot, and asked for by every token."""
    trace, layout = read_trace(trace_path), read_placement(greedy)
    segments = HotSegments.by_slots(layout.blocks, {1: dict.fromkeys(trace.blocks, 8)}, cluster_rows=4)
    params = SimulateParams(dram_budget=0.5, cache="segmented", dram_pool=True, segments=segments)
    report = score([trace_path], [greedy], params)
    assert report.results[0].totals.n_active == sum(
        int((unpack(block).astype(bool) | segments.hot_neurons(1)[24 * at : 24 * (at + 1)]).sum())
        for at, block in enumerate(trace.blocks.values())
    )
    with pytest.raises(UsageError, match="cache segmented: found no plan"):
        score([trace_path], [greedy], SimulateParams(dram_budget=0.5, cache="segmented", dram_pool=True))


def test_no_budget_means_no_cache(trace_path: Path, greedy: str) -> None:
    """Nothing is cached that was not asked for."""
    report = score([trace_path], [greedy])
    assert (report.params.cache, report.results[0].totals.n_hits) == ("none", 0)


def test_more_dram_than_neurons(trace_path: Path, greedy: str) -> None:
    """Then all are kept, and pinned ones are never read."""
    report = score([trace_path], [greedy], SimulateParams(dram_budget=2**30, cache="pinned"))
    assert dict(report.params.capacity_neurons) == {"layers.0": 24, "layers.1": 24}
    assert report.results[0].totals.n_reads == 0
    assert report.to_json()["layouts"][0]["read_amplification"] is None


def test_gap(trace_path: Path, greedy: str) -> None:
    """Reading through everything makes one read a token and block; through nothing, the most reads."""
    reads = [score([trace_path], [greedy], SimulateParams(gap=gap)).results[0].totals.n_reads for gap in (0, 1, 3, 24)]
    assert reads == sorted(reads, reverse=True)
    document = score([trace_path], [greedy], SimulateParams(gap=3)).to_json()
    assert document["gap"] == 3


def test_several_traces(tmp_path: Path, trace_path: Path, greedy: str) -> None:
    """One after the other they cost the sum; the report lists their names, not their places."""
    once, twice = (score([trace_path] * n, [greedy]) for n in (1, 2))
    assert twice.results[0].totals.n_reads == 2 * once.results[0].totals.n_reads
    assert twice.to_json()["traces"] == ["pico.trace.safetensors"] * 2
    assert twice.to_json()["n_tokens"] == 600


@pytest.mark.parametrize(("n_tokens", "device", "n_warnings"), [(300, "m1-max", 0), (40, "m1-max", 1)])
def test_warnings(tmp_path: Path, n_tokens: int, device: str, n_warnings: int) -> None:
    """A short trace says little."""
    path = write_stock_trace(tmp_path / "t", {"layers.0": random_activity(np.random.default_rng(0), n_tokens, 24)})
    report = score([path], ["original"], SimulateParams(bundle_bytes=4096, device=device))
    short = [warning for warning in report.warnings if "tokens; means and percentiles" in warning]
    assert len(short) == n_warnings


@pytest.mark.parametrize(
    ("layouts", "params", "match"),
    [
        (["original", "original"], {}, "--layout: found a layout twice"),
        (["nowhere"], {}, "--layout nowhere: found nothing there; expected an output of `reorder`, or original"),
        (["original"], {"device": "ufs9"}, "ufs9"),
        (["original"], {"cache": "magic", "dram_budget": 0.1, "bundle_bytes": 64}, "cache magic: found no policy"),
        (["original"], {"gap": -1, "bundle_bytes": 64}, "gap -1"),
        (["original"], {"n_threads": 0, "bundle_bytes": 64}, "0 threads"),
    ],
)
def test_refused(trace_path: Path, layouts: list[str], params: dict[str, Any], match: str) -> None:
    """Unknown names and numbers that cannot be: usage errors, each naming its option."""
    with pytest.raises(UsageError, match=match):
        score([trace_path], layouts, SimulateParams(**params))


def test_a_trace_that_is_a_placement(tmp_path: Path, greedy: str) -> None:
    """The other way round."""
    with pytest.raises(TraceFormatError, match=r"a checkpoint or a placement is neither"):
        score([Path(greedy)], ["original"])


def test_nothing_to_score(trace_path: Path) -> None:
    """The command line demands a trace and a layout; so does the library."""
    with pytest.raises(UsageError, match="traces: found none; expected at least one"):
        score([], ["original"])
    with pytest.raises(UsageError, match="layouts: found none; expected at least one"):
        score([trace_path], [])
