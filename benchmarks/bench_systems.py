"""All systems at one DRAM budget, on real traces and models; and ours at the loss of each that drops something.

    .venv/bin/python -m benchmarks.bench_systems --work DIR traces [--names opt-relu llama-reglu decimer]
    .venv-torch/bin/python -m benchmarks.bench_systems --work DIR model --model DIR --valid FILE --test FILE

`traces`: orders are made on training text (or other molecules) and judged on test text; systems that lose nothing.
`model`: rules run inside a SwiGLU model; columns are counted and weighed on validation text, prices of ours tuned
there. Beside its one configuration, ours runs at fixed prices, so that its flash time at the loss of each other system
can be read off the line between them. Finds the data through RIPPLE_PLACE_DATA. Flash time is simulated: a busy machine
changes nothing. Writes a JSON file for each run into --work, which a later run does not repeat.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from pathlib import Path
from typing import Any

import numpy as np

from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.system_params import SystemParams
from ripple_place.scoring.systems import score_systems
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams

SHARES = (0.05, 0.1, 0.2, 0.5)
LOSSLESS = ("llama.cpp", "llm-in-a-flash", "neuralink-s", "neuralink", "powerinfer2", "ours")
DISPUTE = ("powerinfer2,gate_first=no,collapse=auto", "powerinfer2,gate_first=no,collapse=auto,ordering=greedy")
"""Whether co-activation is worth anything among cold neurons, once the hot ones are resident."""
LOSSY = ("llama.cpp", "dip", "dip-ca", "neuron-chunking", "ours")
TRACES = {
    "opt-relu": ("opt-relu.wikitext2-train", "opt-relu.wikitext2-test", 4096),
    "llama-reglu": ("llama-reglu.wikitext2-train", "llama-reglu.wikitext2-test", 6144),
    "decimer": ("decimer.train", "decimer.test", 4096),
}
"""Training and test trace, and bytes of a neuron: of a model wide enough to need flash, three parts with a gate."""


def run_traces(arguments: argparse.Namespace) -> None:
    """Compare systems that lose nothing."""
    folder = Path(os.environ["RIPPLE_PLACE_DATA"]) / "traces"
    for name in arguments.names:
        train, test, bundle_bytes = TRACES[name]
        learned = arguments.work / f"{name}.profile"
        if not learned.exists():
            profile(folder / f"{train}.trace.safetensors", learned, ProfileParams(verdict=None))
        for share in arguments.shares:
            simulate = SimulateParams(dram_budget=share, bundle_bytes=bundle_bytes)
            params = SystemParams((*LOSSLESS, *DISPUTE), simulate, (learned,), effort=arguments.effort)
            rows = _scored([folder / f"{test}.trace.safetensors"], params, arguments.work / f"{name}-{share:g}.json")
            _print(f"{name}, {share:.0%} in DRAM", rows)


def run_model(arguments: argparse.Namespace) -> None:
    """Compare systems that drop something, inside a model."""
    learned = arguments.work / "columns.profile"
    valid = _text(arguments.valid, arguments.tune_tokens)
    if not learned.exists():
        capture = CaptureParams(
            (arguments.valid,), WindowParams(arguments.tokens), ActivityRule.parse("dip=0.5"), unit="column",
            importance=True, layer_by_layer=False,
        )  # fmt: skip
        profile(arguments.model, learned, ProfileParams(verdict=None, capture=capture))
    systems = tuple(name for name in LOSSY if name != "ours" or not arguments.untuned)
    systems += tuple(f"ours,uses=flash-aware;price={price}" for price in arguments.prices)
    for share in arguments.shares:
        simulate = SimulateParams(dram_budget=share, capture=_text(arguments.test, arguments.tokens))
        params = SystemParams(systems, simulate, (learned,), valid)
        rows = _scored([arguments.model], params, arguments.work / f"{arguments.model.name}-{share:g}.json")
        _print(f"{arguments.model.name}, {share:.0%} in DRAM", rows)
        _at_equal_loss(rows)


def _text(path: Path, n_tokens: int) -> CaptureParams:
    return CaptureParams((path,), WindowParams(n_tokens), layer_by_layer=False)


def _scored(sources: list[Path], params: SystemParams, out: Path) -> list[dict[str, Any]]:
    """Return the rows of a comparison, from its file where it was made before."""
    if not out.exists():
        started = time.perf_counter()
        document = score_systems(sources, params).to_json()
        for row in document["layouts"]:
            del row["blocks"]
        out.write_text(json.dumps(document, indent=1) + "\n")
        print(f"{out}: {time.perf_counter() - started:.0f} s", flush=True)
    rows: list[dict[str, Any]] = json.loads(out.read_text())["layouts"]
    return rows


def _print(title: str, rows: list[dict[str, Any]]) -> None:
    """Print a Markdown table."""
    is_lossy = any(row.get("perplexity") for row in rows)
    loss = " perplexity | KL |" if is_lossy else ""
    print(f"\n{title}\n\n| system | flash time | p99 | hits | reads | MiB | tokens/s |{loss} must know |")
    print(f"|---|---|---|---|---|---|---|{'---|---|' if is_lossy else ''}---|")
    for row in rows:
        cells = [
            row["system"], f"{row['flash_time_us_per_token'] / 1e3:.2f} ms",
            f"{row['flash_time_us_percentiles']['99'] / 1e3:.1f} ms", f"{row['cache_hit_ratio'] or 0:.1%}",
            f"{row['reads_per_token']:,.0f}", f"{row['bytes_read_per_token'] / 2**20:.2f}",
            "-" if row["tokens_per_s"] is None else f"{row['tokens_per_s']:.1f}",
        ]  # fmt: skip
        if is_lossy:
            cells += [f"{row[key]:.4g}" if row.get(key) else "-" for key in ("perplexity", "kl")]
        print(f"| {' | '.join([*cells, row['knows']])} |")


def _at_equal_loss(rows: list[dict[str, Any]]) -> None:
    """Print what ours takes at the perplexity of each other system, on the line through its points' logarithms."""
    ours = sorted(
        (math.log(row["perplexity"]), math.log(row["flash_time_us_per_token"]))
        for row in rows if row["system"].startswith("ours") and row["flash_time_us_per_token"]
    )  # fmt: skip
    for row in rows:
        if not row.get("perplexity") or row["system"].startswith("ours"):
            continue
        wanted = math.log(row["perplexity"])
        if not ours[0][0] <= wanted <= ours[-1][0]:
            print(f"{row['system']}: perplexity {row['perplexity']:.2f} lies outside of ours")
            continue
        us = math.exp(float(np.interp(wanted, *zip(*ours, strict=True))))
        print(
            f"at the perplexity of {row['system']} ({row['perplexity']:.2f}) ours takes {us / 1e3:.2f} ms, "
            f"1/{row['flash_time_us_per_token'] / us:.2f} of its flash time"
        )


