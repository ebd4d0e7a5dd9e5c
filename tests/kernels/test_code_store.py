"""Compiled code is kept where that is possible, and its absence or damage never ends a run."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numba
import pytest

from ripple_place.kernels import code_store
from ripple_place.kernels.compiled import compiled

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="nothing is compiled")
ROOT = Path(__file__).parents[2]


def add_one(number: int) -> int:
    """Return the next number; compiled anew by each test."""
    return number + 1


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Return two folders for code, the better one first; neither exists."""
    pair = (tmp_path / "first", tmp_path / "second")
    monkeypatch.setattr(code_store, "_folders", lambda: pair)
    monkeypatch.setattr(code_store, "_refused", {})
    return pair


def misses_of_a_new_process() -> int:
    """Call the kernel as a process would that has compiled nothing yet; return how often it had to compile."""
    dispatcher: Any = compiled(add_one)
    assert dispatcher(41) == 42
    return sum(dispatcher.stats.cache_misses.values())


def files_of(folder: Path) -> list[Path]:
    """Return what lies in a folder."""
    return sorted(folder.iterdir()) if folder.exists() else []


def test_what_is_compiled_once_is_loaded_later(folders: tuple[Path, Path]) -> None:
    """One file in the first folder, nothing in the second, and no temporary file."""
    assert misses_of_a_new_process() == 1
    assert [path.suffix for path in files_of(folders[0])] == [".code"]
    assert not folders[1].exists()
    assert misses_of_a_new_process() == 0


@pytest.mark.parametrize("size", [0, 1, 31, 32, 500, -1])
def test_cut_files_are_compiled_and_replaced(folders: tuple[Path, Path], size: int) -> None:
    """Empty, cut in the digest, after it, in the code, and by its last byte."""
    misses_of_a_new_process()
    (path,) = files_of(folders[0])
    whole = path.read_bytes()
    path.write_bytes(whole[:size])
    assert misses_of_a_new_process() == 1
    assert misses_of_a_new_process() == 0


def test_flipped_bytes_are_noticed(folders: tuple[Path, Path]) -> None:
    """In the digest or in the machine code, which would run."""
    misses_of_a_new_process()
    (path,) = files_of(folders[0])
    whole = path.read_bytes()
    for place in (0, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert misses_of_a_new_process() == 1
    assert misses_of_a_new_process() == 0


def test_sound_files_of_something_else_are_not_run(folders: tuple[Path, Path]) -> None:
    """The digest fits, but there is no compiled function in it."""
    misses_of_a_new_process()
    (path,) = files_of(folders[0])
    path.write_bytes(code_store._digest(b"no pickle") + b"no pickle")
    assert misses_of_a_new_process() == 1


@pytest.mark.parametrize("obstacle", ["file", "dangling link"])
def test_a_folder_that_takes_no_files_means_the_next_one(
    folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture, obstacle: str
) -> None:
    """Without a word: nothing is lost."""
    if obstacle == "file":
        folders[0].write_text("in the way")
    else:
        folders[0].symlink_to("nowhere")
    assert misses_of_a_new_process() == 1
    assert len(files_of(folders[1])) == 1
    assert misses_of_a_new_process() == 0
    assert "no folder" not in caplog.text


def test_no_folder_at_all_means_one_warning(folders: tuple[Path, Path], caplog: pytest.LogCaptureFixture) -> None:
    """Each run compiles, and the warning names the folders, the reasons, and what to do."""
    for folder in folders:
        folder.write_text("in the way")
    assert misses_of_a_new_process() == misses_of_a_new_process() == 1
    (warning,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert str(folders[0]) in warning
    assert "File exists" in warning
    assert "NUMBA_CACHE_DIR" in warning


def test_a_limit_on_file_sizes_stops_the_store_and_not_the_run(tmp_path: Path) -> None:
    """As a full disk or quota would; no temporary file stays behind."""
    # In a process of its own: what pytest captures goes to files as well.
    code = """if True:
        import resource, sys
        from pathlib import Path
        from ripple_place.kernels import code_store
        from ripple_place.kernels.compiled import compiled
        from tests.kernels.test_code_store import add_one
        code_store._folders = lambda: tuple(map(Path, sys.argv[1:]))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        print(compiled(add_one)(41))"""
    folders = [tmp_path / "first", tmp_path / "second"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, folders)], capture_output=True, text=True, check=False, cwd=ROOT,
    )  # fmt: skip
    assert done.stdout == "42\n"
    assert "File too large" in done.stderr
    assert files_of(folders[0]) == files_of(folders[1]) == []


