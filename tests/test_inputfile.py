"""Files that are read as data: regular ones, wherever they are named, and opened in one place."""

from __future__ import annotations

import ast
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import ripple_place
from ripple_place.errors import UsageError
from ripple_place.inputfile import InputFile, open_input, open_stream, read_input
from tests.hostile.special import SPECIAL, make_special

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(ripple_place.__file__).parent
OPENS_BY_ITSELF = {
    "inputfile.py": {"os.open"},  # This is the place.
    # What is opened for writing, with flags of its own.
    "locks.py": {"os.open"}, "newfile.py": {"os.open"},
    "checkpoint/output/output_file.py": {"os.open"}, "checkpoint/output/journal.py": {"open"},
    "checkpoint/output/ours.py": {"open"}, "flash/storage/scratch.py": {"os.open"},
    # Rows of a capture, in a directory of ours.
    "capture/writer.py": {"open", "memmap"},
    # Directories, and what the kernel says of them.
    "checkpoint/fileio.py": {"os.open"}, "outputs.py": {"os.open", "read_text"}, "capture/model.py": {"read_text"},
    "flash/storage/filesystem.py": {"os.open", "read_text"},
    # Past the page cache, once it is known to be a file.
    "flash/storage/direct_file.py": {"os.open"},
    # A file of the package.
    "checkpoint/model/known_families.py": {"read_text"},
    # Standard streams that the caller has closed.
    "cli/streams.py": {"os.open", "open"},
    # Compiled code in a folder of ours; kernels import nothing of the package.
    "kernels/code_store.py": {"open", "read_bytes"},
}  # fmt: skip
"""What a module may call to open files without `ripple_place.inputfile`, and why."""
OPENING = {"open", "fromfile", "memmap", "read_bytes", "read_text", "load_npz", "ZipFile"}
OURS = {"TensorFile", "Checkpoint", "DirectFile", "BundledFile", "LayoutReader", "Generator", "archive"}


def openings(path: Path) -> set[str]:
    """Return the calls of a module that open a file by its name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            found.add("open")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in OPENING:
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            takes_stream = bool(node.args) and ast.unparse(node.args[0]) in ("file", "io.BytesIO(data)")
            if owner not in OURS and not takes_stream:
                found.add("os.open" if owner == "os" else node.func.attr)
    return found


def test_files_are_opened_in_one_place() -> None:
    """Whatever opens a file without the check is known, and why it may."""
    by_itself = {
        path.relative_to(ROOT).as_posix(): calls for path in sorted(ROOT.rglob("*.py")) if (calls := openings(path))
    }
    assert by_itself == OPENS_BY_ITSELF


@pytest.mark.parametrize("kind", SPECIAL)
@pytest.mark.parametrize("read", [open_input, open_stream, read_input, InputFile])
def test_what_is_no_regular_file(tmp_path: Path, kind: str, read: Callable[[Path], object]) -> None:
    """It is refused at once, and no descriptor stays open."""
    path = make_special(tmp_path / "x", kind)
    before = len(os.listdir("/proc/self/fd"))
    error, match = (IsADirectoryError, "x") if kind == "directory" else (UsageError, f"x: found {SPECIAL[kind]}; ")
    with pytest.raises(error, match=match):
        read(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_document_without_end(tmp_path: Path) -> None:
    """What is read whole may not be longer than any document is; a sparse file costs nothing to make."""
    with (tmp_path / "x").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(UsageError, match=r"found 1099511627776 bytes; expected at most 268435456"):
        read_input(tmp_path / "x")
