"""The files that `simulate` draws: the page, and its first picture alone."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.blocks import block_sort_key
from ripple_place.flash.layout import Layout
from ripple_place.flash.pipeline.timeline import layer_timeline
from ripple_place.flash.simulator import serve_blocks, simulate
from ripple_place.flash.token_reads import busiest_block, reads_of_median_token
from ripple_place.ordering.frequency import frequency_order
from ripple_place.pages.report import SweepCurves, make_report
from ripple_place.pages.simulation_page import report_html
from ripple_place.pages.svg import standalone
from ripple_place.pages.timeline_picture import timeline_picture
from ripple_place.pages.token_picture import token_picture
from ripple_place.placement import NeuronPlacement
from ripple_place.tensorfile import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ripple_place.scoring.score import Scores
    from ripple_place.scoring.sweep import SweepReport


def write_page(path: Path | str, scores: Scores, command: str, sweep: SweepReport | None = None) -> None:
    """Write the page of a simulation; it appears whole or not at all.

    Parameters
    ----------
    path : Path or str
    scores : Scores
    command : str
        Shown as what made the page.
    sweep : SweepReport, optional
        Its curves are drawn as well.

    Raises
    ------
    OSError
        If storage refuses.
    """
    report = make_report(
        scores.trace, scores.layouts, scores.results, scores.device, scores.params,
        traces=scores.traces, command=command, baseline=scores.baseline, warnings=scores.warnings,
        hot_cold=hot_cold(scores.layouts[0]), sweep=None if sweep is None else sweep_curves(sweep),
        rules=scores.rules, magnitude_noise=scores.magnitude_noise, tuned=scores.tuned,
        predicted=scores.predicted,
    )  # fmt: skip
    with replacing(path) as file:
        file.write(report_html(report).encode())


def write_picture(path: Path | str, scores: Scores) -> None:
    """Write where the reads of one token fall in each layout, as an SVG file; it appears whole or not at all.

    The reads are those of all that fires, whatever rules drop.

    Raises
    ------
    OSError
        If storage refuses.
    """
    first = scores.results[0]
    if scores.rules:
        first = simulate(scores.trace, scores.layouts[0], scores.device, scores.params)
    block = busiest_block(first)
    _, reads = reads_of_median_token(block, scores.trace, scores.layouts, scores.device, scores.params)
    with replacing(path) as file:
        file.write(standalone(token_picture(reads)).encode())


def write_timeline(path: Path | str, scores: Scores) -> None:
    """Write what each thread does in one layer of one token, as an SVG file; it appears whole or not at all.

    It is the layer in the middle of the model, of the token of median time, in the first layout. The neurons are all
    that fire, whatever rules drop.

    Raises
    ------
    OSError
        If storage refuses.
    """
    compute, layout = scores.params.compute, scores.layouts[0]
    assert compute is not None
    assert compute.pipeline is not None
    first = scores.results[0]
    if scores.rules:
        first = simulate(scores.trace, layout, scores.device, scores.params)
    assert first.token_time is not None
    token_us = first.token_time.token_us
    token = int(np.argsort(token_us, kind="stable")[(token_us.size - 1) // 2])
    layers = layer_blocks(scores.trace.blocks)
    names = layers[len(layers) // 2]
    # All blocks, since they may share a cache.
    served = zip(scores.trace.blocks, serve_blocks(scores.trace, layout, scores.device, scores.params), strict=True)
    blocks = [(rows, result.bundle_bytes) for name, (result, rows) in served if name in names]
    timeline = layer_timeline(blocks, token, compute.pipeline, compute.us_per_layer)
    heading = f"{names[0]}{' and others' if len(names) > 1 else ''}, token {token}"
    with replacing(path) as file:
        file.write(standalone(timeline_picture(timeline, heading)).encode())


def layer_blocks(names: Iterable[str]) -> list[list[str]]:
    """Return blocks by layer, in model order.

    >>> layer_blocks(["layers.0", "layers.1.experts.0", "layers.1.experts.1"])
    [['layers.0'], ['layers.1.experts.0', 'layers.1.experts.1']]
    """
    return [list(group) for _, group in groupby(names, lambda name: block_sort_key(name)[:2])]


def hot_cold(layout: Layout) -> Layout | None:
    """Return a layout with its neurons by descending frequency; None where frequencies are unknown."""
    blocks = {}
    for name, block in layout.blocks.items():
        frequency = block.placement.frequency
        if frequency is None:
            return None
        placement = NeuronPlacement(frequency_order(frequency), frequency=frequency)
        blocks[name] = replace(block, placement=placement)
    return Layout("hot-cold", blocks)


def sweep_curves(report: SweepReport) -> SweepCurves:
    """Return what the page draws of a sweep."""
    by_result = zip(*(scores.results for scores in report.points), strict=True)
    times_us = tuple(
        tuple(result.totals.flash_time_us / result.n_tokens for result in results) for results in by_result
    )
    return SweepCurves(report.sweep.option, report.sweep.values, times_us)
