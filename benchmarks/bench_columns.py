"""What selection is worth on SwiGLU models: rules of columns and of neurons on one model, in perplexity and flash time.

    .venv-torch/bin/python -m benchmarks.bench_columns --model DIR --valid FILE --test FILE [--shares 0.2 0.5]

Columns and neurons are counted, placed and given their importance on the validation text; thresholds are fitted there,
too. The test text is opened once, at the end. Rules run inside the model. A rule that looks neither at DRAM nor at
the layout runs once, and every layout and budget serves its choice; so does `dip-ca` on layouts behind one cache. What
is read to decide is charged. Device: the default phone.

Writes all points to a JSON file (--out), prints a table, and how much less flash time flash-aware takes at the
perplexity of each point of `dip-ca`. Without torch it says so and ends.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.rules_in_model import ModelText, RuleRun
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device
from ripple_place.flash.layout import Layout
from ripple_place.flash.simulator import SimulationParams
from ripple_place.graph.profile import Profile, read_profile
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement
from ripple_place.placing.params import PlacingParams
from ripple_place.select.registry import parse_rule
from ripple_place.select.rule import Tuning
from ripple_place.select.sight import Noise
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.tracking import no_track
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import reorder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ripple_place.capture.rules_in_model import RuleOutcome

ORDERS = ("original", "frequency", "greedy", "flash-time")
RULES = {
    "neuron": ("top-k={}%", "cats,keep={}%", "partial-glu={}%"),
    "column": ("teal,keep={}%", "glu-pruning={}%", "dip={}%", "chunk={}%"),
}
ACTIVE = {"neuron": "top-k=20%", "column": "dip=0.5"}
CALIBRATION_TOKENS = 4096
RUNS_AT_A_TIME = 6
"""They share a run of the exact model."""


@dataclass(frozen=True)
class Point:
    """One rule on one layout behind one cache."""

    unit: str
    rule: str
    order: str
    share: float
    cache: str
    flash_us: float
    reads: float
    hit_ratio: float
    kept: float
    perplexity: float
    kl: float
    needs: str


class Unit:
    """A model's blocks by neurons or by columns: profile, orders, thresholds."""

    def __init__(self, unit: str, arguments: argparse.Namespace) -> None:
        self.unit, self.folder = unit, Path(arguments.work)
        self.model, self.valid = Path(arguments.model), Path(arguments.valid)
        self.path = self.folder / f"{unit}.profile"
        if not self.path.exists():
            capture = self._capture(self.valid, CALIBRATION_TOKENS, rule=ActivityRule.parse(ACTIVE[unit]))
            capture = replace(capture, importance=unit == "column")
            profile(self.model, self.path, ProfileParams(verdict=None, capture=capture))
        self.profile: Profile = read_profile(self.path)
        self.orders = {order: self._order(order, arguments) for order in arguments.orders}

    def _capture(self, text: Path, n_tokens: int, rule: ActivityRule | None = None) -> CaptureParams:
        return CaptureParams((text,), WindowParams(n_tokens), rule, unit=self.unit, layer_by_layer=False)

    def _order(self, order: str, arguments: argparse.Namespace) -> ModelPlacement:
        """Return an order of all blocks, made from the profile."""
        blocks = {name: NeuronPlacement.original(block.n_neurons) for name, block in self.profile.blocks.items()}
        if order != "original":
            path = self.folder / f"{self.unit}-{order}.placement"
            if not path.exists():
                limit = arguments.search_s if order == "flash-time" else None
                placing = PlacingParams(
                    ordering=order, bundle_bytes=self._bundle_bytes(), effort=1, time_limit_s=limit, refit=False
                )
                reorder(None, self.path, path, placing)
            blocks = dict(read_placement(path).blocks)
        counted = {
            name: replace(block, frequency=self.profile.blocks[name].frequency) for name, block in blocks.items()
        }
        return ModelPlacement(counted, {} if self.unit == "neuron" else {"unit": self.unit})

    def _bundle_bytes(self) -> Any:
        from ripple_place.checkpoint.model.ffn import open_model

        blocks = open_model(self.model).of_unit(self.unit).blocks
        sizes = {("input" if name.endswith(".input") else "down"): block.bundle_bytes for name, block in blocks.items()}
        return sizes["down"] if self.unit == "neuron" else (sizes["input"], sizes["down"])

    def thresholds(self, rule: str) -> dict[str, float]:
        """Return what a fitted rule's thresholds are on the validation text."""
        activity = getattr(parse_rule(rule), "rule", None)
        if activity is None or not activity.is_fitted:
            return {}
        path = self.folder / f"{self.unit}-{activity}.thresholds.json"
        if not path.exists():
            out = self.folder / "fitted.profile"
            capture = replace(self._capture(self.valid, 1024, activity), perplexity=False)
            profile(self.model, out, ProfileParams(verdict=None, capture=capture, force=True))
            trace = read_profile(out).trace
            assert trace is not None
            path.write_text(trace.metadata["thresholds"])
        fitted: dict[str, float] = json.loads(path.read_text())
        return fitted

    def load(self, test: Path, n_tokens: int) -> ModelText:
        """Return the model, and the test text."""
        return ModelText.load(self.model, self._capture(test, n_tokens))


