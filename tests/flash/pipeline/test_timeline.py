"""The schedule of one layer by hand, in the setting of PowerInfer-2's Figure 6: four threads, eight clusters."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.flash.block_rows import BlockRows
from ripple_place.flash.device.files import load_device
from ripple_place.flash.pipeline.layer import LayerWork
from ripple_place.flash.pipeline.params import BARRIERS, PipelineParams
from ripple_place.flash.pipeline.timeline import IO, NPU, LayerTimeline, layer_timeline

# A bundle of 30,000 bytes takes a thread 30 us: 10 for its gate and 20 for up and down.
FIGURE_6 = PipelineParams(thread_bytes_per_s=1e9, predict_us=8.0, npu_us=0.0)
BUNDLE_BYTES = 30_000


def served(n_hits: int, n_misses: int, flash_us: float, gate_us: float | None = None) -> BlockRows:
    """Return the rows of one token."""
    counts = (np.array([n], np.int32) for n in (n_hits, n_misses))
    return BlockRows(np.array([flash_us]), *counts, None if gate_us is None else np.array([gate_us]))


def timeline_of(params: PipelineParams, rows: BlockRows | None = None) -> LayerTimeline:
    """Return the timeline of eight neurons, four of them in DRAM; each read takes 5 us for the gate and 10 more."""
    return layer_timeline([(rows or served(4, 4, 60.0), BUNDLE_BYTES)], 0, params)


def lines(timeline: LayerTimeline, thread: str) -> list[tuple[str, int, float, float]]:
    """Return what a thread does; clusters counted from 1."""
    return [(s.stage, s.cluster + 1, s.start_us, s.end_us) for s in timeline.spans if s.thread == thread]


def test_figure_6_by_hand() -> None:
    """A thread that has no gate to compute takes up and down of what DRAM holds, while gates are read."""
    timeline = timeline_of(FIGURE_6)
    # All eight clusters are predicted in two rounds of 1 us; then reads and resident gates begin.
    assert lines(timeline, IO) == [
        ("gate read", 5, 2.0, 7.0), ("gate read", 6, 7.0, 12.0), ("gate read", 7, 12.0, 17.0),
        ("gate read", 8, 17.0, 22.0), ("up/down read", 5, 22.0, 32.0), ("up/down read", 6, 32.0, 42.0),
        ("up/down read", 7, 42.0, 52.0), ("up/down read", 8, 52.0, 62.0),
    ]  # fmt: skip
    # At 12 us the gates of clusters 5 and 6 are there, and two threads are left for up and down of 1 and 2.
    assert lines(timeline, "compute 1")[2:] == [
        ("gate", 1, 2.0, 12.0), ("gate", 5, 12.0, 22.0), ("gate", 7, 22.0, 32.0), ("up/down", 3, 32.0, 52.0),
        ("up/down", 7, 52.0, 72.0),
    ]  # fmt: skip
    assert lines(timeline, "compute 2")[2:] == [
        ("gate", 2, 2.0, 12.0), ("gate", 6, 12.0, 22.0), ("gate", 8, 22.0, 32.0), ("up/down", 4, 32.0, 52.0),
        ("up/down", 8, 62.0, 82.0),
    ]  # fmt: skip
    assert lines(timeline, "compute 3")[2:] == [
        ("gate", 3, 2.0, 12.0), ("up/down", 1, 12.0, 32.0), ("up/down", 5, 32.0, 52.0)
    ]  # fmt: skip
    assert lines(timeline, "compute 4")[2:] == [
        ("gate", 4, 2.0, 12.0), ("up/down", 2, 12.0, 32.0), ("up/down", 6, 42.0, 62.0)
    ]  # fmt: skip
    assert (timeline.finish_us, timeline.exposed_us, timeline.n_resident_clusters) == (82.0, 0.0, 4)


def test_what_removing_barriers_is_worth_by_hand() -> None:
    """82 us without barriers; 92 with one between the matrices; 122 if all is read first."""
    matrix = timeline_of(replace(FIGURE_6, barriers="matrix"))
    # The last gate is computed at 32 us; no read and no up or down begins before.
    assert min(s.start_us for s in matrix.spans if s.stage.startswith("up/down")) == 32.0
    assert (matrix.finish_us, matrix.exposed_us) == (92.0, 0.0)
    serial = timeline_of(replace(FIGURE_6, barriers="serial"))
    assert (serial.finish_us, serial.exposed_us) == (2.0 + 60.0 + 60.0, 60.0)


def test_attention_prefetch_and_npu_by_hand() -> None:
    """The I/O thread prefetches during attention; the NPU waits for both; reads wait for the prefetch."""
    params = replace(FIGURE_6, attention_us=10.0, prefetch_us=15.0, npu_us=200.0, npu_neurons=1000)
    timeline = timeline_of(params)
    assert lines(timeline, NPU) == [("dense rows", 0, 15.0, 215.0)]
    assert lines(timeline, IO)[:2] == [("prefetch", 0, 0.0, 15.0), ("gate read", 5, 15.0, 20.0)]
    assert lines(timeline, "compute 1")[0] == ("attention", 0, 0.0, 10.0)
    # Gates of what DRAM holds are the NPU's: the threads compute those that are read alone.
    assert {s.cluster for s in timeline.spans if s.stage == "gate"} == {4, 5, 6, 7}
    assert (timeline.finish_us, timeline.exposed_us) == (215.0, 3.0)  # From 12, when all is predicted, to 15.


def test_gates_that_were_timed_apart() -> None:
    """The time of the first phase is the gates'; without it, the share that the parameters say."""
    apart = timeline_of(FIGURE_6, served(4, 4, 60.0, gate_us=40.0))
    assert lines(apart, IO)[0] == ("gate read", 5, 2.0, 12.0)
    whole = timeline_of(replace(FIGURE_6, gate_read_share=1.0))
    assert [line[0] for line in lines(whole, IO)] == ["gate read"] * 4
    half = timeline_of(replace(FIGURE_6, gate_read_share=0.5))
    assert lines(half, IO)[0] == ("gate read", 5, 2.0, 9.5)


