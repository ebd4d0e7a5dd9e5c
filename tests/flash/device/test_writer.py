"""Device files are read back as they were written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ripple_place.flash.device.files import list_devices, load_device, read_device
from ripple_place.flash.device.writer import format_device, write_device
from tests.flash.builders import LINEAR_SOURCES, linear_device

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("name", list_devices())
def test_shipped_profiles_survive_a_round_trip(tmp_path: Path, name: str) -> None:
    """All forms and optional fields that ship."""
    write_device(tmp_path / "device.toml", load_device(name))
    assert read_device(tmp_path / "device.toml") == load_device(name)


TEXT = st.text(st.characters(exclude_categories=["Cs"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXT.filter(bool), TEXT, st.floats(1e-300, 1e300), st.booleans(), TEXT.filter(str.strip))
def test_any_text_and_number_survives(
    tmp_path: Path, name: str, description: str, overhead_us: float, estimated: bool, source: str
) -> None:
    """Quotes, line ends, control characters and DEL in text; floats to the last digit."""
    device = replace(
        linear_device(), name=name, description=description, overhead_us=overhead_us, estimated=estimated,
        sources={**LINEAR_SOURCES, "overhead_us": source},
    )  # fmt: skip
    write_device(tmp_path / "device.toml", device)
    assert read_device(tmp_path / "device.toml") == device


def test_what_is_written_by_hand() -> None:
    """Defaults are left out, the table of sources comes last."""
    assert format_device(linear_device()).splitlines() == [
        'name = "linear"',
        'description = "for tests"',
        "page_bytes = 4096",
        "max_request_bytes = 65536",
        'form = "linear"',
        "overhead_us = 10.0",
        "bandwidth_bytes_per_s = 4096000000.0",
        "",
        "[sources]",
        *(f'{key} = "remembered: made up for tests"' for key in LINEAR_SOURCES),
    ]