def runs_of(unit: Unit, model: ModelText, arguments: argparse.Namespace) -> dict[str, RuleRun]:
    """Return all runs of a unit, by the fields of their points."""
    importance = {name: block.importance for name, block in unit.profile.blocks.items() if block.importance is not None}
    known = replace(Tuning.nothing(), importance=importance)
    layouts = {
        order: Layout.from_placement(order, placement, dict(model.bundle_bytes))
        for order, placement in unit.orders.items()
    }
    keeps = arguments.keeps
    rules = [form.format(keep) for form in RULES[unit.unit] for keep in keeps]
    if unit.unit == "column":
        rules += [f"dip-ca={keep}%,gamma={gamma}" for keep in arguments.dip_keeps for gamma in arguments.gammas]
        rules += [f"flash-aware,price={price}" for price in arguments.prices]
    runs = {}
    for rule in rules:
        tuning = replace(known, thresholds=unit.thresholds(rule))
        name = parse_rule(rule).name
        for order, layout in layouts.items():
            if name in ("chunk", "flash-aware") and order not in arguments.run_orders:
                continue
            caches = arguments.flash_caches if name == "flash-aware" else arguments.caches
            for share in arguments.shares:
                for cache in caches if share else ("none",):
                    capacity = {block: int(share * placed.n_neurons) for block, placed in layout.blocks.items()}
                    params = SimulationParams(cache, capacity)
                    choice = {
                        "dip-ca": f"{rule} {share} {cache}", "chunk": f"{rule} {order}", "flash-aware": "",
                    }.get(name, rule)  # fmt: skip
                    key = json.dumps([rule, order, share, cache])
                    runs[key] = RuleRun(parse_rule(rule), layout, tuning, params, choice)
    return runs


def points_of(unit: Unit, arguments: argparse.Namespace) -> list[Point]:
    """Run all rules of a unit on the test text."""
    model = unit.load(Path(arguments.test), arguments.tokens)
    runs = runs_of(unit, model, arguments)
    device = under(load_device(DEFAULT_DEVICE), ReadConditions())
    span = max(layout.span_bytes for layout in {run.layout.name: run.layout for run in runs.values()}.values())
    device = replace(device, span_bytes=span)
    points: list[Point] = []
    choices = sorted({run.choice or key for key, run in runs.items()})
    for at in range(0, len(choices), RUNS_AT_A_TIME):
        started, now = time.perf_counter(), choices[at : at + RUNS_AT_A_TIME]
        some = {key: run for key, run in runs.items() if (run.choice or key) in now}
        outcomes = model.run_rules(some, device, SimulationParams(), Noise(), no_track)
        points += [_point(unit.unit, key, outcome) for key, outcome in outcomes.items()]
        print(f"{unit.unit} {at + len(now)}/{len(choices)}: {time.perf_counter() - started:.0f} s", flush=True)
        write(points, Path(arguments.work) / f"{unit.unit}.points.json")
    return points


