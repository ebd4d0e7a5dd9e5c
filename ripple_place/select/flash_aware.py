"""Flash-aware: of the active neurons that are not in DRAM, those whose worth exceeds the price of reading them.

For a token and a block, with v_i what dropping neuron i costs (nats) and c(l) the flash time of a read of l slots, the
rule maximises ``sum of v_i over what is used - mu x sum of c(l) over the reads``. What is in DRAM is used for nothing;
an active neuron inside a gap that is read through is used as well. mu is the price of flash time, in nats per
microsecond: one price for all tokens and blocks, because values are comparable across them.

The maximum is exact, by dynamic programming over the active misses in slot order. A reader with gap g joins
neighbours that lie at most g slots apart, so that reads are runs of consecutive active misses with gaps of at most g
between them and larger ones around them:

    E[j] = max over i <= j within such a run of  B[i] + v_i + ... + v_j - mu c(p_j - p_i + 1)
    B[i] = max(0, max of E[k] over p_k < p_i - g - 1)

Where c is a line, the inner maximum is a running one: O(active) per token. Otherwise it is taken over the starts that
may still win. A start is out once what lies between it and a later one is worth less than it must cost, whatever the
length of the read; a later start is out if what it leaves is worth more than it can cost. Few remain: O(active) in
practice, O(active x length of the run) at worst.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ripple_place.kernels.compiled import compiled
from ripple_place.select.priced import PricedRule

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array
    from ripple_place.flash.read_cost import ReadCost
    from ripple_place.select.rule import BlockView, PricedBlock

_NONE = -1
_NEAR = 1e-12
_LINE_TOLERANCE = 1e-9
"""Of costs that still count as a line, as a share."""


class Price(NamedTuple):
    """What the kernel takes beside a row.

    Attributes
    ----------
    run_price : ndarray of shape (n_neurons + 1,), float64
        mu times the cost of a read by its length in slots, in nats; entry 0 is 0.
    is_line : bool
        The price is the same for each slot, after that of starting a read.
    growth_bounds : ndarray of shape (2, n_neurons + 1), float64
        By slots that a read gets longer, the least and the most that its price grows, whatever its length before.
    gap : int
        Unwanted slots between two wanted ones that are read through.
    places : ndarray of shape (5, n_neurons), int32
        Scratch.
    sums : ndarray of shape (4, n_neurons + 1), float64
        Scratch.
    """

    run_price: Any
    is_line: bool
    growth_bounds: Any
    gap: int
    places: Any
    sums: Any

    @classmethod
    def of_cost(cls, cost: ReadCost, n_neurons: int, nats_per_unit: float) -> Price:
        """Return the price of the reads of a block, with room for a row's choice.

        Parameters
        ----------
        cost : ReadCost
        n_neurons : int
        nats_per_unit : float
            mu: nats per unit of `cost`, at least 0.
        """
        run_price = nats_per_unit * cost.run_cost(n_neurons)
        rise = np.diff(run_price[1:])
        is_line = bool(rise.size == 0 or np.ptp(rise) <= _LINE_TOLERANCE * max(run_price[-1], 1e-300))
        return cls.of_reads(run_price, cost.gap, is_line=is_line)

    @classmethod
    def of_reads(cls, run_price: Float64Array, gap: int, *, is_line: bool) -> Price:
        """Return the same for prices by length, as the attribute has them."""
        n_neurons = run_price.size - 1
        bounds = np.zeros((2, n_neurons + 1))
        if not is_line:
            find_growth_bounds(run_price, bounds)
        return cls(
            run_price, is_line, bounds, gap, np.empty((5, n_neurons), np.int32), np.empty((4, n_neurons + 1))
        )  # fmt: skip


@compiled
def find_growth_bounds(run_price: Any, bounds: Any) -> None:
    """Write `Price.growth_bounds` of prices by length; a read has at least one slot before it grows."""
    n = run_price.size - 1
    for growth in range(1, n):
        least, most = np.inf, -np.inf
        for length in range(1, n - growth + 1):
            rise = run_price[length + growth] - run_price[length]
            least, most = min(least, rise), max(most, rise)
        bounds[0][growth], bounds[1][growth] = least, most


@compiled
def choose(slots: Any, worth: Any, is_resident: Any, price: Price, is_used: Any) -> None:
    """Write which of a row's active neurons are used.

    Parameters
    ----------
    slots : ndarray of shape (n_active,), int32
        Ascending.
    worth : ndarray of shape (n_active,), float64
        Nats, at least 0.
    is_resident : ndarray of shape (n_active,), uint8
        1 where the neuron is in DRAM.
    price : Price
    is_used : ndarray of shape (n_active,), uint8
        Written.

    Notes
    -----
    Of equal plans, the one with fewer reads that end earlier is taken. At price 0 everything is used, also what is
    worth nothing.
    """
    run_price, is_line, growth_bounds, gap, places, sums = price
    least, most = growth_bounds[0], growth_bounds[1]
    missing, begin, best, before, starts = places[0], places[1], places[2], places[3], places[4]
    total, ending, starting, head = sums[0], sums[1], sums[2], sums[3]
    n, n_starts = 0, 0
    for access in range(slots.size):
        is_used[access] = is_resident[access]
        if not is_resident[access]:
            missing[n] = access
            n += 1
    if run_price[1] == 0.0:
        is_used[:] = 1
        return
    slot_price = run_price[2] - run_price[1] if run_price.size > 2 else 0.0
    start_price = run_price[1] - slot_price
    total[0] = 0.0
    far = 0  # how many misses lie beyond the gap to the left
    open_value, open_at = -np.inf, 0
    for j in range(n):
        slot = np.int64(slots[missing[j]])
        total[j + 1] = total[j] + worth[missing[j]]
        if j > 0 and slot - slots[missing[j - 1]] - 1 > gap:
            n_starts = 0
            open_value = -np.inf
        while far < j and slots[missing[far]] < slot - gap - 1:
            far += 1
        # What is best before a read that begins here.
        starting[j] = 0.0
        before[j] = _NONE
        if far > 0 and ending[best[far - 1]] > 0.0:
            starting[j] = ending[best[far - 1]]
            before[j] = best[far - 1]
        if is_line:
            value = starting[j] - total[j] + slot_price * (slot - 1)
            if value > open_value:
                open_value, open_at = value, j
            ending[j] = open_value + total[j + 1] - start_price - slot_price * slot
            begin[j] = open_at
        else:
            head[j] = starting[j] - total[j]
            ending[j] = starting[j] + worth[missing[j]] - run_price[1]
            begin[j] = j
            may_win, n_kept = True, 0
            for k in range(n_starts):
                i = starts[k]
                growth = slot - slots[missing[i]]
                lead = head[i] - head[j]
                # Sums round: near ties are left to the comparison itself.
                near = _NEAR * (abs(head[i]) + abs(head[j]))
                if lead + near < least[growth]:
                    continue
                starts[n_kept] = i
                n_kept += 1
                if lead - near > most[growth]:
                    may_win = False
                value = starting[i] + (total[j + 1] - total[i]) - run_price[growth + 1]
                if value > ending[j] or (value == ending[j] and i < begin[j]):
                    ending[j] = value
                    begin[j] = i
            n_starts = n_kept
            if may_win:
                starts[n_starts] = j
                n_starts += 1
        best[j] = j
        if j > 0 and ending[best[j - 1]] >= ending[j]:
            best[j] = best[j - 1]
    if n == 0 or ending[best[n - 1]] <= 0.0:
        return
    last = best[n - 1]
    while last != _NONE:
        for j in range(begin[last], last + 1):
            is_used[missing[j]] = 1
        last = before[begin[last]]


class FlashAware(PricedRule):
    """The rule, for a wanted rise of the loss or at a price of flash time."""

    name = "flash-aware"

    def of_block(self, block: BlockView) -> PricedBlock:
        """Return the kernel, its price and the values of the block's neurons."""
        price = Price.of_cost(block.cost, block.n_neurons, self.price_for(block))
        return self.priced(block, choose, price)
