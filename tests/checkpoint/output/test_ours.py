"""What is ours at and beside OUT: nothing else is replaced, continued or removed."""

from __future__ import annotations

import json
import os
import shutil
import stat
from typing import TYPE_CHECKING, Any

import pytest

from ripple_place import outputs
from ripple_place.checkpoint.names import JOURNAL_FILE, MANIFEST_FILE
from ripple_place.checkpoint.output import ours, outdir
from ripple_place.checkpoint.output.ours import PARTIAL_MARK
from ripple_place.checkpoint.output.outdir import SUFFIX_BYTES, replacing_directory
from ripple_place.checkpoint.restore import restore
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import RipplePlaceError, UsageError
from tests.builders import contents
from tests.checkpoint.output.test_outdir import plan
from tests.failing_call import FailingCall

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def names(path: Path) -> list[str]:
    """Return what is in a directory."""
    return sorted(os.listdir(path))


def checkout(path: Path) -> None:
    """Leave what a checkout of this project looks like."""
    (path / "ripple_place").mkdir(parents=True)
    (path / "ripple_place" / "__init__.py").write_text("")
    (path / "uncommitted.py").write_text("")


def other_manifest(path: Path) -> None:
    """Leave a manifest of something else by our name."""
    (path / MANIFEST_FILE).parent.mkdir(parents=True)
    (path / MANIFEST_FILE).write_text(json.dumps({"format": "web-app/1", "files": {}}))


def torn_manifest(path: Path) -> None:
    """Leave a manifest that cannot be read."""
    (path / MANIFEST_FILE).parent.mkdir(parents=True)
    (path / MANIFEST_FILE).write_text('{"format": "ripple-place.manifest/1", "fi')


def deep_manifest(path: Path) -> None:
    """Leave a manifest that nests without end."""
    (path / MANIFEST_FILE).parent.mkdir(parents=True)
    (path / MANIFEST_FILE).write_text("[" * 200_000)


def letter(path: Path) -> None:
    """Leave a file."""
    path.mkdir()
    (path / "letter").write_text("")


NOT_OURS: list[Callable[[Path], None]] = [checkout, other_manifest, torn_manifest, deep_manifest, letter]


