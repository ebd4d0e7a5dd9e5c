"""What selection is worth: rules tuned on one text and judged on another, inside the model, on flash and in loss.

    .venv-torch/bin/python -m benchmarks.bench_selection --model opt-relu [--lambdas 5 2 20] [--test-tokens 49152]

Models and text come from RIPPLE_PLACE_DATA. The validation text is cut in two: on the first half neurons are counted,
placed and given their importance; on the second, rules are tuned for a rise of the loss by .001 nats a token. The test
text is opened once, at the end, when everything is fixed. Reference: greedy order, exact, S3-FIFO at equal DRAM, as the
published pipeline has it. A device is additive: a read costs as much to start as lambda neurons take to read.

Writes results to a JSON file (--out) and prints a table. Without the data or torch it says so and ends.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.flash.block_tally import RowTokens
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.profile import DeviceProfile
from ripple_place.flash.layout import Layout
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.graph.profile import read_importance
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement
from ripple_place.placing.params import PlacingParams
from ripple_place.select.registry import parse_rule
from ripple_place.select.rule import Tuning
from ripple_place.select.sight import Noise
from ripple_place.select.simulate import selected_blocks
from ripple_place.tracking import no_track
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import reorder

if TYPE_CHECKING:
    from ripple_place.flash.device.conditions import ConditionedDevice
    from ripple_place.flash.results import LayoutResult

LAYERS, BLOCKS = "1-3", ("layers.1", "layers.2", "layers.3")
"""Block 0 of these models is nearly dense, and stays exact."""
MODELS = {"opt-relu": (4096, 1024), "llama-reglu": (2816, 1536)}
"""Neurons of a block, and bytes of a neuron."""
WANTED = 0.001
CALIBRATION_TOKENS = 24576
N_PROMPTS, PROMPT_TOKENS, CONTINUED_TOKENS = 50, 32, 64
EFFORT = 3
"""Of the searches: most of what 10 find, in a third of the time."""
REFERENCE, COMPENSATED = "reference: greedy, exact", "flash-time, flash-aware, compensated"
_MADE = "remembered: made for this comparison"


def device_of(model: str, break_even_gap: float) -> DeviceProfile:
    """Return a device on which a neuron takes 1 us, and starting a read as long as lambda neurons."""
    figures: dict[str, Any] = {
        "page_bytes": 512, "max_request_bytes": 2**25, "overhead_us": break_even_gap,
        "bandwidth_bytes_per_s": MODELS[model][1] * 1e6,
    }  # fmt: skip
    return DeviceProfile(
        name=f"lambda-{break_even_gap:g}", description="additive", form="linear", sources=dict.fromkeys(figures, _MADE),
        **figures,
    )  # fmt: skip


class Cell:
    """One way to serve a model: order, cache, DRAM, rule; and what was tuned for it."""

    def __init__(
        self, name: str, break_even_gap: float, order: str, cache: str, share: float, rule: str, *,
        compensate: bool = False, sensitive: bool = False,
    ) -> None:  # fmt: skip
        self.name, self.break_even_gap, self.order, self.cache, self.share = name, break_even_gap, order, cache, share
        self.rule, self.compensate = rule + (",sensitive=yes" if sensitive else ""), compensate
        self.tuning = Tuning.nothing()

    @property
    def key(self) -> str:
        """Names the cell among others."""
        return f"lambda {self.break_even_gap:g}, {self.share:.0%} DRAM, {self.name}"


def cells_of(break_even_gap: float, share: float, *, detail: str) -> list[Cell]:
    """Return the reference, and rules beside it.

    Parameters
    ----------
    break_even_gap, share : float
        The device, and the share of neurons that DRAM holds.
    detail : {"all", "some", "few"}
        ``all``: what each part of selection adds, and the same rule on each order.
    """

    def cell(name: str, order: str, cache: str = "s3fifo", rule: str = f"flash-aware={WANTED}", **more: bool) -> Cell:
        return Cell(name, break_even_gap, order, cache, share, rule, **more)

    placed = f"flash-time:{break_even_gap:g}"
    cells = [cell(REFERENCE, "greedy", rule="exact"), cell("flash-time order, exact", placed, rule="exact")]
    if detail != "few":
        cells.append(cell("greedy, fisher", "greedy", rule=f"fisher={WANTED}"))
    if detail == "all":
        cells += [
            cell("greedy, flash-aware", "greedy"),
            cell("flash-time, flash-aware", placed),
            cell("flash-time, flash-aware, compensated, sensitive", placed, compensate=True, sensitive=True),
            *(cell(f"{order}, compensated", order, compensate=True) for order in ("original", "frequency", "greedy")),
        ]
    cells.append(cell(COMPENSATED, placed, compensate=True))
    if share and detail == "all":
        cached = f"cached:{break_even_gap:g}:{share:g}"
        cells.append(cell("cache-placed, exact, greedydual", cached, "greedydual", "exact"))
        cells.append(cell("cache-placed, greedydual, compensated", cached, "greedydual", compensate=True))
    return cells


class Bench:
    """One model, its texts, and its placements, which are made once and kept in a folder."""

    def __init__(self, data: Path, model: str, work: Path) -> None:
        self.model, self.path, self.work = model, data / "models" / model, work
        text = (data / "text" / "wikitext2-valid.txt").read_text(encoding="utf-8")
        cut = text.index("\n", len(text) // 2) + 1
        work.mkdir(parents=True, exist_ok=True)
        self.calibration, self.tuning = work / "calibration.txt", work / "tuning.txt"
        self.calibration.write_text(text[:cut], encoding="utf-8")
        self.tuning.write_text(text[cut:], encoding="utf-8")
        self.test = data / "text" / "wikitext2-test.txt"
        self.profile = work / f"{model}.profile"

    def capture(self, text: Path, n_tokens: int, **more: bool) -> CaptureParams:
        """Return how the model reads a text."""
        return CaptureParams(text, WindowParams(n_tokens), layer_by_layer=False, device="cpu", **more)

    def make_profile(self) -> None:
        """Count, and measure importance, on the calibration text."""
        if not self.profile.exists():
            capture = self.capture(self.calibration, CALIBRATION_TOKENS, importance=True, sensitivity=True)
            profile(self.path, self.profile, ProfileParams(capture=capture, verdict=None))

    def placement(self, order: str) -> ModelPlacement:
        """Return ``original``, ``greedy``, ``frequency``, ``flash-time:LAMBDA`` or ``cached:LAMBDA:SHARE`` order."""
        if order == "original":
            return ModelPlacement({name: NeuronPlacement.original(MODELS[self.model][0]) for name in BLOCKS})
        out = self.work / f"{self.model}.{order.replace(':', '-')}.placement"
        if not out.exists():
            kind, _, rest = order.partition(":")
            break_even_gap, _, share = rest.partition(":")
            params = PlacingParams(
                "flash-time" if rest else kind, layers=LAYERS, bundle_bytes=MODELS[self.model][1],
                device=device_of(self.model, float(break_even_gap or 5)),
                dram_budget=float(share) if share else None, cache="greedydual" if share else None, effort=EFFORT,
            )  # fmt: skip
            reorder(None, self.profile, out, params)
        return read_placement(out)

    def layout(self, order: str) -> Layout:
        """Return where an order puts the neurons, with their frequencies."""
        frequency = {name: block.frequency for name, block in read_placement(self.work_greedy).blocks.items()}
        blocks = {name: replace(self.placement(order).blocks[name], frequency=frequency[name]) for name in BLOCKS}
        return Layout.from_placement(order, ModelPlacement(blocks), MODELS[self.model][1])

    @property
    def work_greedy(self) -> Path:
        """The placement that has the firing counts."""
        self.placement("greedy")
        return self.work / f"{self.model}.greedy.placement"

    def reader(self, cell: Cell) -> tuple[ConditionedDevice, SimulationParams]:
        """Return device and cache of a cell."""
        n_held = round(cell.share * MODELS[self.model][0])
        params = SimulationParams(cell.cache if n_held else "none", dict.fromkeys(BLOCKS, n_held) if n_held else {})
        return under(device_of(self.model, cell.break_even_gap), ReadConditions()), params

    def tune(self, cells: list[Cell], n_tokens: int) -> None:
        """Tune the rules of all cells."""
        from ripple_place.capture.rules_in_model import ModelText
        from ripple_place.capture.tune_rule import RuleTuner

        text = ModelText.load(self.path, self.capture(self.tuning, n_tokens))
        measured = read_importance(self.profile)
        assert measured is not None
        for cell in cells:
            rule = parse_rule(cell.rule)
            if not rule.changes_output:
                continue
            start_s = time.perf_counter()
            known = replace(Tuning.nothing(), importance=measured.values, sensitivity=measured.sensitivities)
            device, params = self.reader(cell)
            tuner = RuleTuner(text, device, params, self.layout(cell.order), no_track)
            cell.tuning, report = tuner.tune(rule, known, compensate=cell.compensate)
            print(
                f"tuned {self.model}: {cell.key}: KL {report['kl']:.5f}, rise {report['nll_rise']:+.5f}, "
                f"{report['flash_time_us_per_token']:.0f} us, {time.perf_counter() - start_s:.0f} s", flush=True,
            )  # fmt: skip

    def judge(self, cells: list[Cell], n_tokens: int) -> dict[str, dict[str, Any]]:
        """Open the test text, and run everything on it: cells of one device, DRAM and cache beside one exact run."""
        from ripple_place.capture.rules_in_model import ModelText, RuleRun

        capture = self.capture(self.test, n_tokens)
        text = ModelText.load(self.path, capture)
        found: dict[str, dict[str, Any]] = {}
        with text.recorded(capture, self.model, no_track) as trace:
            trace = trace.select([*BLOCKS])
            for cell in cells:
                if cell.rule == "exact":
                    device, params = self.reader(cell)
                    found[cell.key] = _flash_scores(simulate(trace, self.layout(cell.order), device, params))
        lossy = [cell for cell in cells if cell.rule != "exact"]
        for _, group in groupby(lossy, key=lambda cell: (cell.break_even_gap, cell.share, cell.cache)):
            together = list(group)
            device, params = self.reader(together[0])
            runs = {cell.key: RuleRun(parse_rule(cell.rule), self.layout(cell.order), cell.tuning) for cell in together}
            for key, outcome in text.run_rules(runs, device, params, Noise(), no_track).items():
                found[key] = _flash_scores(outcome.flash) | outcome.loss.to_json()
                print(f"judged {self.model}: {key}", flush=True)
        return found

    def continue_prompts(self, cell: Cell) -> dict[str, float]:
        """Continue prompts out of the test text greedily, exactly and by a rule; return how far they agree."""
        from ripple_place.capture.continuation import continue_greedily
        from ripple_place.capture.loss_run import Run
        from ripple_place.capture.rules_in_model import ModelText

        text = ModelText.load(self.path, self.capture(self.test, 2 * N_PROMPTS * 256))
        n_rows = N_PROMPTS * (PROMPT_TOKENS + CONTINUED_TOKENS)
        device, params = self.reader(cell)
        rows = dict.fromkeys(BLOCKS, RowTokens(n_rows, None, n_rows))
        choosers = selected_blocks(
            rows, self.layout(cell.order), device, params, parse_rule(cell.rule), cell.tuning, Noise()
        )
        compensation = {name: vector for name, vector in cell.tuning.compensation.items() if name in BLOCKS}
        run = {"rule": Run(choosers, compensation)}
        windows = [window for batch in text.scored.batches for window in batch.windows][:N_PROMPTS]
        pairs = [
            continue_greedily(
                text.scored, text.scored.text.ids[window.start : window.start + PROMPT_TOKENS], CONTINUED_TOKENS, run
            )["rule"]
            for window in windows
        ]
        n_common = [pair.n_common for pair in pairs]
        return {
            "n_prompts": len(pairs),
            "same_tokens": sum(pair.agreement for pair in pairs) / len(pairs),
            "common_prefix": sum(n_common) / len(pairs),
            "identical": sum(n == CONTINUED_TOKENS for n in n_common),
        }


def _flash_scores(flash: LayoutResult) -> dict[str, Any]:
    """Return cost and hits, and that nothing was lost; losses that are known take its place."""
    return {
        "flash_time_us_per_token": flash.totals.flash_time_us / flash.n_tokens,
        "cache_hit_ratio": flash.totals.n_hits / flash.totals.n_active,
        "kl": 0.0, "nll_rise": 0.0, "nll_rise_se": 0.0, "agreement": 1.0,
    }  # fmt: skip


def show(model: str, cells: list[Cell], found: dict[str, dict[str, Any]]) -> None:
    """Print a table."""
    print(f"\n{model}: cost relative to greedy order, exact, S3-FIFO at equal DRAM; on test text")
    for cell in cells:
        row = found[cell.key]
        reference = found[Cell(REFERENCE, cell.break_even_gap, "", "", cell.share, "exact").key]
        ratio = reference["flash_time_us_per_token"] / row["flash_time_us_per_token"]
        print(
            f"{cell.key:<75} {row['flash_time_us_per_token']:7.0f} {ratio:5.2f}x  KL {row['kl']:.5f} "
            f"rise {row['nll_rise']:+.5f} ± {row['nll_rise_se'] or 0:.5f}  same top-1 {row['agreement']:.2%}"
        )


def main() -> None:
    """Tune on validation text, judge on test text."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=MODELS, default="opt-relu")
    parser.add_argument("--lambdas", type=float, nargs="+", default=[5.0, 2.0, 20.0])
    parser.add_argument("--tune-tokens", type=int, default=8192)
    parser.add_argument("--test-tokens", type=int, default=49152)
    parser.add_argument("--work", type=Path, default=Path("bench-selection"))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    data = os.environ.get("RIPPLE_PLACE_DATA")
    if not data:
        print("RIPPLE_PLACE_DATA is not set, so that nothing is measured")
        return
    bench = Bench(Path(data), options.model, options.work)
    bench.make_profile()
    cells = []
    for break_even_gap in options.lambdas:
        cells += cells_of(break_even_gap, 0.0, detail="few" if break_even_gap == 2 else "some")
        cells += cells_of(break_even_gap, 0.1, detail="all" if break_even_gap == 5 else "some")
        if break_even_gap == 5:
            cells += cells_of(break_even_gap, 0.2, detail="few")
    bench.tune(cells, options.tune_tokens)
    found = bench.judge(cells, options.test_tokens)
    for cell in cells:
        if cell.break_even_gap == 5 and cell.name == COMPENSATED:
            agreement = bench.continue_prompts(cell)
            found[f"continuations: {cell.key}"] = agreement
            print(f"{cell.key}: {agreement}", flush=True)
    show(options.model, cells, found)
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
