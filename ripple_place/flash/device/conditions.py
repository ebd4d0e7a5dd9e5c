"""The conditions that a reader works under: its core, its queue depth, the device's heat, and how it accesses the file.

What the papers measured of these are throughputs of one-page reads. Each is applied as time that every request takes
in addition, whatever its length: the cost of looking an address up, of a core that submits slowly, of a queue that
runs empty. So each effect fades with the length of reads, as PowerInfer-2 reports of the range (arXiv 2406.06282,
section 2.3) and as lanes do on a OnePlus 15R (128 KiB requests take 64 us longer at two lanes than at eight, 1 MiB
ones 35 us: a factor of 1.95 and of 1.08). On an NVMe drive they do not: a lone request of 64 KiB takes 117 us longer
than at a full queue, one of 256 KiB 203 us. So a profile may have the effect of depth at a second, larger size. Heat is
different: it lowers the bandwidth that the longest requests reach.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import UsageError
from ripple_place.flash.device.latency import LatencyLine
from ripple_place.flash.device.profile import DeviceProfile
from ripple_place.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

    from ripple_place.arrays import Float64Array
    from ripple_place.flash.device.forms.form import Form


@dataclass(frozen=True)
class ReadConditions:
    """How reads are issued, as far as it differs from how the profile was measured.

    Parameters
    ----------
    core : str, optional
        Core that issues the reads; None: that of the profile.
    queue_depth : int, optional
        Reads kept in flight; None: enough to saturate the device; one where reads are synchronous, or where the file
        is memory-mapped and the profile knows depths (a thread that faults waits).
    thermal : {"cold", "warm"}
    access : {"direct", "mmap", "sync"}
        By request, by faults in a memory-mapped file, or by one thread that issues one request at a time and waits.
    """

    core: str | None = None
    queue_depth: int | None = None
    thermal: str = "cold"
    access: str = "direct"


_ISSUED = {
    "direct": "by direct requests", "mmap": "by page faults of a mapped file", "sync": "by one synchronous thread",
}  # fmt: skip
SYNC_DEPTH = 1
"""Queue depth of reads that wait for each other."""


@dataclass(frozen=True)
class ConditionedDevice(DeviceProfile):
    """A device profile as a reader under given conditions sees it; made by `under`.

    Parameters
    ----------
    conditions : ReadConditions
    span_bytes : int, optional
        Range of addresses that reads are spread over; None: that of the profile's form.
    """

    conditions: ReadConditions = ReadConditions()
    span_bytes: int | None = None

    @property
    def is_mapped(self) -> bool:
        """Whether reads are page faults in a memory-mapped file."""
        return self.conditions.access == "mmap"

    @property
    def is_sync(self) -> bool:
        """Whether each read waits for the one before."""
        return self.conditions.access == "sync"

    @property
    def has_own_sync_times(self) -> bool:
        """Whether reads take what the profile says of lone reads, rather than its form at queue depth 1."""
        return self.is_sync and self.sync_form is not None

    @property
    def latency_form(self) -> Form:
        """The form that reads are charged by."""
        return self.sync_form if self.is_sync and self.sync_form is not None else self.queued_form

    @property
    def times_add_up(self) -> bool:
        """Whether the time of a token is the sum over its requests: of synchronous ones whatever the form."""
        return self.is_sync or super().times_add_up

    @property
    def one_page_throughput(self) -> dict[str, float]:
        """Throughput of one-page reads under each condition that applies, relative to that of the form."""
        factors = {name: effect(self) for name, effect in EFFECTS.items()}
        return {name: factor for name, factor in factors.items() if factor is not None}

    @property
    def extra_us(self) -> float:
        """Time that each request takes more than the form says; negative in a range smaller than the form's."""
        page_us = self._queued_us(self.page_bytes)
        # What a small range saves are operations: in the ceiling form, a page takes no less time for its bytes.
        operation_us = min(page_us, self._queued_us(self.queued_form.shortest_bytes(self.page_bytes)))
        return sum(
            (page_us if factor <= 1 else operation_us) * (1 / factor - 1)
            for factor in self.one_page_throughput.values()
        )

    def extra_at_us(self, size_bytes: Float64Array) -> Float64Array | float:
        """Return the time that requests of some sizes take more than the form says.

        That of one page, but for the queue where the profile knows its effect on large requests
        (`DeviceProfile.large_queue_factor`).
        """
        factor, depth = queue_effect(self), self.conditions.queue_depth
        if factor is None or self.large_queue_bytes is None or depth is None:
            return self.extra_us
        page_us = self._queued_us(self.page_bytes) * (1 / factor - 1)
        large = float(np.interp(depth, self.queue_depths, self.large_queue_factor))
        large_us = self._queued_us(self.large_queue_bytes) * (1 / large - 1)
        sizes_bytes = (self.page_bytes, max(self.large_queue_bytes, self.page_bytes + 1))
        return self.extra_us - page_us + np.interp(size_bytes, sizes_bytes, (page_us, large_us))

    def request_us(self, size_bytes: npt.ArrayLike) -> Float64Array:
        """Return the time of single requests of the given sizes under the conditions."""
        size = np.asarray(size_bytes, np.float64)
        time_us = self.latency_form.request_us(size, self.extra_at_us(size))
        if self.conditions.thermal == "cold":
            return time_us
        assert self.warm_bandwidth_factor is not None
        cold_bandwidth = self.max_request_bytes / self._queued_us(self.max_request_bytes)
        return np.maximum(time_us, size / (self.warm_bandwidth_factor * cold_bandwidth))

    def _queued_us(self, size_bytes: int) -> float:
        """Return the time of a request at a full queue, whatever the conditions."""
        return float(self.queued_form.request_us(np.asarray(size_bytes, np.float64), 0.0))

    def describe(self) -> str:
        """Return the conditions as a phrase: how reads are issued."""
        depth, core = self.conditions.queue_depth, self.conditions.core
        return ", ".join(
            [
                _ISSUED[self.conditions.access],
                "at a queue depth that saturates the device" if depth is None else f"at queue depth {depth}",
                *([] if core is None else [f"from a {core} core"]),
                f"on a {self.conditions.thermal} device",
            ]
        )

    @property
    def condition_warnings(self) -> tuple[str, ...]:
        """How numbers under these conditions may mislead, as sentences without a full stop."""
        warnings = []
        if self.range_bytes and self.span_bytes is not None and self.span_bytes > self.range_bytes[-1]:
            warnings.append(
                f"reads are spread over {format_bytes(self.span_bytes)}, more than the "
                f"{format_bytes(self.range_bytes[-1])} that {self.name} has numbers for; real ones may be slower"
            )
        if self.is_mapped and not self.queue_depths:
            warnings.append(
                f"a thread waits for each of its page faults, but {self.name} knows no queue depths: the times are "
                "those of as many threads as saturate the device"
            )
        return tuple(warnings)

    def own_line(self) -> LatencyLine | None:
        """Return the line that the device is by definition, None if heat, a small range or a short queue bend it."""
        line, extra_us = super().own_line(), self.extra_us
        is_bent = self.large_queue_bytes is not None and queue_effect(self) is not None
        if line is None or is_bent or self.conditions.thermal == "warm" or line.overhead_us + extra_us < 0:
            return None
        return LatencyLine(line.overhead_us + extra_us, line.bandwidth_bytes_per_s)


