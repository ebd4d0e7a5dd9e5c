"""The report: one self-contained HTML page with scores, pictures, assumptions, warnings, and how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from ripple_place.flash.ladder import HOT_SHARE, gain_ladder, surviving_gains
from ripple_place.flash.token_reads import busiest_block, reads_of_median_token
from ripple_place.pages.charts import ladder_chart, latency_chart, line_chart
from ripple_place.pages.page import both_widths, page_html, table
from ripple_place.pages.read_lengths import read_length_picture
from ripple_place.pages.token_picture import token_picture
from ripple_place.units import format_bytes, format_rate, format_time_us

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.ladder import Step, SurvivingGain
    from ripple_place.flash.layout import Layout
    from ripple_place.flash.results import LayoutResult
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.flash.token_reads import TokenReads
    from ripple_place.pages.svg import Picture
    from ripple_place.trace.activation_trace import ActivationTrace


@dataclass(frozen=True, eq=False)
class Report:
    """What a report shows.

    Parameters
    ----------
    results : sequence of LayoutResult
        At least one, in the order in which they are listed.
    baseline : LayoutResult
        What speedups are against.
    device : DeviceProfile
    params : SimulationParams
    block, token : str, int
        Of the token that is drawn.
    token_reads : sequence of TokenReads
        That token's reads in each layout.
    traces : sequence of str
        Names of the traces.
    command : str
        The command that made the page.
    warnings : sequence of str
        How the numbers may mislead; the device's own is added.
    ladder : sequence of Step
        Flash times as collapse and cache are turned on.
    surviving : sequence of SurvivingGain
        What is left of gains over hot-cold order with the hottest neurons in DRAM; empty if frequencies are unknown.
    sweep : SweepCurves, optional
    """

    results: Sequence[LayoutResult]
    baseline: LayoutResult
    device: DeviceProfile
    params: SimulationParams
    block: str
    token: int
    token_reads: Sequence[TokenReads]
    traces: Sequence[str]
    command: str
    warnings: Sequence[str] = ()
    ladder: Sequence[Step] = ()
    surviving: Sequence[SurvivingGain] = ()
    sweep: SweepCurves | None = None


@dataclass(frozen=True)
class SweepCurves:
    """Flash times per token at the values of one option.

    Attributes
    ----------
    option : str
    values : tuple of str
    flash_time_us : tuple of tuple of float
        One a layout, in the order of the report's results.
    """

    option: str
    values: tuple[str, ...]
    flash_time_us: tuple[tuple[float, ...], ...]


def make_report(
    trace: ActivationTrace,
    layouts: Sequence[Layout],
    results: Sequence[LayoutResult],
    device: DeviceProfile,
    params: SimulationParams,
    *,
    traces: Sequence[str],
    command: str,
    baseline: LayoutResult | None = None,
    block: str | None = None,
    warnings: Sequence[str] = (),
    hot_cold: Layout | None = None,
    sweep: SweepCurves | None = None,
) -> Report:
    """Choose the token that is drawn, replay it in every layout, and return the report.

    Parameters
    ----------
    trace, layouts, results, device, params
        A simulation: `results` has one entry for each of `layouts`.
    traces, command, warnings
        As in `Report`.
    baseline : LayoutResult, optional
        Default: the first.
    block : str, optional
        Default: the block with most reads in the first layout. The token is that with the median number of reads
        there.
    hot_cold : Layout, optional
        Neurons by descending frequency, with frequencies: what gains are compared with once DRAM holds the hottest.
    sweep : SweepCurves, optional
    """
    block = block or busiest_block(results[0])
    token, token_reads = reads_of_median_token(block, trace.blocks[block], layouts, device, params)
    surviving = surviving_gains(trace, hot_cold, layouts, device, params) if hot_cold is not None else ()
    return Report(
        results, baseline or results[0], device, params, block, token, token_reads, traces, command, warnings,
        gain_ladder(trace, layouts, device, params, results), surviving, sweep,
    )  # fmt: skip


def report_html(report: Report) -> str:
    """Return the page. It loads nothing from elsewhere, and follows the reader's light or dark preference."""
    # The device's own may be among the report's.
    warnings = dict.fromkeys([*report.warnings, *([report.device.warning] if report.device.warning else [])])
    sections = [
        f"<h1>Flash reads of {escape(', '.join(report.traces))}</h1>",
        f"<p>{escape(report.device.description)}. {report.results[0].n_tokens} tokens, "
        f"{len(report.results[0].blocks)} FFN blocks.</p>",
        *(f'<p class="warning"><b>Warning.</b> {escape(warning)}</p>' for warning in warnings),
        "<h2>Scores</h2>",
        _score_table(report),
        *_ladder_section(report),
        *_surviving_section(report),
        *_sweep_section(report),
        "<h2>Where one token's reads fall</h2>",
        f"<p>Token {report.token} in block {escape(report.block)}: the one with the median number of reads in "
        f"{escape(report.token_reads[0].layout)}.</p>",
        both_widths(lambda width: token_picture(report.token_reads, width)),
        "<h2>How long reads are</h2>",
        both_widths(lambda width: read_length_picture(report.results, width)),
        "<h2>Flash time over tokens</h2>",
        both_widths(lambda width: latency_chart(report.results, width)),
        "<h2>Flash time by block</h2>",
        _block_table(report),
        "<h2>Assumptions</h2>",
        "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in assumptions(report)) + "</ul>",
        "<h2>Made by</h2>",
        f"<pre>{escape(report.command)}</pre>",
    ]
    return page_html(f"Flash reads: {', '.join(report.traces)}", sections)


