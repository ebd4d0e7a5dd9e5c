"""The page of a simulation of experts: scores, prompts, and hits and times against slots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.pages.charts import line_chart
from ripple_place.pages.page import Figure, Table, render
from ripple_place.units import format_bytes, format_rate, format_time_us

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ripple_place.experts.results import ExpertReport
    from ripple_place.experts.slot_curves import SlotCurves
    from ripple_place.pages.svg import Picture

Rows = tuple[tuple[str, str, "Callable[[float], str]"], ...]

_SCORES: Rows = (
    ("Found in DRAM, best", "cache_hit_ratio_belady", "{:.1%}".format),
    ("Misses per token", "misses_per_token", "{:.2f}".format),
    ("Reads per token", "reads_per_token", "{:.1f}".format),
    ("Requests per token", "requests_per_token", "{:.1f}".format),
    ("Reads are split at", "request_bytes", format_bytes),
    ("Read per token", "bytes_read_per_token", format_bytes),
    ("Bandwidth", "bandwidth_bytes_per_s", format_rate),
    ("Flash time per token", "flash_time_us_per_token", format_time_us),
    ("Flash speedup", "speedup", "{:.2f}x".format),
    ("Token time", "token_time_us_per_token", format_time_us),
    ("Tokens per second", "tokens_per_s", "{:.2f}".format),
    ("Token speedup", "token_speedup", "{:.2f}x".format),
)
"""Rows of the scores: title, key of the JSON document, and how its number is written; left out where none has one."""
_PROMPTS: Rows = (
    ("Tokens", "n_tokens", "{:,.0f}".format),
    ("Chunks that pass at once", "n_chunks", "{:,.0f}".format),
    ("Experts that a chunk uses", "experts_per_chunk", "{:,.1f}".format),
    ("Read", "bytes_read", format_bytes),
    ("Flash time, all prompts", "flash_time_us", format_time_us),
    ("Flash time per token", "flash_time_us_per_token", format_time_us),
    ("Time with computing, all prompts", "time_us", format_time_us),
    ("Tokens per second", "tokens_per_s", "{:.2f}".format),
)
_AHEAD: Rows = (
    ("Read ahead per token, experts", "experts_per_token", "{:.2f}".format),
    ("Misses that were read ahead", "hit_ratio", "{:.1%}".format),
    ("Read ahead in vain, of what is read", "wasted_share", "{:.1%}".format),
)
_PERCENTILES = ("50", "90", "99")


def serving_page(report: ExpertReport, curves: SlotCurves | None, command: str) -> str:
    """Return the page. It loads nothing from elsewhere.

    Parameters
    ----------
    report : ExpertReport
    curves : SlotCurves or None
        None where no token was generated.
    command : str
        The command that made the page.
    """
    document = report.to_json()
    layouts = document["layouts"]
    prompts = [layout["prefill"] for layout in layouts]
    ahead = [layout["prefetch"] for layout in layouts]
    return render(
        "serving.html",
        document=document,
        n_layers=len(document["unit_bytes"]),
        memory=_memory(document),
        warnings=[f"{warning}." for warning in document["warnings"]],
        scores=_scores(layouts),
        prompts=None if None in prompts else _table(layouts, prompts, _PROMPTS),
        ahead=None if None in ahead else _table(layouts, ahead, _AHEAD),
        curves=curves,
        has_profile=report.scores.params.profile is not None,
        hits=None if curves is None else Figure.drawn(lambda width: hits_picture(curves, width)),
        hits_table=None if curves is None else slots_table(curves, curves.hit_ratio, "{:.1%}".format),
        times=None if curves is None else Figure.drawn(lambda width: _times(curves, width)),
        times_table=None if curves is None else slots_table(curves, curves.time_us, format_time_us),
        sweep=None if report.option is None else Figure.drawn(lambda width: _sweep(document, width)),
        tokens=Figure.drawn(lambda width: _tokens(report, width)),
        layers=_layers(layouts),
        assumptions=_assumptions(report),
        command=command,
    )


def hits_picture(curves: SlotCurves, width: float) -> Picture:
    """Draw the hits of each policy against slots."""
    return line_chart(
        _points(curves, curves.hit_ratio), list(curves.hit_ratio), width,
        title="Hit ratio against slots", x_title="experts of a layer in DRAM", y_title="found in DRAM",
        write_x=str, write_y="{:.0%}".format, x_labels=[str(n_slots) for n_slots in curves.slots],
    )  # fmt: skip


def slots_table(
    curves: SlotCurves, values: Mapping[str, Sequence[float]], write: Callable[[float], str]
) -> Table:  # fmt: skip
    """Return numbers of each policy by slots."""
    return Table(
        ["slots a layer", *values],
        [
            [f"{n_slots}", *(write(of_policy[place]) for of_policy in values.values())]
            for place, n_slots in enumerate(curves.slots)
        ],
    )


def _times(curves: SlotCurves, width: float) -> Picture:
    what = "time per token" if curves.has_compute else "flash time per token"
    return line_chart(
        _points(curves, curves.time_us), list(curves.time_us), width,
        title=f"{what.capitalize()} against slots", x_title="experts of a layer in DRAM", y_title=what,
        write_x=str, write_y=format_time_us, x_labels=[str(n_slots) for n_slots in curves.slots],
    )  # fmt: skip


def _points(curves: SlotCurves, values: Mapping[str, Sequence[float]]) -> list[list[tuple[float, float]]]:
    """Return the curve of each policy, slots at equal distances: most happens at the fewest."""
    return [[(float(x), value) for x, value in enumerate(of_policy)] for of_policy in values.values()]


def _scores(layouts: Sequence[Mapping[str, Any]]) -> Table:
    """Return scores of generated tokens as rows and layouts as columns, which a phone can show."""
    hits = ["Found in DRAM", *(_written(layout["cache_hit_ratio_by_phase"]["decode"], "{:.1%}".format)
                               for layout in layouts)]  # fmt: skip
    table = _table(layouts, layouts, _SCORES)
    key = "flash_time_us_percentiles"
    if all(layout["token_time_us_percentiles"] is not None for layout in layouts):
        key = "token_time_us_percentiles"
    of = "token time" if key.startswith("token") else "flash time"
    percentiles = [
        [f"{percentile}th percentile of {of}", *(format_time_us(layout[key][percentile]) for layout in layouts)]
        for percentile in _PERCENTILES
        if all(layout[key] is not None for layout in layouts)
    ]
    return Table(table.head, [hits, *table.rows, *percentiles])


def _table(layouts: Sequence[Mapping[str, Any]], values: Sequence[Mapping[str, Any]], rows: Rows) -> Table:
    """Return rows that any layout has a number for."""
    return Table(
        ["", *(layout["label"] for layout in layouts)],
        [
            [title, *(_written(of[key], write) for of in values)]
            for title, key, write in rows
            if any(of[key] is not None for of in values)
        ],
    )


def _written(value: float | None, write: Callable[[float], str]) -> str:
    return "-" if value is None else write(value)


def _sweep(document: Mapping[str, Any], width: float) -> Picture:
    """Draw the flash time of each layout at each value of a sweep."""
    option, points = document["sweep"]["option"], document["sweep"]["points"]
    names = [layout["label"] for layout in document["layouts"]]
    curves = [
        [(float(x), point["layouts"][place]["flash_time_us_per_token"]) for x, point in enumerate(points)]
        for place in range(len(names))
    ]
    return line_chart(
        curves, names, width, title=f"Flash time per token by {option}", x_title=option,
        y_title="flash time per token", write_x=str, write_y=format_time_us,
        x_labels=[point["value"] for point in points],
    )  # fmt: skip


def _tokens(report: ExpertReport, width: float) -> Picture:
    """Draw the share of generated tokens that take at most so long."""
    results = report.scores.results
    has_time = all(result.token_us is not None for result in results)
    shares = np.linspace(0, 1, 101)
    curves = []
    for result in results:
        times_us = result.token_us if has_time else result.flash_us
        assert times_us is not None
        quantiles = np.quantile(times_us, shares).tolist() if times_us.size else []
        curves.append(list(zip(quantiles, shares.tolist(), strict=False)))
    what = "time of a token" if has_time else "flash time of a token"
    return line_chart(
        curves, [result.name for result in results], width, title="Distribution over generated tokens",
        x_title=what, y_title="share of tokens", write_x=format_time_us, write_y="{:.0%}".format,
    )  # fmt: skip


def _layers(layouts: Sequence[Mapping[str, Any]]) -> Table:
    """Return hits and flash times by layer."""
    return Table(
        ["layer", "found in DRAM", "misses", *(f"flash time, {layout['label']}" for layout in layouts)],
        [
            [
                name, _written(block["cache_hit_ratio_by_phase"]["decode"], "{:.0%}".format),
                f"{block['misses_per_token']:.2f}",
                *(format_time_us(layout["blocks"][name]["flash_time_us_per_token"]) for layout in layouts),
            ]
            for name, block in layouts[0]["blocks"].items()
        ],
    )  # fmt: skip


def _memory(document: Mapping[str, Any]) -> str:
    """Return a sentence of what DRAM there is."""
    if document["dram_budget"] is None:
        return "Nothing is kept in DRAM."
    where = "in one pool of all layers" if document["dram_pool"] else "divided among the layers"
    prompts = "" if document["prefill_admitted"] else " What prompts miss does not enter it."
    return f"DRAM: {document['cache']} cache of {format_bytes(document['capacity_bytes'])}, {where}.{prompts}"


def _assumptions(report: ExpertReport) -> list[str]:
    """Return, as sentences, what the numbers rest on."""
    scores = report.scores
    device, params = scores.device, scores.params
    chunk = "a prompt passes as a whole"
    if params.prefill_chunk is not None:
        chunk = f"a prompt passes in chunks of {params.prefill_chunk} tokens"
    computing = "The time to compute is not included."
    timing = scores.results[0].timing
    if timing is not None:
        computing = (
            f"A layer takes {format_time_us(timing.us_per_layer)} to compute for a generated token; reading overlaps "
            f"with it as in the mode {timing.overlap}."
        )
    return [
        f"Device {device.name}: latency in {device.form} form, read {device.describe()}.",
        f"Generated tokens pass one by one; {chunk}, and an expert of a layer is read once for it.",
        "Missing experts of a layer that lie side by side are one read, rounded out to pages and split. Requests of a "
        "layer are in flight together; those of the next layer wait for it.",
        computing,
        *(f"{key}: {source}." for key, source in device.sources.items()),
    ]
