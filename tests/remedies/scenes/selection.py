"""Rules that choose what a token uses: as they are written, tuned, and simulated."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.capture.params import CaptureParams
from ripple_place.checkpoint.names import COMPENSATION_FILE
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.flash.simulator import SimulationParams
from ripple_place.graph.importance import ImportanceNote, ModelImportance
from ripple_place.graph.profile import read_profile
from ripple_place.placement import NeuronPlacement
from ripple_place.placing.params import PlacingParams
from ripple_place.predict.predictor import ModelPredictor
from ripple_place.scoring.params import SimulateParams
from ripple_place.select.registry import parse_rule
from ripple_place.select.rule import Tuning
from ripple_place.select.simulate import simulate_selected
from ripple_place.select.tuned import ReaderNote, TunedRule, TunedRules, read_tuned
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
from ripple_place.trace.files import write_trace
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.tune_selection import TuneParams
from tests.builders import llama_config, llama_tensors, write_checkpoint
from tests.flash.builders import LINEAR_SOURCES, linear_device
from tests.remedies.bench import output_at, placement_at, profile_at
from tests.remedies.cases import case, instead, run
from tests.remedies.scenes import predictors as predicted
from tests.remedies.scenes.captures import with_torch
from tests.remedies.scenes.running import model_of
from tests.select.builders import known_of, outputs_of, trace_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.remedies.cases import Attempts


# As they are written.


def written_otherwise(where: str, words: str, story: str, bad: str, *good: str) -> None:
    """List a case of a rule that is none, and of those to write instead."""
    instead(where, words, story, partial(parse_rule, bad), *(partial(parse_rule, text) for text in good))


written_otherwise("select/registry.py:parse_rule", "", "a rule that is not known: one that is", "relu", "exact")
written_otherwise(
    "select/by_activity.py:ByActivity.from_text", "", "a share that is a number: in percent", "teal=0.5", "teal=50%"
)
written_otherwise("select/exact.py:Exact.from_text", "", "a value of exact: none", "exact=1", "exact")
written_otherwise(
    "select/knowledge.py:Knowledge.__post_init__", "name one of them", "a source that is not known: one that is",
    "exact,sees=all", "exact,sees=gate",
)  # fmt: skip
written_otherwise(
    "select/knowledge.py:Knowledge.__post_init__", "only a factor", "magnitudes by the gate: by all but the down "
    "projection, or by a predictor",
    "teal=50%,sees=gate", "teal=50%,sees=output", "teal=50%,sees=predictor",
)  # fmt: skip
written_otherwise(
    "select/priced.py:PricedRule.from_text", "write, for instance", "a rule at no price: for a rise of the loss",
    "flash-aware", "flash-aware=0.001",
)  # fmt: skip
written_otherwise(
    "select/priced.py:PricedRule.from_text", "write one of them", "something else than yes or no: one of the two",
    "fisher=0.001,sensitive=some", "fisher=0.001,sensitive=yes", "fisher=0.001,sensitive=no",
)  # fmt: skip
written_otherwise(
    "trace/rule_text.py:RuleText.check_options", "", "an option that the rule does not have: without",
    "fisher=0.001,gamma=2", "fisher=0.001",
)  # fmt: skip


# To be simulated.

instead(
    "scoring/params.py:SimulateParams._check_rules", "leave one out", "a rule twice: once",
    lambda: SimulateParams(select=("top-k=5", "top-k=5")), lambda: SimulateParams(select=("top-k=5",)),
)  # fmt: skip
instead(
    "scoring/params.py:SimulateParams._check_rules", "leave --bound or --select out", "the bound beside rules: without "
    "either",
    lambda: SimulateParams(select=("exact",), bound=True, dram_budget=0.1),
    lambda: SimulateParams(select=("exact",), dram_budget=0.1), lambda: SimulateParams(bound=True, dram_budget=0.1),
)  # fmt: skip
instead(
    "scoring/params.py:SimulateParams._check_rules", "standard deviation", "noise beyond sense: less",
    lambda: SimulateParams(select=("top-k=5",), magnitude_noise=11),
    lambda: SimulateParams(select=("top-k=5",), magnitude_noise=0.5),
)  # fmt: skip
instead(
    "scoring/params.py:SimulateParams._check_rules", "add --select RULE", "noise that nothing sees: with a rule",
    lambda: SimulateParams(magnitude_noise=0.5), lambda: SimulateParams(select=("top-k=5",), magnitude_noise=0.5),
)  # fmt: skip


def served(
    rule: str, *, tuning: dict[str, Any] | None = None, n_parts: int = 2, with_values: bool = True, n_known: int = 40,
    is_mapped: bool = False, copies: int = 1, **reader: Any,
) -> None:  # fmt: skip
    """Simulate a rule on a trace in memory."""
    rng = np.random.default_rng(0)
    trace = trace_of({"layers.0": outputs_of(rng)}, with_values=with_values)
    known = replace(known_of(rng, {"layers.0": n_known}), **(tuning or {}))
    sources = {**LINEAR_SOURCES, "read_ahead_bytes": "remembered: made up"}
    device = replace(linear_device(), overhead_us=2.0, read_ahead_bytes=65536, sources=sources)
    placement = NeuronPlacement(rng.permutation(40), order_2=rng.permutation(40) if copies == 2 else None)
    layout = Layout("tested", {"layers.0": BlockLayout(placement, BlockExtent.packed(4096))})
    simulate_selected(
        trace, layout, under(device, ReadConditions(access="mmap" if is_mapped else "direct")),
        SimulationParams(**reader), parse_rule(rule), known, n_parts={"layers.0": n_parts},
    )  # fmt: skip


def served_otherwise(where: str, words: str, story: str, refused: dict[str, Any], *ways: dict[str, Any]) -> None:
    """List a case of a simulation with a rule."""
    attempts = [partial(served, **{"rule": "flash-aware,price=0.05", **options}) for options in (refused, *ways)]
    instead(where, words, story, *attempts)


served_otherwise(
    "select/knowledge.py:Knowledge.parts_read", "", "the gates of neurons without: what there is, or a predictor",
    {"rule": "exact,sees=gate"}, {"rule": "exact,sees=output"}, {"rule": "exact,sees=predictor"},
)  # fmt: skip
served_otherwise(
    "select/by_activity.py:ByActivity.of_block", "", "a threshold that was not fitted: that of an output that was "
    "tuned",
    {"rule": "teal=50%"}, {"rule": "teal=50%", "tuning": {"thresholds": {"layers.0": 0.5}}},
)  # fmt: skip
served_otherwise(
    "select/priced.py:PricedRule.price_for", "", "a price that was not tuned: that of an output that was tuned, or "
    "one's own",
    {"rule": "flash-aware=0.001"}, {"rule": "flash-aware=0.001", "tuning": {"price": 0.1}}, {},
)  # fmt: skip
served_otherwise(
    "select/priced.py:PricedRule.priced", "profile the model with --importance", "importance that was not measured: "
    "that of a profile or an output",
    {"tuning": {"importance": {}}}, {},
)  # fmt: skip
served_otherwise(
    "select/priced.py:PricedRule.priced", "--sensitivity", "a sensitivity that was not fitted: one that was, or none",
    {"rule": "flash-aware,price=0.1,sensitive=yes"},
    {"rule": "flash-aware,price=0.1,sensitive=yes", "tuning": {"sensitivity": {"layers.0": np.zeros(6, np.float32)}}},
    {"rule": "flash-aware,price=0.1,sensitive=no"},
)  # fmt: skip
served_otherwise(
    "select/priced.py:PricedRule.priced", "--profile of this model", "importance of another model: of this one",
    {"n_known": 39}, {},
)  # fmt: skip
served_otherwise(
    "select/selected_block.py:SelectedBlock.__init__", "name another --cache", "the bound as a cache: one that a "
    "reader can have",
    {"cache": "belady"}, {"cache": "lru"},
)  # fmt: skip
_UNFORESEEN = "select/selected_block.py:_check_reader"
served_otherwise(
    _UNFORESEEN, "leave --collapse out", "a plan that is made token by token: with one gap", {"gap": "optimal"}, {}
)
served_otherwise(
    _UNFORESEEN, "leave --access mmap out", "reads by page faults: reads of its own", {"is_mapped": True}, {}
)
served_otherwise(_UNFORESEEN, "reorder without --copies", "a layout of two copies: of one", {"copies": 2}, {})
served_otherwise(
    "select/simulate.py:simulate_selected.serve", "record the trace", "a trace without magnitudes: with them",
    {"with_values": False}, {},
)  # fmt: skip
served_otherwise(
    "select/simulate.py:simulate_selected", "", "gates on a trace, which lacks them: by what neurons put out",
    {"rule": "cats=50%", "n_parts": 3, "tuning": {"thresholds": {"layers.0": 0.5}}},
    {"rule": "teal=50%", "n_parts": 3, "tuning": {"thresholds": {"layers.0": 0.5}}},
)  # fmt: skip


@case("select/simulate.py:selected_blocks")
def parts_that_nobody_knows(folder: Path) -> Attempts:
    """Weights that are read to decide, of unknown parts: an output says what there is, or a predictor knows."""
    model, learned = write_checkpoint(folder / "model", llama_tensors(), llama_config()), profile_at(folder / "p")
    run("reorder", model, "--profile", learned, "--ordering", "frequency", "--out", folder / "out")
    placement_at(folder / "placement")
    options = ("simulate", learned, "--bundle-bytes", "4KiB", "--layout")
    yield lambda: run(*options, folder / "placement", "--select", "exact,sees=gate")
    yield lambda: run(*options, folder / "placement", "--layout", folder / "out", "--select", "exact,sees=gate")
    yield lambda: run(*options, folder / "placement", "--select", "exact")


# What was tuned for an output.


def tuned_for(cache: str = "lru") -> TunedRules:
    """Return what was tuned for a reader."""
    reader = ReaderNote("phone", "auto", cache, {"layers.0": 3})
    tuning = replace(Tuning.nothing(), price=1.0)
    return TunedRules({"fisher=0.001": TunedRule("fisher=0.001", reader, tuning, "fisher")})


def _asked(rules: TunedRules) -> None:
    rules.tuning_for("out", parse_rule("fisher=0.001"), ReaderNote("phone", "auto", "lru", {"layers.0": 3}))


instead(
    "select/tuned.py:TunedRules.tuning_for", "", "a rule that was tuned for another cache: simulated with that, or "
    "tuned again", lambda: _asked(tuned_for("sieve")), lambda: _asked(tuned_for()),
)  # fmt: skip


@case("select/tuned.py:read_tuned")
def half_of_what_was_tuned(folder: Path) -> Attempts:
    """An output whose vectors are gone: tuned again."""

    def write() -> None:
        for name, content in tuned_for().files().items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)

    write()
    (folder / COMPENSATION_FILE).unlink()
    yield lambda: read_tuned(folder)
    write()


# To be tuned.

TEXT = CaptureParams("text")
_TUNE = "workflows/tune_selection.py"


def tunable(checkpoint: object = "model", **placing: Any) -> None:
    """Check whether rules can be tuned."""
    TuneParams(("teal=50%",), TEXT).check(PlacingParams(**placing), checkpoint)


instead(
    f"{_TUNE}:TuneParams.__post_init__", "", "a rule to tune twice, and one that drops nothing: rules that do, once",
    lambda: TuneParams(("teal=50%", "teal,keep=50%"), TEXT), lambda: TuneParams(("teal=50%",), TEXT),
)  # fmt: skip
instead(
    f"{_TUNE}:TuneParams.check", "no checkpoint", "a rule to tune without a model: with it",
    lambda: tunable(None), lambda: tunable(),
)  # fmt: skip
instead(
    f"{_TUNE}:TuneParams.check", "--break-even-gap", "a rule to tune for a break-even gap: for a device",
    lambda: tunable(break_even_gap=5.0), lambda: tunable(device="ufs4-oneplus12-neuralink"),
)  # fmt: skip
instead(
    f"{_TUNE}:TuneParams.check", "--copies 2", "a rule to tune for two copies: for one",
    lambda: tunable(copies=2), lambda: tunable(),
)  # fmt: skip


@case(f"{_TUNE}:TuneParams.check_profile")
def columns_without_importance(folder: Path) -> Attempts:
    """Columns whose profile does not say what dropping one costs: it is measured."""
    blocks = {name: BlockTrace(8, np.full((2, 1), 3, np.uint8)) for name in ("layers.0.input", "layers.0")}
    write_trace(folder / "t", ActivationTrace(blocks, 2, np.array([0]), None, {"unit": "column"}))
    profile(folder / "t", folder / "p", ProfileParams(verdict=None))
    learned = read_profile(folder / "p")
    rules = TuneParams(("teal=50%",), TEXT)
    yield lambda: rules.check_profile(learned, [*learned.blocks])
    values = {name: np.ones(8, np.float32) for name in learned.blocks}
    measured = learned.with_importance(ModelImportance(values, {}, ImportanceNote(5, 0)))
    yield lambda: rules.check_profile(measured, [*learned.blocks])


def _selected(words: str, story: str, bad: tuple[str, ...], *good: tuple[str, ...]) -> None:
    """List a case of options of reorder."""

    @case("cli/reorder.py:_selection", words, story)
    def scene(folder: Path) -> Attempts:
        output_at(folder / "out")
        (folder / "text").write_text("text")
        run("reorder", "--profile", folder / "model.profile", "--ordering", "original", "--out", folder / "placement")
        for options in (bad, *good):
            arguments = [folder / part if part in _FILES else part for part in options]
            yield partial(run, "reorder", folder / "model", *arguments, "--dry-run", "--out", folder / "other")


_FILES = ("model.profile", "placement", "text")
_PROFILE = ("--profile", "model.profile")
_SELECT = ("--select", "teal=50%")
_selected(
    "no rule to tune", "a text to tune on, and no rule: with one, or without the text",
    (*_PROFILE, "--tune-text", "text"), (*_PROFILE, "--tune-text", "text", *_SELECT), _PROFILE,
)  # fmt: skip
_selected(
    "no text to tune on", "a rule to tune, and no text: with one", (*_PROFILE, *_SELECT),
    (*_PROFILE, *_SELECT, "--tune-text", "text"),
)  # fmt: skip
_selected(
    "--placement", "a rule to tune for a placement: for a profile",
    ("--placement", "placement", *_SELECT, "--tune-text", "text"), (*_PROFILE, *_SELECT, "--tune-text", "text"),
)  # fmt: skip
_selected(
    "add them", "what rules shall see, and no rule to tune: with one, or not", (*_PROFILE, "--recall", "0.9"),
    _PROFILE,
)  # fmt: skip


@case(f"{_TUNE}:TuneParams.sight")
def predictions_of_no_predictor(folder: Path) -> Attempts:
    """Rules that shall see predictions, and a profile without predictors: with some, or what fires."""
    learned = read_profile(predicted.profile_at(folder / "p", with_predictor=False))
    rules = ("fisher=0.001",)
    told = TuneParams(rules, TEXT, "predicted", 0.9)
    yield lambda: told.check_profile(learned, [*learned.blocks])
    predictor = predicted.predictor_of()
    block = replace(predictor.blocks["layers.0"], scale=np.ones(8, np.float32))
    fitted = ModelPredictor({"layers.0": block}, replace(predictor.note, predicts="magnitude"))
    yield lambda: told.check_profile(replace(learned, predictor=fitted), [*learned.blocks])
    yield lambda: TuneParams(rules, TEXT).check_profile(learned, [*learned.blocks])


# A model, or traces.


def simulated_with(where: str, words: str, story: str, bad: tuple[str, ...], *good: tuple[str, ...]) -> None:
    """List a case of options of simulate on a trace."""

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        write_trace(folder / "trace", trace_of({"layers.0": outputs_of(np.random.default_rng(0))}))
        (folder / "text").write_text("text")
        (folder / "family.toml").write_text("")
        options = ("simulate", folder / "trace", "--layout", "original", "--bundle-bytes", "4KiB")
        for more in (bad, *good):
            yield partial(run, *options, *more)


simulated_with(
    "cli/simulate.py:simulate", "leave {} out", "a family of a trace: without", ("--family", "family.toml"), ()
)  # fmt: skip
simulated_with("scoring/source.py:open_source", "leave --text out", "a text for a trace: without", ("--text", "text"),
               ())  # fmt: skip
simulated_with(
    "cli/text_options.py:_refuse_given", "", "a length of windows without a text: without", ("--sequence-length", "16"),
    (),
)  # fmt: skip


@with_torch("scoring/source.py:open_source", "name the model alone", "a model and no text: with it")
def model_without_text(folder: Path) -> Attempts:
    """Nothing says what fires."""
    model = model_of(folder)
    options = ("simulate", model, "--layout", "original", "--bundle-bytes", "4KiB", "--select", "exact")
    yield lambda: run(*options)
    yield lambda: run(*options, "--text", folder / "text", "--sequence-length", "16")


@with_torch(
    "scoring/source.py:open_source", "name that, and the output", "an output as the model: as a layout of its source"
)
def output_as_model(folder: Path) -> Attempts:
    """Its neurons lie in another order."""
    model, learned = model_of(folder, "opt"), folder / "profile"
    text = ("--text", folder / "text", "--sequence-length", "16")
    run("profile", model, *text, "--no-verdict", "--out", learned)
    run("reorder", model, "--profile", learned, "--effort", "0", "--out", folder / "out")
    options = ("--select", "exact", "--layout", folder / "out")
    yield lambda: run("simulate", folder / "out", *text, *options)
    yield lambda: run("simulate", model, *text, *options)


@with_torch("capture/rules_in_model.py:ModelText.load", "", "rules inside a mixture of experts: on its trace")
def rules_among_experts(folder: Path) -> Attempts:
    """A token reaches some experts and not the others."""
    model = model_of(folder, "mixtral")
    text = ("--text", folder / "text", "--sequence-length", "16")
    options = ("--layout", "original", "--bundle-bytes", "4KiB", "--select", "top-k=10%")
    yield lambda: run("simulate", model, *text, *options)
    trace = folder / "profile"
    run("profile", model, *text, "--active", "relu", "--magnitudes", "--no-verdict", "--out", trace)
    yield lambda: run("simulate", trace, *options)


def tuned(folder: Path, rule: str, *placing: str) -> None:
    """Tune a rule for an output of a model."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    run(
        "reorder", folder / "model", "--profile", folder / "profile", "--effort", "0", "--out", folder / "out",
        *placing, "--select", rule, "--tune-text", folder / "text", "--sequence-length", "16",
    )  # fmt: skip


