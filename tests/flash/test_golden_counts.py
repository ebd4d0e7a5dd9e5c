"""What the simulator counts is what an earlier version counted, to the last hit, request and page.

For every cache policy, planner, form of device, number of copies and admission rule, in a block that each token reaches
and in one that some do.
"""

from __future__ import annotations

import json
import random
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.admission import Admission
from ripple_place.flash.caches.registry import POLICIES
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.profile import DeviceProfile
from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.placement import NeuronPlacement
from tests.flash.builders import block_trace, linear_device, trace_of
from tests.golden_files import GOLDEN, check_golden

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ripple_place.trace.activation_trace import ActivationTrace

N_TOKENS, N_NEURONS, CAPACITY = 60, 40, 12
COLUMNS = ("n_active", "n_hits", "n_reads", "n_neurons_read", "n_requests", "n_pages")
EXTENT = BlockExtent(2500, 2560, 4096)
"""Bundles that lie across pages, a little padded."""
POLICY_NAMES = (*POLICIES, "window:4")
ADMISSIONS = ("all", "linking:2,0.5")
GAPS: dict[str, int | str | None] = {"off": 0, "auto": None, "adaptive": "adaptive", "optimal": "optimal"}


def make_trace() -> ActivationTrace:
    """Return a trace of two blocks, one of which half of the tokens reach; neurons persist and fire in clusters.

    Drawn by Python's own generator, which gives the same numbers in every version.
    """
    draw = random.Random(0).random
    blocks = {}
    for name, tokens in (("layers.0", range(N_TOKENS)), ("layers.1.experts.2", range(1, N_TOKENS, 2))):
        on = [False] * 8
        rows = []
        for _ in tokens:
            on = [cluster if draw() < 0.5 else draw() < 0.2 for cluster in on]
            rows.append([draw() < (0.8 if on[neuron % 8] else 0.05) for neuron in range(N_NEURONS)])
        blocks[name] = block_trace(np.array(rows), None if len(tokens) == N_TOKENS else list(tokens))
    return trace_of(blocks, N_TOKENS)


def make_layout(trace: ActivationTrace, n_copies: int) -> Layout:
    """Return shuffled orders that bring half of each cluster together; the second ones bring the other half."""
    draw = random.Random(1).random
    blocks = {}
    for name, block in trace.blocks.items():
        orders = [
            sorted(range(N_NEURONS), key=lambda neuron, half=half: (neuron % 8 if neuron // 20 == half else 9, draw()))
            for half in range(2)
        ]
        frequency = np.unpackbits(block.active, axis=1, bitorder="little").sum(axis=0, dtype=np.int64)
        first, second = (np.array(order, np.int32) for order in orders)
        placement = NeuronPlacement(first, frequency=frequency, order_2=second if n_copies == 2 else None)
        blocks[name] = BlockLayout(placement, EXTENT)
    return Layout("tested", blocks)


def devices() -> dict[str, DeviceProfile]:
    """Return a device of each form, and one whose file is memory-mapped; requests are of four pages at most."""
    linear = replace(linear_device(max_request_bytes=16384), overhead_us=1.5)
    plain = {
        "name": "tested", "description": "for tests", "page_bytes": 4096, "max_request_bytes": 16384,
    }  # fmt: skip
    sources = dict.fromkeys(("page_bytes", "max_request_bytes"), "remembered: made up for tests")
    table = DeviceProfile(
        **plain, form="table", size_bytes=(4096, 8192, 16384), latency_us=(2.5, 3.0, 6.0),
        sources={**sources, "latency_us": "remembered: made up for tests"},
    )  # fmt: skip
    ceiling = DeviceProfile(
        **plain, form="ceiling", max_iops=4e5, bandwidth_bytes_per_s=4096e6,
        sources={**sources, **dict.fromkeys(("max_iops", "bandwidth_bytes_per_s"), "remembered: made up for tests")},
    )  # fmt: skip
    read_ahead = replace(
        linear, read_ahead_bytes=8192, sources={**linear.sources, "read_ahead_bytes": "remembered: made up for tests"}
    )
    return {
        "table": table, "linear": linear, "ceiling": ceiling,
        "mapped": under(read_ahead, ReadConditions(access="mmap")),
    }  # fmt: skip


def cases() -> Iterator[tuple[str, str, str, int, str]]:
    """Yield policy, planner, device, copies and admission: all that go together and differ."""
    for policy, admission in product(POLICY_NAMES, ADMISSIONS):
        if policy == "none" and admission != "all":
            continue
        for form in ("table", "linear", "ceiling"):
            for planner in GAPS:
                if (planner, form) == ("optimal", "ceiling"):
                    continue  # Refused: times under a ceiling do not add up over reads.
                yield policy, planner, form, 1, admission
            yield policy, "auto", form, 2, admission
        yield policy, "auto", "mapped", 1, admission


def count() -> dict[str, dict[str, list[int]]]:
    """Return the counts of `COLUMNS` by case and block."""
    trace, known = make_trace(), devices()
    layouts = {n_copies: make_layout(trace, n_copies) for n_copies in (1, 2)}
    counts = {}
    for policy, planner, form, n_copies, admission in cases():
        params = SimulationParams(
            policy, dict.fromkeys(trace.blocks, CAPACITY), GAPS[planner], admission=Admission.parse(admission, seed=5)
        )
        result = simulate(trace, layouts[n_copies], known[form], params)
        by_block = {}
        for name, block in result.blocks.items():
            values = [getattr(block.totals, column) for column in COLUMNS[:-1]]
            by_block[name] = [*values, block.totals.bytes_read // known[form].page_bytes]
        counts[f"{policy}, {planner}, {form}, copies {n_copies}, {admission}"] = by_block
    return counts


def format_counts(counts: dict[str, dict[str, list[int]]]) -> bytes:
    """Return JSON with a line for each case, so that a diff shows which changed."""
    lines = ",\n".join(f"{json.dumps(case)}: {json.dumps(blocks)}" for case, blocks in counts.items())
    return f'{{"columns": {json.dumps(COLUMNS)}, "counts": {{\n{lines}\n}}}}\n'.encode()


def test_counts() -> None:
    """Not one differs; a change that is meant is reviewed line by line."""
    check_golden("simulator-counts.json", format_counts(count()))


def test_the_cases_tell_things_apart() -> None:
    """No policy, planner, form, number of copies or rule has the counts of another throughout: none is idle."""
    counts = json.loads((GOLDEN / "simulator-counts.json").read_bytes())["counts"]
    by_part: list[dict[str, list[str]]] = [{}, {}, {}, {}, {}]
    for case, blocks in counts.items():
        for values, part in zip(by_part, case.split(", "), strict=True):
            values.setdefault(part, []).append(json.dumps(blocks))
    for values in by_part:
        assert len({tuple(sorted(found)) for found in values.values()}) == len(values) > 1
