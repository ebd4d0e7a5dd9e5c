"""Kills and failing storage: the source is as it was, no half output stands, and a killed run is continued."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.checkpoint import rewrite
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import BUNDLED_FILE, PLACEMENT_FILE
from ripple_place.checkpoint.output import outdir
from ripple_place.checkpoint.output.journal import JOURNAL_FILE, Journal
from ripple_place.checkpoint.output.plan import RewritePlan, plan_rewrite
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import UsageError, VerificationError
from ripple_place.placement import ModelPlacement, read_placement, write_placement
from ripple_place.tensorfile import TensorFile
from tests.builders import contents, random_placement
from tests.failing_call import FailingCall

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


def plan(source: Path, out: Path, *, seed: int = 1, **options: Any) -> RewritePlan:
    """Plan a random rewrite."""
    model = describe_ffn(Checkpoint.open(source))
    return plan_rewrite(model, random_placement(model, seed=seed), out, **options)


def failure_of(function: Callable[..., object], *arguments: object) -> BaseException | None:
    """Call a function; return what it raises."""
    try:
        function(*arguments)
    except (OSError, KeyboardInterrupt) as error:
        return error
    return None


def test_kills_and_limits() -> None:
    """Real processes, killed at random moments, or under limits on the size of files; more of it in `.ci/run`."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.crashes.runs", "--kills", "8", "--seed", "1"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "continued to the same bytes" in done.stdout
    assert "killed 8 times while the old output made way" in done.stdout
    assert "limits on the size of a file: exit code 5" in done.stdout
    assert "the old profile or the new one, and no strays" in done.stdout


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("name", ["fsync", "preadv", "write", "rename", "mkdir"])
def test_an_error_at_any_call(
    pico_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, code: int
) -> None:
    """Wherever in a rewrite the system says no, the error is the system's and nothing is left."""
    planned, before = plan(pico_llama, tmp_path / "out"), contents(tmp_path)
    function = getattr(os, name)
    n, n_failed = 1, 0
    while True:
        with monkeypatch.context() as patched:
            interrupt = FailingCall(function, n, OSError(code, os.strerror(code)))
            patched.setattr(os, name, interrupt)
            error = failure_of(execute, planned)
        if error is None:
            shutil.rmtree(tmp_path / "out")
        else:
            n_failed += 1
            assert isinstance(error, OSError)
            assert error.errno == code
            assert error.filename is not None or name in ("rename", "mkdir")
            assert contents(tmp_path) == before
            assert {path.name for path in tmp_path.iterdir()} == {"pico-llama"}
        if interrupt.calls_left > 0:  # No such call any more.
            break
        n += 1 if name == "fsync" else 1 + n // 5
    assert n_failed > 0