@pytest.mark.parametrize(
    ("rows", "n_resident", "n_read"),
    [
        (served(4, 4, 60.0), 4, 4),
        (served(2, 100, 60.0), 2, 4),  # No cluster is smaller than a neuron.
        (served(5, 0, 0.0), 4, 0),
        (served(0, 1, 5.0), 0, 1),
        (served(0, 0, 5.0), 0, 1),  # Reads of what a rule looks at, though nothing was missed.
    ],
)
def test_clusters_of_few_neurons(rows: BlockRows, n_resident: int, n_read: int) -> None:
    """How many clusters of each kind are predicted."""
    timeline = timeline_of(FIGURE_6, rows)
    assert {s.cluster for s in timeline.spans} - {-1} == set(range(n_resident + n_read))
    assert len({s.cluster for s in timeline.spans if s.thread == IO}) == n_read
    assert timeline.n_resident_clusters == n_resident


def test_nothing_to_do() -> None:
    """A token that reaches no expert takes its attention alone."""
    timeline = timeline_of(replace(FIGURE_6, attention_us=7.0), served(0, 0, 0.0))
    assert timeline.finish_us == 7.0
    assert {s.stage for s in timeline.spans} == {"attention"}


def test_experts_of_a_layer_share_its_clusters() -> None:
    """Two blocks of 2 + 2 neurons are scheduled as one of 4 + 4."""
    half = served(2, 2, 30.0)
    together = layer_timeline([(half, BUNDLE_BYTES), (half, BUNDLE_BYTES)], 0, FIGURE_6)
    assert together == timeline_of(FIGURE_6)


def test_the_pipeline_step_of_the_paper() -> None:
    """Hiding reads under computing makes a token 1.29 times as fast (arXiv 2406.06282); here 1.28, of 120 ms."""
    device = load_device("ufs4-oneplus12-powerinfer2")
    n_active, n_layers = 1720, 32
    n_misses = n_active // 20
    rows = served(n_active - n_misses, n_misses, n_misses * 2 * float(device.request_us(4096)))
    times_ms = {}
    for barriers in ("serial", "none"):
        params = PipelineParams(barriers=barriers, attention_us=14_000 / n_layers, gate_read_share=0.5).on(device)
        times_ms[barriers] = n_layers * layer_timeline([(rows, 7680)], 0, params).finish_us / 1000
    assert times_ms["serial"] == pytest.approx(120, abs=1)
    assert times_ms["serial"] / times_ms["none"] == pytest.approx(1.28, abs=0.01)


@given(
    st.integers(0, 9), st.integers(0, 9), st.floats(0, 500), st.sampled_from(BARRIERS), st.integers(1, 6),
    st.sampled_from([0.0, 20.0]),
)  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_timelines_keep_the_work(
    n_hits: int, n_misses: int, flash_us: float, barriers: str, n_threads: int, prefetch_us: float
) -> None:
    """Boxes of a thread do not overlap, each stage stands once, and their sums are the busy times and the reads."""
    params = replace(FIGURE_6, barriers=barriers, n_threads=n_threads, attention_us=5.0, prefetch_us=prefetch_us)
    rows = served(n_hits, n_misses, flash_us)
    timeline = timeline_of(params, rows)
    by_thread = defaultdict(list)
    for span in timeline.spans:
        by_thread[span.thread].append(span)
    for spans in by_thread.values():
        assert all(one.end_us <= other.start_us + 1e-9 for one, other in pairwise(spans))
    assert max(Counter((s.stage, s.cluster) for s in timeline.spans if s.cluster >= 0).values(), default=1) == 1
    busy = {thread: sum(s.end_us - s.start_us for s in spans) for thread, spans in by_thread.items()}
    work = LayerWork(params, 1)
    work.add(rows, BUNDLE_BYTES)
    times = work.times()
    io_us = busy.pop(IO, 0.0)
    assert io_us == pytest.approx(prefetch_us + flash_us) == pytest.approx(times.io_busy_us[0])
    computing = 8.0 * (n_hits + n_misses > 0 or flash_us > 0) + 30.0 * (n_hits + n_misses) + 5.0 * n_threads
    assert sum(busy.values()) == pytest.approx(computing) == pytest.approx(times.compute_busy_us[0])
    assert timeline.finish_us == times.finish_us[0]
    assert timeline.exposed_us == times.exposed_us[0]
