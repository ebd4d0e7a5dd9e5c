"""Measure the storage under a directory and make a device profile of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.device.writer import write_device
from ripple_place.flash.storage.cache_checks import cache_warnings
from ripple_place.flash.storage.calibration import (
    N_MIXES,
    PAGE_BYTES,
    Additivity,
    build_profile,
    measure_additivity,
    noise_warning,
    saturating_depth,
    sweep_sizes,
)
from ripple_place.flash.storage.filesystem import FileSystem, file_system_of
from ripple_place.flash.storage.queue_reader import QueueReader
from ripple_place.flash.storage.scratch import scratch_file
from ripple_place.flash.storage.sweep import Cell, sweep
from ripple_place.outputs import check_output_file
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.flash.device.profile import DeviceProfile

DEPTHS = (1, 2, 4, 8, 16, 32)
"""Depths of the sweep: up to the 32 entries of the one command queue of UFS 4.0 (arXiv 2406.06282, section 2.3)."""
BREAK_EVEN_BUNDLES = (4096, 8192, 16384)
"""Bundles of OPT-350M, OPT-1.3B and OPT-6.7B in FP16, for which the break-even gap is told."""


@dataclass(frozen=True)
class CalibrateParams:
    """How to measure.

    Parameters
    ----------
    scratch_bytes : int
        Size of the scratch file, rounded up to MiB. Storage can be faster in a small range of addresses.
    depth : int, optional
        Reads in flight that the profile is for; None: the smallest depth that saturates.
    n_repeats : int
        Interleaved repeats, of which medians count.
    max_request_bytes : int
        Largest size timed; readers split longer reads.
    time_us : float
        Time for all repeats together; the scratch file comes on top.
    seed : int

    Raises
    ------
    UsageError
        If a number is out of range.
    """

    scratch_bytes: int = 1 << 30
    depth: int | None = None
    n_repeats: int = 5
    max_request_bytes: int = 512 << 10
    time_us: float = 50e6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.max_request_bytes < PAGE_BYTES or self.max_request_bytes % PAGE_BYTES:
            raise UsageError(
                f"--max-size {self.max_request_bytes}", found="no multiple of 4 KiB", expected="one, such as 512KiB",
                remedy="correct the size",
            )  # fmt: skip
        if self.scratch_bytes < 4 * self.max_request_bytes:
            raise UsageError(
                f"--size {self.scratch_bytes}", found="less than four of the largest reads",
                expected=f"at least {4 * self.max_request_bytes} bytes, and much more to be typical",
                remedy="give a larger --size, or a smaller --max-size",
            )  # fmt: skip


@dataclass(frozen=True, eq=False)
class CalibrateReport:
    """What `calibrate` prints."""

    directory: Path
    out: Path
    storage: FileSystem
    params: CalibrateParams
    alignment_bytes: int
    survey: tuple[Cell, ...]
    cells: tuple[Cell, ...]
    device: DeviceProfile
    additivity: Additivity
    warnings: tuple[str, ...]

    @property
    def depth(self) -> int:
        """Depth that the profile is for."""
        return self.cells[0].depth

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``calibrate --json``."""
        lines = {size: self.device.line(size) for size in BREAK_EVEN_BUNDLES}
        return {
            "out": str(self.out),
            "directory": str(self.directory),
            "file_system": self.storage.kind,
            "scratch_bytes": self.params.scratch_bytes,
            "alignment_bytes": self.alignment_bytes,
            "queue_depth": self.depth,
            "repeats": self.params.n_repeats,
            "device": self.device.name,
            "size_bytes": list(self.device.size_bytes),
            "latency_us": list(self.device.latency_us),
            "lines": {
                str(size): {
                    "overhead_us": line.overhead_us,
                    "bandwidth_bytes_per_s": line.bandwidth_bytes_per_s,
                    "break_even_gap": line.break_even_gap(size),
                }
                for size, line in lines.items()
            },
            "additivity": {
                "r_squared": self.additivity.r_squared,
                "median_error": self.additivity.median_error,
                "mixtures": int(self.additivity.measured_us.size),
            },
            "cells": [
                {
                    "size_bytes": cell.size_bytes,
                    "queue_depth": cell.depth,
                    "us_per_read": cell.read_us,
                    "iops": 1e6 / cell.read_us,
                    "bandwidth_bytes_per_s": cell.bandwidth_bytes_per_s,
                    "latency_us_percentiles": {"50": cell.latency_us[0], "99": cell.latency_us[1]},
                    "spread": cell.spread,
                }
                for cell in (*self.survey, *self.cells)
            ],
            "warnings": list(self.warnings),
        }