def test_code_of_former_sources_is_removed(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not loaded, and does not pile up."""
    misses_of_a_new_process()
    former = files_of(folders[0])
    monkeypatch.setattr(code_store, "_sources_digest", lambda source: "0" * 16)
    assert misses_of_a_new_process() == 1
    assert len(files_of(folders[0])) == 1
    assert files_of(folders[0]) != former


def test_a_dispatcher_told_to_compile_again_forgets(folders: tuple[Path, Path]) -> None:
    """The `recompile` of numba empties the store of this kernel first."""
    misses_of_a_new_process()
    dispatcher: Any = compiled(add_one)
    dispatcher(1)
    dispatcher.recompile()
    assert sum(dispatcher.stats.cache_misses.values()) == 1


def test_a_change_in_an_imported_file_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels are inlined into kernels of other files, and named tuples tell which entry is which."""
    for name, text in {
        "top": "from ripple_place.kernels.middle import (\n    a,\n)\n",
        "middle": "if TYPE_CHECKING:\n    from ripple_place.kernels import leaf\n",
        "leaf": "A = 1\n",
        "other": "",
    }.items():
        path = tmp_path / "kernels" / f"{name}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(code_store, "_PACKAGE", tmp_path)

    def digest() -> str:
        code_store._sources_digest.cache_clear()
        return code_store._sources_digest((tmp_path / "kernels" / "top.py",))

    before = digest()
    (tmp_path / "kernels" / "other.py").write_text("A = 2\n")
    assert digest() == before
    (tmp_path / "kernels" / "leaf.py").write_text("A = 2\n")
    assert digest() != before
    code_store._sources_digest.cache_clear()


def test_code_is_not_loaded_from_a_folder_that_anybody_can_write(tmp_path: Path) -> None:
    """The temporary folder is everybody's: whoever makes ours first must not choose what we run."""
    own = tmp_path / "own"
    own.mkdir(mode=0o700)
    assert code_store._is_ours(own)
    assert code_store._is_ours(tmp_path / "absent")
    own.chmod(0o777)
    assert not code_store._is_ours(own)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert not code_store._is_ours(link)


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="only root can become another user")
def test_a_user_without_home_runs_a_read_only_install() -> None:
    """As `docker run --user` does: no HOME, no name, an install of root's; the code lands in the temporary folder."""
    code = "from ripple_place.kernels.compiled import compiled\nfrom tests.kernels.test_code_store import add_one\n"
    code += "print(compiled(add_one)(1))"
    with tempfile.TemporaryDirectory() as temporary:  # not pytest's, which is closed to other users
        Path(temporary).chmod(0o1777)
        done = subprocess.run(
            ["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", sys.executable, "-c", code],
            env={"PATH": os.environ["PATH"], "TMPDIR": temporary, "HOME": "/nowhere", "PYTHONPATH": str(ROOT)},
            cwd="/", capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.stdout, done.stderr) == ("2\n", "")
        assert len(files_of(Path(temporary) / "ripple-place-kernels-4242")) == 1


def add_two(number: int) -> int:
    """Return the number after the next."""
    return number + 2


def twice(part: Any, name: str) -> Any:
    """Return a kernel that is made of another one."""

    @compiled(name=name, made_of=(part,))
    def both(number: int) -> int:
        return part(part(number))  # type: ignore[no-any-return]

    return both


def test_kernels_that_one_function_makes(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a file of its own, told by its name, and is compiled anew where what it is made of has changed."""
    parts = {"one": compiled(add_one), "two": compiled(add_two)}
    for attempt in range(2):
        made = {name: twice(part, name) for name, part in parts.items()}
        assert [made[name](40) for name in ("one", "two")] == [42, 44]
        assert [sum(kernel.stats.cache_misses.values()) for kernel in made.values()] == [1 - attempt] * 2
    assert sum("twice.both.one." in path.name for path in files_of(folders[0])) == 1
    seen = []
    monkeypatch.setattr(code_store, "_sources_digest", lambda files: seen.append(files) or "other")
    assert twice(parts["one"], "one")(40) == 42
    assert all(Path(__file__) in files for files in seen)
    assert (Path(__file__), Path(__file__)) in seen, "the kernel's own file, and that of its part"
