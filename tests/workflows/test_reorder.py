"""From a profile to a placement or a rewritten checkpoint; the rewriting itself is tested in tests/checkpoint."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ripple_place.checkpoint.writing import WritingParams
from ripple_place.errors import (
    PlacementError,
    TraceFormatError,
    UnsupportedArchitectureError,
    UnsupportedError,
    UsageError,
)
from ripple_place.flash.device.files import load_device
from ripple_place.flash.layout import BlockExtent, Layout
from ripple_place.flash.simulator import SimulationParams
from ripple_place.flash.simulator import simulate as simulate_layout
from ripple_place.graph.profile import read_profile
from ripple_place.ordering.registry import ORDERINGS
from ripple_place.placement import read_placement
from ripple_place.placing.params import DEFAULT_EFFORT, PlacingParams
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
from ripple_place.trace.files import read_trace
from ripple_place.workflows.profile import profile
from ripple_place.workflows.reorder import apply_placement, reorder
from ripple_place.workflows.simulate import SimulateParams, simulate
from ripple_place.workflows.verify import verify
from tests.builders import contents, opt_config, opt_tensors, write_checkpoint
from tests.reference import gap_cost
from tests.trace_builders import planted_clusters, random_activity, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path


WITHOUT_DEVICE = [name for name, ordering in ORDERINGS.items() if not ordering.is_searched]


@pytest.mark.parametrize("ordering", WITHOUT_DEVICE)
def test_placement_file(tmp_path: Path, profile_path: Path, ordering: str) -> None:
    """Without a checkpoint: one file at exactly that path, with orders, firing counts, and how they came about."""
    report = reorder(None, profile_path, tmp_path / "p", PlacingParams(ordering=ordering, bundle_bytes=4096, seed=5))
    placement, learned = read_placement(tmp_path / "p"), read_profile(profile_path)
    assert (report.ordering, list(report.blocks)) == (ordering, ["layers.0", "layers.1"])
    for name, block in placement.blocks.items():
        np.testing.assert_array_equal(block.frequency, learned.blocks[name].frequency)
    assert placement.bundle_bytes == 4096
    assert {key: placement.metadata[key] for key in ("ordering", "seed", "profile")} == {
        "ordering": ordering, "seed": "5", "profile": learned.digest,
    }  # fmt: skip
    assert "break_even_gap" not in placement.metadata


def test_orderings_are_what_they_say(tmp_path: Path, profile_path: Path) -> None:
    """Original is identity, frequency descends, random differs by block and seed, greedy reads least but for path."""
    placements, reads = {}, {}
    for ordering in WITHOUT_DEVICE:
        report = reorder(None, profile_path, tmp_path / ordering, PlacingParams(ordering=ordering))
        placements[ordering] = read_placement(tmp_path / ordering).blocks
        reads[ordering] = report.blocks["layers.0"].objective
    assert placements["original"]["layers.0"].order.tolist() == list(range(24))
    frequency = placements["frequency"]["layers.0"]
    assert (np.diff(frequency.frequency[frequency.order]) <= 0).all()  # type: ignore[index]
    assert placements["random"]["layers.0"].order.tolist() != placements["random"]["layers.1"].order.tolist()
    assert sorted(reads, key=lambda name: reads[name])[:2] == ["path", "greedy"]  # type: ignore[arg-type, return-value]
    assert reads["greedy"] < 0.6 * reads["original"]  # type: ignore[operator]


def test_a_placement_computed_elsewhere(tmp_path: Path, profile_path: Path, pico_opt: Path) -> None:
    """The placement file alone gives the checkpoint that the profile gave, metadata and all; and is checked as much."""
    params = PlacingParams(ordering="frequency")
    reorder(pico_opt, profile_path, tmp_path / "at once", params, WritingParams(stride="packed"))
    reorder(None, profile_path, tmp_path / "p", PlacingParams(ordering="frequency", bundle_bytes=4096))
    report = apply_placement(pico_opt, tmp_path / "p", tmp_path / "out")
    assert contents(tmp_path / "out") == contents(tmp_path / "at once")
    assert (report.ordering, report.unplaced, report.blocks) == ("frequency", (), {})
    assert read_placement(tmp_path / "out/ripple_place/placement.safetensors").bundle_bytes == 32
    some = apply_placement(pico_opt, tmp_path / "p", tmp_path / "some", WritingParams(dry_run=True), layers="1")
    assert some.unplaced == ("layers.0",)
    assert not (tmp_path / "some").exists()
    other = write_checkpoint(tmp_path / "other", opt_tensors(n_neurons=16), opt_config(n_neurons=16))
    with pytest.raises(PlacementError, match="expected 16, as"):
        apply_placement(other, tmp_path / "p", tmp_path / "refused")
    with pytest.raises(UsageError, match="expected a placement file"):
        apply_placement(pico_opt, tmp_path / "nowhere", tmp_path / "refused")
    with pytest.raises(PlacementError, match=r"expected ripple-place.placement/1"):
        apply_placement(pico_opt, pico_opt / "model.safetensors", tmp_path / "refused")


@pytest.mark.parametrize(
    ("recorded", "is_warned"),
    [
        (None, False), ("pico-opt", False), ("/data/models/pico-opt", False), ("hub-name", False), ("unknown", False),
        ("pico-opt + unknown", False), ("llama-7b", True), ("pico-opt + llama-7b", True),
        ("synthetic:opt-6.7b, seed 0", True),
    ],
)  # fmt: skip
def test_a_profile_of_a_model_by_another_name(
    tmp_path: Path, pico_opt: Path, recorded: str | None, is_warned: bool
) -> None:
    """Widths that agree by chance prove nothing: both names are said; a path to the same name is harmless."""
    model = pico_opt.rename(pico_opt.with_name("pico-opt"))
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"_name_or_path": "someone/hub-name"}))
    active = {f"layers.{layer}": np.eye(24, dtype=bool) for layer in range(2)}
    profile(
        write_stock_trace(tmp_path / "t.safetensors", active, **({} if recorded is None else {"model": recorded})),
        tmp_path / "profile",
    )
    report = reorder(model, tmp_path / "profile", tmp_path / "out", PlacingParams("frequency"))
    found = [warning for warning in report.warnings if "names the model" in warning]
    assert len(found) == is_warned
    if is_warned:
        assert found[0].startswith(f"the profile's trace names the model {recorded}, the checkpoint is pico-opt")
    assert reorder(None, tmp_path / "profile", tmp_path / "p", PlacingParams("frequency")).warnings == ()


@pytest.mark.parametrize("ordering", ["greedy", "frequency", "random", "flash-time"])
def test_granules(tmp_path: Path, profile_path: Path, ordering: str) -> None:
    """Every ordering moves granules whole, and greedy still reads no more than the original order does."""
    params = PlacingParams(ordering=ordering, granule=8, break_even_gap=5.0, effort=2)
    report = reorder(None, profile_path, tmp_path / "p", params)
    placement = read_placement(tmp_path / "p")
    assert placement.metadata["granule"] == "8"
    for name, block in placement.blocks.items():
        assert (np.diff(block.order.reshape(-1, 8), axis=1) == 1).all()
        assert (block.order[::8] % 8 == 0).all()
        assert report.blocks[name].objective <= report.blocks[name].objective_before or ordering != "greedy"


def test_granule_of_quantised_weights(tmp_path: Path, profile_path: Path, pico_opt: Path) -> None:
    """Asked for before the long part where scales are shared; with it, the checkpoint is written and verified."""
    from safetensors.numpy import save_file

    tensors = load_file(pico_opt / "model.safetensors")
    for layer in range(2):
        for name, shape in (("fc1", (3, 1)), ("fc2", (1, 3))):
            module = f"model.decoder.layers.{layer}.{name}"
            tensors[f"{module}.weight"] = tensors[f"{module}.weight"].astype("i1")
            tensors[f"{module}.weight_scale_inv"] = np.random.default_rng(layer).random(shape).astype("f4")
    save_file(tensors, pico_opt / "model.safetensors")
    config = opt_config(quantization_config={"quant_method": "fp8", "weight_block_size": [8, 8]})
    (pico_opt / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match=r"a scale for each 8 neurons.*Add --granule 8, or reorder"):
        reorder(pico_opt, profile_path, tmp_path / "out")
    report = reorder(pico_opt, profile_path, tmp_path / "out", PlacingParams(granule=8))
    assert report.verification is not None
    assert verify(pico_opt, tmp_path / "out").verification.n_permuted > 0
    with pytest.raises(UsageError, match="found 12; expected 1, or a multiple of 8"):
        PlacingParams(granule=12)


def test_granule_of_sparse_weights(tmp_path: Path, profile_path: Path, pico_opt: Path) -> None:
    """2:4 sparsity is asked for before the long part as well, by a granule that can be given; fours stay whole."""
    config = opt_config(sparsity_config={"sparsity_structure": "2:4", "format": "dense"})
    (pico_opt / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedError, match=r"a declared pattern .* over each 8 neurons.*Add --granule 8, or"):
        reorder(pico_opt, profile_path, tmp_path / "out")
    reorder(pico_opt, profile_path, tmp_path / "out", PlacingParams(granule=8))
    for block in read_placement(tmp_path / "out" / "ripple_place" / "placement.safetensors").blocks.values():
        assert (np.diff(block.order.reshape(-1, 4), axis=1) == 1).all()
        assert (block.order[::4] % 4 == 0).all()


def test_carriers_need_a_checkpoint(tmp_path: Path, profile_path: Path) -> None:
    """A placement file has nothing that they could go along with."""
    with pytest.raises(UsageError, match=r"--adapter, --carrier, --gguf and --family: found no checkpoint"):
        reorder(None, profile_path, tmp_path / "p", writing=WritingParams(adapter=tmp_path))
    with pytest.raises(UsageError, match="--family: found no checkpoint"):
        reorder(None, profile_path, tmp_path / "p", writing=WritingParams(family="opt"))


def test_seed(tmp_path: Path, profile_path: Path) -> None:
    """It decides the random order, and a block's order does not depend on which others are reordered."""
    orders = {}
    for name, params in {
        "a": PlacingParams(ordering="random", seed=1),
        "b": PlacingParams(ordering="random", seed=2),
        "c": PlacingParams(ordering="random", seed=1, layers="1"),
    }.items():
        reorder(None, profile_path, tmp_path / name, params)
        orders[name] = read_placement(tmp_path / name).blocks["layers.1"].order.tolist()
    assert orders["a"] == orders["c"] != orders["b"]


