"""Scoring layouts: what is resolved, compared and refused; the simulator itself is tested in tests/flash."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ripple_place.checkpoint.writing import WritingParams
from ripple_place.errors import CheckpointError, PlacementError, TraceFormatError, UsageError
from ripple_place.placement import ModelPlacement, NeuronPlacement, write_placement
from ripple_place.placing.params import PlacingParams
from ripple_place.workflows.profile import profile
from ripple_place.workflows.reorder import reorder
from ripple_place.workflows.simulate import SimulateParams, SimulateReport, simulate
from tests.trace_builders import random_activity, write_stock_trace


@pytest.fixture
def greedy(tmp_path: Path, profile_path: Path) -> str:
    """Return the greedy placement, with bundles of 4 KiB."""
    reorder(None, profile_path, tmp_path / "greedy", PlacingParams(ordering="greedy", bundle_bytes=4096))
    return str(tmp_path / "greedy")


def totals(report: SimulateReport) -> list[tuple[Any, ...]]:
    """Return the counts of each layout."""
    return [
        (t.n_active, t.n_hits, t.n_reads, t.n_neurons_read, t.n_requests, t.bytes_read, t.flash_time_us)
        for t in (result.totals for result in report.results)
    ]


def test_layouts_are_scored_in_the_order_given(trace_path: Path, greedy: str) -> None:
    """Nothing is added in front; speedups are against the first unless another is named."""
    report = simulate([trace_path], ["original", greedy])
    assert [layout["name"] for layout in report.to_json()["layouts"]] == ["original", greedy]
    assert report.to_json()["layouts"][0]["speedup"] == 1
    assert report.to_json()["layouts"][1]["speedup"] > 1.2
    turned = simulate([trace_path], [greedy, "original"])
    assert totals(turned) == totals(report)[::-1]
    assert turned.to_json()["layouts"][0]["speedup"] == 1


def test_baseline(trace_path: Path, greedy: str) -> None:
    """Any of the layouts, as it was given."""
    document = simulate([trace_path], ["original", greedy], SimulateParams(baseline=greedy)).to_json()
    assert document["layouts"][1]["speedup"] == 1
    assert document["layouts"][0]["speedup"] < 1
    with pytest.raises(
        UsageError, match=rf"--baseline nonsense: found no such layout; expected one of original, {greedy}"
    ):
        simulate([trace_path], ["original", greedy], SimulateParams(baseline="nonsense"))


def test_same_numbers_again_and_on_other_threads(trace_path: Path, greedy: str) -> None:
    """Blocks are simulated side by side; the result does not show it."""
    documents = [
        json.dumps(
            simulate(
                [trace_path], ["original", greedy], SimulateParams(dram_budget=0.25, n_threads=n_threads)
            ).to_json()
        )
        for n_threads in (1, 2, 7, 1)
    ]
    assert len(set(documents)) == 1


def test_reads_are_the_objective(trace_path: Path, profile_path: Path, tmp_path: Path) -> None:
    """Without collapse and cache, what the simulator counts is what `reorder` reported."""
    report = reorder(None, profile_path, tmp_path / "p", PlacingParams(ordering="greedy", bundle_bytes=4096))
    document = simulate([trace_path], ["original", str(tmp_path / "p")], SimulateParams(gap=0)).to_json()
    for name, block in report.blocks.items():
        original, greedy = (layout["blocks"][name]["reads_per_token"] for layout in document["layouts"])
        assert original == pytest.approx(block.objective_before)
        assert greedy == pytest.approx(block.objective)


def test_layers(trace_path: Path, greedy: str) -> None:
    """One layer alone costs what it costs among others."""
    whole = simulate([trace_path], [greedy]).to_json()["layouts"][0]
    part = simulate([trace_path], [greedy], SimulateParams(layers="1")).to_json()["layouts"][0]
    assert list(part["blocks"]) == ["layers.1"]
    assert part["blocks"]["layers.1"] == whole["blocks"]["layers.1"]
    with pytest.raises(UsageError, match=r"--layers 7: found layers 7; expected layers 0-1"):
        simulate([trace_path], [greedy], SimulateParams(layers="7"))


def test_bundle_bytes_of_one_layout_hold_for_those_that_do_not_say(
    tmp_path: Path, trace_path: Path, profile_path: Path, greedy: str
) -> None:
    """Original order, and a placement without a size, are compared at the size of the layout that has one."""
    reorder(None, profile_path, tmp_path / "unsized")
    report = simulate([trace_path], ["original", str(tmp_path / "unsized"), greedy])
    sizes = {block.extent.bundle_bytes for layout in report.layouts for block in layout.blocks.values()}
    assert sizes == {4096}
    assert totals(report)[1] == totals(report)[2]


def test_bundle_bytes_by_option(trace_path: Path, greedy: str) -> None:
    """They override what layouts know."""
    report = simulate([trace_path], [greedy], SimulateParams(bundle_bytes=8192))
    assert {b.extent.bundle_bytes for b in report.layouts[0].blocks.values()} == {8192}


@pytest.mark.parametrize("with_file", [True, False])
def test_nothing_says_how_long_bundles_are(
    tmp_path: Path, trace_path: Path, profile_path: Path, with_file: bool
) -> None:
    """Neither original order nor a placement made without a size can be charged."""
    layouts = ["original"]
    if with_file:
        reorder(None, profile_path, tmp_path / "unsized")
        layouts.append(str(tmp_path / "unsized"))
    with pytest.raises(
        UsageError, match=r"--layout original: found nothing that says how long .* Add --bundle-bytes \(for instance"
    ):
        simulate([trace_path], layouts)


def test_an_output_directory_is_a_layout(tmp_path: Path, trace_path: Path, profile_path: Path, pico_opt: Path) -> None:
    """The checkpoint that `reorder` wrote says order, size, stride and place of every bundle."""
    reorder(pico_opt, profile_path, tmp_path / "out", writing=WritingParams(stride="page"))
    report = simulate([trace_path], [str(tmp_path / "out"), "original"])
    extent = report.layouts[0].blocks["layers.1"].extent
    assert extent.stride_bytes == 4096
    assert extent.base_offset_bytes % 4096 == 0
    assert extent.base_offset_bytes > 0
    assert report.layouts[1].blocks["layers.1"].extent == extent


@pytest.mark.parametrize("n_placed", [1, 2])
def test_blocks_that_were_not_placed_are_in_original_order(tmp_path: Path, trace_path: Path, n_placed: int) -> None:
    """A placement of the first layer leaves the second as it is."""
    order = np.arange(24)[::-1]
    placement = ModelPlacement(
        {f"layers.{layer}": NeuronPlacement(order) for layer in range(n_placed)}, {"bundle_bytes": "4096"}
    )
    write_placement(tmp_path / "p", placement)
    blocks = simulate([trace_path], [str(tmp_path / "p")]).layouts[0].blocks
    expected = order if n_placed == 2 else order[::-1]
    assert blocks["layers.1"].placement.order.tolist() == expected.tolist()


@pytest.mark.parametrize("budget", [0.25, 2 * 6 * 4096])
def test_dram_budget(trace_path: Path, greedy: str, budget: float | int) -> None:
    """A share of each block, or bytes shared evenly: a quarter of 24 neurons either way; S3-FIFO unless told."""
    report = simulate([trace_path], [greedy], SimulateParams(dram_budget=budget))
    assert report.params.cache == "s3fifo"
    assert dict(report.params.capacity_neurons) == {"layers.0": 6, "layers.1": 6}


def test_no_budget_means_no_cache(trace_path: Path, greedy: str) -> None:
    """Nothing is cached that was not asked for."""
    report = simulate([trace_path], [greedy])
    assert (report.params.cache, report.results[0].totals.n_hits) == ("none", 0)


def test_more_dram_than_neurons(trace_path: Path, greedy: str) -> None:
    """Then all are kept, and pinned ones are never read."""
    report = simulate([trace_path], [greedy], SimulateParams(dram_budget=2**30, cache="pinned"))
    assert dict(report.params.capacity_neurons) == {"layers.0": 24, "layers.1": 24}
    assert report.results[0].totals.n_reads == 0
    assert report.to_json()["layouts"][0]["read_amplification"] is None


def test_pinned_by_the_counts_of_a_layout(tmp_path: Path, trace_path: Path, profile_path: Path, greedy: str) -> None:
    """Layouts that record no counts are scored with the same neurons in DRAM as the one that does."""
    params = SimulateParams(dram_budget=0.25, cache="pinned")
    report = simulate([trace_path], ["original", greedy], params)
    assert report.results[0].totals.n_hits == report.results[1].totals.n_hits > 0
    by_profile = SimulateParams(dram_budget=0.25, cache="pinned", profile=profile_path, bundle_bytes=4096)
    assert simulate([trace_path], ["original"], by_profile).results[0].totals.n_hits == report.results[0].totals.n_hits
    with pytest.raises(UsageError, match=r"cache pinned: found .*without frequencies"):
        simulate([trace_path], ["original"], SimulateParams(dram_budget=0.25, cache="pinned", bundle_bytes=4096))


def test_pinned_by_the_counts_of_another_text(tmp_path: Path, trace_path: Path, greedy: str) -> None:
    """A given profile comes before what layouts record; one of another model is refused."""
    rng = np.random.default_rng(5)
    for name, n_neurons in (("other-text", 24), ("other-model", 23)):
        blocks = {f"layers.{layer}": random_activity(rng, 30, n_neurons) for layer in range(2)}
        profile([write_stock_trace(tmp_path / "t", blocks)], tmp_path / name)
    hits = [
        simulate([trace_path], [greedy], SimulateParams(dram_budget=0.25, cache="pinned", profile=counts)).results[0]
        for counts in (None, tmp_path / "other-text")
    ]
    assert hits[0].totals.n_hits != hits[1].totals.n_hits
    with pytest.raises(PlacementError, match=r"frequency: found shape \[23\]"):
        simulate([trace_path], [greedy], SimulateParams(profile=tmp_path / "other-model"))
    with pytest.raises(UsageError, match=r"--profile .*none: found nothing there; expected a profile"):
        simulate([trace_path], [greedy], SimulateParams(profile=tmp_path / "none"))


def test_gap(trace_path: Path, greedy: str) -> None:
    """Reading through everything makes one read a token and block; through nothing, the most reads."""
    reads = [
        simulate([trace_path], [greedy], SimulateParams(gap=gap)).results[0].totals.n_reads for gap in (0, 1, 3, 24)
    ]
    assert reads == sorted(reads, reverse=True)
    document = simulate([trace_path], [greedy], SimulateParams(gap=3)).to_json()
    assert document["gap"] == 3


def test_several_traces(tmp_path: Path, trace_path: Path, greedy: str) -> None:
    """One after the other they cost the sum; the report lists their names, not their places."""
    once, twice = (simulate([trace_path] * n, [greedy]) for n in (1, 2))
    assert twice.results[0].totals.n_reads == 2 * once.results[0].totals.n_reads
    assert twice.to_json()["traces"] == ["pico.trace.safetensors"] * 2
    assert twice.to_json()["n_tokens"] == 600


@pytest.mark.parametrize(("n_tokens", "device", "n_warnings"), [(300, "m1-max", 0), (40, "m1-max", 1)])
def test_warnings(tmp_path: Path, n_tokens: int, device: str, n_warnings: int) -> None:
    """A short trace says little."""
    path = write_stock_trace(tmp_path / "t", {"layers.0": random_activity(np.random.default_rng(0), n_tokens, 24)})
    report = simulate([path], ["original"], SimulateParams(bundle_bytes=4096, device=device))
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
        simulate([trace_path], layouts, SimulateParams(**params))


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"cache": "lru"}, "--cache lru: found no DRAM budget; expected one. Add --dram-budget 10%"),
        ({"bundle_bytes": 0}, "--bundle-bytes: found 0; expected 1 to"),
        ({"bundle_bytes": 2**60}, "--bundle-bytes: found 1152921504606846976"),
    ],
)
def test_params_that_are_refused(params: dict[str, Any], match: str) -> None:
    """When they are made, before anything is read."""
    with pytest.raises(UsageError, match=match):
        SimulateParams(**params)


def test_a_placement_of_another_model(tmp_path: Path, trace_path: Path, greedy: str) -> None:
    """Another number of neurons in any block that the trace has is refused."""
    placement = ModelPlacement({"layers.1": NeuronPlacement.original(25)}, {"bundle_bytes": "64"})
    write_placement(tmp_path / "p", placement)
    with pytest.raises(PlacementError, match=r"p: layers.1: found 25 neurons; expected 24 neurons, as in the trace"):
        simulate([trace_path], [str(tmp_path / "p")])


def test_an_output_of_another_model(tmp_path: Path, profile_path: Path, pico_opt: Path) -> None:
    """A trace with more layers than the model."""
    reorder(pico_opt, profile_path, tmp_path / "out")
    other = write_stock_trace(tmp_path / "t", {"layers.2": np.ones((3, 24))})
    with pytest.raises(PlacementError, match=r"out: layers.2: found no such block; expected 24 neurons"):
        simulate([other], [str(tmp_path / "out")])


def test_things_that_are_no_layout(tmp_path: Path, trace_path: Path, pico_opt: Path) -> None:
    """A trace, and a directory that `reorder` did not write."""
    with pytest.raises(PlacementError, match=r"found format 'ripple-place.trace/1'"):
        simulate([trace_path], [str(trace_path)])
    with pytest.raises((UsageError, CheckpointError), match=r"pico-opt"):
        simulate([trace_path], [str(pico_opt)])


def test_a_trace_that_is_a_placement(tmp_path: Path, greedy: str) -> None:
    """The other way round."""
    with pytest.raises(TraceFormatError, match=r"a checkpoint or a placement is neither"):
        simulate([Path(greedy)], ["original"])