def _point(unit: str, key: str, outcome: RuleOutcome) -> Point:
    rule, order, share, cache = json.loads(key)
    flash, selection = outcome.flash.to_json(outcome.flash), outcome.flash.selection
    assert selection is not None
    return Point(
        unit, rule, order, share, cache, flash["flash_time_us_per_token"], flash["reads_per_token"],
        flash["cache_hit_ratio"] or 0.0, selection.to_json()["kept_share"], math.exp(outcome.loss.nll), outcome.loss.kl,
        selection.needs,
    )  # fmt: skip


def write(points: Iterable[Point], path: Path) -> None:
    """Write points as JSON."""
    path.write_text(json.dumps([vars(point) for point in points], indent=1) + "\n")


def flash_us_at(points: list[Point], perplexity: float) -> float | None:
    """Return the flash time at a perplexity, on the line through the points' logarithms; None outside of them."""
    best = sorted((math.log(point.perplexity), math.log(point.flash_us)) for point in points)
    wanted = math.log(perplexity)
    if len(best) < 2 or not best[0][0] <= wanted <= best[-1][0]:
        return None
    return float(np.exp(np.interp(wanted, *zip(*best, strict=True))))


def report(points: list[Point]) -> None:
    """Print every point, and what flash-aware is worth at the perplexity of each point of `dip-ca`."""
    for point in sorted(points, key=lambda p: (p.share, p.rule, p.order, p.cache)):
        print(
            f"{point.share:4.0%} {point.rule:28s} {point.order:11s} {point.cache:15s} {point.flash_us / 1e3:9.3f} ms "
            f"{point.reads:8.1f} reads {point.hit_ratio:6.1%} hits {point.kept:6.1%} kept  ppl {point.perplexity:8.3f} "
            f"KL {point.kl:.4f}  {point.needs}"
        )
    for share in sorted({point.share for point in points}):
        here = [point for point in points if point.share == share]
        for order in ORDERS:
            for cache in sorted({point.cache for point in here}):
                ours = [p for p in here if p.rule.startswith("flash-aware") and p.order == order and p.cache == cache]
                for theirs in here:
                    at = flash_us_at(ours, theirs.perplexity)
                    if theirs.rule.startswith("dip-ca") and theirs.order == order and at is not None:
                        print(
                            f"{share:.0%} in DRAM, {order}: at the perplexity of {theirs.rule} "
                            f"({theirs.perplexity:.2f}) behind {theirs.cache}, flash-aware behind {cache} takes "
                            f"1/{theirs.flash_us / at:.2f} of its flash time"
                        )


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "valid", "test"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--work", required=True, help="folder for profiles, orders and points")
    parser.add_argument("--units", nargs="+", default=["neuron", "column"])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--shares", nargs="+", type=float, default=[0.2, 0.5])
    parser.add_argument("--caches", nargs="+", default=["mask-first-lfu", "pinned"])
    parser.add_argument("--keeps", nargs="+", type=int, default=[50, 40, 30])
    parser.add_argument("--prices", nargs="+", default=["1e-06", "3e-06", "1e-05", "3e-05"])
    parser.add_argument("--dip-keeps", nargs="+", type=int, default=[50, 40, 30])
    parser.add_argument("--gammas", nargs="+", default=["0.2"])
    parser.add_argument("--flash-caches", nargs="+", default=["mask-first-lfu", "pinned"], help="for flash-aware")
    parser.add_argument("--orders", nargs="+", default=list(ORDERS))
    parser.add_argument("--run-orders", nargs="+", default=list(ORDERS), help="for chunk and flash-aware")
    parser.add_argument("--search-s", type=float, default=600.0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    try:
        import torch  # noqa: F401
    except ImportError:
        print("torch is not installed: nothing to measure")
        return
    Path(arguments.work).mkdir(parents=True, exist_ok=True)
    points = [point for name in arguments.units for point in points_of(Unit(name, arguments), arguments)]
    if arguments.out is not None:
        write(points, arguments.out)
    report(points)


if __name__ == "__main__":
    main()