def tunable_model(folder: Path) -> None:
    """Write a model of which neurons can be dropped, and its profile."""
    model = model_of(folder, "opt")
    text = ("--text", folder / "text", "--sequence-length", "16")
    run("profile", model, *text, "--importance", "--no-verdict", "--out", folder / "profile")


@with_torch(
    "capture/tune_rule.py:RuleTuner._find_price", "", "a reader that reads nothing: with less DRAM, or without a rule"
)
def everything_in_dram(folder: Path) -> Attempts:
    """There is no time to save."""
    tunable_model(folder)
    pinned = ("--cache", "pinned", "--dram-budget")
    yield lambda: tuned(folder, "fisher=0.001", *pinned, "100%")
    yield lambda: tuned(folder, "fisher=0.001", *pinned, "10%")
    plain = ("reorder", folder / "model", "--profile", folder / "profile", "--effort", "0")
    yield lambda: run(*plain, "--out", folder / "plain", *pinned, "100%")


@with_torch("capture/tune_rule.py:_price_at", "", "a rise so small that no price drops anything: a larger one")
def nothing_is_dropped(folder: Path) -> Attempts:
    """Prices below what any neuron is worth."""
    tunable_model(folder)
    yield lambda: tuned(folder, "fisher=1e-30")
    yield lambda: tuned(folder, "fisher=0.001")
