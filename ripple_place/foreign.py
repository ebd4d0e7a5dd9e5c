"""What a file is, if it cannot be read as what it should be: a pointer, a web page, an archive, half a download.

Asked only after a file could not be read: whoever refuses a file lets `file_error` make the error, so that all readers
recognise the same things.

References
----------
git-lfs, specification of pointer files (https://git-lfs.com). https://git-annex.branchable.com/internals.
"""

from __future__ import annotations

import os
import re
import stat
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from ripple_place.errors import RipplePlaceError
from ripple_place.hub import CONFIG_FILE, download_command, unfinished_download
from ripple_place.inputfile import open_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

_Error = TypeVar("_Error", bound=RipplePlaceError)
if TYPE_CHECKING:
    _Make = Callable[..., _Error]
    """Given what was found and what to do, makes the error."""

_BEGINNING_BYTES = 1024
_LFS = (b"version https://git-lfs.github.com/spec/", b"version https://hawser.github.com/spec/")
_LFS_SIZE = re.compile(rb"^size (\d+)$", re.MULTILINE)
_ANNEX = ("/annex/objects/", ".git/annex/objects")
_PAGE = re.compile(rb"\s*(?:<!--.*?-->\s*)?<(?:!doctype html|html|head|\?xml)", re.IGNORECASE | re.DOTALL)
_TITLE = re.compile(rb"<(title|message)>\s*(.*?)\s*</\1>", re.IGNORECASE | re.DOTALL)
_ANSWERS = (
    b'{"error"', b"Entry not found", b"Repository not found", b"Invalid username or password", b"Access to model ",
    b"Access denied", b"Not Found", b"404", b"Forbidden", b"Unauthorized", b"Bad Gateway", b"Too Many Requests",
)  # fmt: skip
"""What servers send in place of a file, saved under its name."""
_ZIP = b"PK\x03\x04"
_ARCHIVES = (
    (0, b"\x1f\x8b", "gzip", "gzip -dc {} > unpacked"), (0, b"\xfd7zXZ\x00", "xz", "xz -dc {} > unpacked"),
    (0, b"BZh", "bzip2", "bzip2 -dc {} > unpacked"), (0, b"\x28\xb5\x2f\xfd", "zstd", "zstd -dc {} > unpacked"),
    (0, b"\x04\x22\x4d\x18", "lz4", "lz4 -dc {} > unpacked"), (0, b"7z\xbc\xaf\x27\x1c", "7z", "7z x {}"),
    (0, b"Rar!\x1a\x07", "rar", "unrar x {}"), (257, b"ustar", "tar", "tar xf {}"),
    (0, _ZIP, "zip", "unzip {}"),
)  # fmt: skip
"""Where an archive's mark stands, the mark, the archive's kind, and the command that unpacks it."""
_WEIGHTS = (
    (b"GGUF", "GGUF"), (b"\x89HDF\r\n\x1a\n", "HDF5"), (b"\x93NUMPY", "numpy"),
    (b"\x80\x02\x8a\nl\xfc\x9cF", "torch"),
)  # fmt: skip
"""How other formats of weights begin; that of torch since 1.6 is a zip archive with a pickle."""
_MIN_ZEROS, _MAX_DIGITS = 16, 20


def file_error(
    kind: type[_Error], path: Path, *, found: str, expected: str, remedy: str, where: object = None,
    formats: Collection[str] = (),
) -> _Error:  # fmt: skip
    """Return the error for a file that is not what it should be; it says what the file is instead where that shows.

    Parameters
    ----------
    kind : subclass of RipplePlaceError
    path : Path
        The file.
    found, expected, remedy : str
        As of `RipplePlaceError`, unless the file is recognised as something else.
    where : object, optional
        The place in the file; by default, the file.
    formats : collection of str
        Formats that the caller reads itself, and so are nothing foreign: ``zip``, ``numpy``, ``GGUF`` and so on.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    recognised = recognised_error(kind, path, expected=expected, formats=formats)
    if recognised is not None:
        return recognised
    return kind(path if where is None else where, found=found, expected=expected, remedy=remedy)


def recognised_error(kind: type[_Error], path: Path, *, expected: str, formats: Collection[str] = ()) -> _Error | None:
    """Return the error for a file that is something else than its name says, None if nothing shows.

    Parameters as of `file_error`.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    make: _Make[_Error] = partial(kind, path, expected=expected)
    if not os.path.exists(path):
        return _absent(path, make)
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        return None
    with open_stream(path) as file:
        beginning = file.read(_BEGINNING_BYTES)
    return (
        _unfinished(path, make)
        or _pointer(path, beginning, status.st_size, make)
        or _answer(path, beginning, make)
        or _other_format(path, beginning, formats, make)
    )


