"""What the client of a model hub leaves on disk: caches with snapshots, downloads that have not ended.

Also what users give in place of a checkpoint directory: a model's name on the hub, a directory above, a file in it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.inputfile import read_input
from ripple_place.printable import listed

if TYPE_CHECKING:
    from collections.abc import Iterable

CONFIG_FILE = "config.json"
_NAME = re.compile(
    r"(?:hf:/+|https?:/+(?:www\.)?(?:huggingface\.co|hf\.co)/)?(?P<name>[A-Za-z0-9][\w.-]*/[\w.-]+?)"
    r"(?:\.git|/(?:tree|blob|resolve)/.*)?/?"
)
"""A model's name on the hub, or the address of its page."""
_CACHED = re.compile(r"models--(?P<owner>.+?)--(?P<model>.+)|models--(?P<alone>.+)")
_UNFINISHED = (".incomplete", ".part", ".partial", ".crdownload", ".download", ".aria2", ".tmp")
"""Endings that hub clients, browsers and download managers put behind a file's name while they write it."""
_DOWNLOADS = Path(".cache", "huggingface", "download")
"""Where the hub's client keeps the unfinished files of a download into a local directory."""
_GIVE = "give the directory that holds config.json and the safetensors files"
_MAX_DEPTH, _MAX_DIRECTORIES = 4, 2000


def directory_error(path: Path) -> UsageError | None:
    """Return the error for a path that is no checkpoint directory: None for a directory that may be one.

    Raises
    ------
    OSError
        If a directory cannot be read.
    """
    expected = "a checkpoint directory"
    if not os.path.exists(path):
        found = f"a link to {os.readlink(path)}, which is not there" if os.path.islink(path) else "nothing there"
        return nothing_error(path, found=found, expected=expected, remedy=f"correct the path, or {_GIVE}")
    if not path.is_dir():
        remedy = f"give the directory {path.parent}" if (path.parent / CONFIG_FILE).is_file() else _GIVE
        return UsageError(path, found="a file", expected=expected, remedy=remedy)
    if (path / CONFIG_FILE).exists() or any(path.glob("*.safetensors")):
        return None
    if (path / "snapshots").is_dir() or (path / "blobs").is_dir():
        snapshot = _snapshot(path)
        if snapshot is None:
            return UsageError(
                path, found="a cache of the hub without a snapshot of the model", expected=expected,
                remedy=f"download the model: {download_command(path)}",
            )  # fmt: skip
        return UsageError(
            path, found="the cache of a model, whose snapshots are the checkpoints", expected=expected,
            remedy=f"give {snapshot}",
        )  # fmt: skip
    if below := checkpoints_below(path):
        return UsageError(
            path, found=f"no {CONFIG_FILE}, but checkpoints below", expected=expected,
            remedy=f"give {below[0]}" if len(below) == 1 else f"give one of {listed(below)}",
        )  # fmt: skip
    return None


def nothing_error(path: Path, *, found: str, expected: str, remedy: str) -> UsageError:
    """Return the error for a path at which there is nothing: how to download, if it may be a name on the hub."""
    if match := _NAME.fullmatch(str(path)):
        name = match["name"]
        local = name.rpartition("/")[2]
        return UsageError(
            path, found=found, expected=expected,
            remedy="only local directories are read; if that is a model of the hub, download it first "
            f"(hf download {name} --local-dir {local}) and give the directory {local}",
        )  # fmt: skip
    return UsageError(path, found=found, expected=expected, remedy=remedy)


def _snapshot(cache: Path) -> Path | None:
    """Return the snapshot of a model's cache that its branch `main` names, else the last by name."""
    snapshots = cache / "snapshots"
    held = sorted(entry for entry in snapshots.iterdir() if entry.is_dir()) if snapshots.is_dir() else []
    try:
        main = snapshots / read_input(cache / "refs" / "main").decode().strip()
    except (OSError, ValueError):
        main = snapshots
    return main if main in held else held[-1] if held else None


def checkpoints_below(path: Path) -> list[Path]:
    """Return the directories with a config.json below a path, a few levels deep, sorted; hidden ones are left out."""
    found: list[Path] = []
    for n_seen, (directory, names, files) in enumerate(os.walk(path)):
        here = Path(directory)
        if CONFIG_FILE in files or CONFIG_FILE in names:
            found.append(here)
        is_deep = len(here.relative_to(path).parts) >= _MAX_DEPTH
        names[:] = [] if is_deep or n_seen > _MAX_DIRECTORIES else sorted(n for n in names if not n.startswith("."))
    return sorted(found)


def download_command(directory: Path, names: Iterable[str] = (), *, force: bool = False) -> str:
    """Return the command that downloads a model, or some of its files, to where they belong.

    Within the hub's cache the directory tells the model's name. Elsewhere ORG/NAME stands for it.

    >>> download_command(Path("llama"), ["config.json"])
    'hf download ORG/NAME config.json --local-dir llama'
    >>> download_command(Path("hub/models--facebook--opt-125m/snapshots/27dcfa"))
    'hf download facebook/opt-125m'
    """
    files, again = "".join(f" {name}" for name in names), " --force-download" if force else ""
    for part in directory.absolute().parts:
        if match := _CACHED.fullmatch(part):
            name = match["alone"] or f"{match['owner']}/{match['model']}"
            return f"hf download {name}{files}{again}"
    return f"hf download ORG/NAME{files} --local-dir {directory}{again}"


def unfinished_download(path: Path) -> Path | None:
    """Return the file in which a download keeps what it has so far of the file at `path`, None if there is none."""
    target = path.parent / os.readlink(path) if os.path.islink(path) else path
    for whole in (path, target):
        for ending in _UNFINISHED:
            # Path's own methods raise where a name is too long for a file.
            if os.path.isfile(beside := whole.with_name(whole.name + ending)):
                return beside
    # The hub's cache names blobs by their hashes; its client may put a random part behind that.
    if os.path.isdir(target.parent):
        for beside in sorted(target.parent.iterdir()):
            if beside.name.startswith(f"{target.name}.") and beside.name.endswith(_UNFINISHED[0]):
                return beside
    return None


def unfinished_downloads(directory: Path) -> list[Path]:
    """Return the files in which downloads into a directory keep what they have so far, sorted."""
    beside = [entry for entry in directory.iterdir() if entry.name.endswith(_UNFINISHED)]
    return sorted([*beside, *(directory / _DOWNLOADS).rglob(f"*{_UNFINISHED[0]}")])
