"""The page of a simulation: scores, pictures, assumptions, warnings, and how it was made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.flash.hot_cold import HOT_SHARE
from ripple_place.pages.assumptions import assumptions
from ripple_place.pages.charts import ladder_chart, latency_chart, line_chart
from ripple_place.pages.loss_section import loss_section
from ripple_place.pages.page import Figure, Table, render
from ripple_place.pages.read_lengths import read_length_picture
from ripple_place.pages.token_picture import token_picture
from ripple_place.units import format_bytes, format_rate, format_time_us

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.pages.report import Report, ResultGroup, SweepCurves

_SCORES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("Flash time per token", "flash_time_us_per_token", format_time_us),
    ("Speedup", "speedup", "{:.3g}x".format),
    ("Reads per token", "reads_per_token", "{:.1f}".format),
    ("Requests per token", "requests_per_token", "{:.1f}".format),
    ("Mean read, neurons", "read_length_mean", "{:.2f}".format),
    ("Longest read, neurons", "read_length_max", "{:.0f}".format),
    ("Read per token", "bytes_read_per_token", format_bytes),
    ("Read amplification", "read_amplification", "{:.2f}".format),
    ("Effective bandwidth", "effective_bandwidth_bytes_per_s", format_rate),
    ("DRAM hit ratio", "cache_hit_ratio", "{:.1%}".format),
    ("Flash time, line", "flash_time_linear_us_per_token", format_time_us),
    ("Flash time, ceiling", "flash_time_ceiling_us_per_token", format_time_us),
)
"""Rows of the scores: title, key of the JSON document, and how its number is written."""
_TOKEN_SCORES: tuple[tuple[str, str, Callable[[float], str]], ...] = (
    ("Token time, with computing", "token_time_us_per_token", format_time_us),
    ("Token speedup", "token_speedup", "{:.3g}x".format),
    ("Computing per token", "compute_us_per_token", format_time_us),
)
"""The same where the time to compute was given."""


def report_html(report: Report) -> str:
    """Return the page. It loads nothing from elsewhere, and follows the reader's light or dark preference."""
    layouts = [reads.layout for reads in report.token_reads]
    return render(
        "simulation.html",
        report=report,
        n_tokens=report.results[0].n_tokens,
        n_blocks=len(report.results[0].blocks),
        warnings=_warnings(report),
        loss=loss_section(report),
        scores=[(group.title, _scores(report, group)) for group in report.groups],
        ladder=Figure.drawn(lambda width: ladder_chart(report.ladder, layouts, width)),
        surviving=_surviving(report),
        hot_share=f"{HOT_SHARE:.0%}",
        sweeps=[(group.title, _sweep(report.sweep, group)) for group in report.groups] if report.sweep else [],
        token_reads=Figure.drawn(lambda width: token_picture(report.token_reads, width)),
        read_lengths=[(group.title, _read_lengths(group)) for group in report.groups],
        latencies=[(group.title, _latencies(group)) for group in report.groups],
        blocks=[(group.title, _blocks(group)) for group in report.groups],
        assumptions=assumptions(report),
    )


def _warnings(report: Report) -> list[str]:
    """Return the report's warnings and the device's own, each once."""
    return list(dict.fromkeys([*report.warnings, *([report.device.warning] if report.device.warning else [])]))


def _scores(report: Report, group: ResultGroup) -> Table:
    """Return scores as rows and layouts, or rules, as columns, which a phone can show."""
    documents = [result.to_json(report.baseline) for result in group.results]

    def rows(scores: tuple[tuple[str, str, Callable[[float], str]], ...]) -> list[list[str]]:
        return [
            [title, *("-" if document[key] is None else write(document[key]) for document in documents)]
            for title, key, write in scores
        ]

    def percentiles(of: str, key: str) -> list[list[str]]:
        return [
            [f"{percentile}th percentile{of}", *(format_time_us(document[key][percentile]) for document in documents)]
            for percentile in ("50", "90", "99")
        ]

    mean_time, speedup, *others = rows(_SCORES)
    table = [mean_time, *percentiles("", "flash_time_us_percentiles"), speedup]
    if report.params.compute is not None:
        speedup[0] = "Flash speedup"
        token_time, *more = rows(_TOKEN_SCORES)
        table += [token_time, *percentiles(" of token time", "token_time_us_percentiles"), *more]
    return Table(["", *group.names], [*table, *others])


def _surviving(report: Report) -> Table | None:
    """Return what DRAM leaves of the gain over hot-cold order, if it is known."""
    if not report.surviving:
        return None
    rows = [
        [
            gain.layout,
            *("-" if ratio is None else f"{ratio:.2f}x" for ratio in (gain.without_dram, gain.with_dram)),
            "-" if gain.surviving_share is None else f"{gain.surviving_share:.0%}",
        ]
        for gain in report.surviving
    ]
    return Table(["Layout", "Without DRAM", f"Hottest {HOT_SHARE:.0%} in DRAM", "Gain that survives"], rows)


def _read_lengths(group: ResultGroup) -> Figure:
    return Figure.drawn(lambda width: read_length_picture(group.results, group.names, width))


def _latencies(group: ResultGroup) -> Figure:
    return Figure.drawn(lambda width: latency_chart(group.results, group.names, width))


def _sweep(sweep: SweepCurves, group: ResultGroup) -> Figure:
    """Return the curves of a sweep."""
    swept = sweep.flash_time_us[group.span]
    curves = [[(float(index), time_us) for index, time_us in enumerate(times)] for times in swept]
    return Figure.drawn(
        lambda width: line_chart(
            curves, group.names, width, title=f"Flash time per token by {sweep.option}", x_title=sweep.option,
            y_title="flash time per token", write_x=str, write_y=format_time_us, x_labels=sweep.values,
        )
    )  # fmt: skip


def _blocks(group: ResultGroup) -> Table:
    """Return the flash time of each block in each layout, or by each rule."""
    rows = [
        [
            name,
            *(format_time_us(result.blocks[name].totals.flash_time_us / result.n_tokens) for result in group.results),
        ]
        for name in group.results[0].blocks
    ]
    return Table(["Block", *group.names], rows)
