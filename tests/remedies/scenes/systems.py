"""The comparison of systems, their files, and plans of what is hot."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.read_cost import ReadCosts
from ripple_place.graph.profile import read_profile
from ripple_place.placement import read_placement
from ripple_place.placing.params import PlacingParams
from ripple_place.scoring.hot_rows import HotRows
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.system_params import SystemParams
from ripple_place.systems.knobs import Knobs
from ripple_place.systems.place import place_by_plan
from ripple_place.systems.plan import METADATA_KEY, BlockPlan, HotCounts, NeuronPlan
from ripple_place.systems.plan_params import PlanParams
from ripple_place.systems.system import System, read_system
from ripple_place.trace.files import write_trace
from ripple_place.tracking import no_track
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from tests.flash.builders import layout_of
from tests.remedies.bench import clusters, model_at, placement_at, profile_at, trace_at
from tests.remedies.cases import case, instead, run
from tests.remedies.scenes.captures import with_torch
from tests.remedies.scenes.running import model_of
from tests.select.builders import outputs_of, trace_of
from tests.trace_builders import write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

    from tests.remedies.cases import Attempts

# Systems as they are written, and their files.

_SYSTEM = "systems/system.py"
instead(
    f"{_SYSTEM}:System.parse", "", "a knob without a value: with one", partial(System.parse, "neuralink,lru"),
    partial(System.parse, "neuralink,cache=lru"),
)  # fmt: skip
instead(
    f"{_SYSTEM}:load_system", "name one of them", "a system that does not ship: one that does",
    partial(System.parse, "flexgen"), partial(System.parse, "powerinfer2"),
)  # fmt: skip
instead(
    "systems/knobs.py:Knobs.changed", "", "a knob that there is not: one that there is",
    partial(System.parse, "neuralink,caches=lru"), partial(System.parse, "neuralink,cache=lru"),
)  # fmt: skip
instead(
    "systems/knobs.py:_refused", "", "a value that a knob does not take: one that it takes",
    lambda: Knobs(barriers="some"), lambda: Knobs(barriers="matrix"),
)  # fmt: skip

FILE = """name = "mine"
description = "Reads one by one"
cache = "lru"

