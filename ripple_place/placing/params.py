"""How to place: the parameters of the way from a profile to a placement."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.bundle_sizes import check_bundle_bytes
from ripple_place.errors import UsageError
from ripple_place.flash.caches.none import NoCache
from ripple_place.flash.caches.registry import find_policy
from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device
from ripple_place.flash.read_cost import check_break_even_gap
from ripple_place.ordering.registry import AUTO, ORDERINGS, choose_ordering, find_ordering
from ripple_place.placing.budget import check_budget

if TYPE_CHECKING:
    from ripple_place.bundle_sizes import BundleBytes
    from ripple_place.flash.device.profile import DeviceProfile

DEFAULT_EFFORT = 10
MAX_GRANULE = 2**16
"""Neurons: more than share a scale in any format."""


@dataclass(frozen=True)
class PlacingParams:
    """How to place.

    Parameters
    ----------
    ordering : str
        A name out of `ripple_place.ordering.registry.ORDERINGS`; ``auto`` is ``flash-time``, or ``greedy`` where
        nothing says what a read costs.
    seed : int
        Of whatever is random.
    layers : str, optional
        Layers to reorder (``0-3,7``); the others stay in original order.
    bundle_bytes : int or (int, int), optional
        Bytes of a neuron's weights, or of an input column and of a down column, where there is no checkpoint that says
        it; recorded in the placement.
    device : DeviceProfile, str or Path, optional
        The device, its name, or the path of its file: searches lower the flash time on it. Default the default device
        (`ripple_place.flash.device.files.DEFAULT_DEVICE`) wherever one is needed.
    break_even_gap : float, optional
        lambda, in place of a device's.
    effort : int
        Rounds of perturbations, for orderings that take effort.
    time_limit_s : float, optional
        Wall clock for all searches of the run; cuts their effort short, so that results depend on the machine.
    n_threads : int, optional
        Blocks searched at a time; default the number of cores. Without a time limit, results do not depend on it.
    dram_budget : float or int, optional
        DRAM that the placement is made for: a share of all neurons' bytes (float), or bytes (int).
    cache : str, optional
        Policy of that DRAM, or ``auto``: the one that costs least on tokens held out; default S3-FIFO.
    refit : bool, optional
        Whether to order once more on the whole trace, the tokens held out included, once everything is judged; default
        whether the ordering is searched.
    compare : bool
        Compute the other orderings too, for the comparison of what they cost.
    granule : int
        Neighbours that stay together, ordered as one: 1, or a multiple of 8. Quantised weights may ask for it.
    copies : int
        1, or 2: each block's neurons lie in the bundled file twice, the second time in an order made for what the first
        leaves fragmented; readers take from either.

    Raises
    ------
    UsageError
        If a name is unknown, both a device and a break-even gap are given, a budget that is neither share nor bytes, a
        policy without a budget for it, or a second fit where there is no first.
    DeviceConfigError
        If a device file is malformed.
    """

    ordering: str = AUTO
    seed: int = 0
    layers: str | None = None
    bundle_bytes: BundleBytes | None = None
    device: DeviceProfile | str | Path | None = None
    break_even_gap: float | None = None
    effort: int = DEFAULT_EFFORT
    time_limit_s: float | None = None
    n_threads: int | None = None
    dram_budget: float | int | None = None
    cache: str | None = None
    refit: bool | None = None
    compare: bool = False
    granule: int = 1
    copies: int = 1

    def __post_init__(self) -> None:
        if self.ordering != AUTO:
            find_ordering(self.ordering)
        check_bundle_bytes(self.bundle_bytes)
        if not 1 <= self.granule <= MAX_GRANULE or (self.granule > 1 and self.granule % 8):
            raise UsageError(
                "--granule", found=str(self.granule), expected=f"1, or a multiple of 8 up to {MAX_GRANULE}",
                remedy="give 32, 64 or 128",
            )  # fmt: skip
        if self.device is not None and self.break_even_gap is not None:
            raise UsageError(
                "--device and --break-even-gap", found="both", expected="at most one", remedy="leave one out"
            )
        if self.copies not in (1, 2):
            raise UsageError(
                f"--copies {self.copies}", found=f"{self.copies} copies", expected="1, or 2", remedy="give one of them"
            )
        if self.n_threads is not None and self.n_threads < 1:
            raise UsageError("--threads", found=str(self.n_threads), expected="at least 1", remedy="leave it out")
        if self.break_even_gap is not None:
            check_break_even_gap(self.break_even_gap)
        self._check_dram()
        if isinstance(self.device, str | Path):
            object.__setattr__(self, "device", load_device(str(self.device)))

    def _check_dram(self) -> None:
        if self.dram_budget is not None:
            check_budget(self.dram_budget)
        is_searched = self.ordering == AUTO or find_ordering(self.ordering).is_searched
        if self.refit and not is_searched and self.dram_budget is None and self.copies == 1:
            raise UsageError(
                "--refit", found=f"ordering {self.ordering}, which looks at the whole trace",
                expected="one that holds tokens out", remedy="add --ordering flash-time, or leave --refit out",
            )  # fmt: skip
        if self.cache is not None and self.dram_budget is None:
            raise UsageError(
                f"--cache {self.cache}",
                found="no DRAM budget",
                expected="one",
                remedy="add --dram-budget 10%, or leave --cache out",
            )
        if self.cache == NoCache.policy:
            raise UsageError(
                "--cache none", found="a DRAM budget as well", expected="a policy that uses it",
                remedy="name one, such as s3fifo, or leave both out",
            )  # fmt: skip
        if self.cache not in (None, AUTO):
            find_policy(str(self.cache))

    def resolved(self, *, has_rows: bool, has_sizes: bool, needs_device: bool = False) -> PlacingParams:
        """Return the parameters with everything decided that depends on the profile and the checkpoint.

        Parameters
        ----------
        has_rows : bool
            Whether the profile has activations.
        has_sizes : bool
            Whether the bytes of a neuron's weights are known.
        needs_device : bool
            Whether a device is needed for anything but placing.

        Raises
        ------
        UsageError
            If the DRAM budget is in bytes and the bundle size is unknown.
        """
        if isinstance(self.dram_budget, int) and not has_sizes:
            raise UsageError(
                f"--dram-budget {self.dram_budget}",
                found="bytes, and nothing that says how long a neuron's weights are", expected="both, or a share",
                remedy="add --bundle-bytes, or give the budget as a share such as 10%",
            )  # fmt: skip
        chooses = self.ordering == AUTO
        is_priced = self.break_even_gap is not None or has_sizes
        ordering = choose_ordering(is_priced=is_priced, has_rows=has_rows) if chooses else find_ordering(self.ordering)
        refit = ordering.is_searched if self.refit is None else self.refit
        if chooses and not ordering.is_searched:
            refit = False  # There is nothing to fit again.
        device = self.device
        needs_device = needs_device or (chooses and has_sizes) or replace(self, ordering=ordering.name).is_judged
        if device is None and self.break_even_gap is None and needs_device:
            device = load_device(DEFAULT_DEVICE)
        n_threads = (os.cpu_count() or 1) if self.n_threads is None else self.n_threads
        return replace(self, ordering=ordering.name, refit=refit, device=device, n_threads=n_threads)

    @property
    def device_profile(self) -> DeviceProfile | None:
        """The device, if there is one."""
        assert not isinstance(self.device, str | Path)
        return self.device

    @property
    def is_judged(self) -> bool:
        """Whether orders are made on a part of the trace, for the rest to judge them; known once resolved."""
        return ORDERINGS[self.ordering].is_searched or self.dram_budget is not None or self.compare or self.copies == 2

    @property
    def asked_by(self) -> str:
        """The option that makes orders be judged."""
        if ORDERINGS[self.ordering].is_searched:
            return f"--ordering {self.ordering}"
        if self.dram_budget is not None:
            return "--dram-budget"
        return "--copies 2" if self.copies == 2 else "--compare"
