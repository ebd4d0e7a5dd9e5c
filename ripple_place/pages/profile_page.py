"""The page of a profile: the verdict with its tables, and pictures of what it rests on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.graph.binned_lift import binned_lift
from ripple_place.ordering.original import original_order
from ripple_place.pages.charts import line_chart
from ripple_place.pages.heat_map import heat_map, heat_scale
from ripple_place.pages.page import Figure, Table, render
from ripple_place.pages.prediction_section import PredictionSection
from ripple_place.pages.read_lengths import ReadLengths, length_picture
from ripple_place.units import format_time_us
from ripple_place.verdict.score import DRAM_SHARES
from ripple_place.verdict.sentences import BLOCK_HEAD, block_row, change, sentences

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.arrays import Int64Array
    from ripple_place.pages.svg import Picture
    from ripple_place.predict.report import PredictionReport
    from ripple_place.verdict.score import BlockScore
    from ripple_place.verdict.verdict import Verdict

MAX_SHOWN = 4
"""Blocks that are drawn: a page of more is not looked at."""
N_CURVE_POINTS = 64


@dataclass(frozen=True)
class BlockPictures:
    """The pictures of one block.

    Attributes
    ----------
    name : str
    maps : tuple of Picture
        Which slots fire together, in the original and in greedy order, and what the colours mean.
    read_lengths : Figure
    """

    name: str
    maps: tuple[Picture, ...]
    read_lengths: Figure

    @classmethod
    def drawn(cls, name: str, block: BlockScore) -> BlockPictures:
        """Return the pictures that a block's score holds."""
        orders = {"original": original_order(block.greedy.size), "greedy": block.greedy}
        maps = [heat_map(binned_lift(block.judged, order), f"{title} order") for title, order in orders.items()]
        lengths = [ReadLengths(title, block.read_length_counts[title], block.judged.n_rows) for title in orders]
        return cls(name, (*maps, heat_scale()), Figure.drawn(lambda width: length_picture(lengths, width)))


def profile_page(
    verdict: Verdict,
    frequency: Mapping[str, Int64Array],
    sources: Sequence[str],
    warnings: Sequence[str],
    command: str,
    prediction: PredictionReport | None = None,
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
    prediction : PredictionReport, optional
        How good predictors are.
    """
    shown = blocks_to_show(verdict)
    return render(
        "profile.html",
        sources=sources,
        verdict=verdict,
        n_tokens=f"{verdict.n_tokens:,}",
        shown=shown,
        warnings=[f"{warning}." for warning in warnings],
        sentences=sentences(verdict),
        overall=_overall(verdict),
        learned=_learned(verdict),
        crowds=_crowds(verdict),
        blocks=_blocks(verdict),
        notes=[f"{name}: {note}." for name, note in verdict.notes.items()],
        hottest=_hottest({name: frequency[name] for name in shown or list(frequency)[:MAX_SHOWN]}),
        drawn=[BlockPictures.drawn(name, verdict.blocks[name]) for name in shown],
        prediction=None if prediction is None else PredictionSection.of(prediction),
        command=command,
    )


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
    return format_time_us(cost) if verdict.read_cost.is_time else f"{cost:,.1f}"


def _cost_title(verdict: Verdict) -> str:
    return "Flash time" if verdict.read_cost.is_time else "Cost"


def _overall(verdict: Verdict) -> Table | None:
    """Return costs and reads by ordering, of all blocks together; None if none was judged."""
    score, what = verdict.overall, _cost_title(verdict)
    if score is None:
        return None
    costs = score.orderings.cost_per_token
    rows = [
        [f"{what}, no DRAM", *(cost_text(verdict, cost[0]) for cost in costs.values())],
        [f"{what}, hottest {DRAM_SHARES[1]:.0%} in DRAM", *(cost_text(verdict, cost[1]) for cost in costs.values())],
        ["Reads", *(f"{score.reads[name]:,.1f}" for name in costs)],
        ["Neurons a read", *(f"{score.read_length(name) or 0:.2f}" for name in costs)],
    ]
    return Table(["", *costs], rows)


def _learned(verdict: Verdict) -> Table | None:
    """Return costs by how much text the order was learned from; None unless there are several amounts."""
    score = verdict.overall
    if score is None or len(score.learned) < 2:
        return None
    costs = [step.cost for step in score.learned]
    changes = ["", *(change(1 - cost / before if before else 0.0) for before, cost in pairwise(costs))]
    rows = [
        [f"{step.n_rows:,}", cost_text(verdict, step.cost), changed]
        for step, changed in zip(score.learned, changes, strict=True)
    ]
    return Table(["Tokens ordered on", _cost_title(verdict), "Change"], rows)


def _crowds(verdict: Verdict) -> Table | None:
    """Return the gain of greedy order by tokens read together; None unless there are several numbers of them."""
    score = verdict.overall
    if score is None or len(score.crowds) < 2:
        return None
    rows = [[str(crowd.n_together), f"{crowd.active_share:.1%}", change(crowd.gain)] for crowd in score.crowds]
    return Table(["Tokens together", "Active", "Greedy order"], rows)


def _blocks(verdict: Verdict) -> Table | None:
    """Return the figures of each block; None if none was judged."""
    if not verdict.blocks:
        return None
    head = [text[0].upper() + text[1:] for text in BLOCK_HEAD]
    return Table(head, [block_row(verdict, name) for name in verdict.blocks])


def _hottest(frequency: Mapping[str, Int64Array]) -> Figure:
    """Return how much of all activations the hottest neurons make, by block."""
    curves = [frequency_curve(counts) for counts in frequency.values()]
    return Figure.drawn(
        lambda width: line_chart(
            curves, list(frequency), width,
            title="Share of activations by the hottest share of neurons", x_title="hottest share of neurons",
            y_title="share of all activations", write_x="{:.0%}".format, write_y="{:.0%}".format,
        )
    )  # fmt: skip


def frequency_curve(frequency: Int64Array) -> list[tuple[float, float]]:
    """Return points (share of the neurons, hottest first; share of all activations that they make).

    >>> frequency_curve(np.array([1, 0, 3]))[1:3]
    [(0.3333333333333333, 0.75), (0.6666666666666666, 1.0)]
    """
    made = np.concatenate([[0], np.cumsum(np.sort(frequency)[::-1])])
    # Denser where the curve bends.
    places = np.unique((np.linspace(0, 1, N_CURVE_POINTS) ** 2 * frequency.size).round().astype(np.int64))
    return [(place / frequency.size, float(made[place] / max(1, made[-1]))) for place in places.tolist()]
