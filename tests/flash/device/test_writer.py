"""Device files are read back as they were written."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ripple_place.flash.device.files import list_devices, load_device, read_device
from ripple_place.flash.device.profile import DeviceProfile
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


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(TEXT.filter(bool), TEXT, st.floats(1e-9, 1e9), st.booleans(), TEXT.filter(str.strip))
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


ODD_TEXTS = [
    "".join(map(chr, range(1, 32))), "\x00", "\x7f", 'a "quoted" name', "it's", "back\\slash \\u0041", '"""', "'''",
    "a\r\nb\rc", "\ttabs\t", "\x80\x85\x9f", "\u2028\u2029\ufeff", "é 漢字 🜁 \U0010ffff", "# = [x]", " spaces around ",
    "a=1\n[sources]\nb=2",
]  # fmt: skip


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_survive(tmp_path: Path, text: str) -> None:
    """Control characters, DEL, quotes, line ends and what looks like TOML, wherever a profile has text."""
    device = replace(
        linear_device(), name=text, description=text, cores=(text, text + "2"), core_factor=(1.0, 0.5),
        sources={**LINEAR_SOURCES, "core_factor": text + "."},
    )  # fmt: skip
    write_device(tmp_path / "device.toml", device)
    assert read_device(tmp_path / "device.toml") == device


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.floats(0.001, 1e9), min_size=2, max_size=20, unique=True).map(sorted), st.booleans())
def test_any_table_survives(tmp_path: Path, latency_us: list[float], is_whole: bool) -> None:
    """Lists of any length, floats to the last digit; integers stay integers."""
    device = DeviceProfile(
        name="table", description="", page_bytes=4096, max_request_bytes=65536, form="table",
        size_bytes=tuple(range(1, len(latency_us) + 1)),
        latency_us=tuple(range(1, len(latency_us) + 1)) if is_whole else tuple(latency_us),
        sources=dict.fromkeys(("page_bytes", "max_request_bytes", "latency_us"), "remembered: made up for tests"),
    )  # fmt: skip
    write_device(tmp_path / "device.toml", device)
    read = read_device(tmp_path / "device.toml")
    assert read == device
    assert list(map(type, read.latency_us)) == list(map(type, device.latency_us))


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


def test_lists_are_written_a_number_a_line() -> None:
    """A table can be read, and a change of one time is a change of one line."""
    lines = format_device(load_device("m1-max")).splitlines()
    device = load_device("m1-max")
    start = lines.index("size_bytes = [") + 1
    n_sizes = len(device.size_bytes)
    assert lines[start : start + n_sizes + 1] == [*(f"    {size}," for size in device.size_bytes), "]"]
