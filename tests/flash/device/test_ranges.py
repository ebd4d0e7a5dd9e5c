"""Numbers out of range: each key, each kind; and numbers at the ends of their ranges, which must be computed with."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tomli_w

from ripple_place.errors import DeviceConfigError
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import read_device
from ripple_place.flash.device.profile import DeviceProfile
from ripple_place.flash.device.ranges import MAX_PAGES, RANGES
from tests.flash.builders import linear_device

if TYPE_CHECKING:
    from pathlib import Path

COMMON: dict[str, Any] = {
    "name": "x", "description": "", "page_bytes": 4096, "max_request_bytes": 65536, "read_ahead_bytes": 8192,
    "range_bytes": [2**20], "range_factor": [2.0], "cores": ["big"], "core_factor": [1.0], "queue_depths": [1],
    "queue_factor": [1.0], "large_queue_bytes": 2**20, "large_queue_factor": [1.0],
    "warm_bandwidth_factor": 0.5, "max_iops": 1e5,
    "sync_size_bytes": [4096], "sync_latency_us": [40.0], "dram_bytes_per_s": 6e10, "npu_bytes_per_s": 5e10,
    "cpu_bytes_per_s": 4e10, "cpu_sparse_bytes_per_s": 5e9, "compute_threads": 4,
}  # fmt: skip
FORMS: dict[str, dict[str, Any]] = {
    "table": {"size_bytes": [4096], "latency_us": [10.0]},
    "linear": {"overhead_us": 10.0, "bandwidth_bytes_per_s": 1e9},
    "ceiling": {"bandwidth_bytes_per_s": 1e9},
}
SOURCED_WITH_ANOTHER = {"name", "description", "cores", "range_bytes", "queue_depths", "size_bytes", "form",
                        "sync_size_bytes", "large_queue_bytes"}  # fmt: skip
WILD = (
    "1e308", "4e39", "inf", "-inf", "nan", "-0.0", "-1", "1" + 30 * "0", "0x1" + 5000 * "0", "1e-320", "true", "'1'",
    "[]", "[[]]", "1979-05-27",
)  # fmt: skip


def sourced(numbers: dict[str, Any]) -> dict[str, Any]:
    """Return a profile's numbers with a source for each that needs one."""
    return numbers | {"sources": dict.fromkeys(numbers.keys() - SOURCED_WITH_ANOTHER, "remembered: made up")}


@pytest.mark.parametrize("value", WILD)
@pytest.mark.parametrize("key", RANGES)
def test_wild_numbers(tmp_path: Path, key: str, value: str) -> None:
    """In a file, what is no number in the range of its key is refused by its key; a time may be next to nothing."""
    form = next(form for form, numbers in FORMS.items() if key in COMMON | numbers)
    numbers = sourced(COMMON | FORMS[form] | {"form": form})
    line = tomli_w.dumps({key: numbers[key]}).strip()
    other = f"[{value}]" if isinstance(numbers[key], list) else value
    text = tomli_w.dumps(numbers).replace(line, f"{key} = {other}", 1)
    assert text != tomli_w.dumps(numbers)
    (tmp_path / "x.toml").write_text(text)
    if key == "overhead_us" and value in ("-0.0", "1e-320"):
        assert read_device(tmp_path / "x.toml").overhead_us == float(value)
        return
    with pytest.raises(DeviceConfigError, match=f"x.toml.*: found .*{key}.*; expected "):
        read_device(tmp_path / "x.toml")


def test_the_range_is_in_the_message() -> None:
    """So that the user sees what would be right."""
    with pytest.raises(DeviceConfigError, match=r"overhead_us = 1e\+308 is no time \(0 to 1000000000\)"):
        replace(linear_device(), overhead_us=1e308)


def test_more_pages_than_a_table_has(tmp_path: Path) -> None:
    """Small pages and large requests would make a table of gigabytes out of a file of a hundred bytes."""
    device = replace(linear_device(), page_bytes=64, max_request_bytes=64 * MAX_PAGES)
    assert device.request_table_us().size == MAX_PAGES + 1
    with pytest.raises(DeviceConfigError, match="max_request_bytes = 4194368 is more than 65536 times page_bytes"):
        replace(device, max_request_bytes=64 * (MAX_PAGES + 1))


def corners() -> list[dict[str, Any]]:
    """Return profiles whose numbers are all at one end or the other of their ranges."""
    found = []
    for form, own in (("table", ("size_bytes", "latency_us")), ("linear", ("overhead_us", "bandwidth_bytes_per_s")),
                      ("ceiling", ("bandwidth_bytes_per_s",))):  # fmt: skip
        keys = ("page_bytes", "max_iops", "range_factor", "core_factor", *own)
        for ends in itertools.product((0, 1), repeat=len(keys)):
            numbers = {key: RANGES[key][end] for key, end in zip(keys, ends, strict=True)}
            for key in ("range_factor", "core_factor", *(own if form == "table" else ())):
                numbers[key] = (numbers[key],)
            found.append(COMMON | numbers | {"form": form})
    return found


def test_the_ends_of_the_ranges() -> None:
    """Whatever is derived of a profile at the ends of all ranges is a number, and no request is free."""
    for numbers in corners():
        page_bytes = int(numbers["page_bytes"])
        numbers |= {
            "page_bytes": page_bytes, "max_request_bytes": 16 * page_bytes, "read_ahead_bytes": page_bytes,
            "cores": ("big",), "range_bytes": (2**20,), "queue_depths": (1,), "queue_factor": (1.0,),
            "large_queue_factor": (1.0,), "sync_size_bytes": (4096,), "sync_latency_us": (40.0,),
        }  # fmt: skip
        device = under(DeviceProfile(**sourced(numbers)), ReadConditions(core="big"), span_bytes=2**20)
        ceiling = device.ceiling()
        line = device.line(4096)
        derived = [
            ceiling.iops, ceiling.bandwidth_bytes_per_s, device.max_bandwidth_bytes_per_s, line.bandwidth_bytes_per_s,
            *device.request_table_us()[1:], *device.run_cost_us(4096, 4)[1:],
        ]  # fmt: skip
        assert all(0 < number < math.inf for number in derived), (numbers, derived)
        assert 0 <= device.gap(1) <= 2**30
        assert math.isfinite(line.overhead_us)


def test_a_ceiling_device_in_a_small_range() -> None:
    """A page that is bound by its bytes gets no faster than they are, and an operation takes some time still."""
    device = DeviceProfile(
        name="x", description="", page_bytes=4096, max_request_bytes=65536, form="ceiling", max_iops=1e6,
        bandwidth_bytes_per_s=1e8, range_bytes=(2**20,), range_factor=(1000.0,),
        sources=dict.fromkeys(
            ("page_bytes", "max_request_bytes", "max_iops", "bandwidth_bytes_per_s", "range_factor"), "made up"
        ),
    )  # fmt: skip
    small = under(device, span_bytes=2**20)
    assert small.ceiling().iops == pytest.approx(1e9)
    np.testing.assert_array_equal(small.request_table_us(), device.request_table_us())
