"""Figures that need no workload: LLM in a Flash's table, PowerInfer-2's bundles, arithmetic."""

from __future__ import annotations

import numpy as np

from benchmarks.paper.figures import CONSISTENCY, PREDICTION, Figure
from benchmarks.paper.runs import independent_trace, line_device, run, trace_of
from ripple_place.flash.device.files import load_device

KIB = 1024


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
