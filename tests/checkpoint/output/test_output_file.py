"""Files written by threads, past the page cache: the bytes and their hash, whatever storage says."""

from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.checkpoint.output import output_file
from ripple_place.checkpoint.output.output_file import Begun, OutputFile
from ripple_place.errors import CheckpointError
from tests.failing_call import FailingCall

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BLOCK_BYTES = 8192


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill many blocks with few bytes."""
    monkeypatch.setattr(output_file, "CHUNK_BYTES", BLOCK_BYTES)


def random_pieces(sizes: Sequence[int]) -> list[np.ndarray]:
    """Return bytes, some at a time."""
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, size, dtype=np.uint8) for size in sizes]


def write(path: Path, pieces: Sequence[np.ndarray]) -> str:
    """Write pieces from one buffer, which changes as soon as each is taken; return the hash."""
    buffer = np.zeros(max(piece.size for piece in pieces), np.uint8)
    with OutputFile(path) as file:
        for piece in pieces:
            buffer[: piece.size] = piece
            file.append(buffer[: piece.size])
            buffer[:] = 0
    return file.sha256


@pytest.mark.parametrize(
    "sizes",
    [
        [0], [1], [BLOCK_BYTES - 1], [BLOCK_BYTES], [BLOCK_BYTES + 1], [5 * BLOCK_BYTES], [9 * BLOCK_BYTES + 4097],
        [1, 0, BLOCK_BYTES - 1], [3000] * 40, [7, 3 * BLOCK_BYTES, 4096, 1],
    ],
)  # fmt: skip
def test_bytes(tmp_path: Path, sizes: list[int]) -> None:
    """In order, whole, and hashed, however they fall into blocks."""
    pieces = random_pieces(sizes)
    expected = b"".join(piece.tobytes() for piece in pieces)
    assert write(tmp_path / "deep" / "file", pieces) == hashlib.sha256(expected).hexdigest()
    assert (tmp_path / "deep" / "file").read_bytes() == expected


def test_ranges(tmp_path: Path) -> None:
    """Ranges of a file and pieces mix."""
    data = random_pieces([5 * BLOCK_BYTES + 11])[0].tobytes()
    (tmp_path / "source").write_bytes(data)
    done: list[int] = []
    with (tmp_path / "source").open("rb") as source, OutputFile(tmp_path / "file", is_hashed=False) as file:
        file.append(b"head")
        file.append_range(source.fileno(), 3, 4 * BLOCK_BYTES, done.append)
        file.append(np.arange(3, dtype=">u2"))
        file.append_range(source.fileno(), 0, 0)
    expected = b"head" + data[3 : 3 + 4 * BLOCK_BYTES] + b"\0\0\0\1\0\2"
    assert (tmp_path / "file").read_bytes() == expected
    assert sum(done) == 4 * BLOCK_BYTES
    with (
        (tmp_path / "source").open("rb") as source,
        pytest.raises(CheckpointError, match="the file's end"),
        OutputFile(tmp_path / "longer") as file,
    ):
        file.append_range(source.fileno(), 0, len(data) + 1)


def test_storage_without_direct_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a file system that refuses the flag nor one that refuses the alignment changes what is written."""
    fcntl = pytest.importorskip("fcntl")
    pieces = random_pieces([3 * BLOCK_BYTES + 100])
    sound = write(tmp_path / "sound", pieces)
    with monkeypatch.context() as patched:
        patched.setattr(fcntl, "fcntl", FailingCall(fcntl.fcntl, 2, OSError(errno.EINVAL, "")))
        assert write(tmp_path / "flag", pieces) == sound
    for n in (1, 2, 3):
        with monkeypatch.context() as patched:
            failing = FailingCall(os.write, n, OSError(errno.EINVAL, ""))
            patched.setattr(os, "write", failing)
            assert write(tmp_path / f"alignment {n}", pieces) == sound
            assert failing.calls_left < 0
    assert {(tmp_path / name.name).read_bytes() for name in tmp_path.iterdir()} == {pieces[0].tobytes()}


def test_short_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system may take less than it is given, and leave the next write unaligned."""
    whole = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: whole(descriptor, data[: min(len(data), 5000)]))
    pieces = random_pieces([3 * BLOCK_BYTES + 100])
    write(tmp_path / "file", pieces)
    assert (tmp_path / "file").read_bytes() == pieces[0].tobytes()


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("sizes", [[5 * BLOCK_BYTES + 1], [BLOCK_BYTES] * 5 + [1]])
def test_errors_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int, sizes: list[int]) -> None:
    """An error of the thread that writes reaches the one that appends, sooner or later."""
    monkeypatch.setattr(os, "write", FailingCall(os.write, n, OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(OSError, match="No space left") as caught:
        write(tmp_path / "file", random_pieces(sizes))
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.filename == str(tmp_path / "file")


def test_what_is_there_stays(tmp_path: Path) -> None:
    """Nothing is overwritten."""
    (tmp_path / "file").write_bytes(b"x")
    with pytest.raises(FileExistsError):
        OutputFile(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"x"


@pytest.mark.parametrize("sizes", [[5 * BLOCK_BYTES + 3], [3000] * 14, [7, 3 * BLOCK_BYTES, 4096, 1]])
def test_marks_and_beginnings(tmp_path: Path, sizes: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A mark has the hash of the bytes before it; from any, the same file comes of the same pieces."""
    monkeypatch.setattr(output_file, "MARK_BLOCKS", 2)
    pieces = random_pieces(sizes)
    whole, marks = b"".join(piece.tobytes() for piece in pieces), []
    with OutputFile(tmp_path / "one", mark=lambda *mark: marks.append(mark)) as file:
        for piece in pieces:
            file.append(piece)
    places = range(2 * BLOCK_BYTES, len(whole) + 1, 2 * BLOCK_BYTES)
    expected = [(size, hashlib.sha256(whole[:size]).hexdigest()) for size in places]
    assert marks == expected[: len(marks)]
    # The last block may still be on its way when the file ends.
    assert len(marks) >= len(expected) - 1
    for size, _ in expected:
        path = tmp_path / f"from-{size}"
        path.write_bytes(whole[:size] + b"what lies behind")
        begun = Begun(size, hashlib.sha256(whole[:size]))
        with OutputFile(path, begun=begun) as file:
            for piece in pieces:
                file.append(piece)
        assert path.read_bytes() == whole
        assert file.sha256 == hashlib.sha256(whole).hexdigest()
        assert begun.digest.hexdigest() == hashlib.sha256(whole[:size]).hexdigest()


def test_ranges_that_are_there_are_not_read(tmp_path: Path) -> None:
    """A range before the end of what is there may even be gone from its file; progress counts it."""
    data = random_pieces([3 * BLOCK_BYTES])[0].tobytes()
    (tmp_path / "source").write_bytes(b"\0" * BLOCK_BYTES + data[BLOCK_BYTES:])
    (tmp_path / "out").write_bytes(data[:BLOCK_BYTES])
    done: list[int] = []
    descriptor = os.open(tmp_path / "source", os.O_RDONLY)
    begun = Begun(BLOCK_BYTES, hashlib.sha256(data[:BLOCK_BYTES]))
    with OutputFile(tmp_path / "out", begun=begun) as file:
        file.append_range(descriptor, 0, len(data), done.append)
    os.close(descriptor)
    assert (tmp_path / "out").read_bytes() == data
    assert sum(done) == len(data)
