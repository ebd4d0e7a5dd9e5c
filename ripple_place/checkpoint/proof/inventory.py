"""What lies in an output, and what may: derived from the source alone, whatever a manifest says.

An entry that neither source nor placement accounts for might be loaded, run or followed by whatever reads the output,
so it is refused, whether or not it is recorded.
"""

from __future__ import annotations

import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from ripple_place.checkpoint.names import BUNDLED_FILE, PLACEMENT_FILE
from ripple_place.checkpoint.output.sidefiles import list_side_files
from ripple_place.checkpoint.proof.compare import AGAIN
from ripple_place.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Collection

    from ripple_place.checkpoint.model.shards import Checkpoint

FOLDER_VIEW = ".DS_Store"
"""What file managers strew, in sources and outputs alike: nothing reads it but they."""
_BOOKKEEPING = re.compile(
    r"\.DS_Store|\.gitattributes|\.cache/huggingface/(\.gitignore|CACHEDIR\.TAG|.*\.(metadata|lock))", re.DOTALL
)
"""What file managers and the hub's client add to a directory; no loader reads it."""
_KINDS = {
    stat.S_IFLNK: "a link", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


@dataclass(frozen=True)
class Inventory:
    """The entries below a directory, none of which is special.

    Attributes
    ----------
    root : Path
    files, directories : frozenset of str
        Names relative to `root`, with ``/``.
    """

    root: Path
    files: frozenset[str]
    directories: frozenset[str]

    @classmethod
    def of(cls, root: Path, *, may_link: bool = False) -> Inventory:
        """List a directory. No file is opened, and no linked directory.

        Parameters
        ----------
        root : Path
        may_link : bool
            Take a link for what it leads to, as in the hub's cache.

        Raises
        ------
        VerificationError
            If an entry is neither file nor directory: a link, wherever it leads, unless it may be one.
        OSError
            If a directory cannot be read.
        """
        files, directories, unread = set(), set(), [""]
        while unread:
            parent = unread.pop()
            with os.scandir(root / parent) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name):
                    name = parent + entry.name
                    kind = stat.S_IFMT(_status_of(entry, may_link=may_link).st_mode)
                    if kind == stat.S_IFDIR:
                        directories.add(name)
                        unread += [] if entry.is_symlink() else [name + "/"]
                    elif kind == stat.S_IFREG:
                        files.add(name)
                    else:
                        raise VerificationError(
                            root / name, found=_KINDS.get(kind, "a special file"),
                            expected="plain files and directories alone",
                            remedy="remove it; if the output lies in a cache of links, copy it with `cp -rL` and "
                            "verify the copy",
                        )  # fmt: skip
        return cls(root, frozenset(files), frozenset(directories))

    def unaccounted(self, allowed: Collection[str]) -> str | None:
        """Return the first entry, files before directories, that is neither allowed, nor holds what is, None if none.

        Parameters
        ----------
        allowed : collection of str
            Names of files.
        """
        harmless = {name for name in self.files if _BOOKKEEPING.fullmatch(name)}
        around = {str(parent) for name in {*allowed, *harmless} for parent in PurePosixPath(name).parents}
        extra = sorted(self.files - {*allowed} - harmless) or sorted(self.directories - around)
        return extra[0] if extra else None

    def check_accounted(self, allowed: Collection[str]) -> None:
        """Raise VerificationError if there is any entry that is not accounted for by files that are allowed."""
        if (name := self.unaccounted(allowed)) is not None:
            kind = "file" if name in self.files else "directory"
            raise VerificationError(
                self.root / name, found=f"a {kind} that was not written with the rest",
                expected="only what is made from the checkpoint",
                remedy="remove it: a loader might take it for part of the model",
            )  # fmt: skip


def _status_of(entry: os.DirEntry[str], *, may_link: bool) -> os.stat_result:
    """Return what an entry is; a link that leads nowhere, or in circles, is a link."""
    if may_link:
        with suppress(OSError):
            return entry.stat()
    return entry.stat(follow_symlinks=False)


@dataclass(frozen=True)
class Contents:
    """What an output of a checkpoint must hold, given the formats that it has.

    Attributes
    ----------
    formats : tuple of str
        Of `ripple_place.checkpoint.output.plan.FORMATS`: those of which anything is there.
    copied : tuple of str
        Files that must equal the source's of the same name, byte for byte, sorted.
    weights : tuple of str
        Shards and bundled file.
    """

    formats: tuple[str, ...]
    copied: tuple[str, ...]
    weights: tuple[str, ...]

    @property
    def files(self) -> set[str]:
        """Everything that must be there, but for the manifest and what came from elsewhere."""
        return {*self.copied, *self.weights, PLACEMENT_FILE}

    @classmethod
    def of(cls, checkpoint: Checkpoint, inventory: Inventory) -> Contents:
        """Derive what an output must hold from its source, and from which formats it has any file of.

        Raises
        ------
        VerificationError
            If a file is missing, or there are weights in no format.
        UsageError, UnsupportedError, CheckpointError
            If the source is none, as `ripple_place.checkpoint.output.sidefiles.list_side_files`.
        OSError
            If a directory cannot be read.
        """
        index = set() if checkpoint.index_name is None else {checkpoint.index_name}
        is_drop_in, is_bundled = bool(inventory.files & {*checkpoint.shards, *index}), BUNDLED_FILE in inventory.files
        copied = {*list_side_files(checkpoint).copied, *(index if is_drop_in else ())} - {FOLDER_VIEW}
        weights = (*(checkpoint.shards if is_drop_in else ()), *((BUNDLED_FILE,) if is_bundled else ()))
        formats = (*(("drop-in",) if is_drop_in else ()), *(("bundled",) if is_bundled else ()))
        contents = cls(formats, tuple(sorted(copied)), weights)
        if not formats:
            raise VerificationError(
                inventory.root, found="no weights", expected=f"the source's shards, {BUNDLED_FILE}, or both",
                remedy=AGAIN,
            )  # fmt: skip
        if missing := sorted(contents.files - inventory.files):
            raise VerificationError(
                inventory.root / missing[0], found="no such file", expected="it, since the checkpoint has it",
                remedy=AGAIN,
            )  # fmt: skip
        return contents
