"""Device profiles: latencies and lines by hand, the shipped files, and every way a profile can be wrong."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.errors import DeviceConfigError, UsageError
from ripple_place.flash.device.files import DEFAULT_DEVICE, list_devices, load_device
from ripple_place.flash.device.profile import DeviceProfile, LatencyLine
from ripple_place.units import whole_gap
from tests.flash.builders import linear_device

if TYPE_CHECKING:
    from pathlib import Path

TABLE = DeviceProfile(
    name="table",
    description="for tests",
    page_bytes=4096,
    max_request_bytes=32768,
    form="table",
    size_bytes=(8192, 16384, 32768),
    latency_us=(10.0, 10.0, 30.0),
    sources=dict.fromkeys(("page_bytes", "max_request_bytes", "latency_us"), "remembered: made up for tests"),
)

DEVICE_TOML = """
name = "mine"
description = "a phone"
form = "linear"
page_bytes = 4096
max_request_bytes = 131072
overhead_us = 10.0
bandwidth_bytes_per_s = 1_000_000_000
[sources]
page_bytes = "found: datasheet"
max_request_bytes = "found: datasheet"
overhead_us = "measured: here"
bandwidth_bytes_per_s = "measured: here"
"""


def test_table_is_interpolated_and_continued() -> None:
    """Flat below the first size, straight between sizes, on along the last line above: worked out by hand."""
    assert TABLE.request_us([4096, 8192, 12288, 16384, 24576, 32768, 49152]).tolist() == [
        10, 10, 10, 10, 20, 30, 50,
    ]  # fmt: skip


def test_one_size_continues_in_proportion() -> None:
    """With a single size there is no slope to continue along: twice the bytes take twice the time."""
    one_size = replace(TABLE, size_bytes=(8192,), latency_us=(10.0,))
    assert one_size.request_us([4096, 8192, 16384]).tolist() == [10, 10, 20]


def test_cost_of_a_run_rounds_to_pages_and_splits() -> None:
    """A run of 6912-byte bundles from a page on: 1 takes 2 pages, 5 take 9, which is one request of 8 and one of 1."""
    assert TABLE.run_cost_us(6912, 5).tolist() == [0, 10, 10, 20, 25, 40]


def test_line_of_a_linear_device_is_itself() -> None:
    """A linear device has lambda 10 for 4 KiB: 10 us at 4096 bytes a microsecond."""
    device = linear_device()
    assert device.line(4096) == LatencyLine(10.0, 4096e6)
    assert (device.break_even_gap(4096), device.gap(4096), device.gap(6912)) == (10.0, 10, 5)


def test_line_of_a_table_device_is_the_least_squares_line() -> None:
    """Compared with numpy's polynomial fit over reads of 1 to 16 bundles."""
    device = load_device(DEFAULT_DEVICE)
    lengths = np.arange(1, 17)
    bundle_us, overhead_us = np.polyfit(lengths, device.run_cost_us(4096, 16)[1:], 1)
    line = device.line(4096)
    assert line.overhead_us == pytest.approx(overhead_us)
    assert line.bandwidth_bytes_per_s == pytest.approx(4096e6 / bundle_us)
    assert device.break_even_gap(4096) == pytest.approx(overhead_us / bundle_us)


def test_line_is_found_for_bundles_far_below_a_page() -> None:
    """Sixteen bundles of 100 bytes fit a page, where the time does not rise: more bundles are taken, not no slope."""
    line = TABLE.line(100)
    assert 0 < line.overhead_us <= 10
    assert 0 < line.bandwidth_bytes_per_s < np.inf


def test_request_table_is_the_form_by_pages() -> None:
    """What the kernel looks up: entry p is a request of p pages, of the device itself or of a given line."""
    assert TABLE.request_table_us().tolist() == [0, 10, 10, 10, 10, 15, 20, 25, 30]
    assert TABLE.request_table_us(LatencyLine(1.0, 4096e6)).tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(("break_even_gap", "gap"), [(5.0, 5), (0.1 + 0.2 - 0.3 + 5 - 1e-12, 5), (4.99, 4), (0.0, 0)])
def test_a_gap_of_exactly_lambda_merges(break_even_gap: float, gap: int) -> None:
    """Rounding errors of the division must not lose the whole number."""
    assert whole_gap(break_even_gap) == gap


@pytest.mark.parametrize("name", list_devices())
def test_shipped_profiles_are_sound(name: str) -> None:
    """Each loads under its own name, every source says how it is known, and estimates warn."""
    device = load_device(name)
    assert device.name == name
    assert all(re.match("(found|derived|remembered|measured): ", source) for source in device.sources.values())
    assert (device.warning is None) == (not device.estimated)
    # Below their shortest read, profiles of large reads are flat: a gap of short bundles costs nothing there.
    assert 0 <= device.gap(24576) <= device.gap(4096) < (20 if device.size_bytes[0] <= 16384 else 1000)
    assert (np.diff(device.request_table_us()) >= 0).all()


