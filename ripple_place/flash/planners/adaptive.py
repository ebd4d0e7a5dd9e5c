"""The planner whose gap follows the times that reads were seen to take, with Ripple's bottleneck detector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.kernels.adaptive_reads import (
    BACKOFF,
    GAP,
    N_COUNTS,
    N_SUMS,
    AdaptiveRule,
    AdaptiveState,
    SeenTimes,
    plan_rows_adaptive,
)

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import BlockLayout
    from ripple_place.flash.replay import Chunk
    from ripple_place.kernels.read_state import RowReads


@dataclass(frozen=True)
class AdaptiveParams:
    """How the adaptive planner adapts. All defaults are ours: the paper gives none.

    Parameters
    ----------
    period_tokens : int
        Tokens that read anything between one look at the gap and the next.
    memory : float
        Weight that the tokens seen so far keep from one look to the next, in [0, 1].
    saturation : float
        Share of the device's greatest bandwidth that counts as having reached it, above 0.
    hold_periods : int
        Periods without collapse after that, if it pays.
    trial_tokens : int
        Tokens without collapse after which it is asked whether it does, at least 1.
    backoff_periods : int
        Periods in which saturation is ignored once it did not pay; doubled each time, at least 1.

    Raises
    ------
    UsageError
        If one is out of range.
    """

    period_tokens: int = 16
    memory: float = 0.9
    saturation: float = 0.99
    hold_periods: int = 4
    trial_tokens: int = 1
    backoff_periods: int = 16

    def __post_init__(self) -> None:
        least = min(self.period_tokens, self.trial_tokens, self.backoff_periods)
        if not (least >= 1 and 0 <= self.memory <= 1 and self.saturation > 0 and self.hold_periods >= 0):
            raise UsageError(
                "adaptive collapse", found=str(self), expected="a period, a trial and a backoff of 1 or more, a memory "
                "in [0, 1], a saturation above 0 and a hold of 0 or more", remedy="correct the number",
            )  # fmt: skip


class AdaptivePlanner:
    """Reads through gaps of up to a threshold that is adjusted at run time.

    Notes
    -----
    Ripple adjusts its threshold "dynamically" and, when the achieved bandwidth has hit the device's maximum, falls
    back to reads without collapse (arXiv 2410.19274v2, section on access collapse); it gives no rule for either. The
    rule here is ours. Every `period_tokens` tokens the times of the tokens so far are fitted, by least squares with
    fading memory, as ``reads x price of a read + pages x price of a page``; the gap becomes the break-even gap of the
    two prices, counting the page rounding that a merge saves (twice the gap and one more while pages seem to cost
    nothing). If the period's bytes over its time reached `saturation` of the bandwidth of maximum requests, tokens are
    read without collapse for `hold_periods`, unless after `trial_tokens` a wanted neuron takes longer than it did:
    where tokens want most of a block it is collapse itself that reaches the maximum, and without it they take up to
    seven times as long. The planner sees what an engine sees, counts and times, and starts from the device's own gap.
    """

    name = "adaptive"

    def __init__(
        self, layout: BlockLayout, device: DeviceProfile, gap: int, params: AdaptiveParams | None = None
    ) -> None:
        self.gap: int | None = None
        params = params or AdaptiveParams()
        self._extent = layout.paged_extent(device.page_bytes)
        read_us = device.read_us_by_pages(-(-layout.n_neurons * layout.extent.stride_bytes // device.page_bytes) + 2)
        fastest_page_us = device.page_bytes / device.max_bandwidth_bytes_per_s * 1e6
        self._times = SeenTimes(read_us, device.charged_ceiling(), fastest_page_us)
        self._rule = AdaptiveRule(
            params.period_tokens, float(params.memory), float(params.saturation), params.hold_periods,
            params.trial_tokens, layout.n_neurons,
        )  # fmt: skip
        self._state = AdaptiveState(np.zeros(N_COUNTS, np.int64), np.zeros(N_SUMS))
        self._state.counts[GAP], self._state.counts[BACKOFF] = gap, params.backoff_periods

    @property
    def gap_in_force(self) -> int:
        """The threshold after the tokens so far."""
        return int(self._state.counts[GAP])

    def plan(self, chunk: Chunk, reads: RowReads) -> None:
        """Plan the reads of the chunk's rows; see `ripple_place.kernels.adaptive_reads`."""
        plan_rows_adaptive(chunk.accesses, self._extent, self._times, self._rule, self._state, reads)
