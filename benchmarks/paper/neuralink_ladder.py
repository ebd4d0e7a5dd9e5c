"""Neuralink's ladder on synthetic workloads: checkpoint order, hot-cold, co-activation, collapse, cache."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.paper.figures import CONSISTENCY, PREDICTION, Figure
from benchmarks.paper.workload import (
    CACHE_SHARE,
    MODEL_BLOCKS,
    N_BLOCKS,
    N_TOKENS,
    ORDERS,
    Workload,
    bandwidth,
    hit_ratio,
    model_ms,
    overhead_behind,
    speedup,
)
from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device
from ripple_place.trace.synthetic import MODELS

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile

V2, V3 = "arXiv 2410.19274v2", "arXiv 2410.19274v3"
VANISHED = 1.05  # a gain below 5 % counts as none
SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)

READ_LENGTHS = {"opt-6.7b": (1.06, 1.34, 3.12), "llama-2-7b": (1.42, 4.03, 6.62)}
LONGEST_READ = {"opt-6.7b": 589, "llama-2-7b": 2845}
COLLAPSE_GAIN = {"opt-6.7b": (1.21, 2.75), "llama-2-7b": (1.09, 1.26)}  # v2, v3 (Ace 2)
# v3, dataset transfer, profiled and tested on Alpaca, OnePlus 12: ms of Neuralink, and its speed-up over LLMFlash.
MEASURED = {"opt-6.7b": (711.09, 1.86), "llama-2-7b": (4405.76, 1.27)}
RUNGS = (
    ("checkpoint order", {"order": "checkpoint"}),
    ("hot-cold", {"order": "frequency"}),
    ("co-activation (greedy)", {"order": "greedy"}),
    ("+ collapse", {"order": "greedy", "collapse": True}),
    ("+ cache", {"order": "greedy", "collapse": True, "cached": True}),
    ("+ linking-aligned admission", {"order": "greedy", "collapse": True, "cached": True, "admission": "linking"}),
)

INTRODUCTION = f"""\
`synthetic:opt-6.7b` and `synthetic:llama-2-7b` at full width, {N_BLOCKS} blocks, placed on {N_TOKENS:,} tokens of one
text and scored on as many of another; bundles of 16 and 24 KiB, the default device (made from Table 2), S3-FIFO over
{CACHE_SHARE:.0%} of the neurons where there is a cache. The workloads are fitted to the published mean read lengths, on
other seeds; all else here is predicted from them and from Table 2. LLMFlash is checkpoint order with the same cache and
no collapse; Neuralink-S is frequency order, Neuralink greedy order, both with cache and collapse. Times of {N_BLOCKS}
blocks are scaled to the models' {MODEL_BLOCKS}.

