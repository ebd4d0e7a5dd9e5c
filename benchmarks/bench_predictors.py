"""What predictors of a model are worth: precision, size, flash time and loss by recall; flash-aware told by them.

    .venv-torch/bin/python -m benchmarks.bench_predictors --model DIR --valid FILE --test FILE --work DIR [--rank 64]
    .venv-torch/bin/python -m benchmarks.bench_predictors --speed

Predictors, orders and importance come from the validation text; the test text is opened once, at the end. Rules run
inside the model. Prices of flash-aware are not tuned: a range of them is run, and points at equal loss are compared on
the line through their logarithms. Device: the default phone.

To be reached: told by a predictor, flash-aware keeps two thirds of what it gains over exact when it knows magnitudes;
--speed: a block of 4096 neurons and 256 inputs on 16,384 tokens within 20 s on 2 cores.

Writes all points to a JSON file (--out) and prints tables. Without torch it says so and ends.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.rules_in_model import ModelText, RuleRun
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device
from ripple_place.flash.layout import Layout
from ripple_place.flash.simulator import SimulationParams
from ripple_place.graph.profile import read_importance, read_predictor
from ripple_place.placement import ModelPlacement, read_placement
from ripple_place.placing.params import PlacingParams
from ripple_place.predict.examples import split_examples
from ripple_place.predict.fit import fit_predictor
from ripple_place.predict.judging import count_predictions
from ripple_place.predict.params import PredictorParams
from ripple_place.select.registry import parse_rule
from ripple_place.select.rule import Tuning
from ripple_place.select.sight import Noise, Predictions
from ripple_place.trace.activation_trace import BlockTrace
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.tracking import no_track
from ripple_place.verdict.prediction_columns import block_cells, recall_cells
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import reorder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.select.sight import Sight

RECALLS = (0.95, 0.99, 0.999)
WANTED_KL = 0.001
SHAPE = (16384, 256, 4096)
"""Tokens, inputs and neurons of the block that is timed."""


@dataclass(frozen=True)
class Point:
    """One rule on one layout, and what it was told."""

    told: str
    rule: str
    order: str
    flash_us: float
    reads: float
    kept: float
    precision: float | None
    kl: float
    nll_rise: float
    nll_rise_se: float


def profiled(arguments: argparse.Namespace, name: str, predicts: str) -> Path:
    """Fit predictors on the validation text; return the profile, which has importance, too."""
    path = Path(arguments.work) / f"{name}.profile"
    if not path.exists():
        started, used = time.perf_counter(), time.process_time()
        capture = CaptureParams(
            (Path(arguments.valid),), WindowParams(arguments.calibration_tokens), rule_of(arguments), importance=True,
            predictor=PredictorParams(arguments.rank, predicts, RECALLS), perplexity=False, layer_by_layer=False,
            record_predicted=0.99,
        )  # fmt: skip
        profile(Path(arguments.model), path, ProfileParams(verdict=None, capture=capture))
        print(
            f"profile with predictors of {predicts}: {time.perf_counter() - started:.0f} s, "
            f"{time.process_time() - used:.0f} s of processor time, memory at most "
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB", flush=True,
        )  # fmt: skip
    return path


def rule_of(arguments: argparse.Namespace) -> ActivityRule | None:
    """Return the activity rule of the traces."""
    return None if arguments.active is None else ActivityRule.parse(arguments.active)


def order_of(arguments: argparse.Namespace, counted: Path, name: str, bundle_bytes: int) -> ModelPlacement:
    """Return greedy order by a profile."""
    path = Path(arguments.work) / f"{name}.placement"
    if not path.exists():
        reorder(None, counted, path, PlacingParams(ordering="greedy", bundle_bytes=bundle_bytes, refit=False))
    return read_placement(path)


def points_of(arguments: argparse.Namespace) -> list[Point]:
    """Run everything on the test text."""
    activity, magnitude = (profiled(arguments, name, name) for name in ("activity", "magnitude"))
    predicted = Path(arguments.work) / "on-predicted.profile"
    if not predicted.exists():
        profile(activity, predicted, ProfileParams(verdict=None, activity="predicted"))
    test = CaptureParams(
        (Path(arguments.test),), WindowParams(arguments.tokens), rule_of(arguments), layer_by_layer=False
    )
    judge(arguments, test, activity)
    judge(arguments, test, magnitude)
    model = ModelText.load(Path(arguments.model), test)
    size = next(iter(model.bundle_bytes.values()))
    layouts = {
        name: Layout.from_placement(name, order_of(arguments, counted, name, size), dict(model.bundle_bytes))
        for name, counted in (("greedy", activity), ("greedy on predicted", predicted))
    }
    measured = read_importance(activity)
    assert measured is not None
    tuning = replace(Tuning.nothing(), importance=measured.values)
    of_activity, of_magnitude = read_predictor(activity), read_predictor(magnitude)
    assert of_activity is not None
    assert of_magnitude is not None
    flash_aware = [f"flash-aware,price={price}" for price in arguments.prices]
    true = [arguments.exact, *flash_aware]
    told: list[tuple[str, Sight, Sequence[str]]] = [
        ("everything", Noise(), true),
        *((f"activity at {recall:g}", Predictions(of_activity, recall), ["exact"]) for recall in RECALLS),
        *(
            (f"|h| at {recall:g}", Predictions(of_magnitude, recall), ["exact", *flash_aware])
            for recall in (0.99, 0.999)
        ),
        *((f"|h| with noise {sigma:g}", Noise(sigma), flash_aware) for sigma in arguments.noises),
    ]
    points: list[Point] = []
    for name, sight, rules in told:
        started = time.perf_counter()
        points += run(arguments, model, layouts, tuning, name, sight, rules)
        print(f"told {name}: {time.perf_counter() - started:.0f} s", flush=True)
        (Path(arguments.work) / "points.json").write_text(
            json.dumps([vars(point) for point in points], indent=1) + "\n"
        )
    return points


def run(
    arguments: argparse.Namespace, model: ModelText, layouts: dict[str, Layout], tuning: Tuning, told: str,
    sight: Sight, rules: Sequence[str],
) -> list[Point]:  # fmt: skip
    """Run rules that are told the same, each on each layout."""
    device = under(load_device(DEFAULT_DEVICE), ReadConditions())
    device = replace(device, span_bytes=max(layout.span_bytes for layout in layouts.values()))
    runs = {}
    for rule in rules:
        for order, layout in layouts.items():
            if order != "greedy" and "flash-aware" in rule:
                continue
            capacity = {block: int(arguments.share * placed.n_neurons) for block, placed in layout.blocks.items()}
            params = SimulationParams("s3fifo" if arguments.share else "none", capacity)
            runs[json.dumps([rule, order])] = RuleRun(parse_rule(rule), layout, tuning, params)
    points = []
    for key, outcome in model.run_rules(runs, device, SimulationParams(), sight, no_track).items():
        rule, order = json.loads(key)
        flash, loss = outcome.flash.to_json(outcome.flash), outcome.loss.to_json()
        points.append(
            Point(
                told, rule, order, flash["flash_time_us_per_token"], flash["reads_per_token"], flash["kept_share"],
                flash["precision"], loss["kl"], loss["nll_rise"], loss["nll_rise_se"],
            )
        )  # fmt: skip
    return points


def judge(arguments: argparse.Namespace, test: CaptureParams, fitted: Path) -> None:
    """Print how good predictors are on the test text."""
    out = Path(arguments.work) / "judged.profile"
    capture = replace(test, predictor_from=fitted, perplexity=False)
    report = profile(Path(arguments.model), out, ProfileParams(verdict=None, capture=capture, force=True)).prediction
    assert report is not None
    print(f"\n{report.note.predicts}, {report.n_rows:,} test tokens, {report.overall.n_bytes:,} bytes")
    for head, rows in (recall_cells(report), block_cells(report)):
        for row in (head, *rows):
            print("  ".join(f"{cell:>13s}" for cell in row))
        print(flush=True)


def at_kl(points: Sequence[Point], kl: float) -> float | None:
    """Return the flash time at a loss, on the line through the points' logarithms; None outside of them."""
    best = sorted((math.log(max(point.kl, 1e-9)), math.log(point.flash_us)) for point in points)
    if len(best) < 2 or not best[0][0] <= math.log(kl) <= best[-1][0]:
        return None
    return math.exp(float(np.interp(math.log(kl), *zip(*best, strict=True))))


