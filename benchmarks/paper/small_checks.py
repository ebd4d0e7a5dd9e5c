"""Figures that need no workload: LLM in a Flash's table, PowerInfer-2's bundles, DIP's byte model, arithmetic."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks.paper.figures import CONSISTENCY, PREDICTION, Figure
from benchmarks.paper.runs import independent_trace, line_device, run, trace_of
from ripple_place.flash.device.files import load_device

if TYPE_CHECKING:
    from collections.abc import Sequence

KIB = 1024
FLASH_BYTES_PER_S, DRAM_BYTES_PER_S = 1e9, 60e9  # Apple A18 in DIP's simulator, arXiv 2412.01380


def read_lengths() -> list[Figure]:
    """Return the mean read length under independent activity: 1 / (1 - p)."""
    device = load_device("ufs4-oneplus12-neuralink")
    result = []
    for name, share, published in (("opt-6.7b", 0.032, 1.033), ("llama-2-7b", 0.24, 1.316)):
        totals = run(independent_trace(share, 256, 1, 16384, np.random.default_rng(3)), device, 16 * KIB).totals
        result.append(
            Figure(
                f"independent-read-length-{name}", "derived: 1 / (1 - active share)", published,
                totals.n_neurons_read / totals.n_reads, "neurons", PREDICTION,
                "What checkpoint order would give if neurons fired independently; sampling noise only.",
            )
        )  # fmt: skip
    return result


def break_even_gaps() -> list[Figure]:
    """Return the gap that costs least in the simulator on a line of 12 us and 1.72 GB/s, by trying them."""
    device = line_device(12.0, 1.72e9, "derived from Table 2 of arXiv 2410.19274v3")
    trace = independent_trace(0.1, 64, 1, 16384, np.random.default_rng(4))
    result = []
    for bundle_kib, published in ((4, 5), (8, 2), (16, 1)):
        times_us = [run(trace, device, bundle_kib * KIB, gap=gap).totals.flash_time_us for gap in range(9)]
        result.append(
            Figure(
                f"break-even-gap-{bundle_kib}kib", "derived: 12 us x 1.72 GB/s over the bundle", published,
                float(np.argmin(times_us)), "neurons", PREDICTION,
                "The gap limit of 0 to 8 with the least flash time on random masks; floor(lambda).",
            )
        )  # fmt: skip
    bundle_us = float(device.request_us(24 * KIB)), float(device.request_us(72 * KIB))
    times_us = [run(trace, device, 24 * KIB, gap=gap).totals.flash_time_us for gap in range(3)]
    assert int(np.argmin(times_us)) == 0
    result.append(
        Figure(
            "break-even-gap-24kib", "derived: 12 us x 1.72 GB/s over the bundle", 1.04,
            bundle_us[1] / (2 * bundle_us[0]), "x, one read through a gap of 1 over two reads", PREDICTION,
            "Above 1: with 24 KiB bundles no gap is worth reading through, and the gap limit with the least flash time "
            "on random masks is 0.",
        )
    )  # fmt: skip
    return result


def llm_in_a_flash() -> list[Figure]:
    """Return the times of Table 2 of LLM in a Flash on the M1 Max."""
    device = load_device("m1-max")
    result = []
    for n_kib, published, rate in ((8, 164, 1.25), (16, 87, 2.25)):
        n_reads = round(0.2e9 / (n_kib * KIB))
        masks = np.zeros((1, 2 * n_reads), bool)
        masks[0, ::2] = True  # no two wanted neurons side by side
        result.append(
            Figure(
                f"llm-in-a-flash-{n_kib}kib", "arXiv 2312.11514, Table 2", published,
                run(trace_of(masks), device, n_kib * KIB).totals.flash_time_us / 1e3, "ms", CONSISTENCY,
                f"The profile has their {rate} GB/s at this size; the paper rounds the bytes to 0.2 GB, while "
                f"{published} ms at {rate} GB/s are {published * rate / 1e3:.3f} GB.",
            )
        )  # fmt: skip
    n_bundles = round(13.4e9 / 2**20)
    result.append(
        Figure(
            "llm-in-a-flash-dense", "arXiv 2312.11514, Table 2", 2196,
            run(trace_of(np.ones((1, n_bundles), bool)), device, 2**20).totals.flash_time_us / 1e3, "ms", CONSISTENCY,
            "13.4 GB in one sweep, in requests of 1 MiB, at the 6.1 GB/s that the profile has for them.",
        )
    )  # fmt: skip
    return result


def powerinfer2() -> list[Figure]:
    """Return PowerInfer-2's comparisons of bundle shapes, and its two-phase loading."""
    source = "arXiv 2406.06282, section 4"
    device, other = load_device("ufs4-oneplus12-powerinfer2"), load_device("ufs4-oneplus12-neuralink")

    def us(n_kib: int, of=device) -> float:
        return float(of.request_us(n_kib * KIB))

    return [
        Figure(
            "powerinfer2-24kb-vs-3x8kb", source, 1.0, 3 * us(8) / us(24),
            "x time of 3 x 8 KB over 24 KB; claim: above 1", PREDICTION,
            "The paper says only that one read of a whole bundle is better; so it is, by this factor (and by "
            f"{3 * us(8, other) / us(24, other):.2f} on the default device).",
        ),
        Figure(
            "powerinfer2-2x4kb-vs-8kb", source, 1.0, 2 * us(4) / us(8), "x time of 2 x 4 KB over 8 KB; claim: below 1",
            PREDICTION, "Not reproduced: the profile has two measured sizes, 4 and 512 KiB, and the straight line "
            "between them makes one longer read cheaper than two; it would take a measurement at 8 KiB to show what "
            f"they saw. The default device says {2 * us(4, other) / us(8, other):.2f}.",
        ),
        _two_phase(),
    ]  # fmt: skip


