"""Gates that are read first, and forms of bundles."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.flash.bundle_form import BundleForm
from ripple_place.flash.gate_first import GateFirst
from ripple_place.flash.layout import Layout
from ripple_place.flash.requests import list_requests
from ripple_place.flash.simulator import SimulationParams
from ripple_place.placing.params import PlacingParams
from ripple_place.workflows.reorder import reorder
from tests.builders import llama_config, llama_tensors, random_placement, write_checkpoint
from tests.flash.builders import block_trace, layout_of, linear_device, trace_of
from tests.remedies.bench import clusters, model_at, output_at, profile_at, trace_at
from tests.remedies.cases import case, instead, run
from tests.trace_builders import write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

    from tests.remedies.cases import Attempts

SIZE = "--layout original --bundle-bytes 24KiB"
_MODE, _PARAMS = "flash/gate_first.py:GateFirst", "scoring/params.py:SimulateParams._check_gates"

instead(
    "flash/bundle_form.py:BundleForm.__post_init__", "", "a rest that begins inside the gate: behind it",
    lambda: BundleForm("gates-apart", 4096, 8192, 4096, 8192, 0),
    lambda: BundleForm("gates-apart", 4096, 8192, 4096, 8192, 4096),
)  # fmt: skip
instead(
    f"{_MODE}.__post_init__", "name one of them", "a mode that is not known: one that is", lambda: GateFirst("gates"),
    lambda: GateFirst("predicted"),
)  # fmt: skip
instead(
    f"{_MODE}.__post_init__", "write, for instance", "fewer candidates than fire: more",
    lambda: GateFirst.parse("predicted,over-predict=0.5"), lambda: GateFirst.parse("predicted,over-predict=1.25"),
)  # fmt: skip
instead(
    f"{_MODE}.parse", "", "a number of candidates that is none: one", lambda: GateFirst.parse("predicted,1.25"),
    lambda: GateFirst.parse("predicted,over-predict=1.25"),
)  # fmt: skip


def gates_otherwise(where: str, words: str, story: str, bad: str, *good: str) -> None:
    """List a case of options of simulate that are refused, and of those to give instead.

    ``OUT`` is an output of a model without gates, ``TWICE`` a placement with two copies.
    """

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        trace = trace_at(folder / "trace")
        names = set(" ".join((bad, *good)).split())
        if "OUT" in names:
            output_at(folder / "OUT")
        if "TWICE" in names:
            params = PlacingParams(ordering="frequency", copies=2, bundle_bytes=24576)
            reorder(None, profile_at(folder / "profile"), folder / "TWICE", params)
        for options in (bad, *good):
            yield partial(run, "simulate", trace, *options.split())


gates_otherwise(
    "flash/gate_reader.py:check_reader", "two copies", "gates of a layout with two copies: whole bundles, or one copy",
    "--layout TWICE --gate-first predicted", "--layout TWICE", f"{SIZE} --gate-first predicted",
)  # fmt: skip
gates_otherwise(
    "flash/gate_reader.py:check_reader", "leave --access mmap out", "gates of a mapped file: by requests, or none",
    f"{SIZE} --gate-first predicted --access mmap", f"{SIZE} --gate-first predicted", f"{SIZE} --access mmap",
)  # fmt: skip
gates_otherwise(
    "flash/gate_reader.py:check_reader", "add --bundle-form", "all gates of bundles that have them inside: apart",
    f"{SIZE} --gate-first full-gate", f"{SIZE} --gate-first full-gate --bundle-form gates-apart",
)  # fmt: skip
gates_otherwise(
    "scoring/bundle_forms.py:FormChoice.parse", "", "a form that is not known: one that is",
    f"{SIZE} --bundle-form gate", f"{SIZE} --bundle-form gates-apart",
)  # fmt: skip
gates_otherwise(
    "scoring/bundle_forms.py:with_forms", "", "gates of a model without: whole bundles",
    "--layout OUT --gate-first predicted", "--layout OUT",
)  # fmt: skip
gates_otherwise(
    "scoring/bundle_forms.py:_with_form", "", "bundles that three equal parts do not make up: those that they do",
    "--layout original --bundle-bytes 4KiB --gate-first predicted", f"{SIZE} --gate-first predicted",
)  # fmt: skip
gates_otherwise(
    "scoring/gates.py:dram_behind_gates", "no DRAM budget", "gates that are held nowhere: in DRAM",
    f"{SIZE} --gate-first resident", f"{SIZE} --gate-first resident --dram-budget 50%",
)  # fmt: skip
gates_otherwise(
    "scoring/gates.py:dram_behind_gates", "raise --dram-budget", "DRAM that is too small for gates: more, or none",
    f"{SIZE} --gate-first resident --dram-budget 10%", f"{SIZE} --gate-first resident --dram-budget 50%",
    f"{SIZE} --gate-first predicted --dram-budget 10%",
)  # fmt: skip
gates_otherwise(
    _PARAMS, "leave out --select", "gates first and a rule: one of them",
    f"{SIZE} --gate-first predicted --select exact", f"{SIZE} --gate-first predicted", f"{SIZE} --select exact",
)  # fmt: skip
gates_otherwise(
    "scoring/extras.py:SimulateExtras.check", "out, or both others", "gates first for fio: one without the other",
    f"{SIZE} --gate-first predicted --emit-fio a.iolog", f"{SIZE} --emit-fio a.iolog", f"{SIZE} --gate-first predicted",
)  # fmt: skip


@case(_PARAMS, "leave --activity out")
def predictions_are_asked_for_twice(folder: Path) -> Attempts:
    """Gates of what was predicted, and all of what was predicted: the gates."""
    trace = trace_at(folder / "trace")
    command = ("simulate", trace, *SIZE.split(), "--gate-first", "predicted")
    yield partial(run, *command, "--activity", "predicted")
    yield partial(run, *command)


@case("scoring/gates.py:read_gates")
def columns_have_no_gate(folder: Path) -> Attempts:
    """Gates of columns: without."""
    trace = write_stock_trace(folder / "trace", clusters(names=("layers.0.input", "layers.0")), unit="column")
    command = ("simulate", trace, "--layout", "original", "--bundle-bytes", "8KiB,4KiB")
    yield partial(run, *command, "--gate-first", "predicted")
    yield partial(run, *command)


@case("flash/requests.py:list_requests", "without --gates apart")
def requests_of_gates(folder: Path) -> Attempts:
    """The requests of gates that lie apart: of bundles that are read whole."""
    trace, layout = trace_of({"layers.0": block_trace(np.eye(3))}, 3), layout_of({"layers.0": [0, 1, 2]})
    form = BundleForm.apart(1024, 3072, 3072, 3)
    apart = Layout("apart", {"layers.0": replace(layout.blocks["layers.0"], form=form)})
    for each in (apart, layout):
        yield partial(list_requests, trace, each, linear_device(), SimulationParams(), np.arange(3))


def gated_at(path: Path) -> Path:
    """Write a checkpoint whose neurons have a gate."""
    return write_checkpoint(path, llama_tensors(), llama_config())


@case("scoring/score.py:_check_whole")
def rules_on_gates_apart(folder: Path) -> Attempts:
    """A rule on a layout with gates apart: none, or gates inside."""
    trace, learned, model = trace_at(folder / "trace"), profile_at(folder / "profile"), gated_at(folder / "model")
    for gates in ("apart", "inside"):
        options = ("--ordering", "frequency", "--gates", gates)
        run("reorder", model, "--profile", learned, "--out", folder / gates, *options)
    yield partial(run, "simulate", trace, "--layout", folder / "apart", "--select", "exact")
    yield partial(run, "simulate", trace, "--layout", folder / "apart")
    yield partial(run, "simulate", trace, "--layout", folder / "inside", "--select", "exact")


@case("workflows/reorder.py:_check_gates", "name the checkpoint as well")
def gates_of_no_checkpoint(folder: Path) -> Attempts:
    """Gates apart in a placement file: in an output, or no gates."""
    learned, model = profile_at(folder / "profile"), gated_at(folder / "model")
    command = ("--profile", learned, "--ordering", "frequency")
    yield partial(run, "reorder", *command, "--out", folder / "a", "--gates", "apart")
    yield partial(run, "reorder", model, *command, "--out", folder / "b", "--gates", "apart")
    yield partial(run, "reorder", *command, "--out", folder / "c")


@case("workflows/reorder.py:_check_gates", "leave one of them out")
def gates_and_copies(folder: Path) -> Attempts:
    """Gates apart in two copies: one of the two."""
    learned, model = profile_at(folder / "profile"), gated_at(folder / "model")
    command = ("reorder", model, "--profile", learned, "--ordering", "frequency")
    yield partial(run, *command, "--out", folder / "a", "--gates", "apart", "--copies", 2)
    yield partial(run, *command, "--out", folder / "b", "--gates", "apart")
    yield partial(run, *command, "--out", folder / "c", "--copies", 2)


_PLAN = "checkpoint/output/plan.py:check_gates"


@case(_PLAN, "name one of those")
def gates_elsewhere(folder: Path) -> Attempts:
    """Gates in a place that is not known: apart."""
    model = describe_ffn(Checkpoint.open(gated_at(folder / "model")))
    for gates in ("outside", "apart"):
        yield partial(plan_rewrite, model, random_placement(model), folder / "out", gates=gates)


@case(_PLAN, "leave --format drop-in out")
def gates_without_a_bundled_file(folder: Path) -> Attempts:
    """Gates apart in drop-in weights: in a bundled file, or inside."""
    learned, model = profile_at(folder / "profile"), gated_at(folder / "model")
    command = ("reorder", model, "--profile", learned, "--ordering", "frequency")
    yield partial(run, *command, "--out", folder / "a", "--gates", "apart", "--format", "drop-in")
    yield partial(run, *command, "--out", folder / "b", "--gates", "apart")
    yield partial(run, *command, "--out", folder / "c", "--format", "drop-in")


@case(_PLAN, "one of neurons, with one copy")
def gates_of_two_copies(folder: Path) -> Attempts:
    """Gates apart of a placement with two copies: inside."""
    model = describe_ffn(Checkpoint.open(gated_at(folder / "model")))
    placement = random_placement(model, copies=("layers.0",))
    for gates in ("apart", "inside"):
        yield partial(plan_rewrite, model, placement, folder / "out", gates=gates)


@case(_PLAN, "FFNs without a gate")
def gates_of_a_model_without(folder: Path) -> Attempts:
    """Gates apart of OPT: as it has none, none."""
    learned, model = profile_at(folder / "profile"), model_at(folder / "model")
    command = ("reorder", model, "--profile", learned, "--ordering", "frequency")
    yield partial(run, *command, "--out", folder / "a", "--gates", "apart")
    yield partial(run, *command, "--out", folder / "b")
