"""The page of a profile: the verdict with its tables, and pictures of what it rests on."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.graph.binned_lift import binned_lift
from ripple_place.ordering.baselines import original_order
from ripple_place.pages.charts import line_chart
from ripple_place.pages.heat_map import heat_map, heat_scale
from ripple_place.pages.page import both_widths, page_html, side_by_side, table
from ripple_place.pages.read_lengths import ReadLengths, length_picture
from ripple_place.units import format_time_us
from ripple_place.verdict.score import DRAM_SHARES
from ripple_place.verdict.sentences import BLOCK_HEAD, block_row, change, sentences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from ripple_place.pages.svg import Picture
    from ripple_place.verdict.score import BlockScore, Score
    from ripple_place.verdict.verdict import Verdict

MAX_SHOWN = 4
"""Blocks that are drawn: a page of more is not looked at."""
N_CURVE_POINTS = 64


def profile_page(
    verdict: Verdict,
    frequency: Mapping[str, npt.NDArray[np.int64]],
    sources: Sequence[str],
    warnings: Sequence[str],
    command: str,
) -> str:
    """Return the page.

    Parameters
    ----------
    verdict : Verdict
    frequency : mapping of str to ndarray of shape (n_neurons,), int64
        Firing counts by block, on the whole trace.
    sources : sequence of str
        Names of what was profiled.
    warnings : sequence of str
        How the numbers may mislead.
    command : str
        The command that made the page.
    """
    shown = blocks_to_show(verdict)
    title = f"Profile of {', '.join(sources)}"
    which = ""
    if len(shown) < verdict.n_blocks:
        which = (
            f" Drawn are {', '.join(shown) or 'none'}: of the blocks that were judged, those where greedy order saves "
            "most."
        )
    sections = [
        f"<h1>{escape(title)}</h1>",
        f"<p>{escape(f'{verdict.n_tokens:,} tokens, {verdict.n_blocks} FFN blocks.{which}')}</p>",
        *(f'<p class="warning"><b>Warning.</b> {escape(warning)}.</p>' for warning in warnings),
        "<h2>Verdict</h2>",
        "<ul>" + "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences(verdict)) + "</ul>",
        *([] if verdict.overall is None else _overall(verdict, verdict.overall)),
        *_blocks(verdict),
        *_curves(shown, frequency),
    ]
    for name in shown:
        sections += _block(name, verdict.blocks[name])
    sections += ["<h2>Made by</h2>", f"<pre>{escape(command)}</pre>"]
    return page_html(title, sections)


def blocks_to_show(verdict: Verdict) -> list[str]:
    """Return the blocks where greedy order saves most of a token's cost, in model order."""
    saved = {}
    for name, block in verdict.blocks.items():
        costs = block.score.orderings.cost_per_token
        reached = verdict.statistics[name].n_rows / verdict.n_tokens
        saved[name] = reached * (costs["original"][0] - costs["greedy"][0])
    best = sorted(saved, key=lambda name: -saved[name])[:MAX_SHOWN]
    return [name for name in saved if name in best]


def cost_text(verdict: Verdict, cost: float) -> str:
    """Write a cost in the verdict's unit."""
    return format_time_us(cost) if verdict.charge.is_time else f"{cost:,.1f}"


def _overall(verdict: Verdict, score: Score) -> list[str]:
    """Return the tables of all blocks together."""
    costs = score.orderings.cost_per_token
    what = "Flash time" if verdict.charge.is_time else "Cost"
    rows = [
        [f"{what}, no DRAM", *(cost_text(verdict, cost[0]) for cost in costs.values())],
        [f"{what}, hottest {DRAM_SHARES[1]:.0%} in DRAM", *(cost_text(verdict, cost[1]) for cost in costs.values())],
        ["Reads", *(f"{score.reads[name]:,.1f}" for name in costs)],
        ["Neurons a read", *(f"{score.read_length(name) or 0:.2f}" for name in costs)],
    ]
    sections = ["<h2>A token, all blocks that were judged</h2>", table(["", *costs], rows)]
    if len(score.learned) > 1:
        steps = [
            [f"{step.n_rows:,}", cost_text(verdict, step.cost), "" if not place else
             change(1 - step.cost / score.learned[place - 1].cost if score.learned[place - 1].cost else 0.0)]
            for place, step in enumerate(score.learned)
        ]  # fmt: skip
        sections += ["<h2>What more text brings</h2>", table(["Tokens ordered on", what, "Change"], steps)]
    if len(score.crowds) > 1:
        crowds = [[str(crowd.n_together), f"{crowd.active_share:.1%}", change(crowd.gain)] for crowd in score.crowds]
        sections += [
            "<h2>What is left as more neurons are active</h2>",
            "<p>Tokens far apart in the text, whose neurons are read together as in a batch: the same greedy order, "
            "learned from single tokens, against the original.</p>",
            table(["Tokens together", "Active", "Greedy order"], crowds),
        ]
    return sections


def _blocks(verdict: Verdict) -> list[str]:
    """Return the table of blocks, and why placement cannot help some."""
    sections = []
    if verdict.blocks:
        head = [text[0].upper() + text[1:] for text in BLOCK_HEAD]
        sections += ["<h2>Blocks</h2>", table(head, [block_row(verdict, name) for name in verdict.blocks])]
    if verdict.notes:
        notes = "".join(f"<li>{escape(f'{name}: {note}.')}</li>" for name, note in verdict.notes.items())
        sections.append(f"<ul>{notes}</ul>")
    return sections


def _curves(shown: Sequence[str], frequency: Mapping[str, npt.NDArray[np.int64]]) -> list[str]:
    """Return how much of all activations the hottest neurons make."""
    names = list(shown) or list(frequency)[:MAX_SHOWN]

    def draw(width: float) -> Picture:
        return line_chart(
            [frequency_curve(frequency[name]) for name in names], names, width,
            title="Share of activations by the hottest share of neurons", x_title="hottest share of neurons",
            y_title="share of all activations", write_x="{:.0%}".format, write_y="{:.0%}".format,
        )  # fmt: skip

    return ["<h2>How hot the hottest neurons are</h2>", both_widths(draw)]


def frequency_curve(frequency: npt.NDArray[np.int64]) -> list[tuple[float, float]]:
    """Return points (share of the neurons, hottest first; share of all activations that they make).

    >>> frequency_curve(np.array([1, 0, 3]))[1:3]
    [(0.3333333333333333, 0.75), (0.6666666666666666, 1.0)]
    """
    made = np.concatenate([[0], np.cumsum(np.sort(frequency)[::-1])])
    # Denser where the curve bends.
    places = np.unique((np.linspace(0, 1, N_CURVE_POINTS) ** 2 * frequency.size).round().astype(np.int64))
    return [(place / frequency.size, float(made[place] / max(1, made[-1]))) for place in places.tolist()]


def _block(name: str, block: BlockScore) -> list[str]:
    """Return the pictures of one block."""
    maps = [
        heat_map(binned_lift(block.judged, order), title)
        for title, order in (("original order", original_order(block.greedy.size)), ("greedy order", block.greedy))
    ]
    lengths = [
        ReadLengths(ordering, block.read_length_counts[ordering], block.judged.n_rows)
        for ordering in ("original", "greedy")
    ]
    return [
        f"<h2>{escape(name)}</h2>",
        "<p>Which slots fire together, on the tokens that did not choose the order: what does should lie near the "
        "diagonal. Blank is what fires too rarely to tell.</p>",
        side_by_side([*maps, heat_scale()]),
        both_widths(lambda width: length_picture(lengths, width)),
    ]
