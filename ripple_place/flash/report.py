"""The report: one self-contained HTML page with scores, pictures, assumptions, warnings, and how it was made."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from ripple_place.flash.picture import NARROW, WIDE, read_length_picture, token_picture
from ripple_place.flash.svg import FONT, css_variables, inline
from ripple_place.flash.token_reads import busiest_block, median_row, reads_of_row
from ripple_place.units import format_bytes, format_rate, format_time_us

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ripple_place.flash.device import DeviceProfile
    from ripple_place.flash.layout import Layout
    from ripple_place.flash.results import LayoutResult
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.flash.svg import Picture
    from ripple_place.flash.token_reads import TokenReads
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
    """
    block = block or busiest_block(results[0])
    block_trace = trace.blocks[block]
    row = median_row(block, block_trace, layouts[0].blocks[block], device, params)
    token_reads = [
        reads_of_row(layout.name, block, block_trace, layout.blocks[block], device, params, row) for layout in layouts
    ]
    token = row if block_trace.token_index is None else int(block_trace.token_index[row])
    return Report(results, baseline or results[0], device, params, block, token, token_reads, traces, command, warnings)


def report_html(report: Report) -> str:
    """Return the page. It loads nothing from elsewhere, and follows the reader's light or dark preference."""
    warnings = [*report.warnings, *([report.device.warning] if report.device.warning else [])]
    sections = [
        f"<h1>Flash reads of {escape(', '.join(report.traces))}</h1>",
        f"<p>{escape(report.device.description)}. {report.results[0].n_tokens} tokens, "
        f"{len(report.results[0].blocks)} FFN blocks.</p>",
        *(f'<p class="warning"><b>Warning.</b> {escape(warning)}</p>' for warning in warnings),
        "<h2>Scores</h2>",
        _score_table(report),
        "<h2>Where one token's reads fall</h2>",
        f"<p>Token {report.token} in block {escape(report.block)}: the one with the median number of reads in "
        f"{escape(report.token_reads[0].layout)}.</p>",
        _both_widths(lambda width: token_picture(report.token_reads, width)),
        "<h2>How long reads are</h2>",
        _both_widths(lambda width: read_length_picture(report.results, width)),
        "<h2>Flash time by block</h2>",
        _block_table(report),
        "<h2>Assumptions</h2>",
        "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in assumptions(report)) + "</ul>",
        "<h2>Made by</h2>",
        f"<pre>{escape(report.command)}</pre>",
    ]
    title = escape(f"Flash reads: {', '.join(report.traces)}")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{css_variables()}{_CSS}</style>\n</head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def assumptions(report: Report) -> list[str]:
    """Return, as sentences, what the numbers rest on."""
    device, params, blocks = report.device, report.params, report.results[0].blocks.values()
    gaps = sorted({block.gap for block in blocks})
    gap_text = f"{gaps[0]}" if len(gaps) == 1 else f"{gaps[0]} to {gaps[-1]}"
    dram_bytes = sum(block.capacity_neurons * block.bundle_bytes for block in blocks)
    return [
        f"Device {device.name}: latency in {device.form} form, at a queue depth that saturates the device; the times "
        "of a token's requests add up, and nothing overlaps with computation.",
        f"Reads are rounded out to pages of {format_bytes(device.page_bytes)} and split at "
        f"{format_bytes(device.max_request_bytes)}; reads of different blocks never merge.",
        f"Gaps of up to {gap_text} unwanted neurons are read through.",
        f"DRAM cache: {params.cache}"
        + (f", {format_bytes(dram_bytes)} in all, empty at first." if dram_bytes and params.cache != "none" else "."),
        "Effective bandwidth counts only the bytes of active neurons that were read from flash.",
        *(f"{key}: {source}." for key, source in device.sources.items()),
    ]


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
    ]
    body = [
        [title, *("-" if document[key] is None else write(document[key]) for document in documents)]
        for title, key, write in rows
    ]
    for percentile in ("50", "90", "99"):
        body.insert(
            -10,
            [
                f"{percentile}th percentile",
                *(format_time_us(document["flash_time_us_percentiles"][percentile]) for document in documents),
            ],
        )
    return _table(["", *(result.name for result in report.results)], body)


def _block_table(report: Report) -> str:
    """Return the flash time of each block in each layout."""
    body = [
        [
            name,
            *(format_time_us(result.blocks[name].totals.flash_time_us / result.n_tokens) for result in report.results),
        ]
        for name in report.results[0].blocks
    ]
    return _table(["Block", *(result.name for result in report.results)], body)


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column names its rows."""
    cells = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(text)}</td>" for text in row[1:])}</tr>'
        for row in body
    )
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table></div>'


def _both_widths(draw: Callable[[float], Picture]) -> str:
    """Return a picture drawn for pages and for phones, of which the style sheet shows one."""
    return inline(draw(WIDE), "wide") + inline(draw(NARROW), "narrow")


_CSS = (
    f"body{{margin:0 auto;padding:16px;max-width:{WIDE}px;background:var(--ground);color:var(--ink);"
    f"font:15px/1.5 {FONT}}}"
    "h1{font-size:22px;line-height:1.25;overflow-wrap:anywhere}h2{font-size:17px;margin:32px 0 8px}"
    "svg{display:block;width:100%;height:auto;margin:8px 0}svg.narrow{display:none}"
    "@media (max-width:560px){svg.wide{display:none}svg.narrow{display:block}body{padding:10px}}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px;"
    "font-variant-numeric:tabular-nums}"
    "th,td{padding:4px 8px;text-align:right;border-bottom:1px solid var(--grid)}"
    "td{white-space:nowrap}th:first-child{text-align:left;padding-left:0}tbody th{font-weight:400}"
    "@media (max-width:560px){table{font-size:13px}th,td{padding:4px}}"
    ".warning{border-left:4px solid var(--series-0);background:var(--track);padding:8px 12px}"
    "pre{background:var(--track);padding:10px 12px;white-space:pre-wrap;overflow-wrap:anywhere;font-size:13px}"
    "li{margin:4px 0;overflow-wrap:anywhere}"
)
