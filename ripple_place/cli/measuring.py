"""The options of ``simulate`` that measure on real storage, and their results as text."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path  # noqa: TC003
from typing import TYPE_CHECKING, Any

import click

from ripple_place.cli.options import PATH, Common
from ripple_place.cli.rendering import ProgressBars, format_table, percent
from ripple_place.units import format_time_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ripple_place.workflows.measure import MeasureParams, MeasureReport
    from ripple_place.workflows.simulate import SimulateReport

_OPTIONS = (
    click.option("--measure", "measured_file", metavar="FILE", type=PATH,
                 help="Replay the same reads on FILE (OUT/ripple_place/bundled.safetensors, or any large file)."),
    click.option("--measure-depth", type=click.IntRange(1, 256), help="Reads in flight.  "
                 "[default: those that the device profile was measured with, or 8]"),
    click.option("--measure-tokens", type=click.IntRange(1), help="Tokens to replay, spread over the trace.  "
                 "[default: half a second's worth]"),
    click.option("--emit-fio", "fio", metavar="FILE", type=PATH,
                 help="Write the same reads as an I/O log for fio, and its job beside it (docs/measuring.md)."),
)  # fmt: skip


@dataclass(frozen=True)
class Measuring:
    """The values of these options."""

    measured_file: Path | None
    fio: Path | None
    depth: int | None
    n_tokens: int | None

    def check(self, layouts: Sequence[str], inputs: Iterable[Path], *, force: bool) -> None:
        """Check paths before the work starts; see `MeasureParams.check`."""
        if self.measured_file is not None or self.fio is not None:
            self._params(force=force).check(len(layouts), inputs)

    def run(self, report: SimulateReport, common: Common, *, force: bool) -> MeasureReport | None:
        """Measure what was simulated, None if nothing is asked for."""
        if self.measured_file is None and self.fio is None:
            return None
        import numpy as np

        from ripple_place.workflows.measure import measure_simulated

        rng = np.random.default_rng(common.seed)
        return measure_simulated(report, self._params(force=force), rng, ProgressBars(quiet=common.quiet))

    def _params(self, *, force: bool) -> MeasureParams:
        from ripple_place.workflows.measure import MeasureParams

        return MeasureParams(self.measured_file, self.fio, self.depth, self.n_tokens, force=force)


def measure_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--measure --measure-depth --measure-tokens --emit-fio``; the command gets `measuring`, a `Measuring`."""

    @functools.wraps(command)
    def with_measuring(
        *args: Any, measured_file: Path | None, fio: Path | None, measure_depth: int | None,
        measure_tokens: int | None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        return command(*args, measuring=Measuring(measured_file, fio, measure_depth, measure_tokens), **kwargs)

    for option in reversed(_OPTIONS):
        with_measuring = option(with_measuring)
    return with_measuring


def measured_text(report: MeasureReport) -> str:
    """Return predicted and measured times as a table, and which files were written."""
    parts = []
    if report.measurements:
        first = report.measurements[0]
        parts.append(
            f"Measured with {report.depth} reads in flight: {first.requests.tokens.size} tokens, medians of "
            f"{first.full_us.size} interleaved repeats\n{_table(report)}"
        )
    if report.written:
        counts = ", ".join(f"{requests.n_requests:,} reads of {requests.layout}" for requests in report.requests)
        parts.append(f"Wrote {', '.join(map(str, report.written))}: {counts}")
    return "\n\n".join(parts)


def _table(report: MeasureReport) -> str:
    baseline = report.measurements[report.baseline]
    rows = []
    for measured in report.measurements:
        scores = measured.to_json(baseline)
        low, high = scores["speedup_range"]
        rows.append(
            [
                measured.requests.layout,
                format_time_us(scores["predicted_us_per_token"]),
                format_time_us(scores["flash_time_us_per_token"]),
                f"{100 * scores['error']:+.1f}%",
                percent(measured.spread),
                format_time_us(scores["waiting_us_per_token"]),
                f"{scores['predicted_speedup']:.2f}x",
                f"{scores['speedup']:.2f}x ({low:.2f}-{high:.2f})",
            ]
        )
    headers = ["layout", "predicted", "measured", "error", "spread", "waiting for blocks", "predicted speedup",
               "measured speedup"]  # fmt: skip
    return format_table(headers, rows)
