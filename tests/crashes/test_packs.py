"""Packs that are killed while experts are written: the run that continues writes on behind what is there."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from ripple_place.checkpoint.names import BUNDLED_FILE, JOURNAL_FILE
from ripple_place.checkpoint.output import output_file
from ripple_place.checkpoint.output.journal import Journal
from ripple_place.errors import UsageError
from ripple_place.workflows.pack import PackParams, pack_experts
from tests.builders import contents
from tests.crashes import forks
from tests.expert_builders import qwen3_moe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kills")
BLOCK_BYTES = 16384
RESUMED = PackParams(resume=True)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mark the beginning of a pack after every block of 16 KiB."""
    monkeypatch.setattr(output_file, "CHUNK_BYTES", BLOCK_BYTES)
    monkeypatch.setattr(output_file, "MARK_BLOCKS", 1)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a mixture of three layers whose pack takes some 40 blocks."""
    return qwen3_moe(tmp_path / "m", 3, width=96, hidden=64)


def dies_at(n_marks: int) -> Callable[[], None]:
    """Return what makes a process kill itself, as kill -9 does, once it has marked a file so many times."""
    left = [n_marks]

    def prepare() -> None:
        mark = Journal.mark

        def marked(self: Journal, *arguments: Any) -> None:
            mark(self, *arguments)
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

        Journal.mark = marked  # type: ignore[method-assign]

    return prepare


def killed(source: Path, out: Path, n_marks: int, *options: str) -> None:
    """Pack in a process that dies after some marks."""
    arguments = ["reorder", str(source), "--unit", "expert", "--out", str(out), "-q", *options]
    process = forks.start(arguments, out.with_name("stderr"), dies_at(n_marks))
    assert forks.finish(process) == -signal.SIGKILL, out.with_name("stderr").read_text()
    assert not out.exists()


def marks(out: Path) -> list[int]:
    """Return the sizes that the journal of a killed run has of its pack."""
    lines = [
        json.loads(line) for line in (out.with_name(f"{out.name}.partial") / JOURNAL_FILE).read_text().split("\n")[:-1]
    ]
    return [line["size_bytes"] for line in lines if line.get("begun") == BUNDLED_FILE]


@pytest.fixture
def expected(source: Path, tmp_path: Path) -> dict[str, bytes]:
    """Return the files of a run that nothing happened to."""
    pack_experts(source, tmp_path / "expected")
    return contents(tmp_path / "expected")


@pytest.mark.parametrize("n_marks", [1, 5, 17, 30])
def test_written_on_behind_what_is_there(
    source: Path, tmp_path: Path, expected: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, n_marks: int
) -> None:
    """The file stays, no byte of its beginning is written again, and the output is the same."""
    out = tmp_path / "out"
    killed(source, out, n_marks)
    assert marks(out) == [(n + 1) * BLOCK_BYTES for n in range(n_marks)]
    begun = out.with_name("out.partial") / BUNDLED_FILE
    inode, n_written, write = begun.stat().st_ino, [0], output_file.OutputFile._write

    def counted(self: output_file.OutputFile, block: Any) -> None:
        if self._path == begun:
            n_written[0] += block.size
        write(self, block)

    monkeypatch.setattr(output_file.OutputFile, "_write", counted)
    pack_experts(source, out, params=RESUMED)
    assert contents(out) == expected
    assert (out / BUNDLED_FILE).stat().st_ino == inode
    assert n_written[0] == len(expected[BUNDLED_FILE]) - n_marks * BLOCK_BYTES


def test_killed_again_and_again(source: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """Each run goes on from the last mark of the one before."""
    out = tmp_path / "out"
    killed(source, out, 3)
    killed(source, out, 4, "--resume")
    killed(source, out, 2, "--resume")
    assert marks(out)[-1] == 9 * BLOCK_BYTES
    pack_experts(source, out, params=RESUMED)
    assert contents(out) == expected


@pytest.mark.parametrize("where", [100, 5 * BLOCK_BYTES - 1, 5 * BLOCK_BYTES + 1])
def test_what_is_there_is_checked(source: Path, tmp_path: Path, expected: dict[str, bytes], where: int) -> None:
    """A beginning that has changed is written anew, and what lies behind the last mark always is."""
    out = tmp_path / "out"
    killed(source, out, 5)
    begun = out.with_name("out.partial") / BUNDLED_FILE
    data = bytearray(begun.read_bytes().ljust(7 * BLOCK_BYTES, b"x"))
    data[where] ^= 1
    begun.write_bytes(data)
    inode = begun.stat().st_ino
    pack_experts(source, out, params=RESUMED)
    assert contents(out) == expected
    assert ((out / BUNDLED_FILE).stat().st_ino == inode) == (where >= 5 * BLOCK_BYTES)


def test_a_file_that_lost_its_end(source: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """After a power cut a file may be shorter than the journal says: it is written anew."""
    out = tmp_path / "out"
    killed(source, out, 5)
    os.truncate(out.with_name("out.partial") / BUNDLED_FILE, 4 * BLOCK_BYTES)
    pack_experts(source, out, params=RESUMED)
    assert contents(out) == expected


def test_a_link_in_its_place(source: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """A link is no beginning of ours: what it leads to stays as it is."""
    out = tmp_path / "out"
    killed(source, out, 5)
    begun = out.with_name("out.partial") / BUNDLED_FILE
    begun.rename(tmp_path / "elsewhere")
    begun.symlink_to(tmp_path / "elsewhere")
    before = (tmp_path / "elsewhere").read_bytes()
    pack_experts(source, out, params=RESUMED)
    assert contents(out) == expected
    assert (tmp_path / "elsewhere").read_bytes() == before


def test_another_run(source: Path, tmp_path: Path, expected: dict[str, bytes]) -> None:
    """A source that changed is no continuation; without --resume it begins anew."""
    out = tmp_path / "out"
    killed(source, out, 5)
    os.utime(source / "config.json", (1, 1))
    with pytest.raises(UsageError, match=r"another config\.json"):
        pack_experts(source, out, params=RESUMED)
    report = pack_experts(source, out)
    assert any("begun anew" in warning for warning in report.warnings)
    assert contents(out) == expected


@pytest.mark.parametrize(
    "line",
    ['{"begun":"ripple_place/bundled.safetensors","size_bytes":-1,"sha256":"00"}',
     '{"begun":"ripple_place/bundled.safetensors","size_bytes":1e400,"sha256":"00"}',
     '{"begun":"ripple_place/bundled.safetensors","size_bytes":true,"sha256":"00"}',
     '{"begun":"../m/config.json","size_bytes":4,"sha256":"00"}',
     '{"begun":"LICENSE","size_bytes":4,"sha256":"00"}', '{"begun":', "[]"],
)  # fmt: skip
def test_a_journal_with_nonsense(source: Path, tmp_path: Path, expected: dict[str, bytes], line: str) -> None:
    """Whatever a line says, only beginnings of the pack that have the hash are taken."""
    out = tmp_path / "out"
    killed(source, out, 5)
    with (out.with_name("out.partial") / JOURNAL_FILE).open("a") as journal:
        journal.write(f"{line}\n")
    before = contents(source)
    pack_experts(source, out, params=RESUMED)
    assert contents(out) == expected
    assert contents(source) == before
