"""The verdict in words."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from ripple_place.blocks import NEURON, is_input_block
from ripple_place.placing.block_report import HELPLESS_GAIN
from ripple_place.units import format_bytes
from ripple_place.verdict.score import DRAM_SHARES

if TYPE_CHECKING:
    from ripple_place.verdict.rule_cost import RuleCost
    from ripple_place.verdict.score import Score
    from ripple_place.verdict.verdict import Verdict

MUCH_GAIN = 0.1
"""From this gain on, reordering helps without reservation."""

BLOCK_HEAD = (
    "block", "active", "greedy", f"{DRAM_SHARES[1]:.0%} in DRAM", "read length", "same neighbours", "last doubling",
    "stops paying",
)  # fmt: skip
"""Columns of `block_row`."""


def sentences(verdict: Verdict) -> tuple[str, ...]:
    """Return the verdict in plain sentences."""
    score = verdict.overall
    if score is None:
        return (_too_short(verdict),)
    lines = [_help(verdict, score), *_rule_cost(verdict.rule), _reads(score), *_stops_paying(verdict)]
    lines += [_length(verdict, score), _price(verdict)]
    n_judged = len(verdict.blocks)
    if n_judged + len(set(verdict.notes) - set(verdict.blocks)) < verdict.n_blocks:
        lines.append(f"{n_judged} of {verdict.n_blocks} blocks were judged, spread evenly over the model.")
    return tuple(lines)


def less(gain: float) -> str:
    """Write a gain in words.

    >>> less(0.123), less(-0.012), less(0.0)
    ('12.3% less', '1.2% more', '0.0% less')
    """
    return f"{100 * abs(gain):.1f}% {'less' if gain > -0.0005 else 'more'}"


def change(gain: float) -> str:
    """Write a gain as a change of the cost, for a table.

    >>> change(0.123), change(-0.01), change(0.0)
    ('-12.3%', '+1.0%', '0.0%')
    """
    return f"{-100 * gain:+.1f}%" if abs(gain) >= 0.0005 else "0.0%"


def block_row(verdict: Verdict, name: str) -> list[str]:
    """Return one block's figures as text."""
    score = verdict.blocks[name].score
    lengths = [score.read_length(ordering) for ordering in ("original", "greedy")]
    stops = score.stops_paying_share
    doubling = score.last_doubling
    kept = score.neighbors_kept
    return [
        name,
        f"{score.crowds[0].active_share:.1%}",
        change(score.gain("greedy")),
        change(score.gain("greedy", 1)),
        "-" if None in lengths else " to ".join(f"{length:.2f}" for length in lengths),
        "-" if kept is None else f"{kept[0]:.0%}",
        "-" if doubling is None else change(doubling),
        f"> {score.crowds[-1].active_share:.0%}" if stops is None else f"{stops:.0%}",
    ]


def _help(verdict: Verdict, score: Score) -> str:
    best = score.gain(score.best)
    head = "Reordering does not help this model"
    if score.orderings.cost_per_token["original"][0] == 0:
        return f"{head}: nothing is read."
    if verdict.is_nearly_all and not verdict.rule.changes_output:
        return (
            f"{head} by this rule: nearly all of its neurons are active ({score.crowds[0].active_share:.1%}), so that "
            "nearly all are read in any order. Where the activation function is smooth, as SiLU and GELU are, profile "
            "by a rule that drops small outputs, such as --active top-k=30%."
        )
    if verdict.rule.is_harmful:
        head = f"Reordering does not make up for what the rule {verdict.rule.rule} costs this model"
    elif best >= MUCH_GAIN:
        head = "Reordering helps this model"
    elif score.is_gain:
        head = "Reordering helps this model a little"
    without, with_dram = (
        [less(score.gain(name, place)) for name in ("greedy", "frequency")] for place in range(len(DRAM_SHARES))
    )
    return (
        f"{head}: on the half of the trace that did not choose the orders, greedy order costs {without[0]} than the "
        f"original, frequency order {without[1]}; with the hottest {DRAM_SHARES[1]:.0%} of neurons in DRAM, "
        f"{with_dram[0]} and {with_dram[1]}."
    )


