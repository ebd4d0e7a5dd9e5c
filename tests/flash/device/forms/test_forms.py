"""The forms on their own: what they charge by hand, their lines and ends, and the numbers that they refuse."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.errors import DeviceConfigError
from ripple_place.flash.device.forms.ceiling import CeilingForm
from ripple_place.flash.device.forms.linear import LinearForm
from ripple_place.flash.device.forms.table import TableForm
from ripple_place.flash.device.latency import LatencyLine

if TYPE_CHECKING:
    from ripple_place.flash.device.forms.form import Form

TABLE = TableForm((8192, 16384, 32768), (10.0, 10.0, 30.0))
LINEAR = LinearForm(10.0, 4096e6)
CEILING = CeilingForm(100_000, 4096e6)


@pytest.mark.parametrize(
    ("form", "extra_us", "times_us"),
    [
        (TABLE, 0.0, [10, 10, 15, 50]),
        (TABLE, 2.0, [12, 12, 17, 52]),
        (TableForm((8192,), (10.0,)), 2.0, [12, 22, 27, 62]),
        (TableForm((8192, 16384, 32768), (10.0, 10.0, 30.0), max_iops=80_000), 1.0, [12.5, 12.5, 16, 51]),
        (LINEAR, 0.0, [11, 14, 15, 22]),
        (LINEAR, -3.0, [8, 11, 12, 19]),
        # However small the range, no request takes less than nothing.
        (LINEAR, -12.0, [0, 2, 3, 10]),
        (LinearForm(0, 4096e6, max_iops=250_000), 0.0, [4, 4, 5, 12]),
        (CEILING, 0.0, [10, 10, 10, 12]),
        # Bytes are as fast as before: the extra time is of the operation.
        (CEILING, 1.5, [11.5, 11.5, 11.5, 12]),
    ],
)
def test_requests_by_hand(form: Form, extra_us: float, times_us: list[float]) -> None:
    """Requests of 1, 4, 5 and 12 pages; a page is a microsecond on the line and under the ceiling."""
    sizes = np.array([1, 4, 5, 12]) * 4096.0
    assert form.request_us(sizes, extra_us).tolist() == pytest.approx(times_us)


def test_only_a_line_without_a_bend_is_a_line() -> None:
    """A table and a ceiling are none, and IOPS bend a line."""
    assert LINEAR.own_line() == LatencyLine(10.0, 4096e6)
    assert LinearForm(10.0, 4096e6, max_iops=50_000).own_line() is None
    assert (TABLE.own_line(), CEILING.own_line()) == (None, None)


def test_where_operations_alone_count() -> None:
    """A page is the shortest read; under a ceiling even a page may be bound by its bytes."""
    assert [form.shortest_bytes(4096) for form in (TABLE, LINEAR, CEILING)] == [4096, 4096, 0]
    assert [form.times_add_up for form in (TABLE, LINEAR, CEILING)] == [True, True, False]


def test_numbers_that_need_a_source() -> None:
    """A table has one source for both its rows; what is left out has none."""
    assert TABLE.sourced == {"latency_us"}
    assert LINEAR.sourced == {"overhead_us", "bandwidth_bytes_per_s"}
    assert LinearForm(0, 4096e6, max_iops=1).sourced == {"overhead_us", "bandwidth_bytes_per_s", "max_iops"}
    assert CEILING.sourced == {"max_iops", "bandwidth_bytes_per_s"}


@pytest.mark.parametrize(
    ("form", "numbers", "found"),
    [
        (TableForm, ((), ()), "0 size_bytes and 0 latency_us"),
        (TableForm, ((4096, 8192), (1.0,)), "2 size_bytes and 1 latency_us"),
        (TableForm, ((8192, 4096), (1.0, 2.0)), r"size_bytes do not ascend \(1 to 1073741824\)"),
        (
            TableForm,
            ((4096,), (0.0,)),
            r"latency_us are not positive, fall, or do not rise at the end \(0.001 to 1000000000\)",
        ),
        (TableForm, ((4096,), (1.0,), 0), r"max_iops = 0 is no rate \(0.001 to 1e\+10\)"),
        (
            LinearForm,
            (-1, 0),
            r"overhead_us = -1 is no time \(0 to 1000000000\); bandwidth_bytes_per_s = 0 is no rate \(1000 to 1e\+13\)",
        ),
        (
            LinearForm,
            (None, None),
            r"overhead_us = None is no time \(.*\); bandwidth_bytes_per_s = None is no rate \(1000 to 1e\+13\)",
        ),
        (LinearForm, (0, 1e9, True), r"max_iops = True is no rate \(0.001 to 1e\+10\)"),
        (
            CeilingForm,
            (None, None),
            r"bandwidth_bytes_per_s = None is no rate \(.*\); max_iops = None is no rate \(0.001 to 1e\+10\)",
        ),
    ],
)
def test_numbers_out_of_range(form: type[Form], numbers: tuple[Any, ...], found: str) -> None:
    """There is no form with numbers that cannot be, and all that are wrong are named at once."""
    with pytest.raises(DeviceConfigError, match=f"{form.__name__}: found {found}; expected .*docs/devices.md"):
        form(*numbers)
