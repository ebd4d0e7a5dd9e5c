"""The page of a mixture's routes: the verdict, hit ratios against slots, and how unevenly experts are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.experts.caches import BOUND
from ripple_place.experts.verdict.hot_set import HOT_SHARES
from ripple_place.experts.verdict.sentences import sentences
from ripple_place.pages.charts import line_chart
from ripple_place.pages.page import Figure, Table, render

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.experts.verdict.judge import ExpertVerdict
    from ripple_place.pages.svg import Picture

DRAWN = ("lru", "s3fifo", "pinned", "pinned+lru", BOUND)
"""Policies whose curves are drawn; the table has all."""


def experts_page(verdict: ExpertVerdict, sources: Sequence[str], warnings: Sequence[str], command: str) -> str:
    """Return the page.

    Parameters
    ----------
    verdict : ExpertVerdict
    sources : sequence of str
        Names of what was profiled.
    warnings : sequence of str
        How the numbers may mislead.
    command : str
        The command that made the page.
    """
    return render(
        "experts.html",
        sources=sources,
        warnings=[f"{warning}." for warning in warnings],
        sentences=sentences(verdict),
        hits=hits_table(verdict),
        curves=Figure.drawn(lambda width: _curves(verdict, width)),
        new=Figure.drawn(lambda width: _new_experts(verdict, width)),
        layers=layers_table(verdict),
        command=command,
    )


def hits_table(verdict: ExpertVerdict) -> Table:
    """Return the hit ratio of every policy by slots a layer."""
    curves = verdict.curves
    return Table(
        ["policy", *(f"{n_slots} slots" for n_slots in curves.slots)],
        [[policy, *(f"{ratio:.1%}" for ratio in ratios)] for policy, ratios in curves.hit_ratio.items()],
    )


def layers_table(verdict: ExpertVerdict) -> Table:
    """Return what is said of each layer."""
    head = [
        "layer", *(f"hottest {share:.0%}" for share in HOT_SHARES), "used at all", "last token", "static list",
        *(f"lru, {n_slots} slots" for n_slots in verdict.curves.slots),
    ]  # fmt: skip
    rows = [
        [
            name, *(f"{share:.0%}" for share in layer.hot.top_shares), f"{layer.hot.seen_share:.0%}",
            _percent(layer.reuse.last_token), _percent(layer.reuse.static_list),
            *(f"{ratio:.0%}" for ratio in verdict.curves.by_layer[name]),
        ]
        for name, layer in verdict.layers.items()
    ]  # fmt: skip
    return Table(head, rows)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _curves(verdict: ExpertVerdict, width: float) -> Picture:
    """Draw hit ratios against slots."""
    curves = verdict.curves
    return line_chart(
        [list(zip(map(float, curves.slots), curves.hit_ratio[policy], strict=True)) for policy in DRAWN], DRAWN, width,
        title="Hit ratio against slots", x_title="experts of a layer in DRAM", y_title="hits",
        write_x="{:.0f}".format, write_y="{:.0%}".format,
    )  # fmt: skip


def _new_experts(verdict: ExpertVerdict, width: float) -> Picture:
    """Draw the share of routings that go to experts that nothing used before."""
    n_parts = len(verdict.new_share)
    points = [(verdict.n_decoded * (part + 0.5) / n_parts, share) for part, share in enumerate(verdict.new_share)]
    return line_chart(
        [points], ["routings to experts that nothing used before"], width,
        title="How fast new experts appear", x_title="generated tokens", y_title="share of routings",
        write_x="{:.0f}".format, write_y="{:.0%}".format,
    )  # fmt: skip
