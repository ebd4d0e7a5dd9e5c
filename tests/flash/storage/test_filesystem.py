"""File systems: found for a real directory, and warned of by kind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ripple_place.flash.storage.filesystem import FileSystem, file_system_of


def test_a_real_directory_has_a_known_file_system(tmp_path: Path) -> None:
    """It is one of those that the kernel knows, and so is that of a file in it."""
    found = file_system_of(tmp_path)
    with open("/proc/filesystems") as known:
        assert found.kind.partition(".")[0] in {line.split()[-1] for line in known}
    (tmp_path / "file").touch()
    assert file_system_of(tmp_path / "file") == found


def test_memory_is_told_from_storage() -> None:
    """/proc is not on any disk."""
    assert file_system_of(Path("/proc")).kind == "proc"


@pytest.mark.parametrize(
    ("kind", "says"),
    [("tmpfs", "memory"), ("nfs4", "network"), ("virtiofs", "shared"), ("fuse.sshfs", "through a process"),
     ("zfs", "cache of its own"), ("overlay", "lies on another")],
)  # fmt: skip
def test_what_misleads_is_warned_of(kind: str, says: str) -> None:
    """Each kind with what is wrong with measuring there."""
    assert says in (FileSystem(kind, "x").warning or "")


@pytest.mark.parametrize("kind", ["ext4", "xfs", "f2fs", "btrfs", "unknown"])
def test_storage_is_not_warned_of(kind: str) -> None:
    """File systems on devices say nothing."""
    assert FileSystem(kind, "/dev/sda1").warning is None


def test_without_proc_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where /proc is hidden, the file system is unknown rather than an error."""

    def refuse(path: Path) -> str:
        raise PermissionError(os.strerror(13))

    monkeypatch.setattr(Path, "read_text", refuse)
    assert file_system_of(tmp_path) == FileSystem("unknown", "unknown")
