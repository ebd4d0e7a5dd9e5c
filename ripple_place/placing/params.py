"""How to reorder: the parameters of the workflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ripple_place.checkpoint.output.plan import FORMATS
from ripple_place.errors import UsageError
from ripple_place.flash.caches.none import NoCache
from ripple_place.flash.caches.registry import find_policy
from ripple_place.placement import check_bundle_bytes
from ripple_place.placing.dram.place import AUTO

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.flash.device.profile import DeviceProfile

ORDERINGS = (AUTO, "flash-time", "path", "greedy", "frequency", "random", "original")
STRIDES = ("auto", "packed", "page")
DEFAULT_EFFORT = 10


@dataclass(frozen=True)
class ReorderParams:
    """How to reorder.

    Parameters
    ----------
    ordering : str
        One of `ORDERINGS`; ``auto`` is ``flash-time``, or ``greedy`` where nothing says what a read costs.
    seed : int
        Of the random ordering.
    layers : str, optional
        Layers to reorder (``0-3,7``); the others stay in original order.
    bundle_bytes : int, optional
        Recorded in a placement file made without a checkpoint.
    device : DeviceProfile, optional
        Recorded with its break-even gap, by which ``flash-time`` orders; decides ``stride="auto"``.
    break_even_gap : float, optional
        In place of a device's.
    effort : int
        Rounds of perturbations of ``flash-time`` and ``path``.
    time_limit_s : float, optional
        Wall clock for all searches of the run; cuts their effort short, so that results depend on the machine.
    n_threads : int
        Blocks searched at a time; without a time limit, results do not depend on it.
    dram_budget : float or int, optional
        DRAM that the placement is made for: a share of all neurons' bytes (float), or bytes (int).
    cache : str, optional
        Policy of that DRAM, or ``auto``: the one that costs least on tokens held out; default S3-FIFO.
    refit : bool
        Once everything is judged, order once more on the whole trace, the tokens held out included.
    compare : bool
        Compute the other orderings too, for the comparison of what they cost.
    granule : int
        Neighbours that stay together, ordered as one: 1, or a multiple of 8. Quantised weights may ask for it.
    copies : int
        1, or 2: each block's neurons lie in the bundled file twice, the second time in an order made for what the first
        leaves fragmented; readers take from either.
    formats : tuple of str
        Of `ripple_place.checkpoint.output.plan.FORMATS`.
    stride : str
        One of `STRIDES`: distance of bundles in the bundled file. ``auto`` takes the one that the simulator finds
        cheaper on the profile's trace, with the DRAM that it is placed for.
    adapter : Path, optional
        Directory of a LoRA adapter that is permuted along.
    carriers : tuple of Path
        Importance matrices, predictors and counts that are permuted along.
    gguf : Path, optional
        Where the FFNs go as GGUF besides.
    dry_run, force, resume : bool
        Stop before writing; replace an earlier output; continue a run that was killed.

    Raises
    ------
    UsageError
        If a name is unknown, both a device and a break-even gap are given, or a policy without a budget for it,
        or a second fit where there is no first, or a second copy without a file to hold it.
    """

    ordering: str = AUTO
    seed: int = 0
    layers: str | None = None
    bundle_bytes: int | None = None
    device: DeviceProfile | None = None
    break_even_gap: float | None = None
    effort: int = DEFAULT_EFFORT
    time_limit_s: float | None = None
    n_threads: int = 1
    dram_budget: float | int | None = None
    cache: str | None = None
    refit: bool = False
    compare: bool = False
    granule: int = 1
    copies: int = 1
    formats: tuple[str, ...] = FORMATS
    stride: str = "auto"
    adapter: Path | None = None
    carriers: tuple[Path, ...] = ()
    gguf: Path | None = None
    dry_run: bool = False
    force: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        for what, value, known in (("ordering", self.ordering, ORDERINGS), ("stride", self.stride, STRIDES)):
            if value not in known:
                raise UsageError(
                    what, found=repr(value), expected=f"one of {', '.join(known)}", remedy="name one of them"
                )
        check_bundle_bytes(self.bundle_bytes)
        if self.granule < 1 or (self.granule > 1 and self.granule % 8):
            raise UsageError(
                "--granule", found=str(self.granule), expected="1, or a multiple of 8", remedy="give 32, 64 or 128"
            )
        if self.device is not None and self.break_even_gap is not None:
            raise UsageError(
                "--device and --break-even-gap", found="both", expected="at most one", remedy="leave one out"
            )
        if self.copies not in (1, 2) or (self.copies == 2 and "bundled" not in self.formats):
            raise UsageError(
                f"--copies {self.copies}", found=f"formats {', '.join(self.formats)}",
                expected="1 copy, or 2 in the bundled format", remedy="add --format bundled, or leave --copies out",
            )  # fmt: skip
        self._check_dram()
        if self.break_even_gap is not None and not 0 <= self.break_even_gap < float("inf"):
            raise UsageError(
                "--break-even-gap", found=str(self.break_even_gap), expected="a number of at least 0",
                remedy="give the neurons that take as long to read as a read takes to start",
            )  # fmt: skip

    def _check_dram(self) -> None:
        if self.refit and self.ordering not in (AUTO, "flash-time") and self.dram_budget is None and self.copies == 1:
            raise UsageError(
                "--refit", found=f"ordering {self.ordering}, which looks at the whole trace",
                expected="one that holds tokens out", remedy="add --ordering flash-time, or leave --refit out",
            )  # fmt: skip
        if self.cache is not None and self.dram_budget is None:
            raise UsageError(
                f"--cache {self.cache}", found="no DRAM budget", expected="one", remedy="add --dram-budget 10%"
            )
        if self.cache == NoCache.policy:
            raise UsageError(
                "--cache none", found="a DRAM budget as well", expected="a policy that uses it",
                remedy="name one, such as s3fifo, or leave --dram-budget out",
            )  # fmt: skip
        if self.cache not in (None, AUTO):
            find_policy(str(self.cache))