def _shares(text: str) -> list[float]:
    return [float(share) for share in text.split(",")]


def main() -> None:
    """Run one of the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for profiles and results")
    parser.add_argument("--shares", type=_shares, default=list(SHARES), help="such as 0.05,0.5")
    commands = parser.add_subparsers(required=True)
    traces = commands.add_parser("traces")
    traces.add_argument("--names", nargs="+", default=list(TRACES), choices=list(TRACES))
    traces.add_argument("--effort", type=int, default=1)
    traces.set_defaults(run=run_traces)
    model = commands.add_parser("model")
    for name in ("model", "valid", "test"):
        model.add_argument(f"--{name}", type=Path, required=True)
    model.add_argument("--tokens", type=int, default=4096)
    model.add_argument("--tune-tokens", type=int, default=4096)
    model.add_argument("--untuned", action="store_true", help="leave out ours as it is tuned: a dozen runs less")
    model.add_argument("--prices", nargs="+", default=["1e-06", "3e-06", "6e-06"])
    model.set_defaults(run=run_model)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if "RIPPLE_PLACE_DATA" not in os.environ and arguments.run is run_traces:
        print("RIPPLE_PLACE_DATA is not set: nothing to measure")
        return
    arguments.run(arguments)


if __name__ == "__main__":
    main()