def report(points: Sequence[Point], exact: str) -> None:
    """Print all points, and what is kept of flash-aware's gain."""
    for point in points:
        precision = "" if point.precision is None else f"{point.precision:6.1%} of reads fire"
        print(
            f"told {point.told:18s} {point.rule:28s} {point.order:20s} {point.flash_us / 1e3:8.3f} ms "
            f"{point.reads:7.1f} reads  {point.kept:7.2%} kept {precision}  KL {point.kl:.5f}  "
            f"NLL {point.nll_rise:+.4f} +- {point.nll_rise_se:.4f}"
        )
    full = next(point for point in points if point.rule == exact and point.told == "everything")
    known = at_kl(_flash_aware(points, "everything"), WANTED_KL)
    if known is None:
        return
    print(
        f"\nat a KL of {WANTED_KL:g}: exact {full.flash_us / 1e3:.3f} ms; flash-aware that knows all {known / 1e3:.3f}"
    )
    for told in dict.fromkeys(point.told for point in points):
        took = at_kl(_flash_aware(points, told), WANTED_KL)
        if took is not None and told != "everything":
            kept = (full.flash_us - took) / (full.flash_us - known)
            print(f"told {told}: {took / 1e3:.3f} ms, which keeps {kept:.0%} of the gain")


def _flash_aware(points: Sequence[Point], told: str) -> list[Point]:
    return [point for point in points if point.told == told and point.rule.startswith("flash-aware")]