@pytest.mark.parametrize("ordering", ["greedy", "path", "random"])
def test_same_bytes_whatever_the_threads(tmp_path: Path, profile_path: Path, ordering: str) -> None:
    """Same input and seed, same file: on one thread, on two, and again."""
    before = numba.get_num_threads()
    written = set()
    for run, n_threads in enumerate((1, 2, 2)):
        numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))
        reorder(None, profile_path, tmp_path / f"{run}", PlacingParams(ordering=ordering, seed=3))
        written.add((tmp_path / f"{run}").read_bytes())
    numba.set_num_threads(before)
    assert len(written) == 1


@pytest.mark.parametrize(
    ("params", "recorded"),
    [
        ({"break_even_gap": 4.5}, {"break_even_gap": "4.5", "gap": "4"}),
        ({"break_even_gap": 0.0}, {"break_even_gap": "0.0", "gap": "0"}),
        ({"device": load_device("m1-max")}, {"device": "m1-max"}),
        ({"device": load_device("m1-max"), "bundle_bytes": 8192}, {"device": "m1-max", "bundle_bytes": "8192"}),
    ],
)
def test_what_is_recorded(tmp_path: Path, profile_path: Path, params: dict[str, Any], recorded: dict[str, str]) -> None:
    """A gap, or a device with the gap that it makes for these bundles."""
    reorder(None, profile_path, tmp_path / "p", PlacingParams(**params))
    metadata = read_placement(tmp_path / "p").metadata
    assert recorded.items() <= metadata.items()
    if {"device", "bundle_bytes"} <= params.keys():
        assert float(metadata["break_even_gap"]) == params["device"].break_even_gap(8192)


