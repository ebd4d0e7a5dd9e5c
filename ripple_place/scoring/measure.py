"""Replay what was simulated on real storage, or write it down for fio to replay elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.errors import UsageError
from ripple_place.flash.storage.cache_checks import cache_warnings
from ripple_place.flash.storage.direct_file import DirectFile
from ripple_place.flash.storage.filesystem import file_system
from ripple_place.flash.storage.fio import fio_paths, write_fio
from ripple_place.flash.storage.measurement import (
    DEPTH,
    REPEATS,
    Measurement,
    choose_tokens,
    measure,
    measurement_warnings,
    sample_requests,
)
from ripple_place.flash.storage.queue_reader import QueueReader
from ripple_place.outputs import check_output_file
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from collections.abc import Iterable

    import numpy as np

    from ripple_place.flash.device.conditions import ConditionedDevice
    from ripple_place.flash.requests import RequestList
    from ripple_place.scoring.score import Scores


@dataclass(frozen=True)
class MeasureParams:
    """What to replay, and where.

    Parameters
    ----------
    file : Path or str, optional
        File to read: a bundled checkpoint, or any other of its length.
    fio : Path or str, optional
        I/O log to write.
    depth : int, optional
        Reads in flight; None: the depth that the device profile was measured at, 8 where it does not say.
    n_tokens : int, optional
        Tokens to replay; None: half a second's worth of the slowest layout.
    n_repeats : int
    """

    file: Path | str | None = None
    fio: Path | str | None = None
    depth: int | None = None
    n_tokens: int | None = None
    n_repeats: int = REPEATS

    def check(self, n_layouts: int, inputs: Iterable[Path], *, force: bool) -> None:
        """Check paths before the work starts.

        Parameters
        ----------
        n_layouts : int
            A log is written for each.
        inputs : iterable of Path
            Files that must not be written over.
        force : bool
            Replace the files of `fio` if they exist.

        Raises
        ------
        UsageError
            If the file to read is not there, or one to write is.
        """
        if self.file is not None and not Path(self.file).is_file():
            raise UsageError(
                f"--measure {self.file}", found="no file", expected="a file on the storage to measure",
                remedy="name a large one, such as OUT/ripple_place/bundled.safetensors",
            )  # fmt: skip
        if self.fio is not None:
            job, logs = fio_paths(Path(self.fio), n_layouts)
            kept = [*inputs, *([Path(self.file)] if self.file is not None else [])]
            for path in (job, *logs):
                check_output_file(path, force=force, apart_from=kept)


@dataclass(frozen=True, eq=False)
class MeasureReport:
    """What `simulate --measure` and `--emit-fio` add.

    Attributes
    ----------
    requests : tuple of RequestList
        One a layout.
    depth : int
    measurements : tuple of Measurement
        One a layout; empty if nothing was measured.
    baseline : int
        Layout that speedups are against.
    written : tuple of Path
        The job and the logs; empty if none were asked for.
    warnings : tuple of str
    """

    requests: tuple[RequestList, ...]
    depth: int
    measurements: tuple[Measurement, ...]
    baseline: int
    written: tuple[Path, ...]
    warnings: tuple[str, ...]

    def add_to(self, document: dict[str, Any]) -> dict[str, Any]:
        """Return the document of a plain ``simulate --json`` with ``measured`` in each layout, and ``fio``."""
        measured = [each.to_json(self.measurements[self.baseline]) for each in self.measurements]
        layouts = [
            {**layout, **({"measured": measured[at]} if measured else {})}
            for at, layout in enumerate(document["layouts"])
        ]
        files = {"fio": [str(path) for path in self.written]} if self.written else {}
        return {**document, "layouts": layouts, **files}


def measured_depth(device: ConditionedDevice) -> int:
    """Return the queue depth that a device's times are for: of the conditions, of the profile, or `DEPTH`."""
    return device.conditions.queue_depth or (device.queue_depths[-1] if device.queue_depths else DEPTH)


def measure_simulated(
    scores: Scores, params: MeasureParams, rng: np.random.Generator, track: Track = no_track
) -> MeasureReport:
    """Replay the requests of a simulation on a file, and write them as fio's I/O logs.

    Parameters
    ----------
    scores : Scores
        The simulation; the same requests are charged by the simulator and sent to storage.
    params : MeasureParams
    rng : Generator
        Chooses where caches are looked for.
    track : Track
        Receives progress updates.

    Raises
    ------
    UsageError
        If nothing is read, the file is too short, or its storage wants other pages than the profile has.
    UnsupportedError
        If there is a file to read, and this is not Linux.
    OSError
        If storage refuses.
    """
    depth = params.depth or measured_depth(scores.device)
    n_tokens = params.n_tokens or choose_tokens(scores.results)
    requests = sample_requests(scores.trace, scores.layouts, scores.device, scores.params, n_tokens)
    written = write_fio(Path(params.fio), requests, depth) if params.fio is not None else []
    measurements: list[Measurement] = []
    warnings: list[str] = []
    if params.file is not None:
        with DirectFile.open(Path(params.file)) as file:
            if (warning := file_system(file.descriptor).warning) is not None:
                warnings.append(warning)
            measurements = measure(file, requests, depth, params.n_repeats, track)
            with QueueReader(file, 1, max(4096, file.alignment_bytes)) as reader:
                warnings += cache_warnings(file, reader, rng)
            warnings += measurement_warnings(measurements, file, scores.device)
    baseline = next(at for at, result in enumerate(scores.results) if result is scores.baseline)
    return MeasureReport(tuple(requests), depth, tuple(measurements), baseline, tuple(written), tuple(warnings))