def test_shipped_profiles_are_these() -> None:
    """Both views of the OnePlus 12 ship, since two papers disagree; the default is no estimate."""
    assert list_devices() == [
        "desktop-nvme", "m1-max", "nvme-phison-e27t", "ufs31-oneplus-ace2", "ufs4-oneplus12-neuralink",
        "ufs4-oneplus12-powerinfer2", "ufs4-oneplus15r",
    ]  # fmt: skip
    assert load_device(DEFAULT_DEVICE).warning is None


def test_m1_max_reads_flash_as_the_paper_does() -> None:
    """LLM in a Flash (arXiv 2312.11514, Table 2): 0.2 GB takes 164 ms at 8 KiB a read and 87 ms at 16 KiB."""
    device = load_device("m1-max")
    for size_bytes, paper_us in ((8192, 164e3), (16384, 87e3)):
        assert 0.2e9 / size_bytes * float(device.request_us(size_bytes)) == pytest.approx(paper_us, rel=0.05)


def test_file_of_one_s_own(tmp_path: Path) -> None:
    """A path loads like a shipped name, integers where times are expected included."""
    path = tmp_path / "mine.toml"
    path.write_text(DEVICE_TOML)
    device = load_device(str(path))
    assert (device.name, device.break_even_gap(4096)) == ("mine", pytest.approx(10e3 / 4096))
    assert device.warning is None
    path.write_text("estimated = true\n" + DEVICE_TOML)
    assert "fewer than three" in (load_device(str(path)).warning or "")


def test_encodings_of_a_file(tmp_path: Path) -> None:
    """UTF-8, as TOML is, also with the mark that some editors begin it with; others are refused with a sentence."""
    path = tmp_path / "mine.toml"
    path.write_text(DEVICE_TOML, encoding="utf-8-sig")
    assert load_device(str(path)).name == "mine"
    for data in (DEVICE_TOML.encode("utf-16"), DEVICE_TOML.replace("a phone", "\u00e9").encode("latin-1")):
        path.write_bytes(data)
        with pytest.raises(
            DeviceConfigError, match=r"mine\.toml: found 'utf-8' codec can't decode.*expected TOML in UTF-8"
        ):
            load_device(str(path))


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("form = ", "form == ", "mine.toml: found .*expected TOML in UTF-8"),
        ("form = ", "queue_depth = 32\nform = ", "found unknown key queue_depth"),
        ("page_bytes = 4096\n", "", "found no page_bytes"),
        ("page_bytes = 4096\n", "page_bytes = '4096'\n", "found page_bytes = '4096'"),
        ('"a phone"', "7", "found description = 7"),
        ("page_bytes = 4096\n", "page_bytes = 0\n", "device mine: found page_bytes = 0 is no size"),
        ("131072", "131073", "max_request_bytes = 131073 is no multiple of page_bytes"),
        ('"linear"', '"cubic"', "form = 'cubic'"),
        ('"linear"', '"table"', "overhead_us belongs to the linear form.*0 size_bytes and 0 latency_us"),
        ("overhead_us = 10.0\n", "", "overhead_us = None is no time"),
        ("overhead_us = 10.0\n", "overhead_us = -1\n", "overhead_us = -1 is no time"),
        ("1_000_000_000", "inf", "bandwidth_bytes_per_s = inf is no rate"),
        ("overhead_us = 10.0\n", "overhead_us = 10.0\nsize_bytes = [1]\n", "belong to the table form"),
        ('overhead_us = "measured: here"', "", "found sources of bandwidth_bytes_per_s, max_request_bytes, page_bytes"),
        ('overhead_us = "measured: here"', 'overhead_us = " "', "expected a sentence for each of"),
        ("[sources]", "[sources]\nnonsense = 'found: it'", "sources of .*nonsense"),
    ],
)
def test_bad_files(tmp_path: Path, old: str, new: str, match: str) -> None:
    """Each rule of the format has a file that breaks it, and the message names the key."""
    path = tmp_path / "mine.toml"
    assert old in DEVICE_TOML
    path.write_text(DEVICE_TOML.replace(old, new, 1))
    with pytest.raises(DeviceConfigError, match=match):
        load_device(str(path))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"size_bytes": (8192, 8192, 16384)}, "size_bytes do not ascend"),
        ({"size_bytes": (0, 8192, 16384)}, "size_bytes do not ascend"),
        ({"size_bytes": (8192, 16384)}, "2 size_bytes and 3 latency_us"),
        ({"latency_us": (10.0, 9.0, 30.0)}, "latency_us are not positive, fall"),
        ({"latency_us": (0.0, 9.0, 30.0)}, "latency_us are not positive"),
        ({"latency_us": (10.0, 30.0, 30.0)}, "do not rise at the end"),
        ({"name": ""}, "name is empty"),
    ],
)
def test_bad_tables(changes: dict[str, object], match: str) -> None:
    """A table that falls or ends flat would make reading more bytes free."""
    with pytest.raises(DeviceConfigError, match=match):
        replace(TABLE, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("ufs5", "found no shipped profile by that name; expected one of desktop-nvme, m1-max"),
        ("./ufs5.toml", "found no such file"),
    ],
)
def test_unknown_devices(name: str, match: str) -> None:
    """The message lists what there is."""
    with pytest.raises(UsageError, match=match):
        load_device(name)
