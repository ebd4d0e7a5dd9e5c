"""`reorder` with two copies, end to end: what it reports of tokens held out, what it writes, how simulate reads it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from ripple_place.checkpoint.output.plan import FORMATS
from ripple_place.checkpoint.writing import WritingParams
from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.flash.read_cost import ReadCost
from ripple_place.graph.profile import read_profile
from ripple_place.ordering.second_copy import divide
from ripple_place.placement import read_placement
from ripple_place.placing.copies import BlockCopies, CopiesReport, copy_bytes
from ripple_place.placing.params import PlacingParams
from ripple_place.trace.split_block import SplitBlock
from ripple_place.workflows.profile import profile
from ripple_place.workflows.reorder import reorder
from ripple_place.workflows.simulate import SimulateParams, simulate
from ripple_place.workflows.verify import verify
from tests.builders import contents, opt_config, opt_tensors, write_checkpoint
from tests.trace_builders import planted_clusters, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.placing.reorder_report import ReorderReport


@pytest.fixture
def trace_path(tmp_path: Path) -> Path:
    """Return a trace of 300 tokens in which each neuron belongs to two clusters: no one order has both together."""
    rng = np.random.default_rng(0)
    blocks = {
        f"layers.{layer}": np.logical_or(
            *(planted_clusters(rng, n_clusters=6, cluster_size=4, n_rows=300, noise=0.0)[0] for _ in range(2))
        )
        for layer in range(2)
    }
    return write_stock_trace(tmp_path / "pico.trace.safetensors", blocks, activity="relu>0", model="pico")


def run(profile_path: Path, out: Path, **params: Any) -> ReorderReport:
    """Reorder with two copies at lambda 2, with little effort."""
    settings = {"ordering": "flash-time", "break_even_gap": 2.0, "effort": 1, "copies": 2, "refit": False, **params}
    writing = WritingParams(settings.pop("formats", FORMATS))
    return reorder(None, profile_path, out, PlacingParams(**settings), writing)


@pytest.mark.parametrize("ordering", ["flash-time", "greedy", "original"])
def test_what_a_second_copy_is_worth(tmp_path: Path, profile_path: Path, ordering: str) -> None:
    """The figures are those of the orders that are written, on tokens that neither of them has seen."""
    report = run(profile_path, tmp_path / "p", ordering=ordering, bundle_bytes=1000)
    assert report.copies is not None
    placement, learned = read_placement(tmp_path / "p"), read_profile(profile_path)
    assert placement.metadata["copies"] == "2"
    assert learned.trace is not None
    one = two = 0.0
    for name, block in placement.blocks.items():
        held_out = SplitBlock.of_trace(learned.trace, name).held_out
        assert held_out is not None
        assert block.order_2 is not None
        cost = divide(held_out, block.order, block.order_2, ReadCost.by_line(2.0)).cost
        alone = divide(held_out, block.order, block.order, ReadCost.by_line(2.0)).cost
        assert report.blocks[name].held_out == pytest.approx(alone)
        assert report.copies.blocks[name].to_json() == pytest.approx({"one": alone, "two": cost})
        one, two = one + alone, two + cost
    assert (report.copies.one, report.copies.two) == pytest.approx((one, two))
    assert two < one
    assert report.copies.n_tokens == 38
    assert report.copies.held_out
    # 24 neurons of 1000 bytes: six pages a block.
    assert report.copies.extra_bytes == 2 * 6 * 4096
    assert report.copies.gain_per_gib == pytest.approx((1 - two / one) * 2**30 / (2 * 6 * 4096))
    document = json.loads(json.dumps(report.to_json(), allow_nan=False))["copies"]
    assert document.keys() == {
        "n_tokens", "held_out", "cost_per_token", "gain", "extra_bytes", "gain_per_gib", "blocks",
    }  # fmt: skip


def test_one_copy_is_as_ever(tmp_path: Path, profile_path: Path) -> None:
    """No second order, no figures, and the first order is the same with a second as without."""
    run(profile_path, tmp_path / "two")
    report = run(profile_path, tmp_path / "one", copies=1)
    assert report.copies is None
    assert report.to_json()["copies"] is None
    one, two = (read_placement(tmp_path / name).blocks for name in ("one", "two"))
    for name in one:
        assert one[name].order_2 is None
        np.testing.assert_array_equal(one[name].order, two[name].order)


@pytest.mark.parametrize("params", [{"dram_budget": 0.2, "cache": "lru"}, {"dram_budget": 0.2, "cache": "pinned"}])
def test_with_dram(tmp_path: Path, profile_path: Path, trace_path: Path, params: dict[str, Any]) -> None:
    """The second order is made for what the cache leaves, and simulate plans the misses over both."""
    report = run(profile_path, tmp_path / "two", bundle_bytes=4096, **params)
    run(profile_path, tmp_path / "one", bundle_bytes=4096, copies=1, **params)
    assert report.copies is not None
    for name, block in report.blocks.items():
        assert report.copies.blocks[name].to_json()["one"] == pytest.approx(block.held_out)
    layouts = [str(tmp_path / "one"), str(tmp_path / "two")]
    scored = simulate([trace_path], layouts, SimulateParams(dram_budget="placement", gap=2))
    one, two = scored.results
    assert one.totals.n_hits == two.totals.n_hits > 0
    assert two.totals.n_reads < one.totals.n_reads


@pytest.mark.parametrize("params", [{}, {"ordering": "greedy"}, {"dram_budget": 0.2, "cache": "lru"}])
def test_refit(tmp_path: Path, profile_path: Path, params: dict[str, Any]) -> None:
    """Both orders are made once more on all tokens; the figures stay those that were judged before."""
    plain = run(profile_path, tmp_path / "plain", **params)
    refitted = run(profile_path, tmp_path / "refitted", refit=True, **params)
    assert plain.copies == refitted.copies
    before, after = (read_placement(tmp_path / name).blocks for name in ("plain", "refitted"))
    for name in before:
        assert before[name].order_2 is not None
        assert after[name].order_2 is not None
        assert not np.array_equal(before[name].order_2, after[name].order_2)
        if params.get("dram_budget") is None and "ordering" in params:
            learned = reorder(None, profile_path, tmp_path / f"whole-{name}", PlacingParams(ordering="greedy"))
            assert learned.copies is None
            whole = read_placement(tmp_path / f"whole-{name}").blocks[name]
            np.testing.assert_array_equal(after[name].order, whole.order)


def test_a_checkpoint(tmp_path: Path, profile_path: Path, trace_path: Path) -> None:
    """Two copies in the bundled file, whose size is what is reported; drop-in as with one; the same bytes again."""
    source = write_checkpoint(tmp_path / "m", opt_tensors(), opt_config())
    params = PlacingParams(ordering="flash-time", break_even_gap=2.0, effort=1, copies=2, refit=False)
    for name, settings in (("out", params), ("again", params), ("one", replace(params, copies=1))):
        report = reorder(source, profile_path, tmp_path / name, settings)
    two = reorder(source, profile_path, tmp_path / "dry", params, WritingParams(dry_run=True, stride="page"))
    assert two.copies is not None
    assert two.copies.extra_bytes == 2 * 24 * 4096
    assert report.copies is None
    out, one = contents(tmp_path / "out"), contents(tmp_path / "one")
    assert out == contents(tmp_path / "again")
    assert {name: data for name, data in out.items() if "ripple_place" not in name} == {
        name: data for name, data in one.items() if "ripple_place" not in name
    }
    checks = verify(source, tmp_path / "out").verification.checks
    assert checks["bundled components equal the source's, read at the index's offsets"] == 8
    scored = simulate([trace_path], [str(tmp_path / "one"), str(tmp_path / "out")], SimulateParams(gap=0))
    assert [layout.blocks["layers.1"].n_copies for layout in scored.layouts] == [1, 2]
    assert scored.results[1].totals.n_reads < scored.results[0].totals.n_reads
    assert scored.device.span_bytes == scored.layouts[1].span_bytes > scored.layouts[0].span_bytes


def test_blocks_without_activity(tmp_path: Path) -> None:
    """Nothing to save is no failure: the gain is 0, and the placement is valid."""
    write_stock_trace(tmp_path / "t", {"layers.0": np.zeros((80, 8), bool)})
    profile([tmp_path / "t"], tmp_path / "profile")
    report = run(tmp_path / "profile", tmp_path / "p")
    assert report.copies is not None
    assert (report.copies.one, report.copies.two, report.copies.gain) == (0, 0, 0)
    order_2 = read_placement(tmp_path / "p").blocks["layers.0"].order_2
    assert order_2 is not None
    assert sorted(order_2) == list(range(8))


def test_figures() -> None:
    """Sums over blocks, a mean over tokens; what is unknown is None."""
    report = CopiesReport({"a": BlockCopies(60, 30, 3), "b": BlockCopies(40, 40, 0)}, 10, False, None)
    assert (report.one, report.two, report.gain, report.gain_per_gib) == (10, 7, pytest.approx(0.3), None)
    assert report.to_json()["blocks"] == {"a": {"one": 20, "two": 10}, "b": {"one": None, "two": None}}
    assert replace(report, extra_bytes=2**31).gain_per_gib == pytest.approx(0.15)
    assert copy_bytes({"a": 3, "b": 4}, {"a": 4096, "b": 1000}) == 4 * 4096
    assert copy_bytes({"a": 3}, {}) is None


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"copies": 3}, "--copies 3: found 3 copies; expected 1, or 2"),
        ({"formats": ("drop-in",)}, "--copies 2: found formats drop-in; expected .* Add --format bundled"),
        ({"break_even_gap": None, "ordering": "greedy"}, "--copies 2: found nothing that says what a read costs"),
    ],
)
def test_usage(tmp_path: Path, profile_path: Path, params: dict[str, Any], match: str) -> None:
    """A second copy needs a file to lie in, and a cost to lower."""
    with pytest.raises(UsageError, match=match):
        run(profile_path, tmp_path / "p", **params)


def test_a_profile_without_bits(tmp_path: Path, profile_path: Path) -> None:
    """Imported counts do not say which neurons a token leaves over."""
    kept = {name: array for name, array in load_file(profile_path).items() if not name.endswith(".active")}
    with safe_open(profile_path, framework="numpy") as file:
        save_file(kept, tmp_path / "counts", file.metadata())
    with pytest.raises(TraceFormatError, match="without activation bits"):
        run(tmp_path / "counts", tmp_path / "p", ordering="greedy")
