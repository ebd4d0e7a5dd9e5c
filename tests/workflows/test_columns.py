"""Profiles, placements and outputs of columns, from a trace to a simulation."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gguf import GGUFReader

from ripple_place.checkpoint.names import MANIFEST_FILE, PLACEMENT_FILE
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.writing import WritingParams
from ripple_place.cli.reorder_text import reorder_text
from ripple_place.errors import PlacementError, TraceFormatError, UsageError
from ripple_place.graph.profile import read_profile
from ripple_place.placement import read_placement
from ripple_place.placing.params import PlacingParams
from ripple_place.scoring.extras import SimulateExtras
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.score import score
from ripple_place.scoring.sweep import Sweep
from ripple_place.trace.files import read_trace
from ripple_place.trace.sources import read_sources
from ripple_place.verdict.judge import VerdictParams
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import apply_placement, reorder
from ripple_place.workflows.simulate import simulate
from ripple_place.workflows.verify import verify
from tests.builders import contents
from tests.checkpoint.test_carriers import PEFT_CONFIG, lora, write_adapter
from tests.trace_builders import planted_clusters, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

BLOCKS = ["layers.0.input", "layers.0", "layers.1.input", "layers.1"]
PLAIN = PlacingParams(ordering="frequency")


@pytest.fixture
def columns(tmp_path: Path) -> Path:
    """Return a trace of the columns of the pico models: 8 inputs and 24 neurons in each of two layers."""
    rng = np.random.default_rng(0)
    sizes = {name: 2 if name.endswith(".input") else 6 for name in BLOCKS}
    blocks = {
        name: planted_clusters(rng, n_clusters=4, cluster_size=size, n_rows=300)[0] for name, size in sizes.items()
    }
    return write_stock_trace(tmp_path / "columns.trace.safetensors", blocks, unit="column", activity="dip=50%")


@pytest.fixture
def learned(tmp_path: Path, columns: Path) -> Path:
    """Return the profile of that trace."""
    profile(columns, tmp_path / "columns.profile", ProfileParams(verdict=None))
    return tmp_path / "columns.profile"


def test_a_profile_keeps_the_unit(columns: Path, learned: Path, tmp_path: Path) -> None:
    """So do traces that are joined, or united, and profiles that are added to."""
    assert read_profile(learned).unit == read_trace(learned).unit == "column"
    assert read_sources([columns, columns]).unit == "column"
    with_more = write_stock_trace(tmp_path / "more", {name: np.eye(8 if "input" in name else 24, dtype=bool)[:8]
                                                      for name in BLOCKS}, unit="column")  # fmt: skip
    profile(with_more, learned, ProfileParams(verdict=None, append=True))
    assert read_profile(learned).unit == "column"


def test_units_are_not_joined(columns: Path, learned: Path, trace_path: Path, profile_path: Path) -> None:
    """Neither in one run nor by adding to a profile."""
    for sources, out in (([columns, trace_path], learned.with_name("new")), ([trace_path], learned),
                         ([columns], profile_path)):  # fmt: skip
        with pytest.raises(TraceFormatError, match=r"found blocks of .*s and of .*s; expected blocks of the same unit"):
            profile(sources, out, ProfileParams(verdict=None, append=out != learned.with_name("new")))


@pytest.mark.parametrize(
    ("params", "sizes", "words"),
    [
        ({"bundle_bytes": (8192, 2048)}, (8192, 2048), "at 8 KiB an input column and 2 KiB a down column."),
        # As wide as the other block of the FFN, at two bytes a weight.
        ({}, (96, 16), "at 96 B an input column and 16 B a down column."),
        ({"break_even_gap": 3.0}, None, "at lambda 3."),
    ],
)
def test_verdict(
    columns: Path, tmp_path: Path, params: dict[str, Any], sizes: tuple[int, int] | None, words: str
) -> None:
    """Each block is judged by what its own reads cost, in flash time unless a break-even gap is given."""
    report = profile(columns, tmp_path / "p", ProfileParams(verdict=VerdictParams(**params)))
    document = report.to_json()["verdict"]
    assert list(document["blocks"]) == BLOCKS
    if sizes is not None:
        assert (document["unit"], document["bundle_bytes"], document["break_even_gap"]) == ("us", None, None)
        assert document["bundle_bytes_by_block"] == {
            name: sizes[0] if name.endswith(".input") else sizes[1] for name in BLOCKS
        }
    assert document["sentences"][-1].endswith(words)


@pytest.mark.parametrize(
    ("trace", "bundle_bytes"), [("columns", 4096), ("trace_path", (4096, 2048))], ids=["columns", "neurons"]
)
def test_sizes_that_do_not_fit_the_unit(
    request: pytest.FixtureRequest, tmp_path: Path, trace: str, bundle_bytes: Any
) -> None:
    """Everywhere: profile, reorder and simulate."""
    source, out = request.getfixturevalue(trace), tmp_path / "p"
    profile(source, out, ProfileParams(verdict=None))
    for call in (
        lambda: profile(source, tmp_path / "q", ProfileParams(verdict=VerdictParams(bundle_bytes=bundle_bytes))),
        lambda: reorder(None, out, tmp_path / "r", PlacingParams("frequency", bundle_bytes=bundle_bytes)),
        lambda: simulate([source], ["original"], SimulateParams(bundle_bytes=bundle_bytes)),
    ):
        with pytest.raises(UsageError, match=r"--bundle-bytes: found (one size|two sizes), and blocks of"):
            call()


def test_a_placement_records_sizes_by_block(columns: Path, learned: Path, tmp_path: Path) -> None:
    """Simulate finds them there; layouts and traces of other units are refused."""
    placing = PlacingParams("flash-time", effort=0, bundle_bytes=(4096, 1024), dram_budget=0.25)
    reorder(None, learned, tmp_path / "placement", placing)
    metadata = read_placement(tmp_path / "placement").metadata
    sizes = {name: 4096 if name.endswith(".input") else 1024 for name in BLOCKS}
    assert (metadata["unit"], json.loads(metadata["bundle_bytes_by_block"])) == ("column", sizes)
    assert "bundle_bytes" not in metadata
    layouts = ["original", str(tmp_path / "placement")]
    for layout in score([columns], layouts, SimulateParams(dram_budget="placement")).layouts:
        assert {name: block.extent.bundle_bytes for name, block in layout.blocks.items()} == sizes


def test_layouts_of_another_unit(
    columns: Path, learned: Path, trace_path: Path, profile_path: Path, pico_opt: Path, tmp_path: Path
) -> None:
    """Placement files and outputs alike."""
    reorder(None, learned, tmp_path / "c", PlacingParams("frequency", bundle_bytes=(64, 16)))
    reorder(None, profile_path, tmp_path / "n", PlacingParams("frequency", bundle_bytes=64))
    reorder(pico_opt, learned, tmp_path / "C", PLAIN)
    reorder(pico_opt, profile_path, tmp_path / "N", PLAIN)
    for trace, layouts, words in ((trace_path, "cC", "columns; expected blocks of neurons"),
                                  (columns, "nN", "neurons; expected blocks of columns")):  # fmt: skip
        for layout in layouts:
            with pytest.raises(PlacementError, match=f"--layout .*: found blocks of {words}, as in the trace"):
                simulate([trace], [str(tmp_path / layout)])


def test_sizes_of_columns_are_not_swept(columns: Path) -> None:
    """A sweep has one size a point; other parameters are swept as ever."""
    params = SimulateParams(bundle_bytes=(64, 16))
    with pytest.raises(UsageError, match="--sweep bundle-bytes: found a trace of columns"):
        simulate([columns], ["original"], params, extras=SimulateExtras(sweep=Sweep.parse("bundle-bytes=4KiB")))
    simulate([columns], ["original"], params, extras=SimulateExtras(sweep=Sweep.parse("collapse=off,auto")))


@pytest.mark.parametrize("stride", ["packed", "page", "auto"])
def test_reorder(pico_llama: Path, columns: Path, learned: Path, tmp_path: Path, stride: str) -> None:
    """Sizes are the checkpoint's; both blocks lie where the manifest says, and simulate reads them there."""
    out = tmp_path / "out"
    report = reorder(
        pico_llama, learned, out, PlacingParams("flash-time", effort=0, dram_budget=0.1, copies=2),
        WritingParams(stride=stride),
    )  # fmt: skip
    manifest, placement = read_manifest(out), read_placement(out / "ripple_place/placement.safetensors")
    assert [*manifest.blocks] == BLOCKS
    assert all(block.order_2 is not None for block in placement.blocks.values())
    sizes = {name: 96 if name.endswith(".input") else 16 for name in BLOCKS}
    assert json.loads(placement.metadata["bundle_bytes_by_block"]) == sizes
    layouts = score([columns], [str(out)], SimulateParams(dram_budget="placement")).layouts
    for name, block in layouts[0].blocks.items():
        entry = manifest.document["bundled"][name]
        extent = block.extent
        assert (extent.bundle_bytes, extent.stride_bytes, extent.base_offset_bytes) == (
            sizes[name], entry["stride_bytes"], entry["offset_bytes"],
        )  # fmt: skip
    assert report.copies is not None
    assert report.copies.extra_bytes == report.plan.bundle.second_copy_bytes  # type: ignore[union-attr]
    checks = verify(pico_llama, out).verification.checks  # type: ignore[union-attr]
    assert checks["FFN blocks compute the same on random input, in float64"] == 2


