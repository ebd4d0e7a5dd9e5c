"""Whether neurons should be ordered by what a rule uses, or misses, rather than by what fires.

    .venv/bin/python -m benchmarks.bench_selected_order PROFILE HELD_OUT --bundle-bytes 1024 --price 4e-6

PROFILE is a profile of a model with magnitudes and importance, HELD_OUT a trace of other text with magnitudes. The
flash-time order of what fires serves the profile's trace by ``flash-aware``; then neurons are ordered once more by what
it used, and by what of that was not in DRAM. All orders are compared on the held-out trace at equal predicted loss.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bench_selection import BLOCKS, LAYERS
from ripple_place.flash.block_tally import RowTokens
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.profile import DeviceProfile
from ripple_place.flash.layout import Layout
from ripple_place.flash.simulator import SimulationParams
from ripple_place.graph.profile import read_importance, read_profile
from ripple_place.placement import ModelPlacement, read_placement
from ripple_place.placing.params import PlacingParams
from ripple_place.select.registry import parse_rule
from ripple_place.select.rule import Tuning
from ripple_place.select.sight import Noise
from ripple_place.select.simulate import _chunks, selected_blocks, simulate_selected
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
from ripple_place.trace.files import read_trace, write_trace
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import reorder

if TYPE_CHECKING:
    from ripple_place.flash.replay import Chunk

PRICES = (0.5, 1.0, 2.0)


class Recorded:
    """Stands before a tally and keeps which neurons each row used, and which of them it read."""

    def __init__(self, block: Any, order: Any, shape: tuple[int, int]) -> None:
        self._tally, self._order = block.tally, order
        self.used, self.read = np.zeros(shape, bool), np.zeros(shape, bool)
        block.tally = self

    def add(self, chunk: Chunk) -> None:
        """Keep a chunk, and charge it."""
        row = chunk.first_row + np.repeat(np.arange(chunk.n_rows), np.diff(chunk.row_starts))
        neurons, missed = self._order[chunk.slots], chunk.is_hit == 0
        self.used[row, neurons] = True
        self.read[row[missed], neurons[missed]] = True
        self._tally.add(chunk)


def main() -> None:
    """Order, order again, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("profile", type=Path)
    parser.add_argument("held_out", type=Path)
    parser.add_argument("--placement", type=Path, required=True, help="Flash-time order of what fires.")
    parser.add_argument("--bundle-bytes", type=int, required=True)
    parser.add_argument("--break-even-gap", type=float, default=5.0)
    parser.add_argument("--price", type=float, default=4e-6)
    parser.add_argument("--share", type=float, default=0.1)
    parser.add_argument("--effort", type=int, default=3)
    options = parser.parse_args()
    learned = read_profile(options.profile)
    trace, held_out = learned.trace, read_trace(options.held_out)
    measured = read_importance(options.profile)
    assert trace is not None
    assert measured is not None
    tuning = replace(Tuning.nothing(), importance=measured.values)
    trace, held_out = trace.select([*BLOCKS]), held_out.select([*BLOCKS])
    figures = {
        "page_bytes": 512, "max_request_bytes": 2**25, "overhead_us": options.break_even_gap,
        "bandwidth_bytes_per_s": options.bundle_bytes * 1e6,
    }  # fmt: skip
    profile_of_device = DeviceProfile(
        name="additive", description="additive", form="linear",
        sources=dict.fromkeys(figures, "remembered: made for this comparison"), **figures,
    )  # fmt: skip
    device = under(profile_of_device, ReadConditions())
    frequency = {name: block.frequency for name, block in learned.blocks.items()}

    def layout(placement: ModelPlacement) -> Layout:
        blocks = {name: replace(placement.blocks[name], frequency=frequency[name]) for name in BLOCKS}
        return Layout.from_placement("order", ModelPlacement(blocks), options.bundle_bytes)

    placements = {"what fires": layout(read_placement(options.placement))}
    for share in (0.0, options.share):
        held = {name: int(share * learned.blocks[name].n_neurons) for name in BLOCKS}
        params = SimulationParams("s3fifo" if share else "none", held if share else {})
        rule = parse_rule(f"flash-aware,price={options.price}")
        rows = {name: RowTokens(trace.n_tokens, None, trace.n_tokens) for name in BLOCKS}
        blocks = selected_blocks(rows, placements["what fires"], device, params, rule, tuning, Noise())
        kept: dict[str, dict[str, BlockTrace]] = {"used": {}, "read": {}}
        for name, block in blocks.items():
            recorded = Recorded(
                block, placements["what fires"].blocks[name].placement.order,
                (trace.n_tokens, trace.blocks[name].n_neurons),
            )  # fmt: skip
            for _, active in _chunks(trace.blocks[name], frozenset(), with_values=True):
                block.serve(active)
            for what, bits in (("used", recorded.used), ("read", recorded.read)):
                packed = np.packbits(bits, axis=1, bitorder="little")
                kept[what][name] = BlockTrace(bits.shape[1], packed)
        for what in ("used", "read") if share else ("used",):
            with tempfile.TemporaryDirectory() as folder:
                work = Path(folder)
                write_trace(work / "trace", ActivationTrace(kept[what], trace.n_tokens, trace.segment_starts, None, {}))
                profile(work / "trace", work / "profile", ProfileParams(verdict=None))
                placing = PlacingParams(
                    "flash-time", layers=LAYERS, bundle_bytes=options.bundle_bytes, device=profile_of_device,
                    effort=options.effort,
                )  # fmt: skip
                reorder(None, work / "profile", work / "placement", placing)
                placements[f"what is {what}"] = layout(read_placement(work / "placement"))
        for name, placed in placements.items():
            points = []
            for factor in PRICES:
                priced = parse_rule(f"flash-aware,price={options.price * factor}")
                result = simulate_selected(held_out, placed, device, params, priced, tuning)
                assert result.selection is not None
                points.append(
                    (result.selection.to_json()["predicted_loss"], result.totals.flash_time_us / result.n_tokens)
                )
            wanted = 0.0005
            losses, costs = zip(*points, strict=True)
            cost = float(np.exp(np.interp(np.log(wanted), np.log(losses), np.log(costs))))
            print(f"DRAM {share:.0%}, ordered by {name}: {cost:.1f} us a token at a predicted loss of {wanted} nats")


if __name__ == "__main__":
    main()
