"""DRAM for experts: a share, bytes, or a number of experts for each layer; and the capacities that follow."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.units import format_bytes, parse_share_or_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence

_SLOTS = re.compile(r"\s*([0-9]{1,6})\s*experts?\s*")


@dataclass(frozen=True)
class ExpertSlots:
    """Room for so many experts of each layer."""

    n_experts: int

    def __str__(self) -> str:
        """Write it as `parse_budget` reads it."""
        return f"{self.n_experts}experts"


Budget = float | int | ExpertSlots


def is_slots(text: str) -> bool:
    """Tell whether a budget is a number of experts.

    >>> is_slots("16experts"), is_slots("16MiB")
    (True, False)
    """
    return _SLOTS.fullmatch(text) is not None


def parse_budget(text: str) -> Budget:
    """Return a share (float), bytes (int), or experts for each layer.

    >>> parse_budget("10%"), parse_budget("4000MiB"), parse_budget("16 experts")
    (0.1, 4194304000, ExpertSlots(n_experts=16))

    Raises
    ------
    UsageError
        If `text` is none of these.
    """
    match = _SLOTS.fullmatch(text)
    return parse_share_or_bytes(text) if match is None else ExpertSlots(int(match[1]))


def capacities(
    budget: Budget, layer_experts: Sequence[int], layer_bytes: Sequence[int], *, is_pool: bool
) -> tuple[int, ...]:
    """Return the bytes of each cache: one for all layers, or one for each layer.

    Parameters
    ----------
    budget : float, int or ExpertSlots
        A share of the experts, bytes in all, or experts for each layer.
    layer_experts, layer_bytes : sequence of int
        Experts of each layer, and the bytes of one of them.
    is_pool : bool
        Whether all layers share one cache. Otherwise bytes are divided evenly among the layers, as engines that have a
        number of slots for each layer do.

    Raises
    ------
    UsageError
        If a share is not from 0 to 1, bytes are negative, or no cache has room for an expert though there is a budget.
    """
    sizes = [n_experts * n_bytes for n_experts, n_bytes in zip(layer_experts, layer_bytes, strict=True)]
    if isinstance(budget, ExpertSlots):
        by_layer = [budget.n_experts * n_bytes for n_bytes in layer_bytes]
    elif isinstance(budget, float):
        by_layer = [int(budget * size) for size in sizes]
    else:
        by_layer = [budget // len(sizes)] * len(sizes)
    if is_pool:
        total = budget if isinstance(budget, int) else sum(by_layer)
        by_layer = [min(total, sum(sizes))]
    if sum(by_layer) > 0 and max(by_layer) < min(layer_bytes):
        raise UsageError(
            "--dram-budget", found=f"room of {format_bytes(max(by_layer))} in the largest cache",
            expected=f"room for an expert, {format_bytes(min(layer_bytes))}",
            remedy="give more, such as 8experts of each layer, or one pool for all layers with --dram-pool",
        )  # fmt: skip
    return tuple(by_layer)