def test_what_the_report_says(pico_llama: Path, learned: Path, tmp_path: Path) -> None:
    """Orders of inputs are the bundled file's alone; a dry run says so too, and writes nothing."""
    inputs = ["layers.0.input", "layers.1.input"]
    for formats, words in (
        (("drop-in", "bundled"), "order of layers.0.input, layers.1.input, which would permute the hidden state of the "
                                 "whole model; the bundled file is."),
        (("drop-in",), "which would permute the hidden state of the whole model."),
        (("bundled",), None),
    ):  # fmt: skip
        report = reorder(pico_llama, learned, tmp_path / "o", PLAIN, WritingParams(formats, dry_run=True))
        assert report.to_json()["blocks_ordered_in_bundled_file_alone"] == ([] if words is None else inputs)
        text = reorder_text(report, tmp_path / "o", dry_run=True, verbose=False)
        assert (words or "hidden state") in text if words else "hidden state" not in text
    assert not (tmp_path / "o").exists()


def test_a_placement_from_elsewhere(pico_llama: Path, pico_opt: Path, learned: Path, tmp_path: Path) -> None:
    """Applied to a checkpoint, it makes what its profile makes; sizes are that checkpoint's."""
    reorder(pico_llama, learned, tmp_path / "whole", PLAIN)
    given = tmp_path / "whole/ripple_place/placement.safetensors"
    apply_placement(pico_llama, given, tmp_path / "applied")
    applied, whole = contents(tmp_path / "applied"), contents(tmp_path / "whole")
    assert {name for name in whole if applied[name] != whole[name]} <= {MANIFEST_FILE, PLACEMENT_FILE}
    apply_placement(pico_opt, given, tmp_path / "opt")
    metadata = read_placement(tmp_path / "opt/ripple_place/placement.safetensors").metadata
    assert json.loads(metadata["bundle_bytes_by_block"])["layers.0.input"] == 48
    apply_placement(pico_llama, given, tmp_path / "one", layers="1")
    assert [*read_placement(tmp_path / "one/ripple_place/placement.safetensors").blocks] == BLOCKS[2:]
    verify(pico_llama, tmp_path / "one")


