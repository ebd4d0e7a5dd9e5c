"""The picture of a layer in the pipeline: which thread does what when, for one token."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.flash.pipeline.timeline import ATTENTION, DENSE, IO, NO_CLUSTER, NPU, PREFETCH, STAGES
from ripple_place.pages.svg import Picture, boxes, colour_of, element, label, round_up
from ripple_place.units import format_time_us

if TYPE_CHECKING:
    from ripple_place.flash.pipeline.timeline import LayerTimeline, StageSpan

TIMELINE_WIDTH = 440
"""Narrower than a page, so that texts of 12 are still read where a phone shrinks the picture to 360 pixels."""
_ROW_HEIGHT, _BOX_HEIGHT, _LABEL_WIDTH = 27, 20, 76
_MOST_STEPS = 5
"""Of the time axis."""
_HALF_TEXT = 24
"""Pixels of a time on the axis."""
_FEWEST_PIXELS = 7
"""For each digit of a cluster's number."""

# A stage has one colour; what is read is warm, what is computed is cold.
_COLOURS = dict(
    zip(
        STAGES,
        (colour_of(5), colour_of(0), colour_of(1), colour_of(4), colour_of(2)),
        strict=True,
    )
) | {ATTENTION: "var(--grid)", PREFETCH: "var(--heat-4)", DENSE: colour_of(3)}
_RESIDENT_OPACITY = 0.6


def timeline_picture(timeline: LayerTimeline, heading: str, width: float = TIMELINE_WIDTH) -> Picture:
    """Draw what each thread does in one layer of one token.

    Parameters
    ----------
    timeline : LayerTimeline
    heading : str
        Which layer and token.
    width : float
        In pixels at which a text of 12 is easily read.

    Returns
    -------
    Picture
        A row for each thread, a box for each stage with the number of its cluster, counted from 1. Clusters that DRAM
        holds are paler than those that were read.
    """
    span_us = timeline.finish_us or 1.0
    scale = (width - _LABEL_WIDTH - 2) / span_us
    summary = f"{format_time_us(timeline.finish_us)}; {format_time_us(timeline.exposed_us)} of it nothing computes"
    elements = [label(0, 14, heading, size=14, font_weight=600), label(0, 32, summary)]
    elements_legend, y = _legend(timeline, width, 42.0)
    elements += elements_legend
    threads = _threads(timeline)
    elements += _grid(span_us, scale, y, len(threads) * _ROW_HEIGHT)
    for thread in threads:
        elements.append(label(_LABEL_WIDTH - 8, y + 15, thread, text_anchor="end", fill="var(--muted)"))
        for span in timeline.spans:
            if span.thread == thread:
                elements += _box(span, scale, y, is_resident=span.cluster < timeline.n_resident_clusters)
        y += _ROW_HEIGHT
    title = f"{heading}: {summary}. {'; '.join(f'{thread} {_busy(timeline, thread)}' for thread in threads)}"
    return Picture(width, y + 18, title, tuple(filter(None, elements)))


def _threads(timeline: LayerTimeline) -> list[str]:
    """Return the threads that do anything, and the I/O thread: compute threads in order, then I/O and NPU."""
    names = {IO, *(span.thread for span in timeline.spans)}
    compute = sorted(names - {IO, NPU}, key=lambda name: int(name.split()[-1]))
    return [*compute, *(name for name in (IO, NPU) if name in names)]


def _busy(timeline: LayerTimeline, thread: str) -> str:
    """Return in words for how long a thread works."""
    busy_us = sum(span.end_us - span.start_us for span in timeline.spans if span.thread == thread)
    return f"busy for {format_time_us(busy_us)}"


def _box(span: StageSpan, scale: float, y: float, *, is_resident: bool) -> list[str]:
    """Return the box of a stage, and the number of its cluster where it fits."""
    x, box_width = _LABEL_WIDTH + span.start_us * scale, max(0.7, (span.end_us - span.start_us) * scale)
    is_pale = span.cluster != NO_CLUSTER and is_resident
    # A gap between boxes shows where one stage ends and the next begins.
    drawn_width = box_width - min(1.0, box_width / 4)
    elements = [
        # So that the lines of the time axis do not shine through.
        boxes([(x, drawn_width)], y, _BOX_HEIGHT, fill="var(--ground)") if is_pale else "",
        boxes([(x, drawn_width)], y, _BOX_HEIGHT, fill=_COLOURS[span.stage],
              fill_opacity=_RESIDENT_OPACITY if is_pale else 1.0),
    ]  # fmt: skip
    text = str(span.cluster + 1)
    if span.cluster != NO_CLUSTER and box_width >= _FEWEST_PIXELS * len(text) + 2:
        colour = "var(--ink)" if is_pale else "var(--ground)"
        elements.append(label(x + drawn_width / 2, y + 14.5, text, size=11, text_anchor="middle", fill=colour))
    return elements


def _grid(span_us: float, scale: float, y: float, height: float) -> list[str]:
    """Return lines across the rows at round times, with the time beneath."""
    elements, step_us = [], round_up(span_us / _MOST_STEPS)
    for step in range(int(span_us / step_us) + 1):
        time_us = step * step_us
        x = _LABEL_WIDTH + time_us * scale
        # The last text would reach beyond the picture where its line is near the end.
        anchor = "end" if (span_us - time_us) * scale < _HALF_TEXT else "middle"
        elements += [
            element("path", d=f"M{x:.1f} {y - 4:.1f}V{y + height:.1f}", stroke="var(--grid)", stroke_width=1),
            label(x, y + height + 14, format_time_us(time_us) if step else "0", size=11, fill="var(--muted)",
                  text_anchor=anchor),
        ]  # fmt: skip
    return elements


def _legend(timeline: LayerTimeline, width: float, y: float) -> tuple[list[str], float]:
    """Return what the colours mean, in as many lines as are needed, and where the rows begin."""
    stages = {span.stage for span in timeline.spans}
    elements, x = [], 0.0
    for stage, colour in _COLOURS.items():
        if stage not in stages:
            continue
        step = 6.4 * len(stage) + 30
        if x and x + step > width:
            x, y = 0.0, y + 17
        elements += [boxes([(x, 11.0)], y, 11, fill=colour), label(x + 15, y + 10, stage, fill="var(--muted)")]
        x += step
    y += 17
    if timeline.n_resident_clusters > 0 and any(span.cluster >= 0 for span in timeline.spans):
        elements.append(
            label(0, y + 10, "numbers: clusters; pale: in DRAM from the start", size=11, fill="var(--muted)")
        )
        y += 17
    return elements, y + 8
