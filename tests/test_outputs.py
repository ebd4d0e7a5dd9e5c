"""Where a file may be written: checked before the work, and again by what writes it."""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ripple_place import outputs
from ripple_place.errors import UsageError
from ripple_place.outputs import FILE_SUFFIX_BYTES, check_output_file, is_mount_point
from ripple_place.tensorfile import replacing

if TYPE_CHECKING:
    from collections.abc import Callable


def make_socket(path: Path) -> None:
    """Leave a socket at a path, whose name may be longer than a socket's address."""
    here = Path.cwd()
    os.chdir(path.parent)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
    os.chdir(here)


SPECIAL: dict[str, tuple[Callable[[Path], Any], str]] = {
    "pipe": (os.mkfifo, "a pipe"),
    "socket": (make_socket, "a socket"),
    "link": (lambda path: path.symlink_to("target"), "a link"),
    "broken link": (lambda path: path.symlink_to("nothing"), "a link"),
    "link to a device": (lambda path: path.symlink_to(os.devnull), "a link"),
}


def write(path: Path, *, umask: int = 0o022) -> None:
    """Write a file as all of ours are written."""
    before = os.umask(umask)
    try:
        with replacing(path) as file:
            file.write(b"new")
    finally:
        os.umask(before)


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_no_regular_file(tmp_path: Path, name: str, force: bool) -> None:
    """It is neither replaced nor written through, with --force or without."""
    make, kind = SPECIAL[name]
    (tmp_path / "target").write_bytes(b"old")
    make(tmp_path / "out")
    before = (tmp_path / "out").lstat()
    with pytest.raises(UsageError, match=f"out: found {kind}; expected a regular file"):
        check_output_file(tmp_path / "out", force=force)
    with pytest.raises(UsageError, match=f"out: found {kind}; expected a regular file"):
        write(tmp_path / "out")
    assert os.path.samestat((tmp_path / "out").lstat(), before)
    assert (tmp_path / "target").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["out", "target"]


def test_a_device() -> None:
    """As root, /dev/null would be gone for everybody."""
    with pytest.raises(UsageError, match=f"{os.devnull}: found a device; expected a regular file"):
        check_output_file(Path(os.devnull), force=True)
    with pytest.raises(UsageError, match="found a device"), replacing(os.devnull):
        pass
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o444, 0o664])
def test_a_file_that_is_replaced_passes_on_its_mode(tmp_path: Path, mode: int) -> None:
    """What was private stays private."""
    (tmp_path / "out").write_bytes(b"old")
    (tmp_path / "out").chmod(mode)
    write(tmp_path / "out")
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == mode
    assert (tmp_path / "out").read_bytes() == b"new"


@pytest.mark.parametrize("umask", [0o077, 0o022, 0o002])
def test_a_new_file_has_the_mode_that_the_umask_gives(tmp_path: Path, umask: int) -> None:
    """As of any other program."""
    write(tmp_path / "out", umask=umask)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o666 & ~umask


def test_a_name_that_is_too_long_with_what_is_added(tmp_path: Path) -> None:
    """The longest name that is taken can be written, and one byte more is refused before the work."""
    longest = os.pathconf(tmp_path, "PC_NAME_MAX") - FILE_SUFFIX_BYTES
    check_output_file(tmp_path / ("x" * longest), force=False)
    write(tmp_path / ("x" * longest))
    for name in ("x" * (longest + 1), "é" * (longest // 2 + 1), "x" * 300):
        with pytest.raises(OSError, match=f"File name too long: .* choose a name of at most {longest} bytes"):
            check_output_file(tmp_path / name, force=False)


def test_a_directory_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said before the work, also of a file that is there."""
    (tmp_path / "old").write_bytes(b"old")
    monkeypatch.setattr(os, "access", lambda *arguments, **options: False)
    for name in ("old", "new"):
        with pytest.raises(PermissionError, match=f"Permission denied: {name} cannot be made in it; write elsewhere"):
            check_output_file(tmp_path / name, force=True)


def test_a_file_of_another_user_in_a_shared_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only owners may rename, a file that is not ours cannot be replaced."""
    (tmp_path / "old").write_bytes(b"old")
    tmp_path.chmod(0o1777)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PermissionError, match="it belongs to another user"):
        check_output_file(tmp_path / "old", force=True)
    check_output_file(tmp_path / "new", force=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts are known by number on Linux alone")
def test_mount_points(tmp_path: Path) -> None:
    """File systems and nothing else; what is not there is none."""
    assert is_mount_point(Path("/"))
    assert is_mount_point(Path("/proc"))
    (tmp_path / "file").write_bytes(b"")
    assert not any(map(is_mount_point, [tmp_path, tmp_path / "file", tmp_path / "nothing", Path("/proc/self")]))


def test_a_file_that_is_a_mount_point(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A single file that is mounted into a container cannot be replaced."""
    (tmp_path / "old").write_bytes(b"old")
    monkeypatch.setattr(outputs, "is_mount_point", lambda path: path.name == "old")
    with pytest.raises(UsageError, match=r"old: found a mount point, which cannot be replaced.* Name another file"):
        check_output_file(tmp_path / "old", force=True)
