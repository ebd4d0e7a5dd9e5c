"""The stages of a calibration, each with its share of the time: caches, all depths, all sizes at length, mixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.flash.storage.additivity import N_MIXES, Additivity, measure_additivity
from ripple_place.flash.storage.cache_checks import cache_warnings
from ripple_place.flash.storage.calibration import PAGE_BYTES, sweep_sizes
from ripple_place.flash.storage.queue_reader import QueueReader
from ripple_place.flash.storage.sweep import Cell, sweep

if TYPE_CHECKING:
    import numpy as np

    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.storage.calibration_params import CalibrateParams
    from ripple_place.flash.storage.direct_file import DirectFile
    from ripple_place.tracking import Track

DEPTHS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Depths of the survey, up to `CalibrateParams.max_depth`."""
SURVEY_SHARE, TABLE_SHARE, MIX_SHARE = 0.35, 0.45, 0.2
"""How the stages share `CalibrateParams.time_us`: chosen; the table is what the profile consists of."""


def look_for_caches(file: DirectFile, rng: np.random.Generator) -> list[str]:
    """Return how caches falsify reads of `file`; empty if none is found to."""
    with QueueReader(file, 1, max(PAGE_BYTES, file.alignment_bytes)) as reader:
        return cache_warnings(file, reader, rng)


def survey_depths(file: DirectFile, params: CalibrateParams, rng: np.random.Generator, track: Track) -> list[Cell]:
    """Return the times of all sizes at all depths up to `depth` and `max_depth`, to show where throughput saturates."""
    sizes = _sizes(file, params)
    last = params.max_depth if params.depth is None else min(params.depth, params.max_depth)
    depths = sorted({*(depth for depth in DEPTHS if depth <= last), params.depth or 1})
    return sweep(
        file, sizes, depths, n_repeats=params.n_repeats, rng=rng, track=track, what="sizes and depths",
        cell_us=SURVEY_SHARE * params.time_us / (len(sizes) * len(depths) * params.n_repeats),
    )  # fmt: skip


def time_sizes(
    file: DirectFile, depth: int, params: CalibrateParams, rng: np.random.Generator, track: Track
) -> list[Cell]:
    """Return the times of all sizes at one depth, read at length: the table is fitted to them."""
    sizes = _sizes(file, params)
    return sweep(
        file, sizes, [depth], n_repeats=params.n_repeats, rng=rng, track=track, what=f"sizes at depth {depth}",
        cell_us=TABLE_SHARE * params.time_us / (len(sizes) * params.n_repeats),
    )  # fmt: skip


def time_mixtures(
    file: DirectFile,
    device: DeviceProfile,
    depth: int,
    params: CalibrateParams,
    rng: np.random.Generator,
    track: Track,
) -> Additivity:
    """Return the times of mixtures of sizes, which show whether times add up as the simulator takes them to."""
    return measure_additivity(
        file, device, depth, n_repeats=params.n_repeats, rng=rng, track=track,
        mix_us=MIX_SHARE * params.time_us / (N_MIXES * params.n_repeats),
    )  # fmt: skip


def _sizes(file: DirectFile, params: CalibrateParams) -> list[int]:
    return sweep_sizes(max(PAGE_BYTES, file.alignment_bytes), params.max_request_bytes)