@pytest.mark.parametrize("make", NOT_OURS)
def test_force_replaces_outputs_alone(pico_opt: Path, tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Not what happens to have a directory by the name of ours."""
    make(tmp_path / "out")
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="no output of ours"):
        plan(pico_opt, tmp_path / "out", force=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["notes.md", ".git/config", "linked"])
def test_force_replaces_no_file_that_the_manifest_does_not_name(pico_opt: Path, tmp_path: Path, name: str) -> None:
    """An output that became a repository has more in it than the output."""
    out = tmp_path / "out"
    execute(plan(pico_opt, out))
    (out / name).parent.mkdir(exist_ok=True)
    if name == "linked":
        (out / name).symlink_to(pico_opt)
    else:
        (out / name).write_text("x")
    with pytest.raises(UsageError, match=f"1 files that its manifest does not name, such as {name}"):
        plan(pico_opt, out, force=True)


@pytest.mark.parametrize("place", ["out.partial", ".out.replaced"])
@pytest.mark.parametrize("make", NOT_OURS)
@pytest.mark.parametrize("force", [True, False])
def test_what_stands_beside_is_not_ours(
    pico_opt: Path, tmp_path: Path, make: Callable[[Path], None], place: str, force: bool
) -> None:
    """It is said when the run is planned, before any search; and by what writes."""
    make(tmp_path / place)
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=f"{place}: found something that is not ours"):
        plan(pico_opt, tmp_path / "out", force=force)
    with pytest.raises(UsageError, match="not ours"), replacing_directory(tmp_path / "out"):
        pass
    assert contents(tmp_path) == before


@pytest.mark.parametrize("place", ["out.partial", ".out.replaced"])
@pytest.mark.parametrize("kind", ["file", "link", "broken link"])
def test_what_stands_beside_is_no_directory(pico_opt: Path, tmp_path: Path, place: str, kind: str) -> None:
    """Links are not followed."""
    (tmp_path / "elsewhere").mkdir()
    if kind == "file":
        (tmp_path / place).write_text("")
    else:
        (tmp_path / place).symlink_to(tmp_path / ("elsewhere" if kind == "link" else "nothing"))
    with pytest.raises(UsageError, match=f"{place}: found something that is not ours"):
        plan(pico_opt, tmp_path / "out")
    assert os.path.lexists(tmp_path / place)


@pytest.mark.parametrize("place", ["out.partial", ".out.replaced"])
@pytest.mark.parametrize("is_empty", [True, False])
def test_another_user(
    pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, is_empty: bool
) -> None:
    """In a shared directory, whoever made OUT.partial would own the result, whatever is in it."""
    (tmp_path / place / "ripple_place").mkdir(parents=True)
    if is_empty:
        (tmp_path / place / "ripple_place").rmdir()
    else:
        name = MANIFEST_FILE if place == "out.partial" else ours.REMOVED_MANIFEST_FILE
        (tmp_path / place / name).write_text('{"format": "ripple-place.manifest/1", "files": {}}')
    before = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: before + 1)
    with pytest.raises(UsageError, match="a directory of another user, and so not ours"):
        plan(pico_opt, tmp_path / "out")
    with pytest.raises(UsageError, match="of another user"), replacing_directory(tmp_path / "out"):
        pass
    monkeypatch.setattr(os, "geteuid", lambda: before)
    execute(plan(pico_opt, tmp_path / "out"))
    assert names(tmp_path) == ["out", "pico-opt"]


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o1777])
def test_an_empty_partial_directory_that_others_may_write_to(pico_opt: Path, tmp_path: Path, mode: int) -> None:
    """Somebody else might put files into it."""
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial").chmod(mode)
    with pytest.raises(UsageError, match="an empty directory that others may write to"):
        plan(pico_opt, tmp_path / "out")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
@pytest.mark.parametrize(
    ("owner", "name", "n"), [(outdir, "mark", 1), (os, "mkdir", 3), (os, "chmod", 1), (os, "fsync", 1)]
)
def test_a_kill_right_at_the_start(
    pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, n: int, umask: int
) -> None:
    """Whatever stands in OUT.partial when the first line of the journal does not, the next run takes it for ours."""
    before = os.umask(umask)
    try:
        with monkeypatch.context() as patched:
            patched.setattr(owner, name, FailingCall(getattr(owner, name), n, KeyboardInterrupt()))
            with pytest.raises(KeyboardInterrupt):
                execute(plan(pico_opt, tmp_path / "out"))
        assert names(tmp_path) == ["out.partial", "pico-opt"]
        execute(plan(pico_opt, tmp_path / "out"))
        assert names(tmp_path) == ["out", "pico-opt"]
        assert PARTIAL_MARK not in names(tmp_path / "out")
        assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777 & ~umask
    finally:
        os.umask(before)


def test_the_mark_comes_first(tmp_path: Path) -> None:
    """Before anything else is written, and it is gone when the output stands."""
    with replacing_directory(tmp_path / "out") as partial:
        assert (partial / PARTIAL_MARK).is_file()
        (partial / "file").write_text("")
    assert names(tmp_path / "out") == ["file", "ripple_place"]


@pytest.mark.parametrize("mark", [PARTIAL_MARK, JOURNAL_FILE])
def test_what_a_partial_directory_is_known_by(pico_opt: Path, tmp_path: Path, mark: str) -> None:
    """Our mark, or the journal of a run that wrote no mark."""
    (tmp_path / "out.partial" / mark).parent.mkdir(parents=True)
    (tmp_path / "out.partial" / mark).write_text('{"format":"ripple-place.journal/1"}\n')
    (tmp_path / "out.partial" / "half").write_text("x")
    execute(plan(pico_opt, tmp_path / "out"))
    assert names(tmp_path) == ["out", "pico-opt"]


def test_a_replaced_output_passes_on_its_modes(pico_opt: Path, tmp_path: Path) -> None:
    """What was private stays private, file by file."""
    out = tmp_path / "out"
    execute(plan(pico_opt, out))
    modes = {"": 0o700, "config.json": 0o600, "ripple_place": 0o750, MANIFEST_FILE: 0o640, "model.safetensors": 0o444}
    for name, mode in modes.items():
        (out / name).chmod(mode)
    execute(plan(pico_opt, out, seed=2, force=True))
    assert {name: stat.S_IMODE((out / name).stat().st_mode) for name in modes} == modes
    assert names(tmp_path) == ["out", "pico-opt"]


def test_a_replacement_is_private_while_it_is_written(
    pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody reads in OUT.partial what OUT would not show."""
    out, seen = tmp_path / "out", []
    execute(plan(pico_opt, out))
    out.chmod(0o700)

    def look(*arguments: object, **options: object) -> None:
        seen.append(stat.S_IMODE((tmp_path / "out.partial").stat().st_mode))

    monkeypatch.setattr("ripple_place.checkpoint.rewrite.seal_output", look)
    execute(plan(pico_opt, out, seed=2, force=True))
    assert seen == [0o700]


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_a_kill_while_the_old_output_is_removed(
    pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n: int
) -> None:
    """What is left of it never becomes OUT, also not when the new one was moved elsewhere, and the next run ends it."""
    out = tmp_path / "out"
    execute(plan(pico_opt, out))
    remove = ours.remove_replaced

    def killed(aside: Path) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(os, "unlink", FailingCall(os.unlink, n, KeyboardInterrupt()))
            remove(aside)

    with monkeypatch.context() as patched:
        patched.setattr(outdir, "remove_replaced", killed)
        with pytest.raises(KeyboardInterrupt):
            execute(plan(pico_opt, out, seed=2, force=True))
    assert names(tmp_path) == [".out.replaced", "out", "pico-opt"]
    new = contents(out)
    out.rename(tmp_path / "elsewhere")
    execute(plan(pico_opt, out))
    assert contents(out) != new
    assert contents(tmp_path / "elsewhere") == new
    assert names(tmp_path) == ["elsewhere", "out", "pico-opt"]


def test_part_of_an_output_aside_is_neither_put_back_nor_removed(pico_opt: Path, tmp_path: Path) -> None:
    """An output without its weights is no output; and it may be all that somebody has."""
    execute(plan(pico_opt, tmp_path / ".out.replaced"))
    (tmp_path / ".out.replaced" / "model.safetensors").unlink()
    before = contents(tmp_path)
    with pytest.raises(UsageError, match="an output of ours that is not whole"):
        execute(plan(pico_opt, tmp_path / "out"))
    assert contents(tmp_path) == before


def test_removal_stays_inside(pico_opt: Path, tmp_path: Path) -> None:
    """A manifest that names files elsewhere costs none of them, nor one that it does not name."""
    execute(plan(pico_opt, tmp_path / "out"))
    aside = tmp_path / ".out.replaced"
    (aside / MANIFEST_FILE).parent.mkdir(parents=True)
    victim = tmp_path / "victim"
    victim.write_text("x")
    (aside / "kept").write_text("x")
    (aside / "named").write_text("x")
    (aside / "link").symlink_to(tmp_path / "out")
    files = {name: {"size_bytes": 1} for name in ("../victim", str(victim), "named", "link/config.json")}
    (aside / MANIFEST_FILE).write_text(json.dumps({"format": "ripple-place.manifest/1", "files": files}))
    ours.remove_replaced(aside)
    assert victim.exists()
    assert (tmp_path / "out" / "config.json").exists()
    assert names(aside) == ["kept", "link"]


def test_a_mount_point(pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume of a container cannot be renamed: said before the first byte, with a remedy that works."""
    (tmp_path / "out").mkdir()
    monkeypatch.setattr(outputs, "is_mount_point", lambda path: path.name == "out")
    for force in (True, False):
        with pytest.raises(UsageError, match=r"out: found a mount point.* Name a path inside it, such as .*/out/new"):
            plan(pico_opt, tmp_path / "out", force=force)
    execute(plan(pico_opt, tmp_path / "out" / "new"))


def test_a_parent_that_cannot_be_written_to(pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said when the run is planned, also of directories that would have to be made."""
    monkeypatch.setattr(os, "access", lambda *arguments, **options: False)
    for name in ("out", "a/b/out"):
        with pytest.raises(PermissionError, match="Permission denied: out cannot be made in it; write elsewhere"):
            plan(pico_opt, tmp_path / name)


def test_a_file_where_a_directory_must_be(pico_opt: Path, tmp_path: Path) -> None:
    """Above OUT there can be directories only."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file: found no directory; expected a directory for"):
        plan(pico_opt, tmp_path / "file" / "a" / "out")


def test_a_name_that_is_too_long_with_what_is_added(pico_opt: Path, tmp_path: Path) -> None:
    """The longest name that is taken is written and replaced; one byte more is refused when the run is planned."""
    longest = os.pathconf(tmp_path, "PC_NAME_MAX") - SUFFIX_BYTES
    out = tmp_path / ("x" * longest)
    execute(plan(pico_opt, out))
    execute(plan(pico_opt, out, seed=2, force=True))
    for name in ("x" * (longest + 1), "x" * 300 + "/out"):
        with pytest.raises(OSError, match="File name too long: "):
            plan(pico_opt, tmp_path / name)


def test_a_disk_that_has_grown_too_full(pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an interrupted run has finished stays, with --resume and without, and the same command goes on later."""
    with monkeypatch.context() as patched:
        patched.setattr("ripple_place.checkpoint.rewrite.seal_output", FailingCall(print, 1, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            execute(plan(pico_opt, tmp_path / "out"))
    partial = tmp_path / "out.partial"
    before = contents(partial)
    with monkeypatch.context() as patched:
        patched.setattr(outdir, "free_bytes_at", lambda out: 10)
        for resume in (True, False):
            with pytest.raises(OSError, match="make room"):
                execute(plan(pico_opt, tmp_path / "out"), resume=resume)
            assert contents(partial) == before
    with monkeypatch.context() as patched:
        error = OSError(28, "No space left on device")
        patched.setattr("ripple_place.checkpoint.rewrite.seal_output", FailingCall(print, 1, error))
        with pytest.raises(OSError, match="No space left"):
            execute(plan(pico_opt, tmp_path / "out"), resume=True)
    assert contents(partial).keys() == before.keys()
    inode = (partial / "model.safetensors").stat().st_ino
    execute(plan(pico_opt, tmp_path / "out"), resume=True)
    assert (tmp_path / "out" / "model.safetensors").stat().st_ino == inode


def test_restore_and_its_directories(pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `verify --restore` leaves is ours as well, and what is not ours stands in its way."""
    execute(plan(pico_opt, tmp_path / "out"))
    checkout(tmp_path / "original.partial")
    with pytest.raises(UsageError, match="not ours"):
        restore(tmp_path / "out", tmp_path / "original")
    shutil.rmtree(tmp_path / "original.partial")
    rename = os.rename
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", FailingCall(rename, 1, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            restore(tmp_path / "out", tmp_path / "original")
    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", FailingCall(rename, 1, OSError(5, "Input/output error")))
        with pytest.raises((OSError, RipplePlaceError)):
            restore(tmp_path / "out", tmp_path / "original")
    assert names(tmp_path) == ["out", "pico-opt"]
    restore(tmp_path / "out", tmp_path / "original")
    assert contents(tmp_path / "original") == contents(pico_opt)
