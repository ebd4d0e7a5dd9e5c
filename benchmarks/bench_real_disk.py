"""Compare the simulator with this machine's storage: predicted and measured times of real reads.

    RIPPLE_PLACE_DATA=... python -m benchmarks.bench_real_disk [--directory DIR] [--depth 8] [--realtime]

1. Reads a second of our queue and of fio (psync, a thread a place in the queue), at depths 1, 8 and 32, in turns.
   Skipped where fio is not installed.
2. `calibrate` makes a device profile of the storage under DIR.
3. 120 points: checkpoint order, order by frequency and greedy path of a trace (placed on training text, read on
   other text; without RIPPLE_PLACE_DATA a synthetic trace), at eight bundle sizes and five gaps; none in calibration.
   All points take turns within each of five repeats, after one that does not count; medians are compared.
4. The calibration again: what changed meanwhile is the storage, not the simulator.

To reach: at depth 8 or more, median relative error <= 10 %, 90th percentile <= 20 %. Needs 2 GiB of disk and a quiet
machine: where others use the processor, `--realtime` (as root) lets the reading threads run before them. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.timing import data_folder
from ripple_place.flash.storage.direct_file import DirectFile
from ripple_place.flash.storage.measurement import Measurement, measure, sample_requests
from ripple_place.flash.storage.queue_reader import QueueReader
from ripple_place.flash.storage.scratch import scratch_file
from ripple_place.flash.storage.sweep import random_offsets
from ripple_place.placing.params import PlacingParams
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
from ripple_place.trace.files import write_trace
from ripple_place.workflows.calibrate import CalibrateParams, CalibrateReport, calibrate
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import reorder
from ripple_place.workflows.simulate import SimulateParams, simulate

if TYPE_CHECKING:
    from collections.abc import Iterator

BUNDLE_BYTES = (1024, 2048, 4096, 6912, 8192, 12288, 16384, 24576)
GAPS = (0, 1, 2, 5, 10)
ORDERINGS = ("frequency", "greedy")
DATA_BYTES = 512 << 20


@contextmanager
def priority(*, realtime: bool) -> Iterator[None]:
    """Let threads that are started meanwhile run before all others, if `realtime`."""
    if realtime:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    try:
        yield
    finally:
        if realtime:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def synthetic_trace(path: Path, seed: int, n_tokens: int = 4096, n_neurons: int = 4096) -> Path:
    """Write a trace of groups of neurons that fire together, with rates that fall off; groups do not depend on seed."""
    groups = np.random.default_rng(0).permutation(n_neurons).reshape(-1, 16)
    rng = np.random.default_rng(seed)
    rates = 0.2 / np.sqrt(np.arange(1, len(groups) + 1))
    active = np.zeros((n_tokens, n_neurons), bool)
    for token in range(n_tokens):
        on = groups[rng.random(len(groups)) < rates]
        active[token, on] = rng.random(on.shape) < 0.7
    packed = np.packbits(active, axis=1, bitorder="little")
    write_trace(path, ActivationTrace({"layers.0": BlockTrace(n_neurons, packed)}, n_tokens, np.array([0])))
    return path


def traces(folder: Path | None, scratch: Path) -> tuple[Path, Path]:
    """Return a trace to place on and one to read."""
    if folder is None:
        return synthetic_trace(scratch / "train.safetensors", 1), synthetic_trace(scratch / "test.safetensors", 2)
    train, test = (folder / f"traces/opt-relu.wikitext2-{part}.trace.safetensors" for part in ("train", "test"))
    return train, test


def compare_with_fio(directory: Path, n_repeats: int) -> None:
    """Print reads a second of our queue and of fio, in turns, medians of the repeats."""
    if shutil.which("fio") is None:
        print("fio is not installed: reads a second are not compared\n")
        return
    rng = np.random.default_rng(0)
    print("random reads a second, median (least - most)        ripple-place                     fio psync   ratio")
    with tempfile.NamedTemporaryFile(dir=directory) as named:
        for _ in range(DATA_BYTES >> 23):
            named.write(rng.bytes(1 << 23))
        named.flush()
        with DirectFile.open(Path(named.name)) as file:
            for depth in (1, 8, 32):
                for size in (4096, 65536):
                    ours, theirs = [], []
                    with QueueReader(file, depth, size) as reader:
                        for repeat in range(n_repeats + 1):
                            n_reads = {1: 6000, 8: 30000, 32: 60000}[depth] * 4096 // size * (3 if size > 4096 else 1)
                            offsets = random_offsets(file, size, n_reads, rng)
                            iops = 1e6 / reader.read(offsets, np.full(n_reads, size)).steady_us
                            fio = fio_iops(named.name, size, depth)
                            if repeat:
                                ours.append(iops)
                                theirs.append(fio)
                    texts = [
                        f"{np.median(iops):9,.0f} ({min(iops):7,.0f} - {max(iops):7,.0f})" for iops in (ours, theirs)
                    ]
                    ratio = np.median(ours) / np.median(theirs)
                    print(f"  depth {depth:2d}, {size >> 10:2d} KiB  {texts[0]:>40s} {texts[1]:>32s}  {ratio:5.2f}")
    print(flush=True)


def fio_iops(path: str, size: int, depth: int) -> float:
    """Return what fio reaches in one second."""
    command = [
        "fio", "--name=reads", f"--filename={path}", f"--size={DATA_BYTES}", "--rw=randread", f"--bs={size}",
        "--direct=1", "--runtime=1", "--time_based", "--randrepeat=0", "--ioengine=psync", "--thread",
        f"--numjobs={depth}", "--group_reporting", "--output-format=json",
    ]  # fmt: skip
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(result.stdout)["jobs"][0]["read"]["iops"])


def show_calibration(report: CalibrateReport) -> None:
    """Print what the profile says."""
    table = ", ".join(
        f"{size >> 10} KiB {time_us:g}"
        for size, time_us in zip(report.device.size_bytes, report.device.latency_us, strict=True)
    )
    additivity = report.additivity
    print(f"calibration at depth {report.depth}: us by size {table}")
    print(
        f"  additivity of {additivity.measured_us.size} mixtures: R^2 {additivity.r_squared:.4f}, median error "
        f"{100 * additivity.median_error:.1f} %; break-even gap "
        + ", ".join(f"{size >> 10} KiB {report.device.break_even_gap(size):.2f}" for size in (4096, 8192, 16384))
    )
    for warning in report.warnings:
        print(f"  {warning}")
    print(flush=True)


def show_points(points: list[tuple[int, int, Measurement]]) -> None:
    """Print each point, the speedups, and the errors of all."""
    print("bundle  gap  layout       predicted     measured    error   spread  waiting for blocks")
    for bundle, gap, point in points:
        print(
            f"{bundle:6d} {gap:4d}  {Path(point.requests.layout).name:10s} {point.predicted_us / 1e3:8.2f} ms "
            f"{point.measured_us / 1e3:9.2f} ms  {100 * point.error:+6.1f}%  {100 * point.spread:6.1f}%  "
            f"{np.median(point.waiting_us) / 1e3:9.2f} ms"
        )
    errors = np.abs([point.error for *_, point in points])
    print(
        f"\n{len(points)} points: median relative error {100 * np.median(errors):.1f} %, 90th percentile "
        f"{100 * np.percentile(errors, 90):.1f} %, most {100 * errors.max():.1f} %; mean signed "
        f"{100 * np.mean([point.error for *_, point in points]):+.1f} %"
    )
    waiting = [np.median(point.waiting_us) / point.measured_us for *_, point in points]
    print(f"waiting for each block's reads takes {np.median(waiting):.2f} times as long (median)\n")
    print("bundle  gap  greedy over original: predicted   measured (least - most)")
    for at in range(0, len(points), 1 + len(ORDERINGS)):
        bundle, gap, original = points[at]
        greedy = points[at + len(ORDERINGS)][2]
        speedups = greedy.speedups(original)
        print(
            f"{bundle:6d} {gap:4d} {original.predicted_us / greedy.predicted_us:31.2f} {np.median(speedups):10.2f} "
            f"({speedups.min():.2f} - {speedups.max():.2f})"
        )
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--directory", type=Path, default=Path(), help="on the storage to measure")
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=8, help="replayed at each point")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--realtime", action="store_true", help="read at real-time priority")
    options = parser.parse_args()
    if not sys.platform.startswith("linux"):
        print("direct reads need Linux")
        return
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}, real-time priority {options.realtime}\n")
    with priority(realtime=options.realtime):
        compare_with_fio(options.directory, options.repeats)
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        train, test = traces(data_folder(), scratch)
        profile(train, scratch / "profile", ProfileParams(verdict=None))
        layouts = ["original"]
        for ordering in ORDERINGS:
            reorder(None, scratch / "profile", scratch / ordering, PlacingParams(ordering=ordering))
            layouts.append(str(scratch / ordering))
        params = CalibrateParams(scratch_bytes=DATA_BYTES, depth=options.depth, n_repeats=options.repeats)
        with priority(realtime=options.realtime):
            before = calibrate(options.directory, scratch / "before.toml", params)
        show_calibration(before)
        keys, lists = [], []
        for bundle in BUNDLE_BYTES:
            for gap in GAPS:
                simulation = SimulateParams(str(scratch / "before.toml"), bundle_bytes=bundle, gap=gap)
                report = simulate([test], layouts, simulation)
                lists += sample_requests(report.trace, report.layouts, report.device, report.params, options.tokens)
                keys += [(bundle, gap)] * len(layouts)
        with (
            priority(realtime=options.realtime),
            scratch_file(options.directory, DATA_BYTES, np.random.default_rng(1), lambda n_bytes: None) as file,
        ):
            measurements = measure(file, lists, options.depth, options.repeats)
            after = calibrate(options.directory, scratch / "after.toml", params)
        show_points([(*key, point) for key, point in zip(keys, measurements, strict=True)])
        show_calibration(after)
        drift = np.array([cell.read_us for cell in after.cells]) / [cell.read_us for cell in before.cells] - 1
        print(f"from the first calibration to the second, times changed by {100 * np.median(drift):+.1f} % (median),")
        print(f"between {100 * drift.min():+.1f} % and {100 * drift.max():+.1f} %")


if __name__ == "__main__":
    main()
