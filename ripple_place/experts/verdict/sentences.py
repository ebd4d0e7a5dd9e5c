"""The verdict on a mixture's routes, in sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.experts.caches import BOUND
from ripple_place.experts.verdict.hit_curves import best_of
from ripple_place.units import format_bytes, format_time_us

if TYPE_CHECKING:
    from ripple_place.experts.verdict.judge import ExpertVerdict

HOT = 1.5
"""Times as many routings as an even use would send to the hottest tenth, from which on there is a hot set."""
PAYS = 0.02
"""Of hits, from which on one way is said to beat another."""
SHORT_TOKENS = 256
"""Generated tokens below which the routes are said to be few."""


def sentences(verdict: ExpertVerdict) -> list[str]:
    """Return what routes say, one thought each."""
    lines = [
        _size(verdict),
        _hot(verdict),
        _new(verdict),
        _reuse(verdict),
        *_caches(verdict),
        *_orders(verdict),
        *_times(verdict),
    ]
    lines += _communities(verdict)
    if verdict.n_decoded < SHORT_TOKENS:
        lines.append(
            f"These are few tokens ({verdict.n_decoded}): longer routes use more experts, and caches miss more."
        )
    return lines


def _size(verdict: ExpertVerdict) -> str:
    n_layers, per_token = len(verdict.layers), sum(verdict.per_token.values()) / len(verdict.per_token)
    n_experts = max(verdict.n_experts.values())
    size = ""
    if verdict.token_bytes is not None and verdict.model_bytes is not None:
        size = f": {format_bytes(verdict.token_bytes)} a token, of {format_bytes(verdict.model_bytes)}"
    return f"A token uses {per_token:.3g} of {n_experts} experts in each of {n_layers} layers{size}."


def _hot(verdict: ExpertVerdict) -> str:
    top, even = verdict.mean("hot.top_shares", 0), verdict.mean("hot.even_shares", 0)
    is_hot = top >= HOT * even
    return (
        f"{'There is a hot set' if is_hot else 'There is no hot set'}: the hottest tenth of a layer's experts takes "
        f"{top:.0%} of its routings, where even use would show {even:.0%} in so many tokens (a quarter "
        f"{verdict.mean('hot.top_shares', 1):.0%}, half {verdict.mean('hot.top_shares', 2):.0%})."
    )


def _new(verdict: ExpertVerdict) -> str:
    seen = verdict.mean("hot.seen_share")
    return (
        f"{seen:.0%} of the experts were used by {verdict.n_decoded:,} generated tokens; of the last tenth's routings "
        f"{verdict.new_share[-1]:.1%} went to experts that nothing had used before."
    )


def _reuse(verdict: ExpertVerdict) -> str:
    last, listed = verdict.mean("reuse.last_token"), verdict.mean("reuse.static_list")
    better = "better than" if last >= listed + PAYS else "worse than" if last <= listed - PAYS else "as well as"
    return (
        f"The token before names {last:.0%} of a token's experts, a static list of as many {listed:.0%}, chance "
        f"{verdict.mean('reuse.chance'):.0%}: the last token predicts {better} a list."
    )


def _caches(verdict: ExpertVerdict) -> list[str]:
    curves, lines = verdict.curves, []
    for at, n_slots in enumerate(curves.slots):
        best, lru = best_of(curves, at), curves.hit_ratio["lru"][at]
        others = "more than any other" if best == "lru" else f"{best} {curves.hit_ratio[best][at]:.1%}"
        lines.append(
            f"With {n_slots} slots a layer lru hits {lru:.1%}, {others}, and no policy could hit more than "
            f"{curves.hit_ratio[BOUND][at]:.1%}."
        )
    middle = len(curves.slots) // 2
    gain = curves.hit_ratio["pinned"][middle] - curves.hit_ratio["lru"][middle]
    worth = "pays" if gain >= PAYS else "costs" if gain <= -PAYS else "makes no difference"
    lines.append(
        f"A static hot list, made from the tokens before, {worth}: {gain:+.1%} of hits against lru at "
        f"{curves.slots[middle]} slots."
    )
    return lines


def _times(verdict: ExpertVerdict) -> list[str]:
    if verdict.read_us is None:
        return []
    n_reads = sum(verdict.per_token.values())
    middle = len(verdict.curves.slots) // 2
    missed = n_reads * (1 - verdict.curves.hit_ratio["lru"][middle])
    return [
        f"On {verdict.device} an expert takes {format_time_us(verdict.read_us)} to read: a token "
        f"{format_time_us(n_reads * verdict.read_us)} without a cache, {format_time_us(missed * verdict.read_us)} with "
        f"{verdict.curves.slots[middle]} slots a layer under lru.",
    ]


def _orders(verdict: ExpertVerdict) -> list[str]:
    """Say what packing experts, and ordering them, saves of reading, and whether any order pays."""
    lines, saved, orders = [], verdict.order_saves, verdict.orders
    at_most = None
    if verdict.read_us is not None and verdict.pieces_us is not None and verdict.begin_us is not None:
        packing, at_most = max(0.0, 1 - verdict.read_us / verdict.pieces_us), verdict.begin_us / verdict.read_us
        lines.append(
            f"Packing an expert's three pieces into one saves {packing:.1%} of reading on {verdict.device}; no order "
            f"of experts on storage saves more than {at_most:.1%} beyond it."
        )
    if orders is not None and saved is not None:
        of = "of those reads" if at_most is None else "of the time to read"
        lines.append(
            f"In the order that the first half of the tokens gives, the second half makes {orders.greedy:.3g} reads a "
            f"token, and {orders.original:.3g} in the original order, if nothing is in DRAM: {saved:+.1%} {of} saved."
        )
    known = [value for value in (saved, at_most) if value is not None]
    if known and min(known) < PAYS:
        lines.append(
            "Neither order pays: not that of experts on storage, nor that of neurons inside them, which are read whole."
        )
    elif len(known) == 2:
        lines.append("That order of experts pays; one of neurons inside them does not, since they are read whole.")
    elif saved is not None:
        lines.append("Whether that pays depends on what a read takes: give --device, and the bytes of an expert.")
    return lines


def _communities(verdict: ExpertVerdict) -> list[str]:
    found = [layer.communities for layer in verdict.layers.values() if layer.communities is not None]
    if not found:
        return []
    n_meant = sum(each.mean_something for each in found)
    modularity = sum(each.modularity for each in found) / len(found)
    shuffled = sum(each.shuffled_modularity for each in found) / len(found)
    meaning = "mean something" if n_meant * 2 > len(found) else "mean nothing"
    return [
        f"Communities of experts {meaning}: modularity {modularity:.2f}, {shuffled:.2f} where uses are dealt to other "
        f"tokens ({len(found)} layers looked at)."
    ]
