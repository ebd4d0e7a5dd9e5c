"""List scheduling of one layer's neuron clusters over compute threads and one I/O thread.

PowerInfer-2's pipeline (arXiv 2406.06282, its section on the neuron-cluster pipeline): each cluster is predicted, its
gate rows are read and computed, then its up and down rows are read and computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

# Stages of a cluster; columns of work, start times and threads.
PREDICT, GATE_READ, GATE, REST_READ, REST = range(5)
N_STAGES = 5
SKIPPED = -1
"""Thread of a stage that does not take place: a read of nothing."""


class StageOrder(NamedTuple):
    """In which order clusters go through their stages.

    Attributes
    ----------
    stages : ndarray of shape (N_STAGES,), int64
        The same for each cluster; `PREDICT` first.
    has_barrier : ndarray of shape (N_STAGES,), uint8
        By position in that order: 1 where no cluster begins before all clusters are through the position before.
    """

    stages: Any
    has_barrier: Any


class LayerShape(NamedTuple):
    """What is the same for every token of a layer; times in microseconds.

    Attributes
    ----------
    n_threads, n_resident_clusters, n_missed_clusters : int
    attention_us, prefetch_us, npu_us, predict_us, gate_share : float
        As in `ripple_place.flash.pipeline.params.PipelineParams`.
    """

    n_threads: int
    n_resident_clusters: int
    n_missed_clusters: int
    attention_us: float
    prefetch_us: float
    npu_us: float
    predict_us: float
    gate_share: float


class LayerRows(NamedTuple):
    """What each token asks of a layer.

    Attributes
    ----------
    n_resident, n_missed : ndarray of shape (n_tokens,), int64
        Neurons that DRAM holds, and those that are read.
    resident_us, missed_us : ndarray of shape (n_tokens,), float64
        Time to compute them on one thread.
    gate_read_us, rest_read_us : ndarray of shape (n_tokens,), float64
        Time to read the gates of those missed, and their up and down rows.
    """

    n_resident: Any
    n_missed: Any
    resident_us: Any
    missed_us: Any
    gate_read_us: Any
    rest_read_us: Any


class LayerTimes(NamedTuple):
    """When each token is through a layer; written.

    Attributes
    ----------
    finish_us, exposed_us, io_busy_us, compute_busy_us : ndarray of shape (n_tokens,), float64
        End of the layer, the part of it in which nothing computes, and busy times of the I/O thread and of the compute
        threads, these together.
    """

    finish_us: Any
    exposed_us: Any
    io_busy_us: Any
    compute_busy_us: Any


class Scratch(NamedTuple):
    """Memory of `schedule_clusters`.

    Attributes
    ----------
    position : ndarray of shape (n_clusters,), int64
        How many stages each cluster has behind it.
    ready_us : ndarray of shape (n_clusters,), float64
        When each cluster may go on.
    n_through : ndarray of shape (N_STAGES,), int64
        Clusters that are through each position.
    last_us : ndarray of shape (N_STAGES,), float64
        When the last of them was.
    """

    position: Any
    ready_us: Any
    n_through: Any
    last_us: Any


@compiled
def split_clusters(rows: LayerRows, row: int, shape: LayerShape, work_us: Array) -> int:
    """Return the number of clusters of a token, resident ones first; writes the time of each stage to `work_us`.

    Parameters
    ----------
    rows : LayerRows
    row : int
    shape : LayerShape
    work_us : ndarray of shape (at least n_resident_clusters + n_missed_clusters, N_STAGES), float64
        Written.

    Notes
    -----
    Clusters of a kind are equal, and no cluster is smaller than a neuron. Reads without a missed neuron, such as those
    of a rule that looks at all gates, make one cluster.
    """
    read_us = rows.gate_read_us[row] + rows.rest_read_us[row]
    n_missed = min(shape.n_missed_clusters, max(rows.n_missed[row], 1 if read_us > 0 else 0))
    n_resident = min(shape.n_resident_clusters, rows.n_resident[row])
    n_clusters: int = n_resident + n_missed
    for cluster in range(n_clusters):
        is_resident = cluster < n_resident
        compute_us = rows.resident_us[row] / n_resident if is_resident else rows.missed_us[row] / n_missed
        work_us[cluster, PREDICT] = shape.predict_us / n_clusters
        work_us[cluster, GATE_READ] = 0.0 if is_resident else rows.gate_read_us[row] / n_missed
        work_us[cluster, GATE] = compute_us * shape.gate_share
        work_us[cluster, REST_READ] = 0.0 if is_resident else rows.rest_read_us[row] / n_missed
        work_us[cluster, REST] = compute_us * (1.0 - shape.gate_share)
    return n_clusters


@compiled
def schedule_clusters(
    work_us: Array, order: StageOrder, npu_start_us: float, npu_us: float, free_us: Array, scratch: Scratch,
    start_us: Array, thread: Array,
) -> tuple[float, float]:  # fmt: skip
    """Return when all is done, and for how long until then nothing computed; in place, caller allocates.

    Parameters
    ----------
    work_us : ndarray of shape (n_clusters, N_STAGES), float64
        Reads of 0 do not take place; other stages of 0 do.
    order : StageOrder
    npu_start_us, npu_us : float
        What the NPU computes meanwhile.
    free_us : ndarray of shape (n_threads + 1,), float64
        When each compute thread, and last the I/O thread, may begin; then when each is done. Until the earliest of the
        compute threads' times, attention is computed.
    scratch : Scratch
    start_us : ndarray of shape (n_clusters, N_STAGES), float64
        Written: when each stage begins.
    thread : ndarray of shape (n_clusters, N_STAGES), int64
        Written: the compute thread of each stage, the number of compute threads for the I/O thread, or `SKIPPED`.

    Notes
    -----
    Greedy: the stage that can begin first begins; of several the one that comes first in the order of stages, then
    the lowest cluster. It runs on the compute thread that has been free for longest, the lowest of equals. So stages
    are taken in the order in which they begin. Time is of the order of ``n_clusters * (n_clusters + n_threads)``.
    """
    position, ready_us, n_through, last_us = scratch
    n_clusters, io = work_us.shape[0], free_us.size - 1
    position[:n_clusters] = 0
    ready_us[:n_clusters] = 0.0
    n_through[:] = 0
    last_us[:] = 0.0
    covered_us = free_us[0]  # Up to here something computed, but for `exposed_us`.
    for worker in range(io):
        covered_us = min(covered_us, free_us[worker])
    exposed_us, finish_us = 0.0, max(covered_us, npu_start_us + npu_us)
    npu_is_covered = npu_us == 0.0
    for _ in range(n_clusters * N_STAGES):
        worker = 0
        for other in range(1, io):
            if free_us[other] < free_us[worker]:
                worker = other
        best, best_place, best_us = -1, N_STAGES, np.inf
        for cluster in range(n_clusters):
            place = position[cluster]
            if place == N_STAGES:
                continue
            begin_us = ready_us[cluster]
            if order.has_barrier[place]:
                if n_through[place - 1] < n_clusters:
                    continue
                begin_us = max(begin_us, last_us[place - 1])
            stage = order.stages[place]
            if stage not in (GATE_READ, REST_READ):
                begin_us = max(begin_us, free_us[worker])
            elif work_us[cluster, stage] > 0.0:
                begin_us = max(begin_us, free_us[io])
            if begin_us < best_us or (begin_us == best_us and place < best_place):
                best, best_place, best_us = cluster, place, begin_us
        stage = order.stages[best_place]
        end_us = best_us + work_us[best, stage]
        start_us[best, stage] = best_us
        if stage in (GATE_READ, REST_READ):
            thread[best, stage] = io if work_us[best, stage] > 0.0 else SKIPPED
            if work_us[best, stage] > 0.0:
                free_us[io] = end_us
        else:
            thread[best, stage] = worker
            free_us[worker] = end_us
            if not npu_is_covered and npu_start_us <= best_us:
                exposed_us += max(0.0, npu_start_us - covered_us)
                covered_us = max(covered_us, npu_start_us + npu_us)
                npu_is_covered = True
            exposed_us += max(0.0, best_us - covered_us)
            covered_us = max(covered_us, end_us)
        position[best] = best_place + 1
        ready_us[best] = end_us
        n_through[best_place] += 1
        last_us[best_place] = max(last_us[best_place], end_us)
        finish_us = max(finish_us, end_us)
    if not npu_is_covered:
        exposed_us += max(0.0, npu_start_us - covered_us)
        covered_us = max(covered_us, npu_start_us + npu_us)
    return finish_us, exposed_us + max(0.0, finish_us - covered_us)


@compiled
def schedule_rows(rows: LayerRows, shape: LayerShape, order: StageOrder, times: LayerTimes) -> None:
    """Schedule one layer for each token; writes `times`, caller allocates.

    Time is of the order of the number of tokens times ``n_clusters * (n_clusters + n_threads)``: about 3 us a token
    and layer with four threads and eight clusters.
    """
    most = shape.n_resident_clusters + shape.n_missed_clusters
    work_us, start_us = np.zeros((most, N_STAGES)), np.zeros((most, N_STAGES))
    thread, free_us = np.zeros((most, N_STAGES), np.int64), np.zeros(shape.n_threads + 1)
    scratch = Scratch(
        np.zeros(most, np.int64), np.zeros(most), np.zeros(N_STAGES, np.int64), np.zeros(N_STAGES)
    )  # fmt: skip
    npu_start_us = max(shape.attention_us, shape.prefetch_us)
    for row in range(rows.n_missed.size):
        n_clusters = split_clusters(rows, row, shape, work_us)
        free_us[:] = shape.attention_us
        free_us[shape.n_threads] = shape.prefetch_us
        times.finish_us[row], times.exposed_us[row] = schedule_clusters(
            work_us[:n_clusters], order, npu_start_us, shape.npu_us, free_us, scratch, start_us[:n_clusters],
            thread[:n_clusters],
        )  # fmt: skip
        io_us, compute_us = shape.prefetch_us, shape.n_threads * shape.attention_us
        for cluster in range(n_clusters):
            for stage in range(N_STAGES):
                if stage in (GATE_READ, REST_READ):
                    io_us += work_us[cluster, stage]
                else:
                    compute_us += work_us[cluster, stage]
        times.io_busy_us[row], times.compute_busy_us[row] = io_us, compute_us
