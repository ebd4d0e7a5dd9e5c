"""Torch files that are old, damaged, compressed, or hold more than tensors."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.torchfile import read_torch_file
from tests.remedies.cases import case
from tests.torch_files import write_torch_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.remedies.cases import Attempts

_READ, _ARCHIVE = "torchfile.py:read_torch_file", "torchfile.py:_read_archive"
WEIGHT = {"weight": np.ones((4, 8), "f4")}


def saved_again(where: str, words: str, story: str, spoil: Callable[[Path], object]) -> None:
    """List a case of a torch file that is saved, or copied, again."""

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        path = folder / "a.pt"
        write_torch_file(path, WEIGHT)
        spoil(path)
        yield lambda: read_torch_file(path)
        write_torch_file(path, WEIGHT)


def compress(path: Path) -> None:
    """Write the archive's members compressed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def wild(path: Path, pickled: bytes) -> None:
    """Write an archive with another pickle."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)


def cut(path: Path) -> None:
    """Leave out the end of a file."""
    path.write_bytes(path.read_bytes()[:-50])


def lose_member(path: Path) -> None:
    """Have a member lie where there is none."""
    data = path.read_bytes()
    path.write_bytes(data.replace(b"PK\x03\x04", b"PK\x00\x00", 2).replace(b"PK\x00\x00", b"PK\x03\x04", 1))


LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
saved_again(_READ, "before 1.6", "a file of torch before 1.6: saved again", lambda path: path.write_bytes(LEGACY))
saved_again(_READ, "no whole zip archive", "a torch file that is cut short: copied again", cut)
saved_again(_READ, "a damaged archive", "a torch file with a damaged member: copied again", lose_member)
saved_again(_ARCHIVE, "no plain archive", "a compressed torch file: saved again", compress)
saved_again(
    _ARCHIVE, "no contiguous tensor", "a number among tensors: saved without",
    lambda path: wild(path, b"\x80\x02}X\x01\x00\x00\x00aK\x01s."),
)  # fmt: skip
saved_again(
    "torchfile.py:_read_pickle", "", "a pickle that calls functions: tensors alone are saved",
    lambda path: wild(path, b"cposix\nsystem\n(X\x02\x00\x00\x00lstR."),
)  # fmt: skip
saved_again(
    "torchfile.py:_locate", "", "a tensor past its storage's end: saved again",
    lambda path: write_torch_file(path, WEIGHT, shape=(400, 8), strides=(8, 1)),
)  # fmt: skip
saved_again(
    _ARCHIVE, "on the same memory", "a thousand tensors on one storage: saved apart",
    lambda path: write_torch_file(path, {f"w{n}": np.ones(4000, "f4") for n in range(200)}, key=0),
)  # fmt: skip