def test_checkpoint(tmp_path: Path, pico_opt: Path, profile_path: Path) -> None:
    """The same model, permuted and verified, with both formats and the placement that was used."""
    before = contents(pico_opt)
    out = tmp_path / "out"
    report = reorder(pico_opt, profile_path, out)
    assert contents(pico_opt) == before
    assert report.unplaced == ()
    assert report.verification is not None
    placement = read_placement(out / "ripple_place" / "placement.safetensors")
    order = placement.blocks["layers.1"].order
    source, written = (load_file(path / "model.safetensors") for path in (pico_opt, out))
    name = next(name for name in source if name.endswith("layers.1.fc1.weight"))
    np.testing.assert_array_equal(written[name], source[name][order])
    verify(pico_opt, out)
    # fc1 row, fc2 column and fc1's bias of two bytes each.
    assert placement.metadata["bundle_bytes"] == str(report.plan.model.blocks["layers.0"].bundle_bytes)  # type: ignore[union-attr]
    assert not list(tmp_path.glob("*.partial"))


def test_checkpoint_same_bytes_twice(tmp_path: Path, pico_opt: Path, profile_path: Path) -> None:
    """Every file of the output, manifest included, is the same on a second run."""
    for name in ("a", "b"):
        reorder(pico_opt, profile_path, tmp_path / name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_some_layers(tmp_path: Path, pico_opt: Path, profile_path: Path) -> None:
    """The others stay in original order, in the checkpoint and in what the report says."""
    report = reorder(pico_opt, profile_path, tmp_path / "out", PlacingParams(layers="1"))
    assert (list(report.blocks), report.unplaced) == (["layers.1"], ("layers.0",))
    source, written = (load_file(path / "model.safetensors") for path in (pico_opt, tmp_path / "out"))
    same = {name for name in source if np.array_equal(source[name], written[name])}
    assert {name for name in source if "layers.0" in name} <= same
    assert any("layers.1" in name for name in set(source) - same)
    simulate([profile_path], [str(tmp_path / "out")])


@pytest.mark.parametrize("formats", [("drop-in",), ("bundled",)])
def test_one_format(tmp_path: Path, pico_opt: Path, profile_path: Path, formats: tuple[str, ...]) -> None:
    """Only what was asked for is written, and either can be simulated."""
    reorder(pico_opt, profile_path, tmp_path / "out", writing=WritingParams(formats))
    assert (tmp_path / "out" / "model.safetensors").exists() == ("drop-in" in formats)
    assert (tmp_path / "out" / "ripple_place" / "bundled.safetensors").exists() == ("bundled" in formats)
    simulate([profile_path], [str(tmp_path / "out")])


@pytest.mark.parametrize("with_checkpoint", [True, False])
def test_dry_run(tmp_path: Path, pico_opt: Path, profile_path: Path, with_checkpoint: bool) -> None:
    """Everything is computed and planned, and nothing is written, not even beside the output."""
    before = contents(tmp_path)
    checkpoint = pico_opt if with_checkpoint else None
    report = reorder(checkpoint, profile_path, tmp_path / "out", writing=WritingParams(dry_run=True))
    assert contents(tmp_path) == before
    assert not (tmp_path / "out").exists()
    assert report.verification is None
    assert report.blocks["layers.0"].objective < report.blocks["layers.0"].objective_before  # type: ignore[operator]
    assert (report.to_json()["bytes_written"] is not None) == with_checkpoint


def model_with_bundles(tmp_path: Path, hidden: int) -> Path:
    """Return an OPT checkpoint whose neurons take 2 x hidden x 2 bytes."""
    return write_checkpoint(tmp_path / "model", opt_tensors(hidden=hidden, bias=False), opt_config())


@pytest.mark.parametrize(("hidden", "stride"), [(1024, "packed"), (8, "packed"), (1056, None)])
def test_stride_auto(tmp_path: Path, profile_path: Path, hidden: int, stride: str | None) -> None:
    """Whole pages need no padding, 32 bytes are not worth a page; for 4224 the simulator's cheaper one is taken."""
    model = model_with_bundles(tmp_path, hidden)
    device = load_device("ufs4-oneplus12-neuralink")
    report = reorder(model, profile_path, tmp_path / "out", PlacingParams(device=device))
    assert report.plan is not None
    assert report.plan.model.blocks["layers.0"].bundle_bytes == 4 * hidden
    if stride is not None:
        assert report.plan.stride == stride
        return
    times_us = {}
    for chosen in ("packed", "page"):
        reorder(model, profile_path, tmp_path / chosen, writing=WritingParams(stride=chosen))
        report_of = simulate([profile_path], [str(tmp_path / chosen)], SimulateParams(device=device.name))
        times_us[chosen] = report_of.results[0].totals.flash_time_us
    assert report.plan.stride == min(times_us, key=times_us.__getitem__)


def test_stride_auto_without_a_device(tmp_path: Path, profile_path: Path) -> None:
    """With nothing to judge by, the smaller file."""
    params = PlacingParams(break_even_gap=2.0)
    report = reorder(model_with_bundles(tmp_path, 1056), profile_path, tmp_path / "out", params)
    assert report.plan.stride == "packed"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("params", "match"),
    [
        (
            {"ordering": "magic"},
            f"ordering: found 'magic'; expected one of auto, {', '.join(ORDERINGS)}",
        ),
        ({"break_even_gap": -1.0}, "--break-even-gap: found -1.0; expected a number from 0 to 1e"),
        ({"break_even_gap": float("nan")}, "--break-even-gap: found nan"),
        ({"break_even_gap": float("inf")}, "--break-even-gap: found inf"),
        ({"bundle_bytes": 0}, "--bundle-bytes: found 0"),
        (
            {"device": load_device("m1-max"), "break_even_gap": 1.0},
            "--device and --break-even-gap: found both; expected at most one. Leave one out",
        ),
    ],
)
def test_params_that_are_refused(params: dict[str, Any], match: str) -> None:
    """When they are made, before anything is read."""
    with pytest.raises(UsageError, match=match):
        PlacingParams(**params)


