"""The field's question: what co-activation is worth beyond hot-cold order, also with the hottest neurons in DRAM.

PowerInfer-2 (arXiv 2406.06282) and Neuron Chunking (arXiv 2511.18692) doubt that it is worth much, Neuralink (arXiv
2410.19274) says 1.25 times. The answer differs by model: `reorder` gives it for orders, `simulate` for layouts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ripple_place.flash.caches.pinned import Pinned
from ripple_place.flash.simulator import simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import Layout
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.trace.activation_trace import ActivationTrace

HOT_SHARE = 0.1
"""Hottest neurons kept in DRAM where a gain over hot-cold order is tested: PowerInfer-2 (arXiv 2406.06282) holds that
co-activation is worth little beyond them."""


@dataclass(frozen=True)
class SurvivingGain:
    """How a layout compares with hot-cold order, without DRAM and with the hottest neurons in it.

    Attributes
    ----------
    layout : str
    without_dram, with_dram : float or None
        Flash time of hot-cold order over that of the layout; None where the layout reads nothing.
    """

    layout: str
    without_dram: float | None
    with_dram: float | None

    @property
    def surviving_share(self) -> float | None:
        """Share of the gain that is left; None where there is no gain of at least 1 % to lose."""
        if self.without_dram is None or self.with_dram is None or self.without_dram < 1.01:
            return None
        return (self.with_dram - 1) / (self.without_dram - 1)


def hottest_neurons(share: float, n_neurons: int) -> int:
    """Return how many neurons a share of a block is.

    >>> hottest_neurons(0.29, 100)
    29
    """
    # 29 % of 100 neurons is 28.999... in floating point.
    return int(share * n_neurons + 1e-6)


def gain_over_hot_cold(hot_cold: Sequence[float], costs: Sequence[float]) -> tuple[float | None, ...]:
    """Return the cost of hot-cold order over another one, at each share in DRAM; None where the other costs nothing."""
    return tuple(cold / cost if cost else None for cold, cost in zip(hot_cold, costs, strict=True))


def surviving_gains(
    trace: ActivationTrace,
    hot_cold: Layout,
    layouts: Sequence[Layout],
    device: DeviceProfile,
    params: SimulationParams,
) -> tuple[SurvivingGain, ...]:
    """Return what is left of each layout's gain over hot-cold order once the hottest neurons are in DRAM.

    Parameters
    ----------
    trace, device, params
        As for `simulate`; cache and capacities of `params` are replaced.
    hot_cold : Layout
        Neurons by descending frequency; records the frequencies, which also decide what is pinned.
    layouts : sequence of Layout
    """
    capacity = {name: hottest_neurons(HOT_SHARE, block.n_neurons) for name, block in hot_cold.blocks.items()}
    settings = (
        replace(params, cache="none", capacity_neurons={}, pool_neurons=None),
        replace(params, cache=Pinned.policy, capacity_neurons=capacity, pool_neurons=None),
    )

    def times_us(layout: Layout) -> list[float]:
        return [simulate(trace, layout, device, setting).totals.flash_time_us for setting in settings]

    reference = times_us(hot_cold)
    return tuple(SurvivingGain(layout.name, *gain_over_hot_cold(reference, times_us(layout))) for layout in layouts)
