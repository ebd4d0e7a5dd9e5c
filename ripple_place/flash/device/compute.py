"""Compute rates: how fast the processors beside a flash device get through weights in DRAM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ripple_place.flash.device.checks import is_int, number_problems, rate_problems
from ripple_place.flash.device.part import ProfilePart
from ripple_place.flash.device.ranges import RANGES, text_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class ComputeRates(ProfilePart):
    """Rates of computing one token, which is bound by memory: bytes of weights a second. None is unknown.

    Parameters
    ----------
    dram_bytes_per_s : float, optional
        All units together: what DRAM gives at most.
    npu_bytes_per_s : float, optional
        The NPU, on dense matrices.
    cpu_bytes_per_s : float, optional
        All CPU threads together, on dense matrices.
    cpu_sparse_bytes_per_s : float, optional
        `compute_threads` CPU threads together, on rows that a predictor picked, the picking included.
    compute_threads : int, optional
        CPU threads that `cpu_sparse_bytes_per_s` is of.
    """

    dram_bytes_per_s: float | None = None
    npu_bytes_per_s: float | None = None
    cpu_bytes_per_s: float | None = None
    cpu_sparse_bytes_per_s: float | None = None
    compute_threads: int | None = None

    def problems(self) -> Iterator[str]:
        """Name each number that is out of range, and a sparse rate of an unknown number of threads."""
        for key in ("dram_bytes_per_s", "npu_bytes_per_s", "cpu_bytes_per_s", "cpu_sparse_bytes_per_s"):
            yield from rate_problems(key, getattr(self, key), is_optional=True)
        threads = self.compute_threads
        if threads is not None and not is_int(threads):
            yield f"compute_threads = {text_of(threads)} is no count ({RANGES['compute_threads']})"
        elif threads is not None:
            yield from number_problems("compute_threads", threads, "count")
        elif self.cpu_sparse_bytes_per_s is not None:
            yield "cpu_sparse_bytes_per_s without the compute_threads that it is of"

    @property
    def sparse_thread_bytes_per_s(self) -> float | None:
        """What one thread gets through of rows that a predictor picked; None where that is unknown.

        >>> ComputeRates(cpu_sparse_bytes_per_s=5.2e9, compute_threads=4).sparse_thread_bytes_per_s
        1300000000.0
        """
        if self.cpu_sparse_bytes_per_s is None or self.compute_threads is None:
            return None
        return self.cpu_sparse_bytes_per_s / self.compute_threads