def test_ways_to_write_that_are_refused() -> None:
    """Unknown formats and strides, when the parameters are made."""
    with pytest.raises(UsageError, match="stride: found 'loose'; expected one of auto, packed, page"):
        WritingParams(stride="loose")
    with pytest.raises(UsageError, match="format: found 'gguf'; expected one of drop-in, bundled"):
        WritingParams(formats=("gguf",))


@pytest.mark.parametrize(
    ("out", "params", "match"),
    [
        ("old", {}, "old: found a file; expected a new name"),
        ("pico.profile", {"force": True}, "pico.profile: found another file of this command"),
        (".", {"force": True}, "found a directory; expected a file to write"),
        ("p", {"layers": "2"}, "--layers 2: found layers 2; expected layers 0-1"),
    ],
)
def test_refused_without_a_checkpoint(
    tmp_path: Path, profile_path: Path, out: str, params: dict[str, Any], match: str
) -> None:
    """An existing output, the profile itself, a layer that is not there; nothing changes."""
    (tmp_path / "old").write_text("old")
    before = contents(tmp_path)
    writing = WritingParams(force=params.pop("force", False))
    with pytest.raises(UsageError, match=match):
        reorder(None, profile_path, tmp_path / out, PlacingParams(**params), writing)
    assert contents(tmp_path) == before


