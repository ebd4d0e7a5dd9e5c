"""Place a model's neurons for a DRAM budget: split it over the blocks, then order what each block's cache leaves."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ripple_place.errors import UsageError
from ripple_place.flash.caches.belady import Belady
from ripple_place.flash.caches.none import NoCache
from ripple_place.flash.caches.registry import POLICIES
from ripple_place.ordering.baselines import original_order
from ripple_place.placing.block_report import BlockReport, known, why_helpless
from ripple_place.placing.dram.misses import order_behind_cache, refit
from ripple_place.placing.dram.recorded import RecordedDram
from ripple_place.placing.dram.split import (
    CostCurve,
    budget_bytes_of,
    curve_capacities,
    split_by_gain,
    split_evenly,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt

    from ripple_place.placement import NeuronPlacement
    from ripple_place.placing.cached_block import CachedBlock
    from ripple_place.placing.dram.misses import MissOrderer
    from ripple_place.tracking import Track

    Int32Array = npt.NDArray[np.int32]

MEASURED_ROWS = 8192
"""Rows before those held out that the split and the policies are compared on, or that warm their caches: some thousand
fill any cache, and a split needs no more."""
AUTO = "auto"
"""In place of a policy: the one that costs least on tokens held out."""


@dataclass(frozen=True, eq=False)
class PlainBlock:
    """A block with the orders that were made without regard to any cache.

    Attributes
    ----------
    block : CachedBlock
        Without a cache yet.
    orders : mapping of str to ndarray of shape (n_neurons,), int32
        By ordering.
    order_misses : MissOrderer or None
        Orders what a cache leaves; None for orderings that do not look at activations.
    seconds : float
        That it took so far.
    """

    block: CachedBlock
    orders: Mapping[str, Int32Array]
    order_misses: MissOrderer | None
    seconds: float = 0.0

    def cost(self, cache: str, capacity: int) -> float:
        """Return what the best plain order costs behind a cache, on the tokens that judge, in all."""
        cached = self.block.shortened(MEASURED_ROWS).with_cache(cache, capacity)
        return min(cached.serve(order).judged_total for order in self.orders.values())


@dataclass(frozen=True)
class DramReport:
    """How a DRAM budget was used.

    Attributes
    ----------
    recorded : RecordedDram
        Budget, policy and split, as the placement records them.
    split : str
        ``gain`` or ``even``: whichever costs less on tokens held out.
    cost_by_split : mapping of str to float
        lambda x reads + neurons read per token, all blocks, in the best order made without regard to the cache, on
        tokens held out.
    cost_by_cache : mapping of str to float
        The same by policy, split evenly; only those that were compared.
    """

    recorded: RecordedDram
    split: str
    cost_by_split: Mapping[str, float]
    cost_by_cache: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return the ``dram`` entry of ``reorder --json``."""
        return {
            "cache": self.recorded.cache,
            "budget_bytes": self.recorded.budget_bytes,
            "budget_share": self.recorded.share,
            "capacity_neurons": dict(self.recorded.capacity_neurons),
            "split": self.split,
            "held_out_by_split": dict(self.cost_by_split),
            "held_out_by_cache": dict(self.cost_by_cache),
        }


