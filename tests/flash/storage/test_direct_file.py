"""Files opened past the page cache: alignment, sizes, and what cannot be opened."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

import pytest

from ripple_place.errors import UnsupportedError, UsageError
from ripple_place.flash.storage.direct_file import ALIGNMENTS_BYTES, DirectFile, aligned_buffer

if TYPE_CHECKING:
    from pathlib import Path


def test_reads_at_the_detected_alignment_succeed(data: DirectFile, data_path: Path) -> None:
    """Offset, length and memory at multiples of it give the file's bytes."""
    alignment = data.alignment_bytes
    assert alignment in ALIGNMENTS_BYTES
    buffer = aligned_buffer(4 * alignment)[alignment : 2 * alignment]
    assert os.preadv(data.descriptor, [buffer], 3 * alignment) == alignment
    assert buffer.tobytes() == data_path.read_bytes()[3 * alignment : 4 * alignment]


def test_a_direct_file_refuses_what_is_not_aligned(data: DirectFile) -> None:
    """Where the file system takes alignment seriously, the detected one is the smallest that it takes."""
    if data.is_direct and data.alignment_bytes > ALIGNMENTS_BYTES[0]:
        with pytest.raises(OSError, match="Invalid argument"):
            os.preadv(data.descriptor, [aligned_buffer(4096)[:512]], 512)


def test_size_is_rounded_down_to_the_alignment(tmp_path: Path) -> None:
    """The tail that no aligned read reaches does not count."""
    (tmp_path / "odd").write_bytes(bytes(70_001))
    with DirectFile.open(tmp_path / "odd") as file:
        assert file.size_bytes == 70_001 // file.alignment_bytes * file.alignment_bytes


def test_a_file_system_without_direct_reads_is_read_all_the_same(
    data_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Opening with O_DIRECT fails with EINVAL there; the file is opened without and says so."""
    real_open = os.open

    def refuse(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, "Invalid argument")
        return real_open(path, flags, *mode)

    monkeypatch.setattr(os, "open", refuse)
    with DirectFile.open(data_path) as file:
        assert not file.is_direct


@pytest.mark.parametrize(("size_bytes", "found"), [(None, "no file"), (100, "100 B")])
def test_what_cannot_be_measured_is_refused(tmp_path: Path, size_bytes: int | None, found: str) -> None:
    """A file that is not there, and one shorter than a single read."""
    path = tmp_path / "small"
    if size_bytes is not None:
        path.write_bytes(bytes(size_bytes))
    with pytest.raises(UsageError, match=found):
        DirectFile.open(path)


def test_other_systems_are_told_so(data_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """O_DIRECT is Linux's: elsewhere exit code 3, with the way by fio."""
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UnsupportedError, match=r"darwin.*fio"):
        DirectFile.open(data_path)
