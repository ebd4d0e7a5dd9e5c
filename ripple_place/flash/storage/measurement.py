"""Measuring layouts on real storage: their very requests, replayed on a file, beside what was predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.requests import RequestList, list_requests, sample_tokens
from ripple_place.flash.storage.queue_reader import QueueReader
from ripple_place.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from ripple_place.arrays import Float64Array, Int64Array
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import Layout
    from ripple_place.flash.results import LayoutResult
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.flash.storage.direct_file import DirectFile
    from ripple_place.trace.activation_trace import ActivationTrace

SAMPLE_US = 500_000.0
"""Predicted time of the sampled tokens of the slowest layout: long enough that filling the queue does not count."""
MIN_TOKENS, MAX_TOKENS = 8, 1024
REPEATS = 5
DEPTH = 8
NOISY_SPREAD = 0.1
"""Repeats whose middle half is wider than this share of their median are called noisy."""
FOREIGN_ERROR = 0.5
"""A prediction that is off by more is probably of another device than the one measured."""


@dataclass(frozen=True, eq=False)
class Measurement:
    """What replaying a layout's requests took.

    Attributes
    ----------
    requests : RequestList
    depth : int
    full_us : ndarray of shape (n_repeats,), float64
        Time per token with the queue kept full from the first request to the last, as device profiles assume.
    waiting_us : ndarray of shape (n_repeats,), float64
        Time per token where each block's requests are waited for before the next block's are sent, as an engine does
        that does not read ahead.
    """

    requests: RequestList
    depth: int
    full_us: Float64Array
    waiting_us: Float64Array

    @property
    def predicted_us(self) -> float:
        """Simulated flash time per token, over the tokens that were measured."""
        return self.requests.predicted_us / self.requests.tokens.size

    @property
    def measured_us(self) -> float:
        """Median of `full_us`."""
        return float(np.median(self.full_us))

    @property
    def error(self) -> float:
        """Prediction over measurement, minus 1."""
        return self.predicted_us / self.measured_us - 1

    @property
    def spread(self) -> float:
        """Width of the middle half of the repeats, as a share of their median."""
        low, high = np.percentile(self.full_us, (25, 75))
        return float((high - low) / self.measured_us)

    def speedups(self, baseline: Measurement) -> Float64Array:
        """Return by how much this layout was faster than `baseline` in each repeat."""
        return baseline.full_us / self.full_us

    def to_json(self, baseline: Measurement) -> dict[str, Any]:
        """Return what `simulate --json` has under ``measured``."""
        speedups = self.speedups(baseline)
        return {
            "n_tokens": int(self.requests.tokens.size),
            "n_requests": self.requests.n_requests,
            "queue_depth": self.depth,
            "repeats": int(self.full_us.size),
            "predicted_us_per_token": self.predicted_us,
            "flash_time_us_per_token": self.measured_us,
            "flash_time_us_range": [float(self.full_us.min()), float(self.full_us.max())],
            "error": self.error,
            "waiting_us_per_token": float(np.median(self.waiting_us)),
            "predicted_speedup": baseline.predicted_us / self.predicted_us,
            "speedup": float(np.median(speedups)),
            "speedup_range": [float(speedups.min()), float(speedups.max())],
        }


def choose_tokens(results: Sequence[LayoutResult]) -> int:
    """Return how many tokens to measure: `SAMPLE_US` of the slowest layout, by its simulated time."""
    slowest_us = max(result.totals.flash_time_us / result.n_tokens for result in results)
    wanted = SAMPLE_US / slowest_us if slowest_us else MAX_TOKENS
    return int(np.clip(wanted, MIN_TOKENS, min(MAX_TOKENS, max(MIN_TOKENS, results[0].n_tokens))))


def sample_requests(
    trace: ActivationTrace, layouts: Sequence[Layout], device: DeviceProfile, params: SimulationParams, n_tokens: int
) -> list[RequestList]:
    """Return the requests of `n_tokens` tokens, spread evenly over the trace, on each layout.

    Raises
    ------
    UsageError
        If nothing is read, or reads are page faults.
    """
    tokens = sample_tokens(trace.n_tokens, n_tokens)
    lists = [list_requests(trace, layout, device, params, tokens) for layout in layouts]
    for requests in lists:
        if not requests.n_requests:
            has_dram = any(params.capacity_neurons.values())
            raise UsageError(
                f"--layout {requests.layout}", found=f"no read in {tokens.size} tokens", expected="some to measure",
                remedy="lower --dram-budget" if has_dram else "give a trace in which neurons fire",
            )  # fmt: skip
    return lists


def measure(
    file: DirectFile,
    lists: Sequence[RequestList],
    depth: int = DEPTH,
    n_repeats: int = REPEATS,
    track: Callable[[Collection[int], str], Iterable[int]] = lambda items, what: items,
) -> list[Measurement]:
    """Replay request lists on a file.

    Parameters
    ----------
    file : DirectFile
        Its contents do not matter. Where it is shorter than what a layout reads, offsets wrap around
        (`wrap_offsets`).
    lists : sequence of RequestList
        None empty.
    depth : int
        Reads in flight.
    n_repeats : int
        Lists take turns within each, after one turn that does not count; each repeat starts with another list.
    track : callable
        Receives progress updates.

    Raises
    ------
    UsageError
        If requests do not fit the file's alignment, or the file is shorter than the longest of them.
    OSError
        If storage refuses a read.
    """
    offsets = [wrap_offsets(requests, file) for requests in lists]
    longest_bytes = max(int(requests.length_bytes.max()) for requests in lists)
    full_us, waiting_us = np.zeros((2, len(lists), n_repeats + 1))
    with QueueReader(file, depth, longest_bytes) as reader:
        for turn in track(range(len(lists) * (n_repeats + 1)), "measuring"):
            repeat, place = divmod(turn, len(lists))
            at = (place + repeat) % len(lists)
            requests = lists[at]
            times = reader.read(offsets[at], requests.length_bytes)
            waiting = reader.read(offsets[at], requests.length_bytes, requests.batch_starts)
            full_us[at, repeat] = times.elapsed_us / requests.tokens.size
            waiting_us[at, repeat] = waiting.elapsed_us / requests.tokens.size
    return [Measurement(requests, depth, full_us[at, 1:], waiting_us[at, 1:]) for at, requests in enumerate(lists)]


def wrap_offsets(requests: RequestList, file: DirectFile) -> Int64Array:
    """Return where to read so that everything lies inside the file, unchanged if it does already.

    Offsets are taken modulo the largest multiple of the longest request that leaves room for one more of them; so
    alignment and the distance of neighbours stay.

    Raises
    ------
    UsageError
        If the file is shorter than two of the longest requests, or the requests are not aligned as it needs.
    """
    longest_bytes = int(requests.length_bytes.max())
    if ((requests.offset_bytes | requests.length_bytes) % file.alignment_bytes).any():
        raise UsageError(
            file.path, found="a device profile whose pages are no multiple of what O_DIRECT accepts there",
            expected=f"pages of a multiple of {file.alignment_bytes} bytes",
            remedy="take the profile that `ripple-place calibrate` makes of this storage",
        )  # fmt: skip
    if requests.end_bytes <= file.size_bytes:
        return requests.offset_bytes
    room = (file.size_bytes - longest_bytes) // longest_bytes * longest_bytes
    if room <= 0:
        raise UsageError(
            file.path, found=format_bytes(file.size_bytes), expected=f"{format_bytes(requests.end_bytes)} to read from",
            remedy="name a larger file, such as a checkpoint's largest shard",
        )  # fmt: skip
    return requests.offset_bytes % room


def measurement_warnings(measurements: Sequence[Measurement], file: DirectFile, device: DeviceProfile) -> list[str]:
    """Return how the figures may mislead."""
    warnings = []
    needed_bytes = max(measured.requests.end_bytes for measured in measurements)
    if needed_bytes > file.size_bytes:
        warnings.append(
            f"{file.path} has {format_bytes(file.size_bytes)} of the {format_bytes(needed_bytes)} that layouts take: "
            "reads wrapped around, and a cache in the device may serve some of them"
        )
    noisy = max(measurements, key=lambda measured: measured.spread)
    if noisy.spread > NOISY_SPREAD:
        warnings.append(
            f"repeats disagree (the middle half of those of {noisy.requests.layout} is {100 * noisy.spread:.0f} % "
            "wide): something else uses this storage or processor. Measure again when it is quiet"
        )
    worst = max(measurements, key=lambda measured: abs(measured.error))
    if abs(worst.error) > FOREIGN_ERROR:
        warnings.append(
            f"predictions are off by up to {100 * abs(worst.error):.0f} %: device {device.name} does not describe this "
            "storage. Make its profile with ripple-place calibrate, and simulate with that"
        )
    return warnings
