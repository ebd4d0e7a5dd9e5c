"""What a calibration found, as a document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.storage.additivity import Additivity
    from ripple_place.flash.storage.calibration_params import CalibrateParams
    from ripple_place.flash.storage.filesystem import FileSystem
    from ripple_place.flash.storage.sweep import Cell

BREAK_EVEN_BUNDLES = (4096, 8192, 16384)
"""Bundles of OPT-350M, OPT-1.3B and OPT-6.7B in FP16, for which the break-even gap is reported."""


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