def place_for_dram(
    blocks: Mapping[str, PlainBlock],
    budget: float | int,
    cache: str,
    bundle_bytes: Mapping[str, int],
    learned: Mapping[str, NeuronPlacement],
    n_tokens: int,
    track: Track,
    *,
    with_refit: bool = False,
) -> tuple[dict[str, NeuronPlacement], dict[str, BlockReport], DramReport]:
    """Return placements made for a DRAM budget.

    Parameters
    ----------
    blocks : mapping of str to PlainBlock
        In model order.
    budget : float or int
        A share of all neurons' bytes (float), or bytes (int).
    cache : str
        Policy, or ``auto``.
    bundle_bytes : mapping of str to int
        By block; may be empty, if the budget is a share: bundles are as long everywhere, then.
    learned : mapping of str to NeuronPlacement
        What the placements record of the neurons beside their order, such as firing counts.
    n_tokens : int
        Tokens by which costs are compared: those held out, or all.
    track : Track
    with_refit : bool
        Whether to order each block once more, when everything is judged, on all of its trace.

    Raises
    ------
    UsageError
        If the budget is in bytes and nobody knows those of a bundle, or the policy is unknown.

    Notes
    -----
    The split by gain and the even one are compared in the plain orders, as are the policies; then each block is
    ordered by itself (`ripple_place.placing.dram.misses.order_behind_cache`). Deterministic.
    """
    check_budget(budget, bundle_bytes)
    sizes = {name: plain.block.trace.n_neurons for name, plain in blocks.items()}
    weights = bundle_bytes or dict.fromkeys(sizes, 1)
    even = split_evenly(budget, sizes, weights)
    cost_by_cache: dict[str, float] = {}
    if cache == AUTO:
        for policy in track(_candidates(), "comparing policies"):
            cost_by_cache[policy] = _cost(blocks, policy, even, weights) / n_tokens
        cache = min(cost_by_cache, key=lambda policy: (cost_by_cache[policy], policy))
    curves = {name: _curve(blocks[name], cache) for name in track(list(blocks), "measuring DRAM")}
    splits = {"gain": split_by_gain(budget_bytes_of(budget, sizes, weights), curves, weights), "even": even}
    cost_by_split = {name: _cost(blocks, cache, split, weights) / n_tokens for name, split in splits.items()}
    split = min(splits, key=lambda name: (cost_by_split[name], name == "gain"))
    placements, reports = {}, {}
    for name in track(list(blocks), "ordering what misses"):
        placements[name], reports[name] = _place(blocks[name], cache, splits[split][name], learned[name], with_refit)
    recorded = RecordedDram(
        cache, splits[split], budget if isinstance(budget, float) else None,
        budget_bytes_of(budget, sizes, weights) if bundle_bytes else None,
    )  # fmt: skip
    return placements, reports, DramReport(recorded, split, cost_by_split, cost_by_cache)


def check_budget(budget: float | int | None, bundle_bytes: Mapping[str, int]) -> None:
    """Refuse a budget in bytes where nobody knows those of a bundle.

    Raises
    ------
    UsageError
        In that case.
    """
    if not bundle_bytes and isinstance(budget, int):
        raise UsageError(
            f"--dram-budget {budget}", found="bytes, and nothing that says how long a neuron's weights are",
            expected="both, or a share", remedy="add --bundle-bytes, or give the budget as a share such as 10%",
        )  # fmt: skip


def _candidates() -> list[str]:
    """Return the policies that an engine could run."""
    return [policy for policy in POLICIES if policy not in (NoCache.policy, Belady.policy)]


def _curve(plain: PlainBlock, cache: str) -> CostCurve:
    """Measure what a block costs on the rows searched by what DRAM holds of it, in its best plain order.

    Measured on the last of them, and scaled to all: blocks that fewer tokens reach must not seem as busy as others.
    """
    block = plain.block.shortened(MEASURED_ROWS)
    order = min(plain.orders.values(), key=lambda order: block.serve(order).judged_total)
    capacities = curve_capacities(block.trace.n_neurons)
    scale = plain.block.n_searched / max(1, block.n_searched)
    costs = [scale * block.with_cache(cache, capacity).serve(order).searched_total for capacity in capacities]
    return CostCurve(capacities, tuple(costs))


def _cost(
    blocks: Mapping[str, PlainBlock], cache: str, capacity: Mapping[str, int], weights: Mapping[str, int]
) -> float:
    """Return the cost of all blocks together in their best plain orders, in bundles of mean length."""
    total = sum(plain.cost(cache, capacity[name]) * weights[name] for name, plain in blocks.items())
    return total * len(weights) / sum(weights.values())


def _place(
    plain: PlainBlock, cache: str, capacity: int, learned: NeuronPlacement, with_refit: bool
) -> tuple[NeuronPlacement, BlockReport]:
    """Place one block."""
    started = time.perf_counter()
    block = plain.block.with_cache(cache, capacity)
    best, tried = order_behind_cache(block, plain.orders, plain.order_misses)
    original = block.serve(original_order(block.trace.n_neurons))
    before, after = original.judged, best.served.judged
    report = BlockReport(
        known(original.searched), known(best.served.searched), 0.0,
        known(original.held_out), known(best.served.held_out), "neurons", best.name,
        why_helpless(block.trace, known(before), known(after)),
        capacity, None if best.pinned is None else best.pinned.size,
        tuple(candidate.tried for candidate in tried),
    )  # fmt: skip
    order = best.order
    if with_refit and plain.order_misses is not None:
        order = refit(replace(block, learned=learned), best, plain.order_misses)
    seconds = plain.seconds + time.perf_counter() - started
    return replace(learned, order=order, pinned=best.pinned), replace(report, seconds=seconds)
