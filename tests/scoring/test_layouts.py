"""From names to layouts: what directories, files and ``original`` say, and which firing counts all of them get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.checkpoint.writing import WritingParams
from ripple_place.errors import CheckpointError, PlacementError, UsageError
from ripple_place.placement import ModelPlacement, NeuronPlacement, write_placement
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.score import Scores, score
from ripple_place.workflows.profile import profile
from ripple_place.workflows.reorder import reorder
from tests.trace_builders import random_activity, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path


def totals(report: Scores) -> list[tuple[Any, ...]]:
    """Return the counts of each layout."""
    return [
        (t.n_active, t.n_hits, t.n_reads, t.n_neurons_read, t.n_requests, t.bytes_read, t.flash_time_us)
        for t in (result.totals for result in report.results)
    ]


def test_bundle_bytes_of_one_layout_hold_for_those_that_do_not_say(
    tmp_path: Path, trace_path: Path, profile_path: Path, greedy: str
) -> None:
    """Original order, and a placement without a size, are compared at the size of the layout that has one."""
    reorder(None, profile_path, tmp_path / "unsized")
    report = score([trace_path], ["original", str(tmp_path / "unsized"), greedy])
    sizes = {block.extent.bundle_bytes for layout in report.layouts for block in layout.blocks.values()}
    assert sizes == {4096}
    assert totals(report)[1] == totals(report)[2]


def test_bundle_bytes_by_option(trace_path: Path, greedy: str) -> None:
    """They override what layouts know."""
    report = score([trace_path], [greedy], SimulateParams(bundle_bytes=8192))
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
        score([trace_path], layouts)


def test_an_output_directory_is_a_layout(tmp_path: Path, trace_path: Path, profile_path: Path, pico_opt: Path) -> None:
    """The checkpoint that `reorder` wrote says order, size, stride and place of every bundle."""
    reorder(pico_opt, profile_path, tmp_path / "out", writing=WritingParams(stride="page"))
    report = score([trace_path], [str(tmp_path / "out"), "original"])
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
    blocks = score([trace_path], [str(tmp_path / "p")]).layouts[0].blocks
    expected = order if n_placed == 2 else order[::-1]
    assert blocks["layers.1"].placement.order.tolist() == expected.tolist()


def test_pinned_by_the_counts_of_a_layout(tmp_path: Path, trace_path: Path, profile_path: Path, greedy: str) -> None:
    """Layouts that record no counts are scored with the same neurons in DRAM as the one that does."""
    params = SimulateParams(dram_budget=0.25, cache="pinned")
    report = score([trace_path], ["original", greedy], params)
    assert report.results[0].totals.n_hits == report.results[1].totals.n_hits > 0
    by_profile = SimulateParams(dram_budget=0.25, cache="pinned", profile=profile_path, bundle_bytes=4096)
    assert score([trace_path], ["original"], by_profile).results[0].totals.n_hits == report.results[0].totals.n_hits
    with pytest.raises(UsageError, match=r"cache pinned: found .*without frequencies"):
        score([trace_path], ["original"], SimulateParams(dram_budget=0.25, cache="pinned", bundle_bytes=4096))


def test_pinned_by_the_counts_of_another_text(tmp_path: Path, trace_path: Path, greedy: str) -> None:
    """A given profile comes before what layouts record; one of another model is refused."""
    rng = np.random.default_rng(5)
    for name, n_neurons in (("other-text", 24), ("other-model", 23)):
        blocks = {f"layers.{layer}": random_activity(rng, 30, n_neurons) for layer in range(2)}
        profile([write_stock_trace(tmp_path / "t", blocks)], tmp_path / name)
    hits = [
        score([trace_path], [greedy], SimulateParams(dram_budget=0.25, cache="pinned", profile=counts)).results[0]
        for counts in (None, tmp_path / "other-text")
    ]
    assert hits[0].totals.n_hits != hits[1].totals.n_hits
    with pytest.raises(PlacementError, match=r"frequency: found int64 \[23\]"):
        score([trace_path], [greedy], SimulateParams(profile=tmp_path / "other-model"))
    with pytest.raises(UsageError, match=r"--profile .*none: found nothing there; expected a profile"):
        score([trace_path], [greedy], SimulateParams(profile=tmp_path / "none"))


def test_a_placement_of_another_model(tmp_path: Path, trace_path: Path, greedy: str) -> None:
    """Another number of neurons in any block that the trace has is refused."""
    placement = ModelPlacement({"layers.1": NeuronPlacement.original(25)}, {"bundle_bytes": "64"})
    write_placement(tmp_path / "p", placement)
    with pytest.raises(PlacementError, match=r"p: layers.1: found 25 neurons; expected 24 neurons, as in the trace"):
        score([trace_path], [str(tmp_path / "p")])


def test_an_output_of_another_model(tmp_path: Path, profile_path: Path, pico_opt: Path) -> None:
    """A trace with more layers than the model."""
    reorder(pico_opt, profile_path, tmp_path / "out")
    other = write_stock_trace(tmp_path / "t", {"layers.2": np.ones((3, 24))})
    with pytest.raises(PlacementError, match=r"out: layers.2: found no such block; expected 24 neurons"):
        score([other], [str(tmp_path / "out")])


def test_things_that_are_no_layout(tmp_path: Path, trace_path: Path, pico_opt: Path) -> None:
    """A trace, and a directory that `reorder` did not write."""
    with pytest.raises(PlacementError, match=r"found format 'ripple-place.trace/1'"):
        score([trace_path], [str(trace_path)])
    with pytest.raises((UsageError, CheckpointError), match=r"pico-opt"):
        score([trace_path], [str(pico_opt)])