@pytest.mark.parametrize("name", ["fsync", "preadv", "rename"])
def test_ctrl_c_at_any_call(pico_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """What Ctrl-C leaves is continued to the same bytes, and no finished file is written again."""
    execute(plan(pico_llama, tmp_path / "expected"))
    expected = contents(tmp_path / "expected")
    out, n = tmp_path / "out", 1
    while True:
        planned = plan(pico_llama, out)
        with monkeypatch.context() as patched:
            interrupt = FailingCall(getattr(os, name), n, KeyboardInterrupt())
            patched.setattr(os, name, interrupt)
            if failure_of(execute, planned) is None:
                break
        assert not out.exists()
        inodes = {file: file.stat().st_ino for file in (tmp_path / "out.partial").glob("*.safetensors")}
        journal = tmp_path / "out.partial" / JOURNAL_FILE
        finished = journal.read_text().split()[1:] if journal.exists() else []
        execute(planned, resume=True)
        assert contents(out) == expected
        for file, inode in inodes.items():
            if any(f'"{file.name}"' in line for line in finished):
                assert (out / file.name).stat().st_ino == inode
        shutil.rmtree(out)
        n += 1 + n // 3
    assert n > 1


def interrupted(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Path:
    """Leave what a run leaves that was killed before its last rename; return that directory."""
    with monkeypatch.context() as patched:
        patched.setattr(outdir, "_install", FailingCall(lambda: None, 1, KeyboardInterrupt()))
        patched.setattr("ripple_place.checkpoint.output.journal.Journal.remove", lambda journal: None)
        with pytest.raises(KeyboardInterrupt):
            execute(plan(source, out, **options))
    return out.with_name(f"{out.name}.partial")


def test_a_flipped_bit_in_a_finished_file(pico_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is continued is what hashes to what the journal says; all else is written again."""
    execute(plan(pico_llama, tmp_path / "expected"))
    partial = interrupted(pico_llama, tmp_path / "out", monkeypatch)
    shard = partial / "model-00002-of-00003.safetensors"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    (partial / "stray").write_text("x")
    (partial / "tokenizer.json").unlink()
    (partial / "tokenizer.json").symlink_to(pico_llama / "tokenizer.json")
    execute(plan(pico_llama, tmp_path / "out"), resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    assert not (tmp_path / "out" / "tokenizer.json").is_symlink()


def claim_finished(partial: Path, name: str) -> None:
    """Make the journal's line of a file agree with what lies there."""
    data = (partial / name).read_bytes()
    line = json.dumps({"file": name, "size_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()})
    journal = partial / JOURNAL_FILE
    others = [text for text in journal.read_text().splitlines() if f'"{name}"' not in text or '"source"' in text]
    journal.write_text("\n".join([*others, line]) + "\n")


def test_a_forged_placement(pico_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the journal says of it, what is pinned is what this run pins."""
    execute(plan(pico_llama, tmp_path / "expected"))
    partial = interrupted(pico_llama, tmp_path / "out", monkeypatch)
    placement = read_placement(partial / PLACEMENT_FILE)
    forged = {
        name: replace(block, pinned=np.array([3], np.int32), frequency=np.arange(24, dtype=np.int64))
        for name, block in placement.blocks.items()
    }
    write_placement(partial / PLACEMENT_FILE, ModelPlacement(forged, {"cache": "pinned"}))
    claim_finished(partial, PLACEMENT_FILE)
    inodes = {file.name: file.stat().st_ino for file in partial.glob("*.safetensors")}
    execute(plan(pico_llama, tmp_path / "out"), resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    assert {name: (tmp_path / "out" / name).stat().st_ino for name in inodes} == inodes


def change_last_byte(path: Path) -> None:
    """Change the last byte of a file."""
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def end_header_otherwise(path: Path) -> None:
    """End a header with a newline in place of a space."""
    data, start = bytearray(path.read_bytes()), TensorFile.open(path).data_start_bytes
    assert data[start - 1 : start] == b" "
    data[start - 1 : start] = b"\n"
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("config.json", change_last_byte), ("notes/card.md", change_last_byte),
        ("model.safetensors.index.json", change_last_byte), ("model-00002-of-00003.safetensors", change_last_byte),
        (BUNDLED_FILE, change_last_byte), (BUNDLED_FILE, end_header_otherwise),
    ],
)  # fmt: skip
def test_a_finished_file_that_is_forged(
    pico_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: Callable[[Path], None]
) -> None:
    """The journal makes it finished, and not true: no file of OUT is exempt from the proof."""
    partial = interrupted(pico_llama, tmp_path / "out", monkeypatch)
    change(partial / name)
    claim_finished(partial, name)
    with pytest.raises(VerificationError, match=name.rsplit("/", 1)[-1]):
        execute(plan(pico_llama, tmp_path / "out"), resume=True)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["notes", "ripple_place"])
def test_a_finished_file_behind_a_link(
    pico_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A directory that became a link is made anew, and what it leads to stays as it is."""
    execute(plan(pico_llama, tmp_path / "expected"))
    partial = interrupted(pico_llama, tmp_path / "out", monkeypatch)
    elsewhere = tmp_path / "elsewhere"
    (partial / name).rename(elsewhere)
    (partial / name).symlink_to(elsewhere)
    before = contents(elsewhere)
    execute(plan(pico_llama, tmp_path / "out"), resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
    assert not (tmp_path / "out" / name).is_symlink()
    assert contents(elsewhere) == before


def test_a_file_that_comes_while_it_is_written(
    pico_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OUT holds what this run made, and nothing that somebody else put there."""
    seal = rewrite.seal_output

    def disturbed(planned: RewritePlan, journal: Journal, **options: Any) -> object:
        (journal.directory / "modeling_x.py").write_text("pass")
        return seal(planned, journal, **options)

    monkeypatch.setattr(rewrite, "seal_output", disturbed)
    with pytest.raises(VerificationError, match=r"modeling_x\.py: found a file that was not written with the rest"):
        execute(plan(pico_llama, tmp_path / "out"))
    assert {path.name for path in tmp_path.iterdir()} == {"pico-llama"}


@pytest.mark.parametrize("damage", ["torn", "foreign", "deep", "empty", "gone", "elsewhere"])
def test_a_damaged_journal(
    pico_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:  # fmt: skip
    """A torn line ends the journal; one that says nothing of the run is refused; none at all starts over."""
    execute(plan(pico_llama, tmp_path / "expected"))
    partial = interrupted(pico_llama, tmp_path / "out", monkeypatch)
    journal = partial / JOURNAL_FILE
    text = journal.read_bytes()
    damaged = {
        "torn": text[:-30], "foreign": b"\xff\x00" + text, "deep": b"[" * 200_000, "empty": b"", "gone": None,
        "elsewhere": text + b'{"file":"../pico-llama/config.json","size_bytes":1,"sha256":"0"}\n[]\n',
    }[damage]  # fmt: skip
    if damaged is None:
        journal.unlink()
    else:
        journal.write_bytes(damaged)
    before = contents(tmp_path)
    if damage in ("foreign", "deep", "empty"):
        with pytest.raises(UsageError, match=r"an interrupted run with another format \(None\)"):
            execute(plan(pico_llama, tmp_path / "out"), resume=True)
        assert contents(tmp_path) == before
        return
    execute(plan(pico_llama, tmp_path / "out"), resume=True)
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seed": 2}, "another order of neurons, or record of how it came about; .*Repeat the command as it was"),
        ({"formats": ("drop-in",)}, r"another formats \(\['drop-in', 'bundled'\]\); expected \['drop-in'\], as asked"),
        ({"stride": "page"}, r"another stride \(packed\); expected page"),
        ({"gates": "apart"}, r"another gates \(inside\); expected apart"),
        ({"touch": "config.json"}, r"source had another config.json \(by size or time of change\)"),
        ({"touch": "model-00002-of-00003.safetensors"}, "another model-00002-of-00003.safetensors"),
        ({"add": "notes/more.md"}, "another notes/more.md"),
    ],
)
def test_another_run_is_not_continued(
    pico_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], match: str
) -> None:
    """It is said what differs, and what is there stays for whoever repeats the right command."""
    partial = interrupted(pico_llama, tmp_path / "out", monkeypatch)
    before = contents(partial)
    if name := change.pop("touch", None):
        os.utime(pico_llama / name, (1, 1))
    if name := change.pop("add", None):
        (pico_llama / name).write_text("more")
    with pytest.raises(UsageError, match=match):
        execute(plan(pico_llama, tmp_path / "out", **change), resume=True)
    assert contents(partial) == before
    execute(plan(pico_llama, tmp_path / "out", **change))
    assert not partial.exists()


def test_another_second_copy_is_not_continued(
    pico_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The orders of first copies alone do not say what is being written."""
    model = describe_ffn(Checkpoint.open(pico_llama))
    placement = random_placement(model, copies=("layers.0",))
    block = placement.blocks["layers.0"]
    other = {**placement.blocks, "layers.0": replace(block, order_2=block.order_2[::-1].copy())}
    with monkeypatch.context() as patched:
        patched.setattr(
            "ripple_place.checkpoint.rewrite.seal_output", FailingCall(lambda: None, 1, KeyboardInterrupt())
        )
        with pytest.raises(KeyboardInterrupt):
            execute(plan_rewrite(model, placement, tmp_path / "out"))
    with pytest.raises(UsageError, match="another order of neurons"):
        execute(plan_rewrite(model, replace(placement, blocks=other), tmp_path / "out"), resume=True)
    execute(plan_rewrite(model, placement, tmp_path / "out"), resume=True)


def test_a_kill_between_the_renames(pico_llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For an instant the old output is aside and the new one not yet there: the next run puts the old one back."""
    out = tmp_path / "out"
    execute(plan(pico_llama, out))
    old = contents(out)
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if path.name == "out.partial":
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            execute(plan(pico_llama, out, seed=2, force=True))
    assert not out.exists()
    with pytest.raises(UsageError, match=r"there already.*--force"):
        execute(plan(pico_llama, out, seed=2), resume=True)
    assert contents(out) == old
    execute(plan(pico_llama, out, seed=2, force=True), resume=True)
    assert contents(out) != old
    assert {path.name for path in tmp_path.iterdir()} == {"pico-llama", "out"}


def test_nothing_to_continue(pico_llama: Path, tmp_path: Path) -> None:
    """A script may always say --resume."""
    execute(plan(pico_llama, tmp_path / "out"), resume=True)
    execute(plan(pico_llama, tmp_path / "expected"))
    assert contents(tmp_path / "out") == contents(tmp_path / "expected")
