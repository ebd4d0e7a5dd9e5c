"""Which token a picture shows, and what it shows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.flash.token_reads import busiest_block, median_row, reads_of_row
from tests.flash.builders import block_trace, layout_of, trace_of

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.trace.activation_trace import ActivationTrace

NO_GAP = SimulationParams(gap=0)


def test_median_row_of_known_counts(device: DeviceProfile) -> None:
    """Rows of 0, 3, 1, 1 and 2 reads: the median is 1, and the first row that has it is shown."""
    active = np.array([[0, 0, 0, 0, 0], [1, 0, 1, 0, 1], [1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 0, 0, 1, 1]])
    layout, expert = layout_of({"layers.0": [0, 1, 2, 3, 4]}), "layers.0.experts.1"
    assert median_row("layers.0", trace_of({"layers.0": block_trace(active)}, 5), layout, device, NO_GAP) == 2
    layout = layout_of({expert: [0, 1, 2, 3, 4]})
    assert median_row(expert, trace_of({expert: block_trace(active[:0], [])}, 5), layout, device, NO_GAP) == 0


def test_rows_add_up_to_the_simulator_s_reads(device: DeviceProfile) -> None:
    """What pictures plan row by row, with a cache, is what the simulator counted."""
    rng = np.random.default_rng(3)
    block = block_trace(rng.random((9, 40)) < 0.4)
    trace = trace_of({"layers.0": block}, 9)
    layout = layout_of({"layers.0": rng.permutation(40).tolist()})
    params = SimulationParams(cache="lru", capacity_neurons={"layers.0": 12}, gap=1)
    rows = [reads_of_row("layers.0", trace, layout, device, params, row) for row in range(9)]
    totals = simulate(trace, layout, device, params).totals
    assert sum(row.first_slot.size for row in rows) == totals.n_reads
    assert sum(int(row.is_hit.sum()) for row in rows) == totals.n_hits
    assert sum(row.slots.size for row in rows) == totals.n_active
    shown = median_row("layers.0", trace, layout, device, params)
    counts = sorted(row.first_slot.size for row in rows)
    assert rows[shown].first_slot.size == counts[4]


def test_unknown_row(four_neurons: ActivationTrace, device: DeviceProfile) -> None:
    """A row past the end is an error, no empty picture."""
    layout = layout_of({"layers.0": [0, 1, 2, 3]})
    with pytest.raises(IndexError, match=r"layers\.0 has no row 3"):
        reads_of_row("layers.0", four_neurons, layout, device, NO_GAP, 3)


def test_busiest_block(device: DeviceProfile) -> None:
    """The block with most reads is shown; of equals, the first in model order."""
    rare, often = np.array([[1, 0, 0]]), np.array([[1, 0, 1]])
    trace = trace_of({f"layers.{layer}": block_trace(rows) for layer, rows in ((2, rare), (9, often), (10, often))}, 1)
    layout = layout_of({name: [0, 1, 2] for name in trace.blocks})
    assert busiest_block(simulate(trace, layout, device, NO_GAP)) == "layers.9"
