"""Neuralink's Table 2: the time to read the FFN of OPT-350M at ten sparsities on a OnePlus 12, nothing placed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from benchmarks import fit_neuralink_table2 as table2
from benchmarks.paper.figures import CONSISTENCY, PREDICTION, Figure
from benchmarks.paper.runs import independent_trace, run, table_device
from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile

SOURCE = "arXiv 2410.19274v3, Table 2"
N_TOKENS = 32
FINE_PERCENT = np.arange(70, 81)
INTRODUCTION = """\
24 blocks of 4,096 bundles of 4 KiB, each firing independently; 32 tokens through the simulator at each sparsity. The
latency table of `neuralink-table2-*` is fitted on 0, 20, 40, 60 and 80 % alone, with knots fixed beforehand and no
smoothing weight (`benchmarks/fit_neuralink_table2.py`); the other five points are judged. `neuralink-table2-shipped-*`
is the default device, which is made from all ten."""


def simulated_ms(device: DeviceProfile, percent: float) -> float:
    """Return the mean time of a token at a share of non-activated neurons."""
    rng = np.random.default_rng(round(10 * percent))
    n_tokens = 1 if percent == 0 else N_TOKENS
    trace = independent_trace(1 - percent / 100, n_tokens, table2.N_BLOCKS, table2.N_NEURONS, rng)
    return float(run(trace, device, table2.BUNDLE_BYTES).token_us.mean()) / 1e3


def five_point_device() -> DeviceProfile:
    """Return the device of the fit to five of the points."""
    latency_us, _ = table2.fit(np.isin(table2.NON_ACTIVATED_PERCENT, table2.FIT_PERCENT))
    return table_device(table2.KNOTS_KIB * 1024, latency_us, f"{SOURCE}, five points")


def figures() -> list[Figure]:
    """Return the ten points under both devices, and what follows from the curve."""
    fitted, shipped = five_point_device(), load_device(DEFAULT_DEVICE)
    _, modelled_ms = table2.fit(np.isin(table2.NON_ACTIVATED_PERCENT, table2.FIT_PERCENT))
    result = []
    for percent, published in zip(table2.NON_ACTIVATED_PERCENT.tolist(), table2.MEASURED_MS.tolist(), strict=True):
        is_fitted = percent in table2.FIT_PERCENT
        result.append(
            Figure(
                f"neuralink-table2-{percent}", SOURCE, published, simulated_ms(fitted, percent), "ms",
                CONSISTENCY if is_fitted else PREDICTION,
                "One of the five points that the table is fitted to: the fit's residual, and a little sampling."
                if is_fitted
                else "Not seen by the fit. Masks are independent here, and a request's latency never gets less steep; "
                f"the published times bend more sharply at 50 % (second difference {_bend(table2.MEASURED_MS):.0f} ms) "
                f"than those of such a table do ({_bend(modelled_ms):.0f} ms).",
            )
        )  # fmt: skip
    for percent, published in zip(table2.NON_ACTIVATED_PERCENT.tolist(), table2.MEASURED_MS.tolist(), strict=True):
        result.append(
            Figure(
                f"neuralink-table2-shipped-{percent}", SOURCE, published, simulated_ms(shipped, percent), "ms",
                CONSISTENCY, "The default device is fitted to all ten points; what remains is the fit's residual.",
            )
        )  # fmt: skip
    return result + _curve(fitted)


def _bend(times_ms: np.ndarray) -> float:
    """Return the second difference at 50 %."""
    return float(times_ms[4] - 2 * times_ms[5] + times_ms[6])


def _curve(device: DeviceProfile) -> list[Figure]:
    dense_ms = simulated_ms(device, 0)
    percents = np.arange(30, 71, 5)
    times_ms = np.array([simulated_ms(device, percent) for percent in percents])
    fine_ms = np.array([simulated_ms(device, percent) for percent in FINE_PERCENT])
    first = int(np.argmax(fine_ms < dense_ms))
    above, below = fine_ms[first - 1] - dense_ms, dense_ms - fine_ms[first]
    tail_bytes_per_us = (device.size_bytes[-1] - device.size_bytes[-2]) / (
        device.latency_us[-1] - device.latency_us[-2]
    )
    return [
        Figure(
            "neuralink-table2-slowest-sparsity", SOURCE, 50, float(percents[times_ms.argmax()]), "% non-activated",
            PREDICTION, "The published grid has steps of 10 %, the simulated one of 5 %; 50 % is not among the fitted "
            "points.",
        ),
        Figure(
            "neuralink-table2-speedup-50", SOURCE, 0.73, dense_ms / simulated_ms(device, 50), "x of dense", PREDICTION,
            "The ratio of the points 0 and 50 %; half the bytes take longer than all of them.",
        ),
        Figure(
            "neuralink-table2-speedup-90", SOURCE, 2.25, dense_ms / simulated_ms(device, 90), "x of dense", PREDICTION,
            "The ratio of the points 0 and 90 %.",
        ),
        Figure(
            "neuralink-table2-break-even", f"derived from {SOURCE}", 73.9,
            float(FINE_PERCENT[first] - below / (above + below)), "% non-activated", PREDICTION,
            "Sparsity from which reading only what fires beats reading all, without placement; published: straight "
            "line between the points 70 and 80 %.",
        ),
        Figure(
            "neuralink-knee", "arXiv 2410.19274v3, section 2", 24,
            float(device.latency_us[0] * tail_bytes_per_us / 1024), "KiB", PREDICTION,
            "The paper says that bandwidth grows almost linearly below 24 KB; simulated is where the time of a 4 KiB "
            "read equals bytes over the final bandwidth. Beyond it growth merely slows: at 24 KiB the fitted device "
            f"reaches {24576 / float(device.request_us(24576)) / tail_bytes_per_us:.0%} of its final bandwidth.",
        ),
    ]  # fmt: skip