def speed(rank: int, n_threads: int) -> None:
    """Time one block of which a low-rank rule with noise decides what fires."""
    n_rows, n_inputs, n_neurons = SHAPE
    random = np.random.default_rng(0)
    x = random.standard_normal((n_rows, n_inputs)).astype(np.float32)
    rule = random.standard_normal((n_inputs, n_neurons)).astype(np.float32) / math.sqrt(n_inputs)
    product = x @ rule
    block = BlockTrace(n_neurons, np.packbits(product > 1.6, axis=1, bitorder="little"))
    fitted, held_out = split_examples(x, block, np.arange(0, n_rows, 2048), n_rows)
    for turn in range(2):
        started, used = time.perf_counter(), time.process_time()
        found = fit_predictor(fitted, held_out, PredictorParams(rank), n_threads=n_threads)
        (count,) = count_predictions(found.predictor, held_out, found.predictor.threshold[1:2])
        print(
            f"{n_neurons} neurons, {n_inputs} inputs, {n_rows} tokens, rank {rank}, turn {turn + 1}: "
            f"{time.perf_counter() - started:.1f} s, {time.process_time() - used:.1f} s of processor time; "
            f"precision {count.precision:.1%} at a recall of {count.recall:.2%}"
        )


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "valid", "test", "work"):
        parser.add_argument(f"--{name}")
    parser.add_argument("--active", help="activity rule of the traces; by default that of the model")
    parser.add_argument("--exact", default="exact", help="rule that uses all that fires")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--calibration-tokens", type=int, default=16384)
    parser.add_argument("--tokens", type=int, default=8192)
    parser.add_argument("--share", type=float, default=0.0, help="of neurons in DRAM, behind S3-FIFO")
    parser.add_argument("--prices", nargs="+", default=["1e-07", "3e-07", "1e-06", "3e-06"])
    parser.add_argument("--noises", nargs="*", type=float, default=[0.5, 1.0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--speed", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    if arguments.speed:
        speed(arguments.rank, arguments.threads)
        return
    try:
        import torch  # noqa: F401
    except ImportError:
        print("torch is not installed: nothing to measure")
        return
    if None in (arguments.model, arguments.valid, arguments.test, arguments.work):
        print("--model, --valid, --test and --work are needed: nothing measured")
        return
    Path(arguments.work).mkdir(parents=True, exist_ok=True)
    points = points_of(arguments)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps([vars(point) for point in points], indent=1) + "\n")
    report(points, arguments.exact)


if __name__ == "__main__":
    main()
