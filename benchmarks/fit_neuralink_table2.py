"""Fit the latency table of `ufs4-oneplus12-neuralink` to Neuralink's Table 2, and print how far off it is.

Table 2 (arXiv 2410.19274v3) gives the time to read the FFN neurons of OPT-350M that fire, at ten shares of neurons
that do not, on a OnePlus 12: 24 blocks of 4096 neuron bundles of 4 KiB, nothing placed, nothing cached. Activity is
taken as independent between neurons, so that run lengths are geometric. The latency of a request is piecewise linear
between knots fixed beforehand, starts at a constant, and never gets less steep (the device saturates: each further
byte costs at least as much as the one before). Such functions are nonnegative sums of hinges, so that the fit is one
nonnegative least-squares problem in relative errors without a smoothing weight to tune.

Two fits are printed: on the points 0, 20, 40, 60, 80 % alone, judged on the other five; and on all ten, which is the
table in the device profile. Run: ``python benchmarks/fit_neuralink_table2.py``.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import nnls

N_BLOCKS, N_NEURONS, BUNDLE_BYTES = 24, 4096, 4096  # OPT-350M in fp16: 98304 bundles
MAX_REQUEST_BYTES = 512 * 1024  # as in the device profile
KNOTS_KIB = np.array([4, 8, 12, 16, 20, 24, 32, 48, 64, 96, 128, 256, 512])
NON_ACTIVATED_PERCENT = np.arange(0, 100, 10)
MEASURED_MS = np.array([234.49, 254.96, 281.96, 297.10, 308.76, 320.63, 292.78, 260.86, 193.68, 104.18])
FIT_PERCENT = (0, 20, 40, 60, 80)


def expected_requests(active_share: float) -> np.ndarray:
    """Return the expected requests by length in bundles (index 0 unused) of all blocks, split at the maximum."""
    lengths = np.arange(N_NEURONS + 1)
    runs = np.zeros(N_NEURONS + 1)
    idle = 1 - active_share
    # A run inside the block has an idle neuron on both sides, one at its ends on one side only.
    inside = N_NEURONS - 1 - lengths[1:-1]
    runs[1:-1] = active_share ** lengths[1:-1] * (inside * idle**2 + 2 * idle)
    runs[-1] = active_share**N_NEURONS
    longest = MAX_REQUEST_BYTES // BUNDLE_BYTES
    requests = np.zeros(longest + 1)
    for length in range(1, N_NEURONS + 1):
        requests[longest] += runs[length] * (length // longest)
        requests[length % longest] += runs[length]
    requests[0] = 0
    return N_BLOCKS * requests


def hinges(size_kib: np.ndarray) -> np.ndarray:
    """Return the basis at each size: a constant, and the excess over each knot but the last."""
    return np.column_stack([np.ones(size_kib.size), np.maximum(0, size_kib[:, None] - KNOTS_KIB[:-1])])


def fit(is_fitted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fit the latency table to some of the ten points.

    Parameters
    ----------
    is_fitted : ndarray of shape (10,), bool

    Returns
    -------
    latency_us : ndarray
        At `KNOTS_KIB`.
    modelled_ms : ndarray of shape (10,)
        At every point, fitted or not.
    """
    sizes_kib = np.arange(MAX_REQUEST_BYTES // BUNDLE_BYTES + 1) * BUNDLE_BYTES / 1024
    requests = np.array([expected_requests(1 - percent / 100) for percent in NON_ACTIVATED_PERCENT])
    design_ms = requests @ hinges(sizes_kib) / 1e3
    relative = design_ms[is_fitted] / MEASURED_MS[is_fitted, None]
    weights, _ = nnls(relative, np.ones(len(relative)))
    return hinges(KNOTS_KIB.astype(float)) @ weights, design_ms @ weights


def main() -> None:
    """Print both fits."""
    for title, is_fitted in (
        ("fitted on 0, 20, 40, 60, 80 % only", np.isin(NON_ACTIVATED_PERCENT, FIT_PERCENT)),
        ("fitted on all ten (the shipped table)", np.ones(10, bool)),
    ):
        latency_us, modelled_ms = fit(is_fitted)
        print(f"{title}\n  non-activated %  measured ms  modelled ms  deviation")
        for row, percent in enumerate(NON_ACTIVATED_PERCENT):
            deviation = modelled_ms[row] / MEASURED_MS[row] - 1
            print(
                f"  {percent:15d}  {MEASURED_MS[row]:11.2f}  {modelled_ms[row]:11.2f}  {deviation:+8.1%}"
                + ("" if is_fitted[row] else "  (held out)")
            )
        judged = ~is_fitted if not is_fitted.all() else is_fitted
        off = np.abs(modelled_ms[judged] / MEASURED_MS[judged] - 1)
        print(f"  largest {off.max():.1%}, mean {off.mean():.1%}")
        for knot_kib, knot_us in zip(KNOTS_KIB, latency_us, strict=True):
            print(f"  {knot_kib * 1024:7d} bytes  {knot_us:8.2f} us")


if __name__ == "__main__":
    main()
