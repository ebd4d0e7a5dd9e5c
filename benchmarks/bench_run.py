"""Serve the neurons that tokens use for real: what each order is worth on this storage, and whether it was predicted.

    RIPPLE_PLACE_DATA=... python -m benchmarks.bench_run [--directory DIR] [--device FILE] [--dram 10%] [--iops N]

1. `calibrate` makes a profile of the storage under DIR, unless --device names one.
2. opt-relu and llama-reglu are written in four orders, learned on training text for this device and this DRAM.
3. The neurons of the first tokens of test text are asked of `LayoutReader`, under the same cache in each order. Orders
   take turns token by token, so that what disturbs one disturbs all; the whole is repeated, and each token's median
   over the repeats counts.
4. Printed by order: time of a token's reads measured and predicted, both as ratios to checkpoint order, and by how much
   predictions are off: of single tokens, and of stretches of 32.

--iops N (as root, with control groups of version 1) slows the storage down to N reads a second, as a phone's; it is$
then calibrated so. To reach: median error 10 %, 90th percentile 20 %. Needs a quiet machine. Linux only.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.timing import data_folder
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import load_device
from ripple_place.flash.simulation_params import SimulationParams
from ripple_place.flash.storage.calibration_params import CalibrateParams
from ripple_place.placing.params import PlacingParams
from ripple_place.runtime.layout_reader import LayoutReader, ReaderParams
from ripple_place.trace.files import read_trace
from ripple_place.units import parse_share_or_bytes
from ripple_place.workflows.calibrate import calibrate
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import reorder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ripple_place.trace.activation_trace import ActivationTrace

MODELS = ("opt-relu", "llama-reglu")
ORDERINGS = ("original", "frequency", "greedy", "flash-time")
STRETCH = 32


@contextmanager
def slowed(directory: Path, reads_per_s: int | None) -> Iterator[None]:
    """Let this process read no faster than that from the device under a directory."""
    if reads_per_s is None:
        yield
        return
    number = os.stat(directory).st_dev
    group = Path("/sys/fs/cgroup/blkio/ripple-place-bench")
    group.mkdir(exist_ok=True)
    (group / "blkio.throttle.read_iops_device").write_text(f"{os.major(number)}:{os.minor(number)} {reads_per_s}")
    (group / "cgroup.procs").write_text(str(os.getpid()))
    try:
        yield
    finally:
        (group.parent / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


def asked_slots(trace: ActivationTrace, reader: LayoutReader, n_tokens: int) -> dict[str, list[np.ndarray]]:
    """Return the slots that each of the first tokens asks for, by block."""
    asked = {}
    for name, active in trace.blocks.items():
        bits = np.unpackbits(np.asarray(active.active[:n_tokens]), axis=1, count=active.n_neurons, bitorder="little")
        in_slots = bits[:, reader.layout.blocks[name].placement.order]
        asked[name] = [np.flatnonzero(row).astype(np.int32) for row in in_slots]
    return asked


def serve(readers: dict[str, LayoutReader], asked: dict[str, dict[str, list[np.ndarray]]], n_tokens: int) -> None:
    """Serve all tokens in each order, in turns of a token."""
    for token in range(n_tokens):
        for name, reader in readers.items():
            for block, slots in asked[name].items():
                reader.serve(block, slots[token])


def show(measured: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> None:
    """Print a row for each order."""
    print(
        "order         measured   predicted  error   measured gain  predicted gain  token p50, p90    stretch p50, p90"
    )
    first = next(iter(measured))
    for name, times in measured.items():
        errors = np.abs(predicted[name] - times) / times
        stretches = [part.reshape(-1, STRETCH).sum(1) for part in (times, predicted[name])]
        of_stretches = np.abs(stretches[1] - stretches[0]) / stretches[0]
        print(
            f"{name:12s} {times.mean() / 1e3:7.3f} ms  {predicted[name].mean() / 1e3:7.3f} ms "
            f"{100 * (predicted[name].mean() / times.mean() - 1):+5.1f}% "
            f"{measured[first].mean() / times.mean():14.3f}x {predicted[first].mean() / predicted[name].mean():14.3f}x "
            f"{100 * np.median(errors):9.1f}% {100 * np.percentile(errors, 90):6.1f}% "
            f"{100 * np.median(of_stretches):10.1f}% {100 * np.percentile(of_stretches, 90):6.1f}%"
        )


def bench(model: str, data: Path, scratch: Path, device: Path, options: argparse.Namespace) -> None:
    """Write the orders of a model, serve them, and print what came of it."""
    train, test = (data / f"traces/{model}.wikitext2-{part}.trace.safetensors" for part in ("train", "test"))
    learned = scratch / f"{model}.profile"
    profile(train, learned, ProfileParams(verdict=None))
    trace, budget = read_trace(test), parse_share_or_bytes(options.dram)
    conditioned = under(load_device(str(device)), ReadConditions(queue_depth=options.depth))
    held = {name: int(block.n_neurons * float(budget)) for name, block in trace.blocks.items()}
    measured: dict[str, list[np.ndarray]] = {name: [] for name in ORDERINGS}
    predicted = {}
    for ordering in ORDERINGS:
        limit_s = options.search_s if ordering == "flash-time" else None
        placing = PlacingParams(
            ordering=ordering, device=device, dram_budget=budget, cache=options.cache, time_limit_s=limit_s
        )
        reorder(data / "models" / model, learned, scratch / f"{model}-{ordering}", placing)
    for _ in range(options.repeats):
        with ExitStack() as stack:
            readers = {}
            for ordering in ORDERINGS:
                out = scratch / f"{model}-{ordering}"
                params = ReaderParams(options.depth, check="header")
                readers[ordering] = stack.enter_context(
                    LayoutReader.open(out, conditioned, SimulationParams(options.cache, held), params)
                )
            asked = {name: asked_slots(trace, reader, options.tokens) for name, reader in readers.items()}
            serve(readers, asked, options.tokens)
            for name, reader in readers.items():
                times = reader.counters.row_times()
                measured[name].append(times.read_us)
                predicted[name] = times.predicted_us
    print(f"\n{model}, {options.cache} with {options.dram}, {options.tokens} tokens, {options.repeats} repeats")
    show({name: np.median(times, axis=0) for name, times in measured.items()}, predicted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--directory", type=Path, default=Path(), help="on the storage to measure")
    parser.add_argument("--device", type=Path, help="profile of it  [default: calibrate]")
    parser.add_argument("--depth", type=int, default=8)
    parser.add_argument("--dram", default="10%")
    parser.add_argument("--cache", default="lru")
    parser.add_argument("--tokens", type=int, default=320, help="a multiple of 32")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--search-s", type=float, default=90, help="time for the flash-time order of a model")
    parser.add_argument("--iops", type=int, help="slow the storage down to so many reads a second")
    parser.add_argument("--models", nargs="+", default=MODELS)
    options = parser.parse_args()
    data = data_folder()
    if data is None:
        return
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(dir=options.directory) as folder, slowed(options.directory, options.iops):
        scratch, device = Path(folder), options.device
        if device is None:
            device = scratch / "storage.toml"
            report = calibrate(options.directory, device, CalibrateParams(depth=options.depth))
            gaps = ", ".join(f"{size >> 10} KiB {report.device.break_even_gap(size):.2f}" for size in (1024, 4096))
            print(f"calibrated at depth {report.depth}: break-even gap {gaps}", *report.warnings, sep="\n  ")
        for model in options.models:
            bench(model, data, scratch, device, options)


if __name__ == "__main__":
    main()
