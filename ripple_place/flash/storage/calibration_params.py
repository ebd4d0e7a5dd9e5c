"""How to measure storage, checked."""

from __future__ import annotations

from dataclasses import dataclass

from ripple_place.errors import UsageError
from ripple_place.flash.storage.calibration import PAGE_BYTES
from ripple_place.units import format_time_us

MAX_REPEATS = 1000
MAX_DEPTH = 256
MAX_TIME_US = 86_400e6


@dataclass(frozen=True)
class CalibrateParams:
    """How to measure.

    Parameters
    ----------
    scratch_bytes : int
        Size of the scratch file, rounded up to MiB. Storage can be faster in a small range of addresses.
    depth : int, optional
        Reads in flight that the profile is for; None: the smallest depth that saturates.
    n_repeats : int
        Interleaved repeats, of which medians count.
    max_request_bytes : int
        Largest size timed; readers split longer reads.
    time_us : float
        Time for all repeats together; the scratch file comes on top.
    seed : int
    max_depth : int
        Deepest queue of the survey. The default is the 32 entries of the one command queue of UFS 4.0 (arXiv
        2406.06282, section 2.3); NVMe drives saturate later.

    Raises
    ------
    UsageError
        If a number is out of range.
    """

    scratch_bytes: int = 1 << 30
    depth: int | None = None
    n_repeats: int = 5
    max_request_bytes: int = 512 << 10
    time_us: float = 50e6
    seed: int = 0
    max_depth: int = 32

    def __post_init__(self) -> None:
        if not 1 <= self.n_repeats <= MAX_REPEATS:
            raise UsageError(
                f"--repeats {self.n_repeats}", found=f"{self.n_repeats} repeats", expected=f"1 to {MAX_REPEATS}",
                remedy="give a number in this range; five are enough for medians",
            )  # fmt: skip
        if not 1 <= self.max_depth <= MAX_DEPTH:
            raise UsageError(
                f"--max-depth {self.max_depth}", found=f"a queue of {self.max_depth}", expected=f"1 to {MAX_DEPTH}",
                remedy="give a number in this range; 32 for phones, 128 for NVMe drives",
            )  # fmt: skip
        if not 0 < self.time_us <= MAX_TIME_US:
            raise UsageError(
                "--time", found=format_time_us(self.time_us), expected="more than nothing, and a day at most",
                remedy="give a time such as 50s",
            )  # fmt: skip
        if self.max_request_bytes < PAGE_BYTES or self.max_request_bytes % PAGE_BYTES:
            raise UsageError(
                f"--max-size {self.max_request_bytes}", found="no multiple of 4 KiB", expected="one, such as 512KiB",
                remedy="correct the size",
            )  # fmt: skip
        if self.scratch_bytes < 4 * self.max_request_bytes:
            raise UsageError(
                f"--size {self.scratch_bytes}", found="less than four of the largest reads",
                expected=f"at least {4 * self.max_request_bytes} bytes, and much more to be typical",
                remedy="give a larger --size, or a smaller --max-size",
            )  # fmt: skip

    @property
    def file_bytes(self) -> int:
        """Size of the scratch file in whole MiB."""
        return -(-self.scratch_bytes // 2**20) * 2**20
