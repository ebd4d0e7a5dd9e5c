"""Measure the C reader (examples/c) against the Python runtime, on the same requests in turns.

For each case: wall time a row, and what of it is overhead, that is all but the time from the first read's start to the
last one's end: asking the cache, planning, waking threads, copying rows. The share that copies is the same for both,
since each writes every row's bytes once; ``copy`` is numpy's time for as many bytes. Counts and reads are compared on
the way. Rows are of clustered slots, 5 % of a block, seeded. Storage is that of ``--folder``; both use O_DIRECT where
it has that, and both begin each turn with an empty cache. ``--profile`` shows where the Python runtime spends its time.

Needs ``cc`` and ``make``. Run: ``python -m benchmarks.bench_c_reader [--rows 300] [--repeats 7] [--folder DIR]``.
To reach: no more overhead than Python's in any case.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import subprocess
import time
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.rewrite import execute
from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device
from ripple_place.flash.simulation_params import SimulationParams
from ripple_place.placement import ModelPlacement, NeuronPlacement
from ripple_place.runtime.layout_reader import LayoutReader, ReaderParams

N_NEURONS, HIDDEN, BLOCK, DEPTH = 8192, 1024, "layers.0", 8
SOURCE = Path(__file__).parents[1] / "examples" / "c"

Requests = list[np.ndarray]


@dataclass(frozen=True)
class Case:
    """A layout, and how it is read.

    Attributes
    ----------
    name : str
    gated : bool
    options : dict
        Of `plan_rewrite`.
    copies : int
    capacity : int
        Neurons in DRAM.
    gap : int
    """

    name: str
    gated: bool = False
    options: dict[str, Any] | None = None
    copies: int = 1
    capacity: int = N_NEURONS // 10
    gap: int = 4


CASES = (
    Case("no cache, no collapse", capacity=0, gap=0),
    Case("10 % in DRAM"),
    Case("all in DRAM, once read", capacity=N_NEURONS),
    Case("gated, gates apart", gated=True, options={"gates": "apart"}),
    Case("two copies", copies=2),
)


@dataclass
class Turns:
    """What the turns of one reader took, in microseconds a row."""

    wall_us: list[float]
    overhead_us: list[float]


def write_output(folder: Path, case: Case) -> Path:
    """Write a model of one FFN and its bundled file in a random order."""
    rng = np.random.default_rng(0)
    module, roles = ("model.layers.0.mlp.", ("gate", "up", "down")) if case.gated else ("model.decoder.layers.0.", ())
    names = [f"{role}_proj.weight" for role in roles] or ["fc1.weight", "fc2.weight"]
    tensors = {module + name: rng.standard_normal((N_NEURONS, HIDDEN)).astype(np.float16) for name in names}
    tensors[module + names[-1]] = np.ascontiguousarray(tensors[module + names[-1]].T)
    kind, width = ("llama", "intermediate_size") if case.gated else ("opt", "ffn_dim")
    source = folder / "source"
    source.mkdir(parents=True)
    save_file(tensors, source / "model.safetensors", metadata={"format": "pt"})
    (source / "config.json").write_text(f'{{"model_type": "{kind}", "{width}": {N_NEURONS}, "num_hidden_layers": 1}}')
    model = describe_ffn(Checkpoint.open(source))
    orders = [rng.permutation(N_NEURONS).astype(np.int32) for _ in range(case.copies)]
    placement = NeuronPlacement(orders[0], order_2=orders[1] if case.copies == 2 else None)
    execute(plan_rewrite(model, ModelPlacement({BLOCK: placement}), folder / "out", **(case.options or {})))
    return folder / "out"


def draw_requests(n_rows: int) -> Requests:
    """Return rows of slots: a few clusters that stay from row to row, and single slots."""
    rng, rows = np.random.default_rng(1), []
    clusters = rng.integers(0, N_NEURONS - 16, 40)
    for _ in range(n_rows):
        is_wanted = rng.random(N_NEURONS) < 0.02
        moved = rng.random(clusters.size) < 0.5
        clusters[moved] = rng.integers(0, N_NEURONS - 16, int(moved.sum()))
        for first in clusters:
            is_wanted[first : first + 8] |= rng.random(8) < 0.7
        rows.append(np.flatnonzero(is_wanted).astype(np.int32))
    return rows


def run_c(program: Path, line: list[str]) -> tuple[dict[str, int], float, float]:
    """Run the C reader; return counts, and microseconds in all and while storage read."""
    done = subprocess.run([program, *line], capture_output=True, text=True, check=True)
    keys, values = (text.split("\t") for text in done.stdout.splitlines()[:2])
    found = dict(zip(keys, values, strict=True))
    counts = {key: int(found[key]) for key in ("hits", "reads", "requests", "bytes")}
    return counts, float(found["serve_us"]), float(found["read_us"])


def run_python(reader: LayoutReader, requests: Requests, rows: np.ndarray) -> tuple[dict[str, int], float, float]:
    """Serve all rows with the Python runtime; return the same."""
    reader.reset()
    counters = reader.counters.blocks[BLOCK]
    before, n_before = replace(counters), len(counters.read_us)
    start_ns = time.perf_counter_ns()
    for slots in requests:
        reader.serve(BLOCK, slots, rows=rows[: slots.size])
    wall_us = (time.perf_counter_ns() - start_ns) / 1e3
    counts = {
        key: getattr(counters, name) - getattr(before, name)
        for key, name in (("hits", "n_hits"), ("reads", "n_reads"), ("requests", "n_requests"), ("bytes", "bytes_read"))
    }
    return counts, wall_us, sum(counters.read_us[n_before:])


def measure(case: Case, folder: Path, requests: Requests, n_repeats: int, is_profiled: bool) -> None:
    """Print a line of the table."""
    out = write_output(folder, case)
    device = load_device(DEFAULT_DEVICE)
    params = SimulationParams("lru" if case.capacity else "none", {BLOCK: case.capacity}, gap=case.gap)
    (folder / "requests").write_text("".join(f"{BLOCK} {' '.join(map(str, row.tolist()))}\n" for row in requests))
    turns = {name: Turns([], []) for name in ("C", "Python")}
    with LayoutReader.open(out, device, params, ReaderParams(depth=DEPTH, check="header")) as reader:
        bundle_bytes = reader.row_bytes(BLOCK)
        line = [str(out / "ripple_place/bundled.safetensors"), str(folder / "requests"), "--gap", str(case.gap)]
        line += ["--capacity", str(case.capacity), "--depth", str(DEPTH), "--page", str(device.page_bytes)]
        line += ["--max-request", str(device.max_request_bytes), "--lambda", repr(device.break_even_gap(bundle_bytes))]
        rows = np.zeros((max(row.size for row in requests), bundle_bytes), np.uint8)
        for repeat in range(n_repeats + 1):
            results = {
                "C": run_c(folder.parent / "reader", line),
                "Python": run_python(reader, requests, rows),
            }
            assert results["C"][0] == results["Python"][0], "the readers do not agree"
            for name, (_, wall_us, read_us) in results.items():
                if repeat:
                    turns[name].wall_us.append(wall_us / len(requests))
                    turns[name].overhead_us.append((wall_us - read_us) / len(requests))
        counts = results["C"][0]
        copies = rows.copy()
        start_ns = time.perf_counter_ns()
        for slots in requests:
            copies[: slots.size] = rows[: slots.size]
        copy_us = (time.perf_counter_ns() - start_ns) / 1e3 / len(requests)
        n_asked = sum(row.size for row in requests)
        medians = [statistics.median(each) for turn in turns.values() for each in (turn.wall_us, turn.overhead_us)]
        print(
            f"{case.name:24s}{n_asked / len(requests):7.0f}{counts['hits'] / n_asked:7.0%}"
            f"{counts['reads'] / len(requests):8.1f}{counts['bytes'] / len(requests) / 1024:9.0f}"
            + "".join(f"{median:10.0f}" for median in (medians[0], medians[2], medians[1], medians[3]))
            + f"{copy_us:8.0f}"
            + ("" if reader.is_direct else "   through the page cache")
        )
        if is_profiled:
            with cProfile.Profile() as profile:
                run_python(reader, requests, rows)
            pstats.Stats(profile).sort_stats("tottime").print_stats(12)


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=None)
    parser.add_argument("--profile", action="store_true")
    arguments = parser.parse_args()
    requests = draw_requests(arguments.rows)
    with TemporaryDirectory(dir=arguments.folder) as text:
        folder = Path(text)
        subprocess.run(["make", "-s", "-C", SOURCE, f"BUILD={folder}", "all"], check=True)
        print(f"{arguments.rows} rows of a block of {N_NEURONS} neurons, depth {DEPTH}; microseconds a row, medians")
        print(f"{'':24s}{'':7s}{'':7s}{'':8s}{'':9s}{'wall time':>20s}{'overhead':>20s}")
        print(
            f"{'':24s}{'asked':>7s}{'hits':>7s}{'reads':>8s}{'KiB':>9s}"
            + 2 * f"{'C':>10s}{'Python':>10s}"
            + f"{'copy':>8s}"
        )
        for number, case in enumerate(CASES):
            measure(case, folder / str(number), requests, arguments.repeats, arguments.profile)


if __name__ == "__main__":
    main()
