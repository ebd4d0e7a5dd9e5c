"""How experts are served, checked."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.experts.caches import POLICIES
from ripple_place.experts.reading import ORIGINAL, PACKED
from ripple_place.experts.timing import LAYER, OVERLAPS
from ripple_place.flash.device.conditions import ReadConditions
from ripple_place.flash.device.files import DEFAULT_DEVICE

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.experts.budget import Budget
    from ripple_place.experts.prefetch import Prefetch

MAX_EXPERT_BYTES = 2**30
"""Of one expert; the largest that is known has 44 MiB. Products with numbers of experts stay far below 2**63."""


@dataclass(frozen=True)
class ServeParams:
    """How experts are served.

    Parameters
    ----------
    device : str or Path
        Name of a shipped device profile, or path of one.
    layouts : tuple of str
        ``original`` (gate, up and down in three places), ``packed``, or placement files and outputs of `reorder` whose
        unit is the expert: packed in their order.
    layers : str, optional
        Layers to simulate (``0-3,7``).
    expert_bytes : int, optional
        Bytes of an expert in every layer; default those that the trace records.
    dram_budget : float, int or ExpertSlots, optional
        A share of the experts, bytes in all, or experts for each layer (`ripple_place.experts.budget`).
    dram_pool : bool
        One cache for all layers instead of one for each.
    cache : str, optional
        Policy; default ``lru`` with a budget, which engines of experts use, and ``none`` without.
    admits_prefill : bool
        Whether what a prompt misses may enter the cache.
    reset_at_segments : bool
        Empty the cache where a segment of the trace begins.
    bound : bool
        Count the hits of the policy that knows the future, too.
    prefetch : Prefetch, optional
        What is read ahead.
    compute_us_per_layer, compute_us_per_token : float, optional
        Time to compute a layer or all of them for one token; one of the two.
    overlap : {"serial", "layer"}
        Whether a layer's misses are read before it is computed, or while the layer before is.
    profile : Path or str, optional
        Profile of routes whose counts decide what is hot; default those of the trace itself.
    conditions : ReadConditions
        Queue depth, heat, core and access of the reader.
    baseline : str, optional
        Layout that speedups are against; default the first.
    request_bytes : int, optional
        Size at which reads are split, at most the device's largest request; default: for each layout, of that and its
        halves (`ripple_place.experts.reading.split_sizes`) the one of least flash time.
    prefill_chunk : int, optional
        Tokens of a prompt that pass together, so that an expert is read once for all of them; default the whole prompt.
    prefill_compute_us_per_token : float, optional
        Time to compute a token of a prompt, all layers together, where many pass at once.

    Raises
    ------
    UsageError
        If a name is unknown, a number out of range, or one option excludes another.
    """

    device: str | Path = DEFAULT_DEVICE
    layouts: tuple[str, ...] = (ORIGINAL, PACKED)
    layers: str | None = None
    expert_bytes: int | None = None
    dram_budget: Budget | None = None
    dram_pool: bool = False
    cache: str | None = None
    admits_prefill: bool = True
    reset_at_segments: bool = False
    bound: bool = False
    prefetch: Prefetch | None = None
    compute_us_per_layer: float | None = None
    compute_us_per_token: float | None = None
    overlap: str | None = None
    profile: Path | str | None = None
    conditions: ReadConditions = field(default_factory=ReadConditions)
    baseline: str | None = None
    request_bytes: int | None = None
    prefill_chunk: int | None = None
    prefill_compute_us_per_token: float | None = None

    def __post_init__(self) -> None:
        budget = self.dram_budget
        if (isinstance(budget, float) and not 0 <= budget <= 1) or (isinstance(budget, int) and budget < 0):
            raise UsageError(
                "dram_budget", found=repr(budget), expected="a share from 0.0 to 1.0 (float), bytes (int), or "
                "ExpertSlots", remedy="write 0.2 for 20 %, 4000 * 2**20 for 4000 MiB, or ExpertSlots(16)",
            )  # fmt: skip
        if self.cache is not None and self.cache not in POLICIES:
            raise UsageError(
                f"--cache {self.cache}", found="no policy of experts by that name",
                expected=f"one of {', '.join(POLICIES)}", remedy="name one of them",
            )  # fmt: skip
        needs_cache = {
            f"--cache {self.cache}": self.cache not in (None, "none"), "--dram-pool": self.dram_pool,
            "--no-prefill-admission": not self.admits_prefill, "--reset-at-segments": self.reset_at_segments,
            "--bound": self.bound,
        }  # fmt: skip
        for option, is_given in needs_cache.items():
            if is_given and budget is None:
                raise UsageError(
                    option, found="no DRAM for experts", expected="a budget",
                    remedy="add --dram-budget 4000MiB, or --dram-budget 16experts",
                )  # fmt: skip
        self._check_times()
        if len(set(self.layouts)) < len(self.layouts) or self.baseline not in (None, *self.layouts):
            raise UsageError(
                "--layout", found=f"{', '.join(self.layouts)}; baseline {self.baseline or 'the first'}",
                expected="each layout once, the baseline among them", remedy="name each once",
            )  # fmt: skip
        if self.expert_bytes is not None and not 1 <= self.expert_bytes <= MAX_EXPERT_BYTES:
            raise UsageError(
                "--bundle-bytes", found=str(self.expert_bytes), expected=f"1 to {MAX_EXPERT_BYTES}",
                remedy="give the bytes of one expert, such as 3MiB",
            )  # fmt: skip
        if self.prefill_chunk is not None and self.prefill_chunk < 1:
            raise UsageError(
                "--prefill-chunk", found=str(self.prefill_chunk), expected="at least 1 token",
                remedy="give the tokens that pass together, such as 512, or leave --prefill-chunk out",
            )  # fmt: skip
        if self.conditions.access == "mmap":
            raise UsageError(
                "--access mmap", found="experts, which are read by requests", expected="direct or sync",
                remedy="leave --access mmap out",
            )  # fmt: skip

    def _check_times(self) -> None:
        """Refuse times and overlaps that do not go together."""
        given = [time for time in (self.compute_us_per_layer, self.compute_us_per_token) if time is not None]
        if len(given) > 1 or not all(0 <= time < math.inf for time in given):
            raise UsageError(
                "--compute-us-per-token", found=f"times of {', '.join(f'{time:g}' for time in given)} us",
                expected="one time of at least 0, of a layer or of a token",
                remedy="give --compute-us-per-token or --compute-us-per-layer",
            )  # fmt: skip
        prompt_us = self.prefill_compute_us_per_token
        if prompt_us is not None and not 0 <= prompt_us < math.inf:
            raise UsageError(
                "--prefill-compute-us-per-token", found=f"{prompt_us:g} us", expected="a time of at least 0",
                remedy="give the time of one token of a prompt, such as 9ms",
            )  # fmt: skip
        if prompt_us is not None:
            given = [*given, prompt_us]
        if self.overlap is not None and (self.overlap not in OVERLAPS or not given):
            raise UsageError(
                f"--overlap {self.overlap}", found="experts" + ("" if given else ", and no time to compute"),
                expected=f"{' or '.join(OVERLAPS)}, and a time",
                remedy="write --overlap layer --compute-us-per-token 100ms, or leave --overlap out",
            )  # fmt: skip
        if self.overlap == LAYER and self.prefetch is not None:
            raise UsageError(
                f"--prefetch {self.prefetch}", found="--overlap layer, where everything is read a layer ahead",
                expected="one of the two", remedy="leave one out",
            )  # fmt: skip

    @property
    def policy(self) -> str:
        """The cache policy."""
        if self.cache is None:
            return "none" if self.dram_budget is None else "lru"
        return self.cache
