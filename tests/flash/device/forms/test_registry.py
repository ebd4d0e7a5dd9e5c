"""The registry of forms: whose number is whose, and that another form is a class and a line."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pytest

from ripple_place.errors import DeviceConfigError
from ripple_place.flash.device.files import read_device
from ripple_place.flash.device.forms.form import Form
from ripple_place.flash.device.forms.registry import FORMS, additive_forms, describe_forms, form_problems
from ripple_place.flash.device.profile import DeviceProfile
from ripple_place.flash.device.writer import write_device
from ripple_place.flash.simulator import SimulationParams, simulate
from tests.flash.builders import block_trace, layout_of, linear_device, trace_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NUMBERS = {
    "size_bytes": (4096, 8192), "latency_us": (1.0, 2.0), "overhead_us": 10.0, "bandwidth_bytes_per_s": 1e9,
    "max_iops": 1e5,
}  # fmt: skip
UNSET = {"size_bytes": (), "latency_us": (), "overhead_us": None, "bandwidth_bytes_per_s": None, "max_iops": None}


def test_forms_are_these() -> None:
    """In the order of docs/devices.md."""
    assert list(FORMS) == ["table", "linear", "ceiling"]
    assert all(form.name == name for name, form in FORMS.items())
    assert describe_forms() == (
        "table (size_bytes, latency_us), linear (overhead_us, bandwidth_bytes_per_s) or ceiling (max_iops, "
        "bandwidth_bytes_per_s)"
    )


@pytest.mark.parametrize("name", FORMS)
def test_a_profile_has_a_field_for_every_number(name: str) -> None:
    """Forms take their numbers from the profile by name."""
    assert {field.name for field in fields(FORMS[name])} <= {field.name for field in fields(DeviceProfile)}


@pytest.mark.parametrize(
    ("name", "numbers", "problems"),
    [
        ("cubic", NUMBERS, ["form = 'cubic'"]),
        ("table", NUMBERS, [
            "overhead_us belongs to the linear form",
            "bandwidth_bytes_per_s belongs to the linear form and the ceiling form",
        ]),
        ("linear", NUMBERS, ["size_bytes and latency_us belong to the table form"]),
        ("ceiling", NUMBERS, [
            "overhead_us belongs to the linear form", "size_bytes and latency_us belong to the table form",
        ]),
        ("ceiling", UNSET | {"latency_us": (1.0,), "max_iops": 1e5, "bandwidth_bytes_per_s": 1e9}, [
            "size_bytes and latency_us belong to the table form",
        ]),
        # A number that is set to nothing is set.
        ("table", NUMBERS | {"overhead_us": 0, "bandwidth_bytes_per_s": None}, [
            "overhead_us belongs to the linear form",
        ]),
        ("linear", UNSET | {"overhead_us": 0, "bandwidth_bytes_per_s": 1e9}, []),
        ("linear", UNSET | {"size_bytes": (1,)}, [
            "size_bytes and latency_us belong to the table form",
            "overhead_us = None is no time (0 to 1000000000); bandwidth_bytes_per_s = None is no rate (1000 to 1e+13)",
        ]),
    ],
)  # fmt: skip
def test_numbers_of_other_forms(name: str, numbers: dict[str, object], problems: list[str]) -> None:
    """Each is named with the forms that it belongs to, before what is wrong with the form's own."""
    assert form_problems(name, numbers) == problems


@dataclass(frozen=True)
class CappedForm(Form):
    """Bytes at a bandwidth, and never more than `overhead_us`: no real device."""

    name: ClassVar[str] = "capped"

    overhead_us: float
    bandwidth_bytes_per_s: float

    def problems(self) -> Iterator[str]:
        """Refuse what is below 3 us, for the test."""
        if self.overhead_us < 3:
            yield "overhead_us is below 3"

    def request_us(self, size_bytes: np.ndarray, extra_us: float) -> np.ndarray:
        """Return the time of single requests."""
        return np.minimum(self.overhead_us, size_bytes / self.bandwidth_bytes_per_s * 1e6) + extra_us


def test_another_form_is_a_class_and_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is checked, read, written and simulated, and messages count it in."""
    monkeypatch.setitem(FORMS, CappedForm.name, CappedForm)
    device = replace(linear_device(), form="capped")
    assert device.request_us([4096, 65536]).tolist() == [1.0, 10.0]
    assert device.own_line() is None
    write_device(tmp_path / "capped.toml", device)
    assert read_device(tmp_path / "capped.toml") == device

    layout = layout_of({"layers.0": [0, 1, 2, 3]}, bundle_bytes=4096)
    trace = trace_of({"layers.0": block_trace(np.array([[1, 0, 1, 1]]))}, 1)
    # A read of one page and one of two, a microsecond a page.
    assert simulate(trace, layout, device, SimulationParams(gap=0)).token_us.tolist() == [3.0]
    # Reading all four takes 4 us, so that it does not pay to fill the gap.
    assert simulate(trace, layout, device, SimulationParams(gap="optimal")).token_us.tolist() == [3.0]

    assert additive_forms() == ["table", "linear", "capped"]
    with pytest.raises(DeviceConfigError, match=r"overhead_us is below 3; .* or capped \(overhead_us, bandwidth"):
        replace(device, overhead_us=2.0)
    with pytest.raises(DeviceConfigError, match="found overhead_us belongs to the linear form and the capped form;"):
        replace(device, form="ceiling", max_iops=1e5)
    with pytest.raises(
        DeviceConfigError, match="max_iops belongs to the table form and the linear form and the ceiling"
    ):
        replace(device, max_iops=1e5)