[sources]
cache = "assumed"
"""


@case(f"{_SYSTEM}:load_system", "give the path")
def system_is_not_there(folder: Path) -> Attempts:
    """A file of a system that is not there: one that is, or a system that ships."""
    (folder / "mine.toml").write_text(FILE)
    yield partial(System.parse, str(folder / "my.toml"))
    yield partial(System.parse, str(folder / "mine.toml"))
    yield partial(System.parse, "neuralink")


def corrected(words: str, story: str, before: str, after: str) -> None:
    """List a case of a file in which something has to be corrected."""

    @case(f"{_SYSTEM}:read_system", words, story)
    def scene(folder: Path) -> Attempts:
        path = folder / "mine.toml"
        path.write_text(FILE.replace(after, before))
        yield partial(read_system, path)
        path.write_text(FILE)
        yield partial(read_system, path)


corrected("TOML in UTF-8", "a file that is no TOML: the quote is closed", 'cache = "lru\n', 'cache = "lru"\n')
corrected("a value that is no text", "a value that is no text: a text", "cache = 1", 'cache = "lru"')
corrected("say where", "a value without a source: with one", "[sources]\n", '[sources]\ncache = "assumed"\n')
corrected("describes each key", "a value that a knob does not take: one that it takes", 'cache = "l"', 'cache = "lru"')

# What is compared.

_PARAMS = "scoring/system_params.py:SystemParams.__post_init__"
TENTH = SimulateParams(dram_budget=0.1)
instead(
    _PARAMS, "leave one out", "a system twice: once", lambda: SystemParams(("ours", "ours"), TENTH),
    lambda: SystemParams(("ours",), TENTH),
)  # fmt: skip
instead(_PARAMS, "name one", "no system: one", lambda: SystemParams((), TENTH), lambda: SystemParams(("ours",), TENTH))
instead(
    _PARAMS, "add --dram-budget", "systems without a budget: with one", lambda: SystemParams(("ours",)),
    lambda: SystemParams(("ours",), TENTH),
)  # fmt: skip

BUDGET = "--dram-budget 25% --bundle-bytes 4KiB"


def compared_otherwise(where: str, words: str, story: str, bad: str, *good: str) -> None:
    """List a case of options of simulate that are refused, and of those to give instead.

    ``P`` and ``Q`` are profiles, ``O`` is one of wider blocks.
    """

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        trace = trace_at(folder / "trace")
        names = set(" ".join((bad, *good)).split())
        for name in names & {"P", "Q"}:
            profile_at(folder / name)
        if "O" in names:
            profile_at(folder / "O", cluster_size=9)
        for options in (bad, *good):
            yield partial(run, "simulate", trace, *options.split())


_CLI = "cli/simulate.py:simulate"
compared_otherwise(
    _CLI, "no layout and no system", "nothing to score: a layout, or a system", f"{BUDGET} --profile P",
    f"{BUDGET} --profile P --layout original", f"{BUDGET} --profile P --system neuralink",
)  # fmt: skip
compared_otherwise(
    _CLI, "at most one without --system", "two profiles of layouts: one", f"{BUDGET} --layout original --profile P "
    "--profile Q",
    f"{BUDGET} --layout original --profile P",
)  # fmt: skip
compared_otherwise(
    "cli/system_options.py:check_systems", "set the knob", "a cache of all systems: each has its own, or another one",
    f"{BUDGET} --system llm-in-a-flash --cache lru", f"{BUDGET} --system llm-in-a-flash",
    f"{BUDGET} --system llm-in-a-flash,cache=lru",
)  # fmt: skip
compared_otherwise(
    "cli/system_options.py:check_systems", "which it is for. leave", "a bound of systems: without",
    f"{BUDGET} --system llm-in-a-flash --bound", f"{BUDGET} --system llm-in-a-flash",
)  # fmt: skip
compared_otherwise(
    "cli/system_options.py:check_systems", "add --system NAME", "effort of orders that nobody makes: of a system's, or "
    "without",
    f"{BUDGET} --layout original --effort 1", f"{BUDGET} --system ours --profile P --effort 1",
    f"{BUDGET} --layout original",
)  # fmt: skip
compared_otherwise(
    "scoring/system_layouts.py:SystemLayouts._placement", "", "an order that is made from nothing: from a profile",
    f"{BUDGET} --system neuralink", f"{BUDGET} --system neuralink --profile P",
)  # fmt: skip
compared_otherwise(
    "scoring/system_layouts.py:_check_profile", "", "a profile of another model: of this one",
    f"{BUDGET} --system neuralink --profile O", f"{BUDGET} --system neuralink --profile P",
)  # fmt: skip
compared_otherwise(
    "scoring/systems.py:_profiles", "", "two profiles of neurons: one",
    f"{BUDGET} --system neuralink --profile P --profile Q", f"{BUDGET} --system neuralink --profile P",
)  # fmt: skip
compared_otherwise(
    "scoring/systems.py:_sizes", "", "neurons of unknown size: with their size",
    "--dram-budget 25% --system llm-in-a-flash", f"{BUDGET} --system llm-in-a-flash",
)  # fmt: skip


@case("scoring/system_layouts.py:SystemLayouts._check_budget")
def layout_for_no_dram(folder: Path) -> Attempts:
    """A layout that was not made for DRAM: one that was, or a cache of its own."""
    trace, learned = trace_at(folder / "trace"), profile_at(folder / "profile")
    placement_at(folder / "A")
    run("reorder", "--profile", learned, "--out", folder / "B", *BUDGET.split(), "--cache", "lru", "--effort", 0)
    for system in (
        f"ours,layout={folder}/A",
        f"ours,layout={folder}/B",
        f"ours,layout={folder}/A,for_dram=no,cache=s3fifo",
    ):
        yield partial(run, "simulate", trace, *BUDGET.split(), "--system", system)


@with_torch(
    "scoring/system_checks.py:check_chosen", "name the model with --text",
    "columns of a trace of neurons: those of the model, or another system",
)  # fmt: skip
def columns_of_a_trace(folder: Path) -> Attempts:
    """DIP prunes inputs, which no trace of neurons has."""
    model, trace = model_of(folder), folder / "trace"
    text = ("--text", folder / "text", "--sequence-length", 32)
    run("profile", model, *text, "--active", "top-k=20%", "--no-verdict", "--out", trace)
    command = ("--dram-budget", "50%")
    yield partial(run, "simulate", trace, *command, "--bundle-bytes", "4KiB", "--system", "dip")
    yield partial(run, "simulate", model, *text, *command, "--system", "dip")
    yield partial(run, "simulate", trace, *command, "--bundle-bytes", "4KiB", "--system", "llm-in-a-flash")


_CHECKS = "scoring/system_checks.py"


def served_otherwise(where: str, words: str, story: str, is_dense: bool, bad: str, *good: str) -> None:
    """List a case of a system that cannot serve a trace with magnitudes, dense or not, and of those to name instead."""

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        outputs = np.abs(outputs_of(np.random.default_rng(0)))
        write_trace(folder / "trace", trace_of({"layers.0": outputs + 1.0 if is_dense else outputs}))
        for system in (bad, *good):
            yield partial(run, "simulate", folder / "trace", *BUDGET.split(), "--system", system)


served_otherwise(
    f"{_CHECKS}:check_chosen", "uses=top-k=20%, or", "activations that are never zero: a rule that drops some, or "
    "another system", True,
    "llm-in-a-flash", "llm-in-a-flash,uses=top-k=20%", "llama.cpp",
)  # fmt: skip
served_otherwise(
    f"{_CHECKS}:check_chosen", "it leaves in flash. leave the system out", "activations that are never zero, and one "
    "pool: another system", True,
    "llm-in-a-flash,pool=yes", "llama.cpp",
)  # fmt: skip
served_otherwise(
    f"{_CHECKS}:_check_rule", "", "a rule with one pool: one without the other", False,
    "llm-in-a-flash,pool=yes,uses=top-k=20%", "llm-in-a-flash,pool=yes", "llm-in-a-flash,uses=top-k=20%",
)  # fmt: skip


_TUNE = "scoring/system_rules.py:RulesOfSystems._tune"
AIMED, PRICED = "flash-aware=0.03", "flash-aware;price=1e-06"


@with_torch(_TUNE, "in place of the trace", "a rule that has to be tuned, on a trace: on the model, or at a price")
def rules_of_a_trace(folder: Path) -> Attempts:
    """The loss cannot be seen in a trace."""
    model, trace = model_of(folder), folder / "trace"
    text = ("--text", folder / "text", "--sequence-length", 32)
    (folder / "other").write_bytes((folder / "text").read_bytes()[::-1])
    recording = ("--active", "top-k=20%", "--magnitudes", "--importance", "--no-verdict")
    run("profile", model, *text, *recording, "--out", trace)
    command = ("--profile", trace, *BUDGET.split(), "--system")
    yield partial(run, "simulate", trace, *command, f"llm-in-a-flash,uses={AIMED}")
    tuned = (*text, "--tune-text", folder / "other")
    yield partial(run, "simulate", model, *tuned, *command, f"llm-in-a-flash,uses={AIMED}")
    yield partial(run, "simulate", trace, *command, f"llm-in-a-flash,uses={PRICED}")


@with_torch(_TUNE, "add --tune-text", "a rule that has to be tuned: on a text for that, or at a price")
def nothing_to_tune_on(folder: Path) -> Attempts:
    """The loss that is wanted says nothing of the price."""
    model = model_of(folder)
    (folder / "other").write_bytes((folder / "text").read_bytes()[::-1])
    text = ("--text", folder / "text", "--sequence-length", 32)
    recording = ("--active", "dip=0.5", "--unit", "column", "--importance", "--no-verdict")
    run("profile", model, *text, *recording, "--out", folder / "profile")
    command = ("simulate", model, *text, "--profile", folder / "profile", "--dram-budget", "50%", "--system")
    yield partial(run, *command, f"dip,uses={AIMED}")
    yield partial(run, *command, f"dip,uses={AIMED}", "--tune-text", folder / "other")
    yield partial(run, *command, f"dip,uses={PRICED}")


# Plans.

instead(
    "systems/plan_params.py:PlanParams.parse", "", "a plan that is not known: PowerInfer-2's",
    partial(PlanParams.parse, "powerinfer"), partial(PlanParams.parse, "powerinfer2"),
    partial(PlanParams.parse, "powerinfer2,batches=1-2"),
)  # fmt: skip
instead(
    "systems/plan_params.py:_refused", "", "a share of cold neurons above all of them: one below",
    partial(PlanParams.parse, "powerinfer2,cold-share=150%"), partial(PlanParams.parse, "powerinfer2,cold-share=15%"),
)  # fmt: skip


def planned_otherwise(where: str, words: str, story: str, bad: str, *good: str) -> None:
    """List a case of options of reorder with a plan, and of those to give instead."""

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        learned, names = profile_at(folder / "P"), set(" ".join((bad, *good)).split())
        if "A" in names:
            placement_at(folder / "A")
        if "M" in names:
            model_at(folder / "M")
        source = () if "A" in names else ("--profile", learned)
        for place, options in enumerate((bad, *good)):
            yield partial(run, "reorder", *options.split(), *source, "--out", folder / f"out-{place}")


PLANNED = "--plan powerinfer2 --ordering frequency"
planned_otherwise(
    "cli/reorder.py:reorder", "leave --plan out", "a plan of an order that is there already: without",
    "M --placement A --plan powerinfer2", "M --placement A",
)  # fmt: skip
planned_otherwise(
    "systems/place.py:check_plan", "no DRAM budget", "a plan without DRAM: with some",
    f"{PLANNED} --bundle-bytes 4KiB", f"{PLANNED} --bundle-bytes 4KiB --dram-budget 50%",
)  # fmt: skip
planned_otherwise(
    "systems/place.py:check_plan", "leave {} out", "a plan, and two copies: one", f"{PLANNED} {BUDGET} --copies 2",
    f"{PLANNED} {BUDGET}",
)  # fmt: skip
planned_otherwise(
    "systems/place.py:_plan", "or name the checkpoint", "a plan of neurons of unknown size: with their size",
    f"{PLANNED} --dram-budget 50%", f"{PLANNED} --dram-budget 50% --bundle-bytes 8KiB",
    f"M {PLANNED} --dram-budget 50%",
)  # fmt: skip


@case("systems/place.py:_plan", "blocks whose neurons differ in size")
def neurons_of_two_sizes(folder: Path) -> Attempts:
    """A plan of neurons of two sizes: of one."""
    learned = read_profile(profile_at(folder / "profile"))
    placing = PlacingParams(ordering="frequency", dram_budget=0.5).resolved(has_rows=True, has_sizes=True)
    costs = ReadCosts(placing.device_profile, None, {"layers.0": 4096, "layers.1": 8192})
    for names in (["layers.0", "layers.1"], ["layers.1"]):
        yield partial(place_by_plan, learned, names, placing, costs, PlanParams(), no_track)


@case("systems/place.py:place_by_plan")
def plan_of_columns(folder: Path) -> Attempts:
    """A plan of columns: of neurons, or none."""
    trace = write_stock_trace(folder / "trace", clusters(names=("layers.0.input", "layers.0")), unit="column")
    profile(trace, folder / "columns", ProfileParams(verdict=None))
    command = ("reorder", "--bundle-bytes", "8KiB,4KiB", "--dram-budget", "50%", "--ordering", "frequency")
    columns = ("--profile", folder / "columns")
    yield partial(run, *command, *columns, "--out", folder / "a", "--plan", "powerinfer2")
    neurons = ("--profile", profile_at(folder / "neurons"), "--bundle-bytes", "4KiB")
    yield partial(run, *command, *neurons, "--out", folder / "b", "--plan", "powerinfer2")
    yield partial(run, *command, *columns, "--out", folder / "c", "--break-even-gap", 4)


@case("systems/plan.py:NeuronPlan.of")
def plan_of_other_blocks(folder: Path) -> Attempts:
    """A placement whose plan was changed: made again."""
    learned = profile_at(folder / "profile")
    command = ("reorder", "--profile", learned, *PLANNED.split(), *BUDGET.split(), "--out")
    run(*command, folder / "a")
    placement = read_placement(folder / "a")
    changed = json.dumps(json.loads(placement.metadata[METADATA_KEY]) | {"dram_neurons": -1})
    yield partial(NeuronPlan.of, "a", replace(placement, metadata=placement.metadata | {METADATA_KEY: changed}))
    run(*command, folder / "b")
    yield lambda: NeuronPlan.of("b", read_placement(folder / "b"))


@case("scoring/hot_rows.py:HotRows.of_plan")
def other_rows_are_read_ahead(folder: Path) -> Attempts:
    """Batch sizes that read other rows ahead, one after the other: one of them."""
    hot = {1: HotCounts(2, 1, 0.0, 0.0), 4: HotCounts(4, 1, 0.0, 0.0)}
    plan, layout = NeuronPlan("device", 1, {"layers.0": BlockPlan(6, 1, hot)}, {}), layout_of({"layers.0": range(6)})
    for batches in ((4, 1), (4,)):
        yield partial(HotRows.of_plan, plan, layout, batches)