def _two_phase() -> Figure:
    rng = np.random.default_rng(5)
    device = load_device("ufs4-oneplus12-powerinfer2")
    predicted = rng.random((256, 14336)) < 0.1  # Bamboo-7B's width; 10 % active
    fires = predicted & (rng.random(predicted.shape) < 0.8)
    up_down = [run(trace_of(masks), device, 4 * KIB).totals.n_active for masks in (predicted, fires)]
    return Figure(
        "powerinfer2-two-phase", "arXiv 2406.06282, sections 3 and 4", 0.2, 1 - up_down[1] / up_down[0],
        "share of Up/Down reads saved", CONSISTENCY,
        "That Gate, Up and Down fire together in 80 % of the cases is put in; that 20 % of the second reads fall away "
        "is all that follows.",
    )  # fmt: skip


def dip_byte_model() -> list[Figure]:
    """Return DIP's two rules: a first token costs its bytes over flash, an identical second one over DRAM."""
    bundle_bytes, n_neurons = 24 * KIB, 4096
    masks = np.zeros((2, n_neurons), bool)
    masks[:, ::3] = True
    n_bytes = int(masks[0].sum()) * bundle_bytes
    device = line_device(0.0, FLASH_BYTES_PER_S, "arXiv 2412.01380, defaults of its simulator")
    result = run(trace_of(masks), device, bundle_bytes, cache="lru", cache_share=1.0)
    dram_us = (result.totals.bytes_requested - result.totals.bytes_active) / DRAM_BYTES_PER_S * 1e6
    source = "arXiv 2412.01380, byte model of its simulator (Apple A18: flash 1 GB/s, DRAM 60 GB/s)"
    return [
        Figure(
            "dip-first-token", source, round(n_bytes / FLASH_BYTES_PER_S * 1e6, 3), float(result.token_us[0]),
            "us", PREDICTION,
            "A device without overhead is their model: bytes over flash bandwidth, however scattered.",
        ),
        Figure(
            "dip-second-identical-token", source, round(n_bytes / DRAM_BYTES_PER_S * 1e6, 3),
            float(result.token_us[1]) + dram_us, "us", PREDICTION,
            "The LRU cache holds the first token's neurons and the simulator charges no flash time; bytes that hit are "
            "charged at DRAM bandwidth here, since the simulator itself does not time DRAM.",
        ),
    ]  # fmt: skip


def dip_belady() -> list[Figure]:
    """Return DIP's two golden tests of Belady's rule: capacity 3, five items, then all of them."""
    goldens = (
        (("00110", "11000", "01001", "01100", "01100"), "01101"),
        (("00110", "01001", "11000", "10001", "00011"), "01011"),
    )
    result = []
    for number, (masks, expected) in enumerate(goldens, 1):
        cached = belady_by_mask([{i for i, bit in enumerate(mask) if bit == "1"} for mask in masks], 3, range(5))
        agreeing = sum((expected[item] == "1") == (item in cached) for item in range(5))
        result.append(
            Figure(
                f"dip-belady-{number}", "released code of arXiv 2412.01380, its tests", 5, agreeing,
                "items whose place (in the cache or not) agrees", PREDICTION,
                "DIP's rule, written out in benchmarks/paper/small_checks.py: a whole mask enters at once, and of the "
                "others those stay that are needed soonest. The simulator's belady differs on purpose: neurons enter "
                "one by one and it may decline to admit, which makes it a bound.",
            )
        )  # fmt: skip
    return result


def belady_by_mask(masks: Sequence[set[int]], capacity: int, items: Sequence[int]) -> set[int]:
    """Return what is cached after the last mask, if each mask enters whole and the farthest next use leaves first.

    After the last mask every item is needed once more, as in DIP's code; of equally far items the lowest leaves.
    """
    future = [*masks, set(items)]
    cached: set[int] = set()
    for step, mask in enumerate(masks):

        def next_use(item: int, step: int = step) -> tuple[int, int]:
            return next(later for later in range(step + 1, len(future)) if item in future[later]), -item

        by_distance = sorted(cached - mask, key=next_use)
        n_kept = max(0, capacity - len(mask))
        cached = mask | set(by_distance[:n_kept])
    return cached
