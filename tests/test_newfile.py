"""Files written beside their place: no two writers share one, and what a killed one leaves is removed, nothing else."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from ripple_place import newfile
from ripple_place.newfile import file_beside, remove_strays
from ripple_place.tensorfile import replacing

if TYPE_CHECKING:
    from pathlib import Path

WRITES = """
import sys; from pathlib import Path
from ripple_place.newfile import file_beside
import os
with file_beside(Path(sys.argv[1]), named=sys.argv[2] == "named") as new:
    os.write(new.descriptor, b"half")
    print("writing", flush=True)
    sys.stdin.read()
"""
NO_NAMELESS_FILES = pytest.mark.parametrize("nameless", [True, False], ids=["nameless", "named"])


@pytest.fixture
def no_nameless(nameless: bool, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Take files without names away, as most network file systems do."""
    if not nameless:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    return not nameless


def start_writer(path: Path, how: str) -> subprocess.Popen[bytes]:
    """Let another process write half a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(path), how], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    return process


def write(path: Path, data: bytes) -> None:
    """Replace a file."""
    with replacing(path) as file:
        file.write(data)


@NO_NAMELESS_FILES
@pytest.mark.usefixtures("no_nameless")
def test_two_writers_of_one_process_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In containers that share a volume, both may be process 1: neither writes into the other's file."""
    monkeypatch.setattr(os, "getpid", lambda: 1)
    path = tmp_path / "out"
    with replacing(path) as first:
        first.write(b"a" * 4096)
        first.flush()
        with replacing(path) as second:
            second.write(b"b" * 10)
        assert path.read_bytes() == b"b" * 10
        first.write(b"a" * 4096)
    assert path.read_bytes() == b"a" * 8192
    assert os.listdir(tmp_path) == ["out"]


@pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="the system has no files without names")
def test_a_killed_writer_of_a_nameless_file(tmp_path: Path) -> None:
    """Where the file system can, nothing stays even before the next run."""
    if newfile._unnamed_file(tmp_path / "out") is None:
        pytest.skip("the file system has none")
    with start_writer(tmp_path / "out", "nameless") as process:
        assert os.listdir(tmp_path) == []
        process.send_signal(signal.SIGKILL)
    assert os.listdir(tmp_path) == []


def test_strays_of_killed_writers(tmp_path: Path) -> None:
    """The next run removes what dead writers of the same output left, and leaves alone what a living one writes."""
    path = tmp_path / "out"
    with start_writer(path, "named") as dead, start_writer(path, "named") as living:
        dead.send_signal(signal.SIGKILL)
        dead.wait()
        strays = set(tmp_path.glob(".out.*.partial"))
        assert len(strays) == 2
        write(path, b"new")
        assert len(strays & set(tmp_path.iterdir())) == 1
        living.send_signal(signal.SIGKILL)
    write(path, b"newer")
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("out", b"newer")]


def test_nothing_else_is_removed(tmp_path: Path) -> None:
    """Other names, other outputs, and what is no regular file stay, whatever it is called."""
    stay = [
        ".out.0123abcd.partial.txt", ".out.0123ABCD.partial", ".out.123.partial", ".out.partial",
        ".outs.0123abcd.partial",
        ".other.0123abcd.partial", "out.0123abcd.partial", ".o.t.0123abcd.partial",
    ]  # fmt: skip
    for name in stay:
        (tmp_path / name).write_text("mine")
    (tmp_path / "letter").write_text("dear")
    (tmp_path / ".out.00000000.partial").symlink_to("letter")
    (tmp_path / ".out.00000001.partial").mkdir()
    os.mkfifo(tmp_path / ".out.00000002.partial")
    before = sorted(path.name for path in tmp_path.iterdir())
    (tmp_path / ".out.0123abcd.partial").write_text("stray")
    remove_strays(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_without_locks_nothing_is_a_stray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody can tell whether a writer lives, its file stays."""
    monkeypatch.setattr(newfile, "lock_now", lambda descriptor: None)
    (tmp_path / ".out.0123abcd.partial").write_text("somebody may be writing this")
    write(tmp_path / "out", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"out", ".out.0123abcd.partial"}


def test_a_name_that_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random names that exist already are not written to."""
    taken = tmp_path / ".out.00000000.partial"
    taken.write_text("taken")
    for nameless in (True, False):
        names = iter(["00000000", "00000000", "00000001"])
        monkeypatch.setattr(newfile, "remove_strays", lambda path: None)
        monkeypatch.setattr(newfile.secrets, "token_hex", lambda n, names=names: next(names))
        if not nameless:
            monkeypatch.delattr(os, "O_TMPFILE", raising=False)
        write(tmp_path / "out", b"new")
        assert taken.read_text() == "taken"


def test_a_file_that_was_taken_for_a_stray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its making and its locking, another run may remove it: another one is made."""
    real, seen = newfile.lock_now, []

    def lock_too_late(descriptor: int) -> bool | None:
        if not seen:
            (made,) = tmp_path.iterdir()
            made.unlink()
        seen.append(descriptor)
        return real(descriptor)

    monkeypatch.setattr(newfile, "lock_now", lock_too_late)
    with file_beside(tmp_path / "out", named=True) as new:
        os.write(new.descriptor, b"new")
        new.rename_to(tmp_path / "out")
    assert len(seen) == 2
    assert (tmp_path / "out").read_bytes() == b"new"


def test_a_file_that_may_not_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems make files without names and then refuse to name them: the bytes are copied."""

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    data = os.urandom(300_000)
    write(tmp_path / "out", data)
    assert (tmp_path / "out").read_bytes() == data
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o666 & ~_umask()
    assert os.listdir(tmp_path) == ["out"]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_a_system_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without /proc a file could never be named, so it gets a name at once."""
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    with file_beside(tmp_path / "out") as new:
        assert new.name is not None
    assert os.listdir(tmp_path) == []


def test_writers_at_once(tmp_path: Path) -> None:
    """Many processes replace one file over and over: it is always one of theirs, whole, and nothing is left."""
    script = (
        "import sys; from pathlib import Path; from ripple_place.tensorfile import replacing\n"
        "for i in range(60):\n"
        "    with replacing(Path(sys.argv[1])) as file: file.write(sys.argv[2].encode() * 5000)"
    )
    path = tmp_path / "out"
    writers = [subprocess.Popen([sys.executable, "-c", script, str(path), letter]) for letter in "abc"]
    n_seen = 0
    while any(writer.poll() is None for writer in writers):
        if path.exists():
            data = path.read_bytes()
            assert len(data) == 5000
            assert len(set(data)) == 1
            n_seen += 1
        time.sleep(0.001)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert n_seen > 0
    assert os.listdir(tmp_path) == ["out"]
