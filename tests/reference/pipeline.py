"""The pipeline of one layer in plain Python: tasks with what they wait for, in the order in which they can begin."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

PIPELINED = ("predict", "gate read", "gate", "rest read", "rest")
READ_FIRST = ("predict", "gate read", "rest read", "gate", "rest")
BARRIER_BEFORE = {"none": (), "matrix": ("rest read",), "serial": ("gate read", "gate")}


class Task(NamedTuple):
    """One stage of one cluster, scheduled."""

    stage: str
    cluster: int
    worker: int | None
    """None: the I/O thread; -1: a read of nothing, on none."""
    start_us: float
    end_us: float


def schedule(clusters, n_threads, barriers, attention_us=0.0, prefetch_us=0.0):
    """Return the tasks in the order in which they begin.

    `clusters`: a dict of times by stage for each; `barriers`: a key of `BARRIER_BEFORE`.
    """
    order = READ_FIRST if barriers == "serial" else PIPELINED
    compute_free, io_free = [attention_us] * n_threads, prefetch_us
    done = {}
    while len(done) < len(order) * len(clusters):
        candidates = []
        for place, stage in enumerate(order):
            for cluster, times in enumerate(clusters):
                waits_for = [(order[place - 1], cluster)] if place else []
                if stage in BARRIER_BEFORE[barriers]:
                    waits_for = [(order[place - 1], each) for each in range(len(clusters))]
                if (stage, cluster) in done or any(each not in done for each in waits_for):
                    continue
                ready_us = max([0.0, *(done[each].end_us for each in waits_for)])
                if "read" not in stage:
                    worker = compute_free.index(min(compute_free))
                    ready_us = max(ready_us, compute_free[worker])
                elif times[stage] > 0:
                    worker, ready_us = None, max(ready_us, io_free)
                else:
                    worker = -1
                candidates.append((ready_us, place, cluster, stage, worker))
        start_us, _, cluster, stage, worker = min(candidates, key=lambda candidate: candidate[:3])
        task = Task(stage, cluster, worker, start_us, start_us + clusters[cluster][stage])
        done[stage, cluster] = task
        if worker is None:
            io_free = task.end_us
        elif worker >= 0:
            compute_free[worker] = task.end_us
    return list(done.values())


def clusters_of(n_resident, n_missed, resident_us, missed_us, gate_read_us, rest_read_us, params):
    """Return the clusters of a token: its neurons of a kind in equal parts, none of them empty."""
    n_read = min(params.n_missed_clusters, n_missed)
    if n_read == 0 and gate_read_us + rest_read_us > 0:
        n_read = 1
    n_held = min(params.n_resident_clusters, n_resident)
    kinds = [(resident_us / n_held, 0.0, 0.0) for _ in range(n_held)]
    kinds += [(missed_us / n_read, gate_read_us / n_read, rest_read_us / n_read) for _ in range(n_read)]
    return [
        {
            "predict": params.predict_us / len(kinds), "gate read": gate_us, "gate": compute_us * params.gate_share,
            "rest read": rest_us, "rest": compute_us * (1 - params.gate_share),
        }
        for compute_us, gate_us, rest_us in kinds
    ]  # fmt: skip


def layer_times(clusters, params):
    """Return the end of a layer, how long nothing computes, and busy times of the I/O and of the compute threads."""
    tasks = schedule(clusters, params.n_threads, params.barriers, params.attention_us, params.prefetch_us)
    npu_start_us = max(params.attention_us, params.prefetch_us)
    computing = [(0.0, params.attention_us), (npu_start_us, npu_start_us + params.npu_us)]
    computing += [(task.start_us, task.end_us) for task in tasks if "read" not in task.stage]
    finish_us = max([npu_start_us + params.npu_us, *(task.end_us for task in tasks)])
    bounds = sorted({0.0, finish_us, *(bound for span in computing for bound in span)})
    exposed_us = sum(
        end - start for start, end in pairwise(bounds)
        if not any(first <= start and end <= last for first, last in computing)
    )  # fmt: skip
    io_us = params.prefetch_us + sum(task.end_us - task.start_us for task in tasks if "read" in task.stage)
    compute_us = params.n_threads * params.attention_us
    compute_us += sum(task.end_us - task.start_us for task in tasks if "read" not in task.stage)
    return finish_us, exposed_us, io_us, compute_us