def _rule_cost(rule: RuleCost) -> list[str]:
    """Say what the rule costs, unless it is exact or unknown to us."""
    if not rule.changes_output:
        return []
    if rule.rise is None:
        return [
            f"What the rule {rule.rule} costs was not measured: it changes what the model says. Profile the model "
            "without --no-perplexity to measure it."
        ]
    advice = " Keep more neurons, to spoil less." if rule.is_harmful else ""
    condition = ", if the device knows before it reads which neurons to keep" if rule.unit == NEURON else ""
    return [
        f"By the rule {rule.rule} the perplexity of the text is {rule.perplexity:.2f} instead of "
        f"{rule.perplexity_without_rule:.2f} ({rule.rise:+.1%}){condition}.{advice}"
    ]


def _reads(score: Score) -> str:
    """Say how many reads a token takes, and how long they are."""
    new, old = (
        f"{score.reads[name]:,.0f} reads of {score.read_length(name) or 0:.2f} neurons"
        for name in (score.best, "original")
    )
    return f"A token takes {new} in {score.best} order, {old} in the original."


def _stops_paying(verdict: Verdict) -> list[str]:
    """Say at which active share of a block placement stops paying: measured, where that was reached."""
    scores = [block.score for block in verdict.blocks.values()]
    here = _range([score.crowds[0].active_share for score in scores])
    measured = [score.stops_paying_share for score in scores if score.crowds[0].gain >= HELPLESS_GAIN]
    known = [share for share in measured if share is not None]
    if not measured:
        return []
    most = max(score.crowds[-1].active_share for score in scores)
    line = f"In a block, {here} of the neurons are active; greedy order"
    if not known:
        return [f"{line} still pays at {most:.0%}, the most that was tried."]
    where = "" if len(known) == len(scores) else f" in {len(known)} of {len(scores)} blocks"
    return [f"{line} stops paying at about {_range(known, 0)}{where}."]


def _range(shares: list[float], decimals: int = 1) -> str:
    """Write the range of some shares.

    >>> _range([0.123, 0.2]), _range([0.5, 0.501], 0)
    ('12.3% to 20.0%', '50%')
    """
    low, high = f"{min(shares):.{decimals}%}", f"{max(shares):.{decimals}%}"
    return low if low == high else f"{low} to {high}"


def _length(verdict: Verdict, score: Score) -> str:
    if verdict.is_long_enough is None or score.last_doubling is None:
        return _too_short(verdict)
    last, previous, fell = score.learned[-1], score.learned[-2], score.last_doubling
    change = "lowered" if fell >= 0 else "raised"
    lesson = (
        f"ordering on {last.n_rows:,} tokens instead of {previous.n_rows:,} {change} the cost by {100 * abs(fell):.1f}%"
    )
    if kept := score.neighbors_kept:
        lesson += f"; the halves agree on {kept[0]:.0%} of the best neighbours (by chance {kept[1]:.1%})"
    if verdict.is_long_enough:
        return f"The trace is long enough: {lesson}."
    return f"More text will still help: {lesson}."


def _too_short(verdict: Verdict) -> str:
    return f"The trace is too short to tell: {_tokens(verdict.n_tokens)}. Record more text, some thousand tokens."


def _tokens(n_tokens: int) -> str:
    return "1 token" if n_tokens == 1 else f"{n_tokens:,} tokens"


def _sizes(verdict: Verdict) -> str:
    """Write the sizes of bundles, by what a bundle is."""
    sizes: dict[str, set[int]] = defaultdict(set)
    for name, size in verdict.bundle_bytes.items():
        column = "an input column" if is_input_block(name) else "a down column"
        sizes["a neuron" if verdict.unit == NEURON else column].add(size)
    ranges = {kind: dict.fromkeys(map(format_bytes, (min(of_kind), max(of_kind)))) for kind, of_kind in sizes.items()}
    return " and ".join(f"{' to '.join(ends)} {kind}" for kind, ends in ranges.items())


def _price(verdict: Verdict) -> str:
    """Say what costs mean."""
    cost = verdict.read_cost
    if cost.device is None:
        return f"Cost is lambda x reads + neurons read, at lambda {cost.break_even_gap:g}."
    size = format_bytes(cost.bundle_bytes or 0)
    if cost.is_time:
        return f"Cost is flash time on {cost.device.name}, at {_sizes(verdict)}."
    return (
        f"Cost is lambda x reads + neurons read, at lambda {cost.break_even_gap:.2f}: {cost.device.name} with "
        f"{size} a neuron. --bundle-bytes gives times."
    )
