"""Gates first in a simulation: where candidates come from, which forms layouts have, and what DRAM is left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.writing import WritingParams
from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.flash.bundle_form import FORMS
from ripple_place.placing.params import PlacingParams
from ripple_place.scoring.bundle_forms import FormChoice
from ripple_place.scoring.extras import SimulateExtras
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.score import score
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
from ripple_place.trace.files import write_trace
from ripple_place.workflows.profile import profile as learn
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import reorder
from ripple_place.workflows.simulate import simulate
from tests.builders import llama_config, llama_tensors, opt_config, opt_tensors, write_checkpoint
from tests.flash.builders import block_trace, trace_of

N_TOKENS, N_NEURONS = 300, 24


def activity(seed: int = 0) -> dict[str, np.ndarray]:
    """Return what fires in two blocks."""
    rng = np.random.default_rng(seed)
    return {f"layers.{layer}": rng.random((N_TOKENS, N_NEURONS)) < 0.25 for layer in range(2)}


def write(path: Path, named: dict[str, np.ndarray] | None = None) -> Path:
    """Write a trace, with predictions of some blocks."""
    blocks = {name: block_trace(active) for name, active in activity().items()}
    for name, bits in (named or {}).items():
        old = blocks[name]
        blocks[name] = BlockTrace(old.n_neurons, old.active, None, None, block_trace(bits).active)
    trace: ActivationTrace = trace_of(blocks, N_TOKENS)
    write_trace(path, trace)
    return path


def entry(trace: Path, layout: str = "original", **params: Any) -> dict[str, Any]:
    """Return the entry of a layout in the JSON."""
    params = {"bundle_bytes": 24576, **params} if layout == "original" else params
    return score([trace], [layout], SimulateParams(**params)).to_json()["layouts"][0]


def test_candidates_are_drawn_unless_the_trace_names_them(tmp_path: Path) -> None:
    """1.25 for each neuron that fires (PowerInfer-2's 80 %), as many as asked for, or what was recorded."""
    plain, all_named = write(tmp_path / "plain"), {name: np.ones_like(bits) for name, bits in activity().items()}
    named = write(tmp_path / "named", all_named)
    fired = sum(int(bits.sum()) for bits in activity().values()) / N_TOKENS
    for trace, mode, expected in (
        (plain, "predicted", 1.25 * fired), (plain, "predicted,over-predict=1", fired),
        (named, "predicted", 2 * N_NEURONS), (named, "predicted,over-predict=1.5", 1.5 * fired),
    ):  # fmt: skip
        gate = entry(trace, gate_first=mode)["gate"]
        assert gate["candidates_per_token"] == pytest.approx(expected, abs=2 / N_TOKENS)
        assert gate["fired_per_token"] == pytest.approx(fired)
        assert gate["rest_saved_share"] == pytest.approx(1 - fired / expected, abs=0.01)
    document = score([named], ["original"], SimulateParams(bundle_bytes=24576, gate_first="predicted")).to_json()
    assert (document["gate_first"], document["over_predict"], document["bundle_form"]) == ("predicted", None, None)
    with pytest.raises(TraceFormatError, match=r"layers\.1: found no predictions"):
        entry(write(tmp_path / "half", {"layers.0": all_named["layers.0"]}), gate_first="predicted")


def test_without_gates_first_nothing_is_said_of_them(tmp_path: Path) -> None:
    """The keys are there, and null."""
    document = score([write(tmp_path / "t")], ["original"], SimulateParams(bundle_bytes=24576)).to_json()
    assert (document["gate_first"], document["over_predict"], document["bundle_form"]) == (None, None, None)
    assert document["layouts"][0]["gate"] is None
    assert document["layouts"][0]["blocks"]["layers.0"]["gate"] is None


def test_whole_and_one_candidate_are_todays_numbers(tmp_path: Path) -> None:
    """All keys but those of gates."""
    trace = write(tmp_path / "t")
    first = entry(trace, gate_first="predicted,over-predict=1", bundle_form="whole", dram_budget=0.25)
    plain = entry(trace, dram_budget=0.25)
    for document in (first, plain):
        for part in (document, *document["blocks"].values()):
            del part["gate"]
    assert first == plain


def test_forms_of_whole_reads(tmp_path: Path) -> None:
    """Read as a whole, bundles cost the same wherever their gate lies in them; apart, both places; int4, two pages."""
    trace = write(tmp_path / "t")
    plain = entry(trace)
    forms = {name: entry(trace, bundle_form=name) for name in FORMS}
    assert forms["whole"] == forms["gate-first"] == plain
    assert forms["gates-apart"]["reads_per_token"] > plain["reads_per_token"]
    assert forms["int4"]["blocks"]["layers.0"]["bundle_bytes"] == 7680
    assert forms["int4"] == entry(trace, bundle_form="int4:4096", bundle_bytes=None)
    assert entry(trace, bundle_form="int4:512", bundle_bytes=None)["blocks"]["layers.0"]["bundle_bytes"] == 960


@pytest.mark.parametrize("mode", ["full-gate", "resident"])
def test_what_is_cached_of_a_neuron_needs_no_gate(tmp_path: Path, mode: str) -> None:
    """Half of all bytes: 24 neurons' gates are a third; where they are resident, a sixth is left for up and down."""
    trace = write(tmp_path / "t")
    params = {"gate_first": mode, "bundle_form": "gates-apart"}
    # 12 bundles of 24 KiB are 18 of 16 KiB; without 24 gates of 8 KiB, 6.
    expected = 18 if mode == "full-gate" else 6
    for budget in (0.5, 2 * 12 * 24576):
        blocks = entry(trace, dram_budget=budget, cache="lru", **params)["blocks"]
        assert {block["capacity_neurons"] for block in blocks.values()} == {expected}
    if mode == "resident":
        just = 2 * N_NEURONS * 8192
        assert entry(trace, dram_budget=just, **params)["blocks"]["layers.0"]["capacity_neurons"] == 0
        with pytest.raises(UsageError, match="found 196607 bytes of DRAM; expected at least 196608"):
            entry(trace, dram_budget=just - 1, **params)
        with pytest.raises(UsageError, match="no DRAM budget"):
            entry(trace, **params)
    assert entry(trace, dram_budget=1.0, **params)["blocks"]["layers.0"]["capacity_neurons"] == N_NEURONS


def output(tmp_path: Path, *, gated: bool) -> str:
    """Return an output whose bundles have a gate, or none."""
    tensors, config = (llama_tensors(), llama_config()) if gated else (opt_tensors(), opt_config())
    source = write_checkpoint(tmp_path / "model", tensors, config)
    profile = write(tmp_path / "profile.trace")
    learn(profile, tmp_path / "profile", ProfileParams(verdict=None))
    reorder(source, tmp_path / "profile", tmp_path / "out", PlacingParams(ordering="frequency"))
    return str(tmp_path / "out")


def test_an_output_says_whether_neurons_have_a_gate(tmp_path: Path) -> None:
    """Bundles of 3 x 8 weights of two bytes; without a gate, reading it first is refused."""
    gate = entry(write(tmp_path / "t"), output(tmp_path, gated=True), gate_first="predicted")["gate"]
    assert gate["form"] == "gate-first"
    assert gate["reads_per_token"] > 0


def test_a_model_without_gates_is_refused(tmp_path: Path) -> None:
    """Also for checkpoint order beside such an output."""
    out, trace = output(tmp_path, gated=False), write(tmp_path / "t")
    for mode in ({"gate_first": "predicted"}, {"bundle_form": "gates-apart"}):
        with pytest.raises(UsageError, match="found FFNs without a gate"):
            score([trace], ["original", out], SimulateParams(**mode))


@pytest.mark.parametrize("text", ["", "apart", "int4:", "int4:0", "int4:x", "whole:8"])
def test_forms_that_are_none(text: str) -> None:
    """Each is refused before anything is read."""
    with pytest.raises(UsageError, match="no form by that name"):
        SimulateParams(bundle_form=text)
    assert FormChoice.parse("int4:512").bundle_bytes == 960


def gated_output(tmp_path: Path, name: str, *, gates: str, stride: str = "packed") -> str:
    """Return an output of a Llama of 96 bytes a neuron in two layers, with gates where they are to be."""
    source, learned = tmp_path / "model", tmp_path / "profile"
    if not source.exists():
        write_checkpoint(source, llama_tensors(hidden=1024), llama_config())
        learn(write(tmp_path / "profile.trace"), learned, ProfileParams(verdict=None))
    writing = WritingParams(gates=gates, stride=stride)
    reorder(source, learned, tmp_path / name, PlacingParams(ordering="frequency"), writing)
    return str(tmp_path / name)


def test_a_layout_with_gates_apart_is_read_where_it_lies(tmp_path: Path) -> None:
    """Form, extents and costs follow from the manifest, and equal what --bundle-form supposes of the other file."""
    trace = write(tmp_path / "t")
    apart, inside = (gated_output(tmp_path, gates, gates=gates) for gates in ("apart", "inside"))
    report = score([trace], [apart], SimulateParams())
    index = read_manifest(Path(apart)).document["bundled"]
    for name, block in report.layouts[0].blocks.items():
        form = block.form
        assert form is not None
        assert (form.name, form.gate_bytes, form.rest_bytes) == ("gates-apart", 2048, 4096)
        assert block.extent.base_offset_bytes == index[name]["gates"]["offset_bytes"]
        assert form.rest_offset_bytes == index[name]["offset_bytes"] - index[name]["gates"]["offset_bytes"]
        assert block.span_bytes == 12 * 4096 + 24 * 4096
    for mode in (None, "predicted"):
        found, supposed = (
            entry(trace, layout, gate_first=mode, bundle_form=form)
            for layout, form in ((apart, None), (inside, "gates-apart"))
        )
        for key in ("name", "label"):
            found.pop(key), supposed.pop(key)
        assert found == supposed
    assert entry(trace, apart, gate_first="full-gate")["gate"]["bytes_read_per_token"] == 2 * 24 * 2048
    # Checkpoint order beside it lies as it does.
    both = score([trace], [apart, "original"], SimulateParams(gate_first="predicted")).to_json()["layouts"]
    assert [layout["gate"]["form"] for layout in both] == ["gates-apart", "gates-apart"]
    # And what lies apart can be supposed not to.
    assert entry(trace, apart, gate_first="predicted", bundle_form="gate-first")["gate"]["form"] == "gate-first"


def test_a_padded_rest(tmp_path: Path) -> None:
    """With a stride of pages, the rest is padded and gates are not."""
    trace, out = write(tmp_path / "t"), gated_output(tmp_path, "apart", gates="apart", stride="page")
    form = score([trace], [out], SimulateParams()).layouts[0].blocks["layers.0"].form
    assert form is not None
    assert (form.gate_stride_bytes, form.rest_stride_bytes) == (2048, 4096)
    assert entry(trace, out)["reads_per_token"] > 0


def test_a_size_that_is_given_overrides_the_form(tmp_path: Path) -> None:
    """Then nothing is known of where gates lie."""
    trace, out = write(tmp_path / "t"), gated_output(tmp_path, "apart", gates="apart")
    assert score([trace], [out], SimulateParams(bundle_bytes=6144)).layouts[0].blocks["layers.0"].form is None


@pytest.mark.parametrize(("hidden", "expected"), [(1920, "page"), (2048, "packed")])
def test_the_stride_of_the_rest_is_chosen_by_its_own_length(tmp_path: Path, hidden: int, expected: str) -> None:
    """7.5 KiB of up and down are cheaper on two pages of their own than across three; 8 KiB are whole pages."""
    source = write_checkpoint(tmp_path / "model", llama_tensors(hidden=hidden), llama_config())
    learn(write(tmp_path / "profile.trace"), tmp_path / "profile", ProfileParams(verdict=None))
    report = reorder(
        source, tmp_path / "profile", tmp_path / "out", PlacingParams(ordering="frequency"),
        WritingParams(gates="apart"),
    )  # fmt: skip
    assert report.plan is not None
    assert (report.plan.stride, report.plan.gates) == (expected, "apart")


@pytest.mark.parametrize("option", ["html", "svg"])
def test_pages_of_gates_first(tmp_path: Path, option: str) -> None:
    """Pictures are those of up and down rows; the page says so."""
    trace, out = write(tmp_path / "t"), gated_output(tmp_path, "apart", gates="apart")
    for params in (SimulateParams(gate_first="predicted"), SimulateParams()):
        simulate([trace], ["original", out], params, extras=SimulateExtras(**{option: tmp_path / "page"}, force=True))
        text = (tmp_path / "page").read_text()
        assert ("Gates are looked at first" in text) == (option == "html" and params.gate_first is not None)
