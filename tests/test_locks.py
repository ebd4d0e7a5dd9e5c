"""One writer at a time, whoever that is, and what a killed one leaves to the next."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ripple_place.errors import UsageError
from ripple_place.locks import is_same_file, lock_now, one_writer

HOLDS = """
import sys; from pathlib import Path
from ripple_place.locks import one_writer
with one_writer(Path(sys.argv[1])) as lock:
    lock.note("adding a to b")
    print("held", flush=True)
    sys.stdin.read()
"""


def take(path: Path) -> None:
    """Lock an output and let it go."""
    with one_writer(path):
        pass


def killed_holder(path: Path) -> None:
    """Let another process lock an output, note its work, and be killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(UsageError, match="out: found another process writing it; expected one writer"):
            take(path)
        process.send_signal(signal.SIGKILL)


def test_one_at_a_time_and_nothing_stays(tmp_path: Path) -> None:
    """A second holder is refused while the first lives, and the file is gone when it has ended."""
    with one_writer(tmp_path / "out") as lock:
        assert (lock.left_note, lock.was_left) == ("", False)
        assert os.listdir(tmp_path) == [".out.lock"]
        with pytest.raises(UsageError, match="another process writing it"):
            take(tmp_path / "out")
        take(tmp_path / "other")
    assert os.listdir(tmp_path) == []


def test_a_directory_by_another_name(tmp_path: Path) -> None:
    """The lock is of the output, not of the way in which it was spelled."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with one_writer(tmp_path / "real" / "out"), pytest.raises(UsageError, match="another process"):
        take(tmp_path / "link" / "out")


def test_what_a_killed_holder_leaves(tmp_path: Path) -> None:
    """Its lock binds nobody, its note can be read, and the next holder leaves nothing."""
    killed_holder(tmp_path / "out")
    assert os.listdir(tmp_path) == [".out.lock"]
    with one_writer(tmp_path / "out") as lock:
        assert (lock.left_note, lock.was_left) == ("adding a to b", True)
        lock.note("c")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_a_note_after_an_error(tmp_path: Path, error: type[BaseException]) -> None:
    """A note goes with the error, unless the work that it tells of is in place."""

    def fail(*, kept: bool) -> None:
        with one_writer(tmp_path / "out") as lock:
            lock.note("work, as it was")
            lock.note("work")
            if kept:
                lock.keep_note()
            raise error

    with pytest.raises(error):
        fail(kept=False)
    assert os.listdir(tmp_path) == []
    with pytest.raises(error):
        fail(kept=True)
    with pytest.raises(error), one_writer(tmp_path / "out"):
        raise error  # Before it does anything: what was left is still true.
    with one_writer(tmp_path / "out") as lock:
        assert lock.left_note == "work"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["text", "binary", "fifo"])
def test_a_file_that_is_not_ours(tmp_path: Path, kind: str) -> None:
    """What somebody else keeps under the name of the lock is neither used nor removed."""
    lock = tmp_path / ".out.lock"
    if kind == "fifo":
        os.mkfifo(lock)
    else:
        lock.write_bytes({"text": b"ripple, a wine", "binary": b"\xff\xfe\x00"}[kind])
    with pytest.raises(UsageError, match=r"\.out\.lock: found something that is not ours; expected nothing there"):
        take(tmp_path / "out")
    assert lock.exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A link under the name of the lock leads nowhere that we would write."""
    (tmp_path / "letter").write_text("dear")
    (tmp_path / ".out.lock").symlink_to("letter")
    with pytest.raises(OSError, match="symbolic link"), one_writer(tmp_path / "out"):
        pass
    assert (tmp_path / "letter").read_text() == "dear"


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are let through, and nothing stays."""

    def refuse(*arguments: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with one_writer(tmp_path / "out"), one_writer(tmp_path / "out") as second:
        second.note("work")
    assert os.listdir(tmp_path) == []


def test_a_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same where there is no such module."""
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with one_writer(tmp_path / "out") as lock:
        lock.note("work")
        lock.keep_note()
        assert os.listdir(tmp_path) == []


def test_a_lock_that_was_removed_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between opening and locking, the last holder may end and take the name away: the next one tries again."""
    real, seen = os.open, []

    def open_and_lose(path: Path, *arguments: int) -> int:
        descriptor = real(path, *arguments)
        if not seen:
            Path(path).unlink()
        seen.append(path)
        return descriptor

    monkeypatch.setattr(os, "open", open_and_lose)
    with one_writer(tmp_path / "out"):
        assert os.listdir(tmp_path) == [".out.lock"]
    assert len(seen) == 2


def test_primitives(tmp_path: Path) -> None:
    """Locking what is locked already is refused; a name that went to another file is noticed."""
    (tmp_path / "a").write_text("")
    with (tmp_path / "a").open() as one, (tmp_path / "a").open() as two:
        assert lock_now(one.fileno()) is True
        assert lock_now(two.fileno()) is False
        assert is_same_file(tmp_path / "a", two.fileno())
        (tmp_path / "b").write_text("")
        (tmp_path / "b").replace(tmp_path / "a")
        assert not is_same_file(tmp_path / "a", two.fileno())
