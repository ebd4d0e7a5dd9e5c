"""Print how far read planners are from the optimal plan, and how fast they plan.

    RIPPLE_PLACE_DATA=... python -m benchmarks.bench_planner [--model opt-relu] [--tokens 2048] [--device NAME ...]

Flash time over that of the optimal plan (`--collapse optimal`), all blocks together, on held-out text: without
collapse, with the gap of `--collapse auto`, with that gap and what a merge saves in page rounding (a candidate for
`auto`), with the fixed gap of each block that is best on training text, and adaptive. Checkpoint order and the greedy
path, placed on training text; bundles of 1, 4 and 16 KiB. Then accesses a second on one core, planners taking turns.
"""

from __future__ import annotations

import argparse
import tempfile
from math import gcd
from pathlib import Path

import numpy as np

from benchmarks.timing import data_folder, interleaved_seconds
from ripple_place.flash.device.files import DEFAULT_DEVICE, list_devices, load_device
from ripple_place.flash.layout import Layout
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement
from ripple_place.placing.params import PlacingParams
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
from ripple_place.trace.sources import read_source
from ripple_place.units import whole_gap
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import reorder

BUNDLE_KIB = (1, 4, 16)
GAPS = (*range(13), 14, 16, 18, 20, 24, 28, 32, 40, 48)


def first_tokens(trace: ActivationTrace, n_tokens: int) -> ActivationTrace:
    """Return the first tokens of a trace without routed blocks."""
    n_tokens = min(n_tokens, trace.n_tokens)
    blocks = {name: BlockTrace(block.n_neurons, block.active[:n_tokens]) for name, block in trace.blocks.items()}
    return ActivationTrace(blocks, n_tokens, np.array([0]))


def best_gaps(trace: ActivationTrace, layout: Layout, device: object) -> dict[str, int]:
    """Return the fixed gap of each block with the least flash time."""
    times = {
        gap: {
            name: block.totals.flash_time_us
            for name, block in simulate(trace, layout, device, SimulationParams(gap=gap)).blocks.items()
        }
        for gap in GAPS
    }
    return {name: min(GAPS, key=lambda gap: times[gap][name]) for name in trace.blocks}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="opt-relu")
    parser.add_argument("--tokens", type=int, default=2048)
    parser.add_argument("--device", action="append", choices=list_devices())
    options = parser.parse_args()
    if (folder := data_folder()) is None:
        return
    paths = {part: folder / f"traces/{options.model}.wikitext2-{part}.trace.safetensors" for part in ("train", "test")}
    train, test = (first_tokens(read_source(path), options.tokens) for path in paths.values())
    original = ModelPlacement({name: NeuronPlacement.original(block.n_neurons) for name, block in test.blocks.items()})
    with tempfile.TemporaryDirectory() as scratch:
        profile(paths["train"], Path(scratch) / "profile", ProfileParams(verdict=None))
        reorder(None, Path(scratch) / "profile", Path(scratch) / "greedy", PlacingParams(ordering="greedy"))
        placements = {"original": original, "greedy": read_placement(Path(scratch) / "greedy")}
    print(f"{'device':28s} {'KiB':>3s} {'order':9s} {'off':>7s} {'auto':>12s} {'+rounding':>12s} {'best on train':>14s}"
          f" {'adaptive':>9s}   flash time over optimal")  # fmt: skip
    for name in options.device or [DEFAULT_DEVICE, "ufs4-oneplus12-powerinfer2", "m1-max", "desktop-nvme"]:
        device = load_device(name)
        for kib in BUNDLE_KIB:
            bundle_bytes = 1024 * kib
            auto = device.gap(bundle_bytes)
            rounding = 1 - gcd(bundle_bytes, device.page_bytes) / device.page_bytes
            rounded = whole_gap(device.break_even_gap(bundle_bytes) + rounding * device.page_bytes / bundle_bytes)
            for order, placement in placements.items():
                layout = Layout.from_placement(order, placement, bundle_bytes)
                best = best_gaps(train, layout, device)
                gaps = {"off": 0, "auto": auto, "rounded": rounded, "best": best, "adaptive": "adaptive"}
                least_us = simulate(test, layout, device, SimulationParams(gap="optimal")).totals.flash_time_us
                over = {
                    key: simulate(test, layout, device, SimulationParams(gap=gap)).totals.flash_time_us / least_us
                    for key, gap in gaps.items()
                }
                print(
                    f"{name:28s} {kib:3d} {order:9s} {over['off']:7.3f} {over['auto']:7.3f} g{auto:<3d} "
                    f"{over['rounded']:7.3f} g{rounded:<3d} {over['best']:7.3f} g{min(best.values())}-"
                    f"{max(best.values()):<3d} {over['adaptive']:9.3f}"
                )
    layout, device = Layout.from_placement("greedy", placements["greedy"], 4096), load_device(DEFAULT_DEVICE)
    n_active = simulate(test, layout, device).totals.n_active
    seconds = interleaved_seconds(
        {
            str(gap): lambda gap=gap: simulate(test, layout, device, SimulationParams(gap=gap))
            for gap in (None, "adaptive", "optimal")
        },
        5,
    )
    for gap, taken in seconds.items():
        print(f"{'auto' if gap == 'None' else gap:9s} {n_active / taken / 1e6:6.1f} M accesses/s")


if __name__ == "__main__":
    main()
