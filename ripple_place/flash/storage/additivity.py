"""Whether the times of reads of different sizes add up, as the simulator takes them to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.storage.queue_reader import QueueReader

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from ripple_place.arrays import Float64Array
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.storage.direct_file import DirectFile

N_MIXES = 20
"""Mixtures of sizes on which additivity is judged."""


@dataclass(frozen=True, eq=False)
class Additivity:
    """Whether the time of a mixture of reads is the sum of the table's times.

    Attributes
    ----------
    predicted_us, measured_us : ndarray of shape (N_MIXES,), float64
        Mean time per read of each mixture.
    """

    predicted_us: Float64Array
    measured_us: Float64Array

    @property
    def r_squared(self) -> float:
        """Share of the variance of measured times that the sums explain."""
        residual = np.square(self.measured_us - self.predicted_us).sum()
        return float(1 - residual / np.square(self.measured_us - self.measured_us.mean()).sum())

    @property
    def median_error(self) -> float:
        """Median of the relative errors."""
        return float(np.median(np.abs(self.predicted_us / self.measured_us - 1)))


def draw_mixes(profile: DeviceProfile, rng: np.random.Generator, n_mixes: int = N_MIXES) -> list[Float64Array]:
    """Return mixtures of read sizes: the share of each number of pages, from 1 to the maximum request.

    Each mixture falls off with size at a rate of its own, from mostly single pages to a mean of a quarter of the
    maximum; in between lie the mixtures of reads that layouts give.
    """
    n_pages = np.arange(1, profile.max_request_bytes // profile.page_bytes + 1)
    means = np.exp(rng.uniform(np.log(1.1), np.log(max(1.2, n_pages[-1] / 4)), n_mixes))
    shares = [np.exp(-n_pages / mean) for mean in means]
    return [share / share.sum() for share in shares]


def measure_additivity(
    file: DirectFile,
    profile: DeviceProfile,
    depth: int,
    *,
    n_repeats: int,
    mix_us: float,
    rng: np.random.Generator,
    track: Callable[[Collection[int], str], Iterable[int]],
) -> Additivity:
    """Return predicted and measured times of mixtures of sizes, none of which was used to fit the table.

    Parameters
    ----------
    file : DirectFile
    profile : DeviceProfile
    depth : int
    n_repeats : int
        Interleaved; medians count.
    mix_us : float
        Time for one mixture in one repeat.
    rng : Generator
    track : callable
        Receives progress updates.
    """
    table_us = profile.request_table_us()
    mixes = draw_mixes(profile, rng)
    predicted_us = np.zeros((len(mixes), n_repeats))
    measured_us = np.zeros_like(predicted_us)
    with QueueReader(file, depth, profile.max_request_bytes) as reader:
        for turn in track(range(n_repeats * len(mixes)), "checking that times add up"):
            repeat, mix = divmod(turn, len(mixes))
            n_reads = int(np.clip(mix_us / (mixes[mix] @ table_us[1:]), 8 * depth, 1 << 16))
            n_pages = rng.choice(mixes[mix].size, n_reads, p=mixes[mix]) + 1
            last_page = file.size_bytes // profile.page_bytes - n_pages
            offsets = rng.integers(0, last_page + 1) * profile.page_bytes
            times = reader.read(offsets, n_pages * profile.page_bytes)
            predicted_us[mix, repeat] = table_us[n_pages].mean()
            measured_us[mix, repeat] = times.steady_us
    return Additivity(np.median(predicted_us, axis=1), np.median(measured_us, axis=1))