def test_what_goes_along(pico_llama: Path, learned: Path, tmp_path: Path) -> None:
    """Adapters, and a GGUF of the FFNs, are in the order of neurons."""
    adapter = write_adapter(tmp_path / "adapter", lora(), **PEFT_CONFIG)
    writing = WritingParams(adapter=adapter, gguf=tmp_path / "ffn.gguf")
    reorder(pico_llama, learned, tmp_path / "out", PLAIN, writing)
    placement = read_placement(tmp_path / "out/ripple_place/placement.safetensors")
    fields = {tensor.name: tensor.data for tensor in GGUFReader(tmp_path / "ffn.gguf").tensors}
    np.testing.assert_array_equal(fields["blk.1.ffn_order"], placement.blocks["layers.1"].order)
    verify(pico_llama, tmp_path / "out", adapter=adapter)


def test_granules_of_columns(pico_llama: Path, learned: Path, tmp_path: Path) -> None:
    """Neighbours move as one in both blocks."""
    reorder(pico_llama, learned, tmp_path / "out", PlacingParams("greedy", granule=8))
    placement = read_placement(tmp_path / "out/ripple_place/placement.safetensors")
    assert placement.blocks["layers.0.input"].order.tolist() == list(range(8))
    assert {tuple(group // 8) for group in placement.blocks["layers.0"].order.reshape(3, 8)} == {
        (granule,) * 8 for granule in range(3)
    }


def test_a_profile_of_another_model(pico_opt: Path, tmp_path: Path) -> None:
    """Inputs are as many as the hidden state is wide."""
    active = {name: np.random.default_rng(0).random((80, 24)) < 0.3 for name in BLOCKS}
    profile(write_stock_trace(tmp_path / "t", active, unit="column"), tmp_path / "wide", ProfileParams(verdict=None))
    with pytest.raises(TraceFormatError, match=r"profile: layers.0.input: found 24 neurons; expected 8"):
        reorder(pico_opt, tmp_path / "wide", tmp_path / "out", PLAIN)
