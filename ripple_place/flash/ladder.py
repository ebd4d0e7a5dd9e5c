"""The ladder of gains: what access collapse and a DRAM cache add to a layout, and what they leave of its gain."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ripple_place.flash.simulator import simulate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import Layout
    from ripple_place.flash.results import LayoutResult
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.trace.activation_trace import ActivationTrace

HOT_SHARE = 0.1
"""Hottest neurons kept in DRAM where a gain over hot-cold order is tested: PowerInfer-2 (arXiv 2406.06282) holds that
co-activation is worth little beyond them."""


@dataclass(frozen=True)
class Step:
    """One step of the ladder: what is on, and the flash time per token of each layout."""

    title: str
    flash_time_us: tuple[float, ...]


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


def gain_ladder(
    trace: ActivationTrace,
    layouts: Sequence[Layout],
    device: DeviceProfile,
    params: SimulationParams,
    results: Sequence[LayoutResult] | None = None,
) -> tuple[Step, ...]:
    """Return the flash times of all layouts as access collapse and the cache are turned on one after the other.

    Parameters
    ----------
    trace, layouts, device
        As for `simulate`.
    params : SimulationParams
        With everything on; steps that it does not have are left out.
    results : sequence of LayoutResult, optional
        What simulating `params` gave, one a layout: the last step, which need not be simulated again.
    """
    bare = replace(params, cache="none", capacity_neurons={}, gap=0)
    steps = [("single reads", bare)]
    if params.gap != 0:
        steps.append(("+ access collapse", replace(params, cache="none", capacity_neurons={})))
    if params.cache != "none":
        steps.append((f"+ DRAM cache ({params.cache})", params))
    *earlier, (last_title, _) = steps
    if results is None:
        results = [simulate(trace, layout, device, params) for layout in layouts]
    return (
        *(
            Step(title, tuple(_flash_time_us(trace, layout, device, step) for layout in layouts))
            for title, step in earlier
        ),
        Step(last_title, tuple(result.totals.flash_time_us / trace.n_tokens for result in results)),
    )


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
    capacity = {name: int(HOT_SHARE * block.n_neurons) for name, block in hot_cold.blocks.items()}
    settings = (
        replace(params, cache="none", capacity_neurons={}),
        replace(params, cache="pinned", capacity_neurons=capacity),
    )
    reference = [_flash_time_us(trace, hot_cold, device, setting) for setting in settings]

    def gains(layout: Layout) -> list[float | None]:
        times_us = [_flash_time_us(trace, layout, device, setting) for setting in settings]
        return [before / after if after else None for before, after in zip(reference, times_us, strict=True)]

    return tuple(SurvivingGain(layout.name, *gains(layout)) for layout in layouts)


def _flash_time_us(trace: ActivationTrace, layout: Layout, device: DeviceProfile, params: SimulationParams) -> float:
    return simulate(trace, layout, device, params).totals.flash_time_us / trace.n_tokens
