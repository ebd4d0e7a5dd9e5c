"""The kernel of the pipeline equals its plain twin, whatever the work, and keeps what any schedule keeps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.flash.pipeline.params import BARRIERS, PipelineParams
from ripple_place.kernels.pipeline import LayerRows, LayerTimes, schedule_rows
from tests.reference import pipeline as reference

# Few different times, so that ties are common.
TIMES = st.one_of(st.integers(0, 6).map(float), st.floats(0, 50))
PARAMS = st.builds(
    PipelineParams, n_threads=st.integers(1, 5), n_resident_clusters=st.integers(1, 5),
    n_missed_clusters=st.integers(1, 5), barriers=st.sampled_from(BARRIERS), attention_us=TIMES, prefetch_us=TIMES,
    npu_us=TIMES, predict_us=TIMES, gate_share=st.sampled_from([0.0, 0.25, 1 / 3, 1.0]),
    thread_bytes_per_s=st.just(1e9),
)  # fmt: skip
ROW = st.tuples(st.integers(0, 6), st.integers(0, 6), TIMES, TIMES, TIMES, TIMES).map(
    # Neurons that are not there take no time to compute.
    lambda row: (row[0], row[1], row[2] * (row[0] > 0), row[3] * (row[1] > 0), row[4], row[5])
)


def scheduled(rows: list[tuple], params: PipelineParams) -> list[tuple[float, ...]]:
    """Return end, exposed I/O and busy times of each row."""
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    work = LayerRows(*(c.astype(np.int64) for c in columns[:2]), *(c.astype(np.float64) for c in columns[2:]))
    times = LayerTimes(*np.full((4, len(rows)), np.nan))
    schedule_rows(work, params.shape, params.order, times)
    return list(zip(*(column.tolist() for column in times), strict=True))


@given(st.lists(ROW, min_size=1, max_size=3), PARAMS)
@settings(max_examples=300, deadline=None)
def test_equal_to_the_twin(rows: list[tuple], params: PipelineParams) -> None:
    """End, exposed I/O and both busy times, row by row: state of one row does not reach the next."""
    for row, times in zip(rows, scheduled(rows, params), strict=True):
        assert times == pytest.approx(reference.layer_times(reference.clusters_of(*row, params), params), abs=1e-9)


@given(ROW, PARAMS)
@settings(max_examples=150, deadline=None)
def test_bounds_of_any_schedule(row: tuple, params: PipelineParams) -> None:
    """Never earlier than each unit's work allows; never later than all work one after the other."""
    ((finish_us, exposed_us, io_us, compute_us),) = scheduled([row], params)
    slack = 1e-9 + 1e-9 * finish_us
    assert finish_us >= max(params.attention_us, params.prefetch_us) + params.npu_us - slack
    assert finish_us >= io_us - slack
    assert finish_us * params.n_threads >= compute_us - slack
    ffn_us = compute_us - params.n_threads * params.attention_us
    one_by_one_us = params.attention_us + params.npu_us + ffn_us + io_us
    assert finish_us <= one_by_one_us + slack
    assert -slack <= exposed_us <= io_us + slack


@given(ROW, PARAMS, st.floats(0, 1))
@settings(max_examples=100, deadline=None)
def test_less_reading_is_never_later_where_all_is_read_first(row: tuple, params: PipelineParams, share: float) -> None:
    """In general a shorter task may delay a list schedule; where computing waits for all reads it cannot."""
    params = PipelineParams(**{**params.to_json(), "barriers": "serial"})
    # No read is left out altogether: without a miss that would leave out a cluster.
    row = (row[0], max(1, row[1]), *row[2:])
    faster = (*row[:4], row[4] * share, row[5] * share)
    assert scheduled([faster], params)[0][0] <= scheduled([row], params)[0][0] + 1e-9


@given(ROW, PARAMS)
@settings(max_examples=100, deadline=None)
def test_one_thread_that_waits_for_all_reads_is_the_serial_formula(row: tuple, params: PipelineParams) -> None:
    """Attention, predicting, reading, computing: the sum."""
    changes = {"barriers": "serial", "n_threads": 1, "npu_us": 0.0, "prefetch_us": 0.0}
    params = PipelineParams(**{**params.to_json(), **changes})
    is_busy = row[0] + row[1] > 0 or row[4] + row[5] > 0
    serial_us = params.attention_us + params.predict_us * is_busy + sum(row[2:])
    assert scheduled([row], params)[0][0] == pytest.approx(serial_us)
