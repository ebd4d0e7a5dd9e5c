"""Measure the storage under a directory and make a device profile of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from ripple_place.flash.device.writer import write_device
from ripple_place.flash.storage.calibration import build_profile, noise_warning, saturating_depth
from ripple_place.flash.storage.calibration_params import CalibrateParams
from ripple_place.flash.storage.calibration_report import CalibrateReport
from ripple_place.flash.storage.filesystem import file_system_of
from ripple_place.flash.storage.scratch import scratch_file
from ripple_place.flash.storage.stages import look_for_caches, survey_depths, time_mixtures, time_sizes
from ripple_place.outputs import check_output_file
from ripple_place.printable import printable
from ripple_place.tracking import Track, no_track


def calibrate(
    directory: Path | str,
    out: Path | str,
    params: CalibrateParams | None = None,
    *,
    force: bool = False,
    track: Track = no_track,
) -> CalibrateReport:
    """Time random direct reads of a scratch file in `directory`, and write the device profile that fits them.

    Parameters
    ----------
    directory : Path or str
        On the storage to measure; nothing in it is touched, nothing is left there.
    out : Path or str
        Device file to write.
    params : CalibrateParams, optional
    force : bool
        Replace `out` if it exists.
    track : Track
        Receives progress updates.

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
    params, directory, out = params or CalibrateParams(), Path(directory), Path(out)
    check_output_file(out, force=force)
    rng = np.random.default_rng(params.seed)
    progress = track.bytes(params.file_bytes, "writing a scratch file")
    with scratch_file(directory, params.file_bytes, rng, progress) as file:
        alignment_bytes, storage = file.alignment_bytes, file_system_of(directory)
        warnings = look_for_caches(file, rng)
        survey = survey_depths(file, params, rng, track)
        cells = time_sizes(file, params.depth or saturating_depth(survey), params, rng, track)
        device = build_profile(
            cells, survey, name=_device_name(out), where=f"{storage.kind} on {storage.device}",
            alignment_bytes=alignment_bytes, size_bytes=params.file_bytes, n_repeats=params.n_repeats,
        )  # fmt: skip
        additivity = time_mixtures(file, device, cells[0].depth, params, rng, track)
    write_device(out, device)
    warnings += [warning for warning in (storage.warning, noise_warning(cells)) if warning]
    return CalibrateReport(
        directory, out, storage, params, alignment_bytes, tuple(survey), tuple(cells), device, additivity,
        tuple(warnings),
    )  # fmt: skip


def _device_name(out: Path) -> str:
    """Return a name for the profile: that of its file."""
    return printable(re.sub(r"\s+", "-", out.name.removesuffix(".toml"))) or "device"