def assumptions(report: Report) -> list[str]:
    """Return, as sentences, what the numbers rest on."""
    device, params, blocks = report.device, report.params, report.results[0].blocks.values()
    gaps = sorted({block.gap for block in blocks if block.gap is not None})
    if device.is_mapped:
        gap_text = "The file is memory-mapped: each page fault fetches what the kernel reads ahead."
    elif not gaps:
        gap_text = f"Which gaps are read through is decided token by token: {params.planner} planner."
    else:
        gap_text = (
            f"Gaps of up to {' to '.join(map(str, sorted({gaps[0], gaps[-1]})))} unwanted neurons are read through."
        )
    dram_bytes = sum(block.capacity_neurons * block.bundle_bytes for block in blocks)
    return [
        f"Device {device.name}: latency in {device.form} form, read {device.describe()}; "
        + (
            "of requests over IOPS and bytes over bandwidth, the larger counts."
            if device.form == "ceiling"
            else "the times of a token's requests add up."
        ),
        "Flash time is reading alone."
        if params.compute is None
        else f"A layer takes {format_time_us(params.compute.us_per_layer)} to compute; reading overlaps with it as in "
        f"the mode {params.compute.overlap}. Flash time is reading alone.",
        f"Reads are rounded out to pages of {format_bytes(device.page_bytes)} and split at "
        f"{format_bytes(device.max_request_bytes)}; reads of different blocks never merge.",
        gap_text,
        f"DRAM cache: {params.cache}"
        + (f", {format_bytes(dram_bytes)} in all, empty at first." if dram_bytes and params.cache != "none" else "."),
        "Effective bandwidth counts only the bytes of active neurons that were read from flash.",
        *(f"{key}: {source}." for key, source in device.sources.items()),
    ]


def _ladder_section(report: Report) -> list[str]:
    """Return the ladder of gains."""
    names = [result.name for result in report.results]
    return [
        "<h2>Ladder of gains</h2>",
        f"<p>Flash time per token; in brackets the speedup over {escape(names[0])} at the same step.</p>",
        both_widths(lambda width: ladder_chart(report.ladder, names, width)),
    ]


def _surviving_section(report: Report) -> list[str]:
    """Return what DRAM leaves of the gain over hot-cold order, if it is known."""
    if not report.surviving:
        return []
    rows = [
        [
            gain.layout,
            *("-" if ratio is None else f"{ratio:.2f}x" for ratio in (gain.without_dram, gain.with_dram)),
            "-" if gain.surviving_share is None else f"{gain.surviving_share:.0%}",
        ]
        for gain in report.surviving
    ]
    return [
        "<h2>Is co-activation worth anything beyond hot and cold?</h2>",
        f"<p>Speedup over the neurons in order of frequency: without DRAM, and with the hottest {HOT_SHARE:.0%} of "
        "each block in DRAM for both.</p>",
        table(["Layout", "Without DRAM", f"Hottest {HOT_SHARE:.0%} in DRAM", "Gain that survives"], rows),
    ]


def _sweep_section(report: Report) -> list[str]:
    """Return the curves of a sweep, if there was one."""
    sweep = report.sweep
    if sweep is None:
        return []
    curves = [[(float(index), time_us) for index, time_us in enumerate(times)] for times in sweep.flash_time_us]
    names = [result.name for result in report.results]

    def draw(width: float) -> Picture:
        return line_chart(
            curves, names, width, title=f"Flash time per token by {sweep.option}", x_title=sweep.option,
            y_title="flash time per token", write_x=str, write_y=format_time_us, x_labels=sweep.values,
        )  # fmt: skip

    return [f"<h2>Flash time by {escape(sweep.option)}</h2>", both_widths(draw)]


def _score_table(report: Report) -> str:
    """Return scores as rows and layouts as columns, which a phone can show."""
    documents = [result.to_json(report.baseline) for result in report.results]
    rows: list[tuple[str, str, Callable[[float], str]]] = [
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
    ]
    body = [
        [title, *("-" if document[key] is None else write(document[key]) for document in documents)]
        for title, key, write in rows
    ]
    for place, percentile in enumerate(("50", "90", "99"), start=1):  # after the mean
        body.insert(
            place,
            [
                f"{percentile}th percentile",
                *(format_time_us(document["flash_time_us_percentiles"][percentile]) for document in documents),
            ],
        )
    return table(["", *(result.name for result in report.results)], body)


def _block_table(report: Report) -> str:
    """Return the flash time of each block in each layout."""
    body = [
        [
            name,
            *(format_time_us(result.blocks[name].totals.flash_time_us / result.n_tokens) for result in report.results),
        ]
        for name in report.results[0].blocks
    ]
    return table(["Block", *(result.name for result in report.results)], body)
