"""Checks of a device profile: every number in range, of its form, and with a source."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ripple_place.errors import DeviceConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORMS = ("table", "linear", "ceiling")
_SOURCED = {
    "table": {"latency_us"},
    "linear": {"overhead_us", "bandwidth_bytes_per_s"},
    "ceiling": {"max_iops", "bandwidth_bytes_per_s"},
}
_SOURCED_IF_SET = (
    "max_iops", "range_factor", "core_factor", "queue_factor", "warm_bandwidth_factor", "read_ahead_bytes",
)  # fmt: skip


def check_fields(device: Any) -> None:
    """Check every number of a profile.

    Raises
    ------
    DeviceConfigError
        If any is missing, out of range or of another form; names all that are.
    """
    problems = [*_size_problems(device), *_form_problems(device), *_condition_problems(device)]
    if problems:
        raise DeviceConfigError(
            f"device {device.name}",
            found="; ".join(problems),
            expected="positive sizes and times in form table (size_bytes, latency_us), linear (overhead_us, "
            "bandwidth_bytes_per_s) or ceiling (max_iops, bandwidth_bytes_per_s), and conditions in range",
            remedy="correct the profile; docs/devices.md describes each key",
        )


def check_sources(device: Any) -> None:
    """Check that each number has a source, and each source a number.

    Raises
    ------
    DeviceConfigError
        If not.
    """
    numbers = {"page_bytes", "max_request_bytes"} | _SOURCED[device.form]
    numbers |= {name for name in _SOURCED_IF_SET if getattr(device, name) not in (None, ())}
    given = {name for name, source in device.sources.items() if isinstance(source, str) and source.strip()}
    if given != numbers or len(given) != len(device.sources):
        raise DeviceConfigError(
            f"device {device.name}: sources",
            found=f"sources of {', '.join(sorted(device.sources)) or 'nothing'}",
            expected=f"a sentence for each of {', '.join(sorted(numbers))}",
            remedy="say where each number comes from: a paper and its table, or how it was measured",
        )


def _size_problems(device: Any) -> Iterator[str]:
    if not device.name:
        yield "name is empty"
    if not (_is_int(device.page_bytes) and device.page_bytes > 0):
        yield f"page_bytes = {device.page_bytes!r} is no size"
        return
    for name in ("max_request_bytes", "read_ahead_bytes"):
        value = getattr(device, name)
        if name == "read_ahead_bytes" and value is None:
            continue
        if not (_is_int(value) and value > 0 and value % device.page_bytes == 0):
            yield f"{name} = {value!r} is no multiple of page_bytes"


def _form_problems(device: Any) -> Iterator[str]:
    if device.form not in FORMS:
        yield f"form = {device.form!r}"
        return
    sizes, times = device.size_bytes, device.latency_us
    overhead_us, bandwidth = device.overhead_us, device.bandwidth_bytes_per_s
    if device.form != "linear" and overhead_us is not None:
        yield "overhead_us belongs to the linear form"
    if device.form == "table" and bandwidth is not None:
        yield "bandwidth_bytes_per_s belongs to the linear form and the ceiling form"
    if device.form == "table":
        if not sizes or len(sizes) != len(times):
            yield f"{len(sizes)} size_bytes and {len(times)} latency_us"
        if not _ascend(sizes):
            yield "size_bytes do not ascend"
        rises = len(times) < 2 or (_are_positive(times) and times[-2] < times[-1])
        if not (_are_positive(times) and all(a <= b for a, b in pairwise(times)) and rises):
            yield "latency_us are not positive, fall, or do not rise at the end"
    elif sizes or times:
        yield "size_bytes and latency_us belong to the table form"
    if device.form == "linear" and not (overhead_us == 0 or _is_positive(overhead_us)):
        yield f"overhead_us = {overhead_us!r} is no time"
    if device.form != "table" and not _is_positive(bandwidth):
        yield f"bandwidth_bytes_per_s = {bandwidth!r} is no rate"
    if not (_is_positive(device.max_iops) or (device.max_iops is None and device.form != "ceiling")):
        yield f"max_iops = {device.max_iops!r} is no rate"


def _condition_problems(device: Any) -> Iterator[str]:
    for names, factors_name in (
        ("range_bytes", "range_factor"), ("cores", "core_factor"), ("queue_depths", "queue_factor"),
    ):  # fmt: skip
        keys, factors = getattr(device, names), getattr(device, factors_name)
        if len(keys) != len(factors):
            yield f"{len(keys)} {names} and {len(factors)} {factors_name}"
        # Only a smaller range than the form's can make reads faster than the form.
        if not _are_positive(factors) or (names != "range_bytes" and any(factor > 1 for factor in factors)):
            yield f"{factors_name} are not positive" + (" or above 1" if names != "range_bytes" else "")
    for names in ("range_bytes", "queue_depths"):
        if not _ascend(getattr(device, names)):
            yield f"{names} do not ascend"
    if not all(isinstance(core, str) and core for core in device.cores) or len(set(device.cores)) < len(device.cores):
        yield "cores are not different names"
    for factors_name in ("range_factor", "queue_factor"):
        factors = getattr(device, factors_name)
        falls = factors_name == "range_factor"
        if _are_positive(factors) and any(a < b if falls else a > b for a, b in pairwise(factors)):
            yield f"{factors_name} {'rise with the range' if falls else 'fall with the depth'}"
    if device.queue_factor and device.queue_factor[-1] != 1:
        yield "queue_factor does not end with 1, at saturation"
    warm = device.warm_bandwidth_factor
    if warm is not None and not (_is_positive(warm) and warm <= 1):
        yield f"warm_bandwidth_factor = {warm!r} is no share"


def _ascend(sizes: Sequence[Any]) -> bool:
    return all(map(_is_int, sizes)) and all(a < b for a, b in pairwise((0, *sizes)))


def _are_positive(values: Sequence[Any]) -> bool:
    return all(map(_is_positive, values))


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
