"""How to reorder: the parameters of the workflow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ripple_place.checkpoint.plan import FORMATS
from ripple_place.errors import UsageError
from ripple_place.placement import check_bundle_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.flash.device import DeviceProfile

ORDERINGS = ("flash-time", "greedy", "frequency", "random", "original")
STRIDES = ("auto", "packed", "page")
DEFAULT_ORDERING = "greedy"
DEFAULT_EFFORT = 20


@dataclass(frozen=True)
class ReorderParams:
    """How to reorder.

    Parameters
    ----------
    ordering : str
        One of `ORDERINGS`.
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
        Sweeps of ``flash-time``.
    granule : int
        Neighbours that stay together, ordered as one: 1, or a multiple of 8. Quantised weights may ask for it.
    formats : tuple of str
        Of `ripple_place.checkpoint.plan.FORMATS`.
    stride : str
        One of `STRIDES`: distance of bundles in the bundled file. ``auto`` takes the one that the simulator finds
        cheaper on the profile's trace, without cache.
    adapter : Path, optional
        Directory of a LoRA adapter that is permuted along.
    carriers : tuple of Path
        Importance matrices, predictors and counts that are permuted along.
    gguf : Path, optional
        Where the FFNs go as GGUF besides.
    dry_run, force : bool
        Stop before writing; replace an earlier output.

    Raises
    ------
    UsageError
        If a name is unknown, or both a device and a break-even gap are given.
    """

    ordering: str = DEFAULT_ORDERING
    seed: int = 0
    layers: str | None = None
    bundle_bytes: int | None = None
    device: DeviceProfile | None = None
    break_even_gap: float | None = None
    effort: int = DEFAULT_EFFORT
    granule: int = 1
    formats: tuple[str, ...] = FORMATS
    stride: str = "auto"
    adapter: Path | None = None
    carriers: tuple[Path, ...] = ()
    gguf: Path | None = None
    dry_run: bool = False
    force: bool = False

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
        if self.break_even_gap is not None and not 0 <= self.break_even_gap < float("inf"):
            raise UsageError(
                "--break-even-gap", found=str(self.break_even_gap), expected="a number of at least 0",
                remedy="give the neurons that take as long to read as a read takes to start",
            )  # fmt: skip
