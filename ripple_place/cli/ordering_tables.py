"""What ``reorder`` prints of the orders it made: by block, by what was tried, and the comparison of orderings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.cli.rendering import format_table, number, percent
from ripple_place.units import format_bytes, format_time_us

if TYPE_CHECKING:
    from ripple_place.placing.comparison import OrderingComparison
    from ripple_place.placing.copies import CopiesReport
    from ripple_place.placing.dram_report import DramReport
    from ripple_place.placing.reorder_report import ReorderReport

_GIB = 1 << 30


def is_cost(report: ReorderReport) -> bool:
    """Return whether orders are scored by what reads cost, rather than by their number."""
    return any(block.unit != "reads" for block in report.blocks.values())


def is_timed(report: ReorderReport) -> bool:
    """Return whether that cost is flash time on a device."""
    return any(block.unit == "us" for block in report.blocks.values())


def is_bounded(report: ReorderReport) -> bool:
    """Return whether a bound of the reads is known for any block."""
    return any(block.gap_to_bound is not None for block in report.blocks.values())


def reorder_table(report: ReorderReport) -> str:
    """Return a row for each block: before, after, and what was chosen."""
    unit = "us" if is_timed(report) else "cost" if is_cost(report) else "reads"
    rows = []
    for name, block in report.blocks.items():
        row = {"block": name}
        for part, before, after in (
            ("", block.objective_before, block.objective),
            ("held out: ", block.held_out_before, block.held_out),
        ):
            row[f"{part}before" if part else f"{unit}/token before"] = number(before)
            row[f"{part}after"] = number(after)
            row[f"{part}change"] = percent(after / before - 1) if after is not None and before else "-"
        row["in DRAM"] = f"{block.capacity_neurons or 0:,}"
        row["order"] = block.chosen
        row["gap to bound"] = percent(block.gap_to_bound, 2)
        row["seconds"] = number(block.seconds)
        rows.append(row)
    shown = [
        column
        for column in rows[0]
        if (is_cost(report) or not column.startswith(("held out", "order")))
        and (report.dram or column != "in DRAM")
        and (is_bounded(report) or column != "gap to bound")
    ]
    headers = [column.replace("held out: after", "after").replace("held out: change", "change") for column in shown]
    return format_table(headers, [[row[column] for column in shown] for row in rows])


def tried_table(report: ReorderReport) -> str:
    """Return every order that was tried behind the cache, by block, in turn."""
    rows = [
        [name, tried.name, number(tried.searched), number(tried.held_out)]
        for name, block in report.blocks.items()
        for tried in block.tried
    ]
    return format_table(["block", "tried behind the cache", "cost/token", "held out"], rows)


def dram_lines(dram: DramReport) -> list[str]:
    """Return how a DRAM budget was used, as sentences."""
    recorded = dram.recorded
    budget = percent(recorded.share) if recorded.share is not None else format_bytes(recorded.budget_bytes or 0)
    by_split = dram.cost_by_split
    lines = [
        f"DRAM: {budget}, {recorded.cache}, split {'by gain' if dram.split == 'gain' else 'evenly'}: before ordering "
        f"for it, cost/token held out is {number(by_split['gain'])} by gain, {number(by_split['even'])} evenly."
    ]
    if dram.cost_by_cache:
        costs = ", ".join(f"{name} {number(cost)}" for name, cost in dram.cost_by_cache.items())
        lines.append(f"Policies before ordering for them, cost/token held out: {costs}.")
    return lines


def copies_table(copies: CopiesReport) -> str:
    """Return by block what one copy and what two cost on the tokens that judge."""
    held = "held out: " if copies.held_out else ""
    rows = []
    for name, block in copies.blocks.items():
        costs = block.to_json()
        change = percent(block.two / block.one - 1) if block.one else "-"
        rows.append([name, number(costs["one"]), number(costs["two"]), change])
    return format_table(["block", f"{held}cost/token, one copy", "two copies", "change"], rows)


def copies_line(copies: CopiesReport) -> str:
    """Return what the second copy buys, and for how much flash, as a sentence."""
    judged = "held out" if copies.held_out else "searched (too few to hold any out)"
    line = (
        f"Copies: cost/token on the {copies.n_tokens:,} tokens {judged} is {number(copies.one)} from one copy, "
        f"{number(copies.two)} from two: {percent(copies.gain)} less"
    )
    if copies.extra_bytes is None:
        return f"{line}; without --bundle-bytes, how much flash that takes is unknown."
    line += f" for {format_bytes(copies.extra_bytes)} more flash"
    if copies.gain_per_gib is None:
        return f"{line}."
    if copies.extra_bytes >= _GIB:
        return f"{line}, {percent(copies.gain_per_gib)} per GiB."
    return f"{line}, {percent(copies.gain_per_gib / 1024, 2)} per MiB."


def comparison_text(comparison: OrderingComparison) -> str:
    """Return what orderings cost without DRAM and with the hottest neurons in DRAM, and what that comes to."""
    from ripple_place.placing.comparison import DRAM_SHARES

    shares = [percent(share, 0) for share in DRAM_SHARES]
    what = "flash time/token" if comparison.unit == "us" else "cost/token"
    write = format_time_us if comparison.unit == "us" else number
    rows = [[name, *map(write, costs)] for name, costs in comparison.cost_per_token.items()]
    tokens = "held out" if comparison.held_out else "searched (too few to hold any out)"
    gains = ", ".join(f"{gain:.2f}x" for gain in comparison.beyond_hot_cold)
    table = format_table([what, "no DRAM", *(f"hottest {share}" for share in shares[1:])], rows)
    return (
        f"{table}\nOn the {comparison.n_tokens:,} tokens {tokens}, all blocks. "
        f"Beyond frequency order, the best gains {gains}."
    )
