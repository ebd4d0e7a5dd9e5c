"""The bundled file of an output, opened for reads past the page cache, and watched: it must stay what it was."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.checkpoint.names import BUNDLED_FILE
from ripple_place.errors import CheckpointError, UnsupportedError, UsageError
from ripple_place.flash.storage.direct_file import DirectFile, aligned_buffer, read_into
from ripple_place.tensorfile import TensorFile
from ripple_place.tracking import Track, no_track
from ripple_place.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from ripple_place.checkpoint.output.manifest import Manifest

HEADER, FULL = CHECKS = ("header", "full")
_PIECE_BYTES = 8 << 20
_AGAIN = "copy it again from where it was written, or run `ripple-place reorder` again"


@dataclass(frozen=True)
class _Identity:
    """What tells a file that was changed, or another one in its place, from what was opened."""

    device: int
    inode: int
    size_bytes: int
    modified_ns: int

    @classmethod
    def of(cls, descriptor: int) -> _Identity:
        status = os.fstat(descriptor)
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class BundledFile:
    """An open bundled file; a context manager that closes it.

    Attributes
    ----------
    path : Path
    descriptor : int
    size_bytes : int
    is_direct : bool
        Whether reads bypass the page cache.
    alignment_bytes : int
        What reads are multiples of.
    index : mapping of str to mapping
        Where the bundles of each block lie, as the manifest has it (docs/formats.md).
    """

    def __init__(self, file: DirectFile, size_bytes: int, index: Mapping[str, Mapping[str, Any]]) -> None:
        self._file, self.size_bytes, self.index = file, size_bytes, index
        self.path, self.descriptor = file.path, file.descriptor
        self.is_direct, self.alignment_bytes = file.is_direct, file.alignment_bytes
        self._identity = _Identity.of(file.descriptor)

    @classmethod
    def open(cls, manifest: Manifest, check: str = FULL, track: Track = no_track) -> BundledFile:
        """Open the bundled file of an output and check it.

        Parameters
        ----------
        manifest : Manifest
        check : {"header", "full"}
            ``header``: its length, and the index in its header. ``full``: its hash as well, for which all of it is
            read once, past the page cache.
        track : Track
            Receives progress updates.

        Raises
        ------
        UsageError
            If there is no such file.
        UnsupportedError
            If the output has none, or this is not Linux.
        CheckpointError
            If it is not the file that the manifest describes.
        OSError
            If it cannot be read.
        """
        path = manifest.bundled_path
        if path is None:
            raise UnsupportedError(
                manifest.out, found="an output without a bundled file", expected="one whose units lie together",
                remedy="run `ripple-place reorder` with --format both or bundled",
            )  # fmt: skip
        if not path.is_file():
            raise UsageError(
                path, found="no such file", expected="the bundled file of this output", remedy=_AGAIN
            )  # fmt: skip
        entry = manifest.document["files"].get(BUNDLED_FILE)
        if entry is None:
            raise CheckpointError(
                manifest.out, found="a manifest without length and hash of the bundled file", expected="both",
                remedy=_AGAIN,
            )  # fmt: skip
        _check_header(path, manifest, entry["size_bytes"])
        file = cls(DirectFile.open(path), entry["size_bytes"], manifest.document["bundled"])
        try:
            if check == FULL:
                file.check_hash(entry["sha256"], track)
            file.check_unchanged()
        except BaseException:
            file.close()
            raise
        return file

    def __enter__(self) -> BundledFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it."""
        os.close(self.descriptor)

    def check_unchanged(self) -> None:
        """Raise CheckpointError if the file has been written to, or cut short, since it was opened; microseconds."""
        now = _Identity.of(self.descriptor)
        if now != self._identity or now.size_bytes != self.size_bytes:
            found = "another length" if now.size_bytes != self.size_bytes else "a file that was written to"
            raise CheckpointError(
                self.path, found=found, expected="the file as it was when it was opened and checked",
                remedy="leave it alone while it is read; " + _AGAIN,
            )  # fmt: skip

    def check_hash(self, sha256: str, track: Track = no_track) -> None:
        """Raise CheckpointError unless all bytes are those that were hashed; reads the whole file."""
        digest, buffer = hashlib.sha256(), aligned_buffer(_PIECE_BYTES)
        for offset in track(range(0, self.size_bytes, _PIECE_BYTES), f"check {self.path.name}"):
            wanted = min(_PIECE_BYTES, self.size_bytes - offset)
            if read_into(self.descriptor, buffer, offset) < wanted:
                self.check_unchanged()
            digest.update(memoryview(buffer[:wanted]))  # type: ignore[arg-type]
        if digest.hexdigest() != sha256:
            raise CheckpointError(
                self.path, found="bytes that are not those the manifest has the hash of",
                expected="the file as `reorder` wrote it", remedy=_AGAIN,
            )  # fmt: skip


def _check_header(path: Path, manifest: Manifest, size_bytes: int) -> None:
    """Raise unless a file is as long as it was, and its header has the manifest's index."""
    found = path.stat().st_size
    if found != size_bytes:
        raise CheckpointError(
            path, found=format_bytes(found), expected=f"{format_bytes(size_bytes)}, as the manifest says", remedy=_AGAIN
        )  # fmt: skip
    index = TensorFile.open(path, CheckpointError).metadata.get("index")
    if index != json.dumps(manifest.document["bundled"], separators=(",", ":")):
        raise CheckpointError(
            path, found="another index than the manifest has", expected="the index of this output", remedy=_AGAIN
        )  # fmt: skip