def range_effect(device: ConditionedDevice) -> float | None:
    """Return the throughput over the range of addresses: straight lines over its logarithm, flat outside.

    The papers give two points. They are of full queues: times of lone reads stand as the profile has them.
    """
    if not device.range_bytes or device.span_bytes is None or device.has_own_sync_times:
        return None
    ranges = np.log(np.array(device.range_bytes, np.float64))
    return float(np.interp(np.log(device.span_bytes), ranges, device.range_factor))


def core_effect(device: ConditionedDevice) -> float | None:
    """Return the throughput of the core that issues the reads."""
    core = device.conditions.core
    return None if core is None else device.core_factor[device.cores.index(core)]


def queue_effect(device: ConditionedDevice) -> float | None:
    """Return the throughput of the reads kept in flight."""
    depth = device.conditions.queue_depth
    if depth is None or device.has_own_sync_times:
        return None
    return float(np.interp(depth, device.queue_depths, device.queue_factor))


EFFECTS: dict[str, Callable[[ConditionedDevice], float | None]] = {
    "range": range_effect,
    "core": core_effect,
    "queue_depth": queue_effect,
}
"""Effects on the throughput of one-page reads, relative to that of the form; None where one does not apply."""


def under(
    device: DeviceProfile, conditions: ReadConditions | None = None, span_bytes: int | None = None
) -> ConditionedDevice:
    """Return `device` as a reader under `conditions` sees it.

    Parameters
    ----------
    device : DeviceProfile
    conditions : ReadConditions, optional
        Default: those of the profile.
    span_bytes : int, optional
        Range of addresses that reads are spread over: the bytes of all blocks that a token reads from.

    Raises
    ------
    UsageError
        If the profile knows nothing of a condition.
    """
    conditions = conditions or ReadConditions()
    depths, has_sync = device.queue_depths, device.sync_form is not None
    known_access = [
        "direct",
        *(["mmap"] if device.read_ahead_bytes is not None else []),
        *(["sync"] if has_sync or SYNC_DEPTH in depths else []),
    ]
    known_thermal = ["cold"] + (["warm"] if device.warm_bandwidth_factor is not None else [])
    if conditions.core is not None:
        _check_known(device, "--core", conditions.core, device.cores)
    _check_known(device, "--thermal", conditions.thermal, known_thermal)
    _check_known(device, "--access", conditions.access, known_access)
    if conditions.access == "sync":
        if conditions.queue_depth not in (None, SYNC_DEPTH):
            raise UsageError(
                f"--access sync --queue-depth {conditions.queue_depth}", found="reads that wait for each other",
                expected="a queue depth of 1", remedy="leave --queue-depth or --access sync out",
            )  # fmt: skip
        conditions = replace(conditions, queue_depth=SYNC_DEPTH)
    depth = conditions.queue_depth
    if depth is not None and not (depths and depth >= depths[0]) and not (conditions.access == "sync" and has_sync):
        raise UsageError(
            f"--queue-depth {depth}",
            found=f"device {device.name} knows " + (f"depths from {depths[0]} on" if depths else "no queue depths"),
            expected=f"at least {depths[0]}" if depths else "no --queue-depth: its times are those of a full queue",
            remedy="give a depth that the profile knows" if depths else "leave it out, or choose another device",
        )
    if depth is None and conditions.access == "mmap" and depths:
        conditions = replace(conditions, queue_depth=depths[0])
    own = {entry.name: getattr(device, entry.name) for entry in fields(DeviceProfile)}
    return ConditionedDevice(**own, conditions=conditions, span_bytes=span_bytes)


def _check_known(device: DeviceProfile, option: str, value: str, known: Iterable[str]) -> None:
    """Check that the profile has numbers for the value of an option."""
    known = tuple(known)
    if value not in known:
        names = ", ".join(known)
        raise UsageError(
            f"{option} {value}", found=f"device {device.name} knows {names or 'none'}",
            expected=f"one of {names}" if known else f"no {option}",
            remedy=("name one" if known else f"leave {option} out") + ", or choose a device whose profile knows more",
        )  # fmt: skip