def _absent(path: Path, make: _Make[_Error]) -> _Error | None:
    """Return the error for a path that leads to no file."""
    target = os.readlink(path) if os.path.islink(path) else None
    if target is not None and any(annex in target for annex in _ANNEX):
        return make(found="a git-annex link whose content is not here", remedy=f"run `git annex get {path.name}`")
    unfinished = unfinished_download(path)
    if target is None and unfinished is None:
        return None
    so_far = "" if unfinished is None else f"; {unfinished.name} holds a download that has not ended"
    found = "no such file" if target is None else f"a link to {target}, which is not there"
    return make(found=found + so_far, remedy=f"run the download again: {download_command(path.parent)}")


def _unfinished(path: Path, make: _Make[_Error]) -> _Error | None:
    unfinished = unfinished_download(path)
    if unfinished is None:
        return None
    return make(
        found=f"a file that is still being downloaded: {unfinished.name} lies beside it",
        remedy="wait until the download has ended, or run it again",
    )


def _pointer(path: Path, beginning: bytes, size_bytes: int, make: _Make[_Error]) -> _Error | None:
    """Return the error for a pointer that stands for a file that was not fetched, or for space that waits for it."""
    if size_bytes == 0:
        return make(found="an empty file", remedy=_again(path))
    if beginning.startswith(_LFS):
        size = _LFS_SIZE.search(beginning)
        of = f" to a file of {int(size[1]):,} bytes" if size and len(size[1]) < _MAX_DIGITS else ""
        return make(
            found=f"a Git LFS pointer of {size_bytes} bytes{of}, which was not fetched",
            remedy=f"run `git lfs install` and `git lfs pull` in that clone, or {_again(path)}",
        )
    if beginning.startswith(_ANNEX[0].encode()):
        return make(found="a git-annex pointer, whose content is not here", remedy=f"run `git annex get {path.name}`")
    if len(beginning) >= _MIN_ZEROS and not beginning.strip(b"\0"):
        return make(
            found=f"zeros in its first {len(beginning)} bytes, as in space that is reserved for a download",
            remedy=f"wait until the download has ended, or {_again(path)}",
        )
    return None


def _answer(path: Path, beginning: bytes, make: _Make[_Error]) -> _Error | None:
    """Return the error for the answer of a server that was saved in place of a file."""
    if _PAGE.match(beginning) is None and not beginning.startswith(_ANSWERS):
        return None
    if title := _TITLE.search(beginning):
        text = title[2]
    else:
        text = b"" if beginning.lstrip().startswith(b"<") else beginning[:120]
    says = f" ({' '.join(text.decode(errors='replace').split())})" if text else ""
    return make(
        found=f"an error page or message of a server{says}, saved in place of the file",
        remedy=f"log in if the model is gated (hf auth login), and {_again(path)}",
    )


def _other_format(path: Path, beginning: bytes, formats: Collection[str], make: _Make[_Error]) -> _Error | None:
    """Return the error for another format of weights, or an archive."""
    weights = _format_of_weights(beginning)
    # Whoever reads zip archives knows best what is wrong with one.
    if weights is not None and weights not in formats and not ("zip" in formats and beginning.startswith(_ZIP)):
        return make(
            found=f"a file in the format {weights}, under another format's name",
            remedy=f"give {path.name} the ending that its format has, and put the file that belongs here in its place",
        )
    for offset, mark, kind, command in _ARCHIVES:
        if beginning[offset:].startswith(mark) and kind not in formats and weights is None:
            return make(
                found=f"a {kind} archive",
                remedy=f"unpack it ({command.format(path.name)}) and put what was in it in its place",
            )
    return None


def _format_of_weights(beginning: bytes) -> str | None:
    """Return the name of the format of weights that begins so, None for any other file."""
    if beginning.startswith(_ZIP) and b"data.pkl" in beginning:
        return "torch"
    return next((kind for mark, kind in _WEIGHTS if beginning.startswith(mark)), None)


def _again(path: Path) -> str:
    """Return how to get a file of a checkpoint again; any other file comes from where only its user knows."""
    if not (path.parent / CONFIG_FILE).exists():
        return "copy or download it again"
    return f"download it again: {download_command(path.parent, [path.name], force=True)}"
