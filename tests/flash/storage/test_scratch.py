"""The scratch file: random bytes, written through, and nothing left behind."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.storage.scratch import SPARE_BYTES, scratch_file

SIZE_BYTES = 1 << 20


def ignore(n_bytes: int) -> None:
    """Be told of progress."""


def test_the_file_holds_random_bytes_and_has_no_name(tmp_path: Path) -> None:
    """All of it differs from zeros, and nothing shows in the directory while it is in use."""
    told: list[int] = []
    with scratch_file(tmp_path, SIZE_BYTES, np.random.default_rng(0), told.append) as file:
        assert file.size_bytes == SIZE_BYTES == sum(told)
        content = Path(f"/proc/self/fd/{file.descriptor}").read_bytes()
        assert len(set(content)) == 256
        assert content == np.random.default_rng(0).bytes(SIZE_BYTES)
        assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_nothing_is_left_after_an_interruption(tmp_path: Path, error: type[BaseException]) -> None:
    """Neither in use nor while it is written."""

    def interrupt(n_bytes: int) -> None:
        raise error

    descriptors = len(os.listdir("/proc/self/fd"))
    with pytest.raises(error), scratch_file(tmp_path, SIZE_BYTES, np.random.default_rng(0), ignore):
        raise error
    with pytest.raises(error), scratch_file(tmp_path, SIZE_BYTES, np.random.default_rng(0), interrupt):
        pass
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_room_is_checked_before_anything_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system with too little room is left as it is; one byte more would do."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, SIZE_BYTES + SPARE_BYTES - 1))
    told: list[int] = []
    with (
        pytest.raises(OSError, match="needs 65 MiB, 65 MiB are free") as caught,
        scratch_file(tmp_path, SIZE_BYTES, np.random.default_rng(0), told.append),
    ):
        pass
    assert caught.value.filename == str(tmp_path)
    assert told == []


def test_a_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    """A missing path, before any file is made."""
    with (
        pytest.raises(UsageError, match="no directory"),
        scratch_file(tmp_path / "missing", SIZE_BYTES, np.random.default_rng(0), ignore),
    ):
        pass


@pytest.mark.parametrize("size_bytes", [0, 4096])
def test_sizes_that_alignments_do_not_divide_are_refused(tmp_path: Path, size_bytes: int) -> None:
    """So that the last read of the file is as aligned as the first."""
    with (
        pytest.raises(UsageError, match="multiple of 64 KiB"),
        scratch_file(tmp_path, size_bytes, np.random.default_rng(0), ignore),
    ):
        pass