def calibrate(
    directory: Path,
    out: Path,
    params: CalibrateParams | None = None,
    *,
    force: bool = False,
    track: Track = no_track,
) -> CalibrateReport:
    """Time random direct reads of a scratch file in `directory`, and write the device profile that fits them.

    Parameters
    ----------
    directory : Path
        On the storage to measure; nothing in it is touched, nothing is left there.
    out : Path
        Device file to write.
    params : CalibrateParams, optional
    force : bool
        Replace `out` if it exists.
    track : Track
        Told of progress.

    Raises
    ------
    UsageError
        If `directory` is none, `out` exists, or a number is out of range.
    UnsupportedError
        If this is not Linux.
    OSError
        If there is no room, or storage refuses.

    Notes
    -----
    Three parts: all sizes at all depths, which shows where throughput saturates; all sizes again at that depth, at
    length, which the table is fitted to; and mixtures of sizes, which show whether times add up as the simulator
    takes them to.
    """
    params = params or CalibrateParams()
    check_output_file(out, force=force)
    rng = np.random.default_rng(params.seed)
    scratch_bytes = -(-params.scratch_bytes // 2**20) * 2**20
    progress = track.bytes(scratch_bytes, "writing a scratch file")
    depths = sorted({*(d for d in DEPTHS if params.depth is None or d <= params.depth), params.depth or 1})
    with scratch_file(directory, scratch_bytes, rng, progress) as file:
        storage = file_system_of(directory)
        with QueueReader(file, 1, max(PAGE_BYTES, file.alignment_bytes)) as reader:
            warnings = cache_warnings(file, reader, rng)
        sizes = sweep_sizes(max(PAGE_BYTES, file.alignment_bytes), params.max_request_bytes)
        survey = sweep(
            file, sizes, depths, n_repeats=params.n_repeats, rng=rng, track=track, what="sizes and depths",
            cell_us=0.35 * params.time_us / (len(sizes) * len(depths) * params.n_repeats),
        )  # fmt: skip
        depth = params.depth or saturating_depth(survey)
        cells = sweep(
            file, sizes, [depth], n_repeats=params.n_repeats, rng=rng, track=track, what=f"sizes at depth {depth}",
            cell_us=0.45 * params.time_us / (len(sizes) * params.n_repeats),
        )  # fmt: skip
        device = build_profile(
            cells, survey, name=_device_name(out), where=f"{storage.kind} on {storage.device}",
            alignment_bytes=file.alignment_bytes, size_bytes=scratch_bytes, n_repeats=params.n_repeats,
        )  # fmt: skip
        additivity = measure_additivity(
            file, device, depth, n_repeats=params.n_repeats, rng=rng, track=track,
            mix_us=0.2 * params.time_us / (N_MIXES * params.n_repeats),
        )  # fmt: skip
    write_device(out, device)
    warnings += [warning for warning in (storage.warning, noise_warning(cells)) if warning]
    return CalibrateReport(
        directory, out, storage, params, file.alignment_bytes, tuple(survey), tuple(cells), device, additivity,
        tuple(warnings),
    )  # fmt: skip


def _device_name(out: Path) -> str:
    """Return a name for the profile: that of its file."""
    return re.sub(r"\s+", "-", out.name.removesuffix(".toml")) or "device"