def test_inputs_that_are_not_there(tmp_path: Path, profile_path: Path, trace_path: Path) -> None:
    """A wrong path is a usage error, a trace in place of a profile a bad profile."""
    with pytest.raises(UsageError, match=r"none: found nothing there; expected a profile. Run `ripple-place profile`"):
        reorder(None, tmp_path / "none", tmp_path / "p")
    with pytest.raises(UsageError, match=r"none: found nothing there; expected a checkpoint directory"):
        reorder(tmp_path / "none", profile_path, tmp_path / "out")
    with pytest.raises(TraceFormatError, match=r"found a trace without counts; expected a profile"):
        reorder(None, trace_path, tmp_path / "p")


def test_bundle_bytes_come_from_the_checkpoint(tmp_path: Path, pico_opt: Path, profile_path: Path) -> None:
    """Two sources for one number: refused."""
    with pytest.raises(UsageError, match=r"--bundle-bytes: found a checkpoint as well"):
        reorder(pico_opt, profile_path, tmp_path / "out", PlacingParams(bundle_bytes=4096))


@pytest.mark.parametrize(
    ("blocks", "match"),
    [
        ({"layers.0": 32}, "layers.0: found 32 neurons; expected 24, as .*pico-opt has. Profile a trace of this very"),
        ({"layers.5": 24}, "layers.5: found 24 neurons; expected a block that the model has"),
    ],
)
def test_a_profile_of_another_model(tmp_path: Path, pico_opt: Path, blocks: dict[str, int], match: str) -> None:
    """Refused before the ordering, and in terms of the profile."""
    rng = np.random.default_rng(0)
    active = {name: random_activity(rng, 30, n_neurons) for name, n_neurons in blocks.items()}
    profile([write_stock_trace(tmp_path / "t", active)], tmp_path / "p")
    with pytest.raises(TraceFormatError, match=rf"profile: {match}"):
        reorder(pico_opt, tmp_path / "p", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_unknown_architecture(tmp_path: Path, pico_opt: Path, profile_path: Path) -> None:
    """Nothing is written for a model that no family describes."""
    (pico_opt / "config.json").write_text(json.dumps({"model_type": "mystery"}))
    with pytest.raises(UnsupportedArchitectureError, match=r"mystery"):
        reorder(pico_opt, profile_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_existing_directory(tmp_path: Path, pico_opt: Path, profile_path: Path) -> None:
    """Refused; replaced with `force` if it is an earlier output, and never if it is something else."""
    out = tmp_path / "out"
    reorder(pico_opt, profile_path, out, PlacingParams(ordering="original"))
    with pytest.raises(UsageError, match=r"out"):
        reorder(pico_opt, profile_path, out)
    reorder(pico_opt, profile_path, out, PlacingParams(ordering="greedy"), WritingParams(force=True))
    assert read_placement(out / "ripple_place" / "placement.safetensors").metadata["ordering"] == "greedy"
    shutil.rmtree(out / "ripple_place")
    with pytest.raises(UsageError, match=r"no output of ours"):
        reorder(pico_opt, profile_path, out, writing=WritingParams(force=True))


def test_path_says_how_good_it_is(tmp_path: Path, profile_path: Path) -> None:
    """Reads lie between the bound and greedy's; other orderings have no bound; the effort is recorded."""
    blocks = reorder(None, profile_path, tmp_path / "p", PlacingParams(ordering="path", effort=2)).to_json()["blocks"]
    greedy = reorder(None, profile_path, tmp_path / "g").to_json()["blocks"]
    for name, block in blocks.items():
        assert block["lower_bound"] <= block["objective"] <= greedy[name]["objective"] < block["objective_before"]
        assert block["gap_to_bound"] == block["objective"] / block["lower_bound"] - 1
        assert (greedy[name]["lower_bound"], greedy[name]["gap_to_bound"]) == (None, None)
    metadata = [read_placement(tmp_path / name).metadata for name in ("p", "g")]
    assert (metadata[0]["effort"], metadata[1].get("effort")) == ("2", None)


@pytest.mark.parametrize("params", [{"ordering": "path"}, {"ordering": "flash-time", "break_even_gap": 2.0}])
def test_a_search_needs_a_trace(tmp_path: Path, profile_path: Path, params: dict[str, Any]) -> None:
    """A profile of imported counts has nothing that a search could count on."""
    tensors = {name: tensor for name, tensor in load_file(profile_path).items() if not name.endswith(".active")}
    save_file(
        tensors, tmp_path / "counts", {"format": "ripple-place.profile/1", "blocks": '{"layers.0":24,"layers.1":24}'}
    )
    with pytest.raises(TraceFormatError, match=r"layers\.0: found a profile without activation bits"):
        reorder(None, tmp_path / "counts", tmp_path / "p", PlacingParams(**params))
    assert not (tmp_path / "p").exists()


def test_a_profile_of_imported_counts(tmp_path: Path, profile_path: Path) -> None:
    """Without bits the greedy path still follows the graph; what it costs is not known."""
    tensors = {name: tensor for name, tensor in load_file(profile_path).items() if not name.endswith(".active")}
    save_file(
        tensors, tmp_path / "counts", {"format": "ripple-place.profile/1", "blocks": '{"layers.0":24,"layers.1":24}'}
    )
    report = reorder(None, tmp_path / "counts", tmp_path / "p")
    assert report.blocks["layers.0"].objective is None
    reorder(None, profile_path, tmp_path / "q")
    with_bits, without = (read_placement(tmp_path / name).blocks["layers.0"].order for name in ("q", "p"))
    assert with_bits.tolist() == without.tolist()
    with pytest.raises(TraceFormatError, match=r"no activation bits"):
        simulate([tmp_path / "counts"], [str(tmp_path / "p")], SimulateParams(bundle_bytes=4096))


def test_a_placement_of_another_model_is_no_layout(tmp_path: Path, profile_path: Path) -> None:
    """What `reorder` writes for one model, `simulate` refuses for the trace of another."""
    reorder(None, profile_path, tmp_path / "p", PlacingParams(bundle_bytes=64))
    other = write_stock_trace(tmp_path / "t", {"layers.0": np.ones((3, 25))})
    with pytest.raises(PlacementError, match=r"p: layers.0: found 24 neurons; expected 25 neurons, as in the trace"):
        simulate([other], [str(tmp_path / "p")])


def test_flash_time_beats_its_starts_where_the_simulator_counts(tmp_path: Path, profile_path: Path) -> None:
    """What the search calls cost is what the simulator charges: lambda x reads + neurons read, on whole pages."""
    params = PlacingParams(ordering="flash-time", break_even_gap=2.0, bundle_bytes=4096, refit=False)
    report = reorder(None, profile_path, tmp_path / "ft", params)
    for block in report.to_json()["blocks"].values():
        assert block["objective_unit"] == "neurons"
        assert block["objective"] <= block["objective_before"]
        assert block["held_out"] <= block["held_out_before"]
    placement = read_placement(tmp_path / "ft")
    assert placement.metadata["break_even_gap"] == "2.0"
    assert placement.metadata["effort"] == str(DEFAULT_EFFORT)
    trace = read_trace(profile_path)
    for name, placed in placement.blocks.items():
        cut = round(7 / 8 * trace.n_tokens)
        active = np.unpackbits(trace.blocks[name].active[:cut], axis=1, count=placed.n_neurons, bitorder="little")
        cost = gap_cost.gap_cost(active.tolist(), placed.order.tolist(), 2.0)
        assert cost == pytest.approx(report.blocks[name].objective)


def test_a_device_judges_by_its_own_times(tmp_path: Path, profile_path: Path) -> None:
    """With a device and a bundle size, costs are flash times: those of the simulator on the tokens searched."""
    device = load_device("ufs4-oneplus12-neuralink")
    params = PlacingParams(ordering="flash-time", device=device, bundle_bytes=4096, refit=False)
    report = reorder(None, profile_path, tmp_path / "ft", params)
    trace = read_trace(profile_path)
    placement = read_placement(tmp_path / "ft")
    layout = Layout.from_extents("ft", placement, dict.fromkeys(placement.blocks, BlockExtent.packed(4096)))
    n_searched = round(7 / 8 * trace.n_tokens)
    for name, block in report.blocks.items():
        assert block.unit == "us"
        rows = BlockTrace(trace.blocks[name].n_neurons, trace.blocks[name].active[:n_searched])
        searched = ActivationTrace({name: rows}, n_searched, np.zeros(1, np.int64))
        simulated = simulate_layout(searched, layout, device, SimulationParams()).totals
        assert block.objective == pytest.approx(simulated.flash_time_us / n_searched)


@pytest.mark.parametrize("n_threads", [2, 5])
def test_results_do_not_depend_on_threads(tmp_path: Path, profile_path: Path, n_threads: int) -> None:
    """Blocks are searched side by side, each by itself: the files are equal byte for byte."""
    for threads in (1, n_threads):
        params = PlacingParams(ordering="flash-time", break_even_gap=3.0, effort=2, n_threads=threads)
        reorder(None, profile_path, tmp_path / str(threads), params)
    assert (tmp_path / "1").read_bytes() == (tmp_path / str(n_threads)).read_bytes()


def test_a_time_limit_cuts_the_search_and_says_so(tmp_path: Path, profile_path: Path) -> None:
    """No time at all: a valid placement no worse than its start, recorded as not reproducible."""
    params = PlacingParams(ordering="flash-time", break_even_gap=3.0, effort=1000, time_limit_s=0.0)
    report = reorder(None, profile_path, tmp_path / "ft", params)
    assert "cut short (time limit)" in report.warnings[0]
    assert read_placement(tmp_path / "ft").metadata["cut_short"] == "time limit"
    for block in report.blocks.values():
        assert block.held_out <= block.held_out_before


def test_flash_time_is_the_default_where_something_says_what_a_read_costs(tmp_path: Path, profile_path: Path) -> None:
    """Greedy otherwise: it needs no device."""
    reorder(None, profile_path, tmp_path / "known", PlacingParams(break_even_gap=3.0, effort=0))
    assert read_placement(tmp_path / "known").metadata["ordering"] == "flash-time"
    reorder(None, profile_path, tmp_path / "unknown", PlacingParams())
    assert read_placement(tmp_path / "unknown").metadata["ordering"] == "greedy"


def test_flash_time_needs_to_know_what_a_read_costs(tmp_path: Path, profile_path: Path) -> None:
    """Without a bundle size or a break-even gap there is nothing to weigh reads against bytes with."""
    with pytest.raises(UsageError, match="--break-even-gap 5; or order by frequency"):
        reorder(None, profile_path, tmp_path / "ft", PlacingParams(ordering="flash-time"))
    assert not (tmp_path / "ft").exists()


def test_refit_without_dram(tmp_path: Path) -> None:
    """What the search found on seven eighths of the trace is searched on over all of it."""
    active = planted_clusters(np.random.default_rng(2), n_clusters=12, cluster_size=6, n_rows=400)[0]
    profile([write_stock_trace(tmp_path / "t", {"layers.0": active})], tmp_path / "p")
    cost = {}
    for refit in (False, True):
        params = PlacingParams(ordering="flash-time", break_even_gap=4.0, refit=refit)
        report = reorder(None, tmp_path / "p", tmp_path / f"{refit}", params)
        assert report.blocks["layers.0"].chosen == "flash-time"
        placed = read_placement(tmp_path / f"{refit}").blocks["layers.0"]
        cost[refit] = gap_cost.gap_cost(active.tolist(), placed.order.tolist(), 4.0)
    assert cost[True] < cost[False]
