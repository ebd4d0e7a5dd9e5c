"""The ladder of gains: what access collapse and a DRAM cache add to a layout."""

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


@dataclass(frozen=True)
class Step:
    """One step of the ladder: what is on, and the flash time per token of each layout."""

    title: str
    flash_time_us: tuple[float, ...]


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
    bare = replace(params, cache="none", capacity_neurons={}, pool_neurons=None, gap=0)
    steps = [("single reads", bare)]
    if params.gap != 0:
        steps.append(("+ access collapse", replace(bare, gap=params.gap)))
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
        Step(last_title, tuple(result.totals.flash_time_us / result.n_tokens for result in results)),
    )


def _flash_time_us(trace: ActivationTrace, layout: Layout, device: DeviceProfile, params: SimulationParams) -> float:
    result = simulate(trace, layout, device, params)
    return result.totals.flash_time_us / result.n_tokens
