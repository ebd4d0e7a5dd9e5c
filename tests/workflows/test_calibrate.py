"""Calibration from end to end on a tiny scratch file: a valid profile, nothing left behind, and what is refused."""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING

import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.device.files import read_device
from ripple_place.flash.storage import scratch
from ripple_place.workflows.calibrate import CalibrateParams, calibrate

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="direct reads need Linux")

TINY = {"scratch_bytes": 1 << 20, "n_repeats": 2, "max_request_bytes": 16384, "time_us": 1.0}


@pytest.fixture
def storage(tmp_path: Path) -> Path:
    """Return a directory with a user's file in it."""
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / "precious").write_text("do not touch")
    return tmp_path / "storage"


def test_a_profile_is_written_and_nothing_else(tmp_path: Path, storage: Path) -> None:
    """The file that was written is the profile that is reported, and simulates; the directory is as it was."""
    out = tmp_path / "my disk.toml"
    report = calibrate(storage, out, CalibrateParams(depth=4, **TINY))
    assert read_device(out) == report.device
    assert (report.device.name, report.depth) == ("my-disk", 4)
    assert report.device.queue_depths == (1, 2, 4)
    assert report.device.page_bytes >= 4096
    assert report.device.max_request_bytes == 16384
    assert report.device.request_us(4096) > 0
    assert [path.name for path in storage.iterdir()] == ["precious"]
    assert (storage / "precious").read_text() == "do not touch"
    assert {cell.depth for cell in report.survey} == {1, 2, 4}
    assert [cell.size_bytes for cell in report.cells] == [4096, 8192, 12288, 16384]


def test_the_document_has_what_the_table_shows(tmp_path: Path, storage: Path) -> None:
    """Cells of both sweeps, the fitted table, a line for each bundle, additivity."""
    report = calibrate(storage, tmp_path / "disk.toml", CalibrateParams(depth=2, **TINY))
    document = report.to_json()
    assert document["size_bytes"] == list(report.device.size_bytes)
    assert len(document["cells"]) == 4 * 2 + 4
    assert list(document["lines"]) == ["4096", "8192", "16384"]
    assert document["lines"]["4096"]["break_even_gap"] == report.device.break_even_gap(4096)
    assert document["additivity"]["mixtures"] == 20


def test_without_a_depth_the_saturating_one_is_chosen(tmp_path: Path, storage: Path) -> None:
    """One of the depths of the sweep; the profile knows it and those below."""
    report = calibrate(storage, tmp_path / "disk.toml", CalibrateParams(**TINY))
    assert {cell.depth for cell in report.survey} == {1, 2, 4, 8, 16, 32}
    assert report.device.queue_depths == tuple(depth for depth in (1, 2, 4, 8, 16, 32) if depth <= report.depth)


def test_an_existing_profile_needs_force(tmp_path: Path, storage: Path) -> None:
    """It is refused before anything is written to the storage, and replaced on demand."""
    out = tmp_path / "disk.toml"
    out.write_text("mine")
    with pytest.raises(UsageError, match="--force"):
        calibrate(storage, out, CalibrateParams(depth=1, **TINY))
    assert out.read_text() == "mine"
    calibrate(storage, out, CalibrateParams(depth=1, **TINY), force=True)
    assert read_device(out).name == "disk"


def test_an_interruption_leaves_nothing(tmp_path: Path, storage: Path) -> None:
    """Ctrl-C between two cells: no scratch file, no profile."""

    class Interrupted:
        def __call__(self, items: object, what: str) -> object:
            raise KeyboardInterrupt

        def bytes(self, total_bytes: int, what: str) -> object:
            return lambda n_bytes: None

    with pytest.raises(KeyboardInterrupt):
        calibrate(storage, tmp_path / "disk.toml", CalibrateParams(**TINY), track=Interrupted())
    assert [path.name for path in storage.iterdir()] == ["precious"]
    assert not (tmp_path / "disk.toml").exists()


def test_no_room(tmp_path: Path, storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found before anything is written."""
    monkeypatch.setattr(scratch, "SPARE_BYTES", 1 << 62)
    with pytest.raises(OSError, match="make room") as caught:
        calibrate(storage, tmp_path / "disk.toml", CalibrateParams(**TINY))
    assert caught.value.errno == errno.ENOSPC


def test_text_is_a_path_as_well(tmp_path: Path, storage: Path) -> None:
    """Directory and profile alike."""
    report = calibrate(str(storage), str(tmp_path / "my disk.toml"), CalibrateParams(depth=1, **TINY))
    assert read_device(tmp_path / "my disk.toml") == report.device
    assert report.to_json()["out"] == str(tmp_path / "my disk.toml")
