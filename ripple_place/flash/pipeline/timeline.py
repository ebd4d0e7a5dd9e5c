"""Which thread does what when, in one layer of one token: for pictures, and to check the schedule by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ripple_place.flash.pipeline.layer import LayerWork
from ripple_place.kernels.pipeline import N_STAGES, SKIPPED, Scratch, schedule_clusters, split_clusters

if TYPE_CHECKING:
    from ripple_place.flash.block_rows import BlockRows
    from ripple_place.flash.pipeline.params import PipelineParams

STAGES = ("predict", "gate read", "gate", "up/down read", "up/down")
"""Names of the stages of a cluster, in the order of the kernel's columns."""
ATTENTION, PREFETCH, DENSE = "attention", "prefetch", "dense rows"
"""What threads do beside clusters."""
IO, NPU = "I/O", "NPU"
NO_CLUSTER = -1


class StageSpan(NamedTuple):
    """One stage on one thread.

    Attributes
    ----------
    thread : str
        ``compute 1`` and so on, `IO` or `NPU`.
    stage : str
        One of `STAGES`, `ATTENTION`, `PREFETCH` or `DENSE`.
    cluster : int
        From 0, resident ones first; `NO_CLUSTER` for what is not of a cluster.
    start_us, end_us : float
        From the beginning of the layer.
    """

    thread: str
    stage: str
    cluster: int
    start_us: float
    end_us: float


class LayerTimeline(NamedTuple):
    """One layer of one token.

    Attributes
    ----------
    spans : list of StageSpan
        By start, then thread; what takes no time is left out.
    n_resident_clusters : int
        Clusters from this number on were read.
    finish_us, exposed_us : float
        As in `ripple_place.kernels.pipeline.LayerTimes`.
    """

    spans: list[StageSpan]
    n_resident_clusters: int
    finish_us: float
    exposed_us: float


def layer_timeline(
    blocks: list[tuple[BlockRows, int]], token: int, params: PipelineParams, layer_us: float = 0.0
) -> LayerTimeline:
    """Return what each thread does in one layer of one token.

    Parameters
    ----------
    blocks : list of (BlockRows, int)
        The layer's blocks, with the bytes of a bundle in each.
    token : int
    params : PipelineParams
        With the rates of a device.
    layer_us : float
        Computing a layer, where it does not depend on the token (`ripple_place.flash.pipeline.layer.LayerWork`).
    """
    work = LayerWork(params, blocks[0][0].n_tokens, layer_us)
    for rows, bundle_bytes in blocks:
        work.add(rows, bundle_bytes)
    asked = work.finish()
    shape = work.shape
    most = shape.n_resident_clusters + shape.n_missed_clusters
    work_us = np.zeros((most, N_STAGES))
    n_clusters = split_clusters(asked, token, shape, work_us)
    work_us, start_us = work_us[:n_clusters], np.zeros((n_clusters, N_STAGES))
    thread, free_us = np.zeros((n_clusters, N_STAGES), np.int64), np.full(shape.n_threads + 1, shape.attention_us)
    free_us[-1] = shape.prefetch_us
    scratch = Scratch(np.zeros(most, np.int64), np.zeros(most), np.zeros(N_STAGES, np.int64), np.zeros(N_STAGES))
    npu_start_us = max(shape.attention_us, shape.prefetch_us)
    finish_us, exposed_us = schedule_clusters(
        work_us, params.order, npu_start_us, shape.npu_us, free_us, scratch, start_us, thread
    )
    names = [*(f"compute {number}" for number in range(1, shape.n_threads + 1)), IO]
    spans = [
        *(StageSpan(name, ATTENTION, NO_CLUSTER, 0.0, shape.attention_us) for name in names[:-1]),
        StageSpan(IO, PREFETCH, NO_CLUSTER, 0.0, shape.prefetch_us),
        StageSpan(NPU, DENSE, NO_CLUSTER, npu_start_us, npu_start_us + shape.npu_us),
    ]
    for cluster, stage in np.argwhere(thread != SKIPPED).tolist():
        begin_us = float(start_us[cluster, stage])
        end_us = begin_us + float(work_us[cluster, stage])
        spans.append(StageSpan(names[thread[cluster, stage]], STAGES[stage], cluster, begin_us, end_us))
    place = {name: number for number, name in enumerate([*names, NPU])}
    spans = sorted(
        (span for span in spans if span.end_us > span.start_us), key=lambda span: (span.start_us, place[span.thread])
    )
    n_resident = int(min(shape.n_resident_clusters, asked.n_resident[token]))
    return LayerTimeline(spans, n_resident, float(finish_us), float(exposed_us))