The rungs, in milliseconds a token and as speed-up over the first, on that device and on a line whose overhead makes
LLMFlash as slow as the paper's end-to-end measurement has it (both are explained below):
"""


def section() -> tuple[str, list[Figure]]:
    """Return the introduction, with the ladder as a table, and the figures of both models."""
    device = load_device(DEFAULT_DEVICE)
    workloads = [Workload(name) for name in MODELS]
    slow = [
        overhead_behind(workload, device, MEASURED[workload.name][0] * MEASURED[workload.name][1])
        for workload in workloads
    ]
    result = []
    for workload, line in zip(workloads, slow, strict=True):
        result += _lengths(workload, device) + _collapse(workload, device, line) + _end_to_end(workload, device, line)
    result += _means(workloads, device)
    result += _vanishing(device)
    return INTRODUCTION + "\n" + _ladder(workloads, device, slow), result


def _ladder(workloads: list[Workload], device: DeviceProfile, slow: list[DeviceProfile]) -> str:
    """Return the rungs of both models as a table."""
    columns = []
    for workload, line in zip(workloads, slow, strict=True):
        for title, on in ((workload.name, device), (f"{workload.name}, {line.overhead_us:.0f} us a read", line)):
            results = [workload.score(on, **rung) for _, rung in RUNGS]  # type: ignore[arg-type]
            columns.append(
                (title, [f"{model_ms(result):,.0f} ({speedup(results[0], result):.2f}x)" for result in results])
            )
    lines = ["| | " + " | ".join(title for title, _ in columns) + " |", "|---|" + "---:|" * len(columns)]
    lines += [
        f"| {name} | " + " | ".join(cells[row] for _, cells in columns) + " |" for row, (name, _) in enumerate(RUNGS)
    ]
    return "\n".join(lines)


def _lengths(workload: Workload, device: DeviceProfile) -> list[Figure]:
    name = workload.name
    result = []
    for order, published in zip(ORDERS, READ_LENGTHS[name], strict=True):
        totals = workload.score(device, order).totals
        result.append(
            Figure(
                f"neuralink-read-length-{name}-{order}", f"{V3}, mean read length", published,
                totals.n_neurons_read / totals.n_reads, "neurons", CONSISTENCY,
                "The workload is fitted to it on seeds 1 and 2; this is seed 0, without collapse and cache.",
            )
        )  # fmt: skip
    longest = workload.score(device, "greedy", collapse=True).totals.read_length_max
    result.append(
        Figure(
            f"neuralink-longest-read-{name}", f"{V3}, maximum read length", LONGEST_READ[name], longest, "neurons",
            PREDICTION, "The longest read of any token in greedy order with collapse. Only the mean length was fitted: "
            "each feature of the workload has as many neurons as any other, while groups of such a length in the real "
            "models must be far larger.",
        )
    )  # fmt: skip
    return result


def _collapse(workload: Workload, device: DeviceProfile, slow: DeviceProfile) -> list[Figure]:
    name, n_bytes = workload.name, workload.bundle_bytes
    gain, slow_gain = (
        bandwidth(workload.score(on, "greedy", collapse=True)) / bandwidth(workload.score(on, "greedy"))
        for on in (device, slow)
    )
    text = (
        f"On the device of Table 2 lambda is {device.break_even_gap(n_bytes):.2f} for these bundles, so that gaps of "
        f"up to {device.gap(n_bytes)} are read through. On the line with the overhead that their own end-to-end time "
        f"implies ({slow.overhead_us:.0f} us a read, see `neuralink-llmflash-ms-{name}`) lambda is "
        f"{slow.break_even_gap(n_bytes):.1f} and the same collapse gains {slow_gain:.2f}x. Their threshold is not "
        "published."
    )
    return [
        Figure(
            f"neuralink-collapse-{name}-{version}", f"{source}, effective bandwidth by collapse", published, gain,
            "x effective bandwidth", PREDICTION, text,
        )
        for version, source, published in zip(("v2", "v3"), (V2, f"{V3}, Ace 2"), COLLAPSE_GAIN[name], strict=True)
    ]  # fmt: skip


def _end_to_end(workload: Workload, device: DeviceProfile, slow: DeviceProfile) -> list[Figure]:
    name, n_kib = workload.name, workload.bundle_bytes // 1024
    neuralink_ms, published = MEASURED[name]
    llmflash = workload.score(device, "checkpoint", cached=True)
    neuralink = workload.score(device, "greedy", collapse=True, cached=True)
    slow_gain = speedup(
        workload.score(slow, "checkpoint", cached=True), workload.score(slow, "greedy", collapse=True, cached=True)
    )
    bundle_us = float(device.request_us(workload.bundle_bytes))
    source = f"{V3}, dataset transfer, Alpaca on Alpaca, OnePlus 12"
    time_text = (
        f"On Table 2's device a read of {n_kib} KiB takes {bundle_us:.1f} us. The published time, in the same paper "
        f"and on the same phone, spread over the reads that miss this cache, leaves {slow.overhead_us:.0f} us for each "
        "beside its bytes, as if few reads were in flight at a time; Table 2, and so the profile, is a full queue."
    )
    ceiling = bundle_us / workload.bundle_bytes * _final_bytes_per_us(device)
    return [
        Figure(f"neuralink-llmflash-ms-{name}", source, round(neuralink_ms * published, 2), model_ms(llmflash), "ms",
               PREDICTION, time_text),
        Figure(f"neuralink-ms-{name}", source, neuralink_ms, model_ms(neuralink), "ms", PREDICTION, time_text),
        Figure(
            f"neuralink-vs-llmflash-{name}", source, published, speedup(llmflash, neuralink), "x latency", PREDICTION,
            f"On Table 2's device a byte of an endless read is only {ceiling:.2f}x cheaper than one of a {n_kib} KiB "
            "read: that bounds what fewer, longer reads of the same neurons can gain from reads of one.",
        ),
        Figure(
            f"neuralink-vs-llmflash-{name}-implied-overhead", source, published, slow_gain, "x latency", PREDICTION,
            f"The same ratio on a line of {slow.overhead_us:.0f} us a read (see `neuralink-llmflash-ms-{name}`), "
            "calibrated on LLMFlash's time alone. "
            + (
                "It finds more to gain than the phone did: not all of the published time can be overhead of reads."
                if slow_gain > published
                else "It finds less to gain than the phone did."
            ),
        ),
    ]  # fmt: skip


def _final_bytes_per_us(device: DeviceProfile) -> float:
    (size_0, size_1), (us_0, us_1) = device.size_bytes[-2:], device.latency_us[-2:]
    return (size_1 - size_0) / (us_1 - us_0)


def _means(workloads: list[Workload], device: DeviceProfile) -> list[Figure]:
    """Return the ratios that the paper gives as means over its models, and this as means over the workloads."""
    llmflash, offline, online, hot_cold, neuralink = (
        [workload.score(device, order, collapse=collapse, cached=True) for workload in workloads]
        for order, collapse in (
            ("checkpoint", False), ("greedy", False), ("checkpoint", True), ("frequency", True), ("greedy", True),
        )
    )  # fmt: skip
    four_kib = [
        workloads[0].score(device, order, collapse=collapse, cached=True, bundle_bytes=4096)
        for order, collapse in (("checkpoint", False), ("checkpoint", True), ("frequency", True), ("greedy", True))
    ]

    def figure(key: str, what: str, published: float, ratios: list[float], unit: str, text: str) -> Figure:
        by_model = ", ".join(f"{w.name} {ratio:.3f}" for w, ratio in zip(workloads, ratios, strict=True))
        return Figure(
            f"neuralink-mean-{key}", f"{V3}, {what}", published, float(np.mean(ratios)), unit, PREDICTION,
            f"{by_model}; published is the mean of seven models. {text}",
        )  # fmt: skip

    def latency(before: list, after: list) -> list[float]:
        return [speedup(a, b) for a, b in zip(before, after, strict=True)]

    def by_bandwidth(before: list, after: list) -> list[float]:
        return [bandwidth(b) / bandwidth(a) for a, b in zip(before, after, strict=True)]

    small = (
        "Five of them have smaller bundles than 24 KiB, four than 16, and a read's overhead weighs more there: with 4 "
        "KiB bundles, as OPT-350M's, the first workload gains {:.2f}x on the same device."
    )
    over_llmflash = small.format(speedup(four_kib[0], four_kib[3]))
    over_hot_cold = small.format(speedup(four_kib[2], four_kib[3])) + (
        " The cache is asked in slot order: of llama-2-7b's active neurons it has "
        f"{hit_ratio(hot_cold[1]):.1%} in frequency order and {hit_ratio(neuralink[1]):.1%} in greedy order, which is "
        "why latency and bandwidth tell different stories there."
    )
    return [
        figure("vs-llmflash-latency", "over LLMFlash", 1.48, latency(llmflash, neuralink), "x latency", over_llmflash),
        figure("vs-llmflash-bandwidth", "over LLMFlash", 1.80, by_bandwidth(llmflash, neuralink),
               "x effective bandwidth", over_llmflash),
        figure("vs-hot-cold-latency", "over Neuralink-S", 1.25, latency(hot_cold, neuralink), "x latency",
               over_hot_cold),
        figure("vs-hot-cold-bandwidth", "over Neuralink-S", 1.36, by_bandwidth(hot_cold, neuralink),
               "x effective bandwidth", over_hot_cold),
        figure("offline", "offline stage alone", 1.32, latency(llmflash, offline), "x latency", over_llmflash),
        figure("online", "online stage alone", 1.20, latency(llmflash, online), "x latency",
               "On Table 2's device no gap is worth reading through with bundles of 16 KiB and more, and the cache is "
               f"on both sides; with 4 KiB bundles collapse gains {speedup(four_kib[0], four_kib[1]):.2f}x in "
               "checkpoint order."),
    ]  # fmt: skip


def _vanishing(device: DeviceProfile) -> list[Figure]:
    """Return the active share from which the whole of Neuralink gains less than 5 % over checkpoint order."""
    gains = []
    for share in SHARES:
        workload = Workload("opt-6.7b", 4096, share, 1)
        before = workload.score(device, "checkpoint")
        gains.append(speedup(before, workload.score(device, "greedy", collapse=True)))
    assert gains[0] > VANISHED > gains[-1]
    crossing = float(np.interp(-VANISHED, [-gain for gain in gains], SHARES))
    table = ", ".join(f"{share:.0%} {gain:.2f}x" for share, gain in zip(SHARES, gains, strict=True))
    return [
        Figure(
            "neuralink-gain-vanishes-at", f"{V3}, sensitivity to top-K activation", 0.5, crossing, "active share",
            PREDICTION, "Greedy order with collapse against checkpoint order, no cache, synthetic:opt-6.7b with 4,096 "
            f"neurons and its active share raised: {table}. The gain fades over the whole range, so that the share at "
            f"which it has vanished depends on what counts; below {VANISHED - 1:.0%} was chosen "
            "beforehand, they give no threshold.",
        )
    ]  # fmt: skip
