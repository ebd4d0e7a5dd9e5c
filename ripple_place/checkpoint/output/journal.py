"""The journal of a rewrite: which files of ``OUT.partial`` are finished, so that a killed run can be continued.

A line of JSON says what is being written (the order, the options, the source's files), then one for each finished file
gives its size and hash. Nothing of it is trusted further than it can be checked: a run that continues hashes every file
that the journal names, and writes the others again. So no line needs to reach storage before the next.

A file that takes long is marked while it is written: a line gives the size and hash of its beginning. A run that
continues hashes as many bytes of it, and writes on behind them.

The placement must hash to that of the run that continues, whatever its line says: nothing else in an output says which
neurons are pinned. The same goes for additions. All other files are compared with the source, or with what they were
made from, before OUT appears.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, Protocol

from ripple_place.checkpoint.fileio import chunks, hash_files, ignore_progress, opened
from ripple_place.checkpoint.names import JOURNAL_FILE, JOURNAL_FORMAT, PLACEMENT_FILE
from ripple_place.checkpoint.output.bundle_layout import INSIDE
from ripple_place.checkpoint.output.outdir import empty_directory
from ripple_place.checkpoint.output.output_file import Begun
from ripple_place.errors import UsageError
from ripple_place.inputfile import read_input
from ripple_place.jsontext import parse_json
from ripple_place.placement import placement_pieces
from ripple_place.tensorfile import as_bytes, replacing
from ripple_place.version import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path
    from types import TracebackType

    from ripple_place.checkpoint.carriers.carrier import CarrierFile
    from ripple_place.checkpoint.fileio import Progress
    from ripple_place.checkpoint.output.additions import Addition
    from ripple_place.placement import ModelPlacement

_START_OVER = "repeat the command as it was, or leave out --resume and start over"


class JournalledPlan(Protocol):
    """What a journal needs to know of a plan; see `ripple_place.checkpoint.output.plan.RewritePlan`."""

    @property
    def root(self) -> Path: ...  # noqa: D102
    @property
    def placement(self) -> ModelPlacement: ...  # noqa: D102
    @property
    def formats(self) -> tuple[str, ...]: ...  # noqa: D102
    @property
    def stride(self) -> str: ...  # noqa: D102
    @property
    def gates(self) -> str: ...  # noqa: D102
    @property
    def source_files(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def weight_files(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def plain_files(self) -> Mapping[str, int]: ...  # noqa: D102
    @property
    def carriers(self) -> tuple[CarrierFile, ...]: ...  # noqa: D102
    @property
    def additions(self) -> Mapping[str, Addition]: ...  # noqa: D102


class Journal:
    """The journal of one rewrite.

    Parameters
    ----------
    plan : JournalledPlan
    directory : Path
        ``OUT.partial``; all that is there but the finished files is removed.
    finished : mapping of str to str
        SHA-256 of each file that is finished, by name; see `finished_files`.
    begun : mapping of str to Begun
        What is written of others, by name; see `begun_files`.

    Raises
    ------
    OSError
        If storage refuses.
    """

    def __init__(
        self, plan: JournalledPlan, directory: Path, finished: Mapping[str, str] | None = None,
        begun: Mapping[str, Begun] | None = None,
    ) -> None:  # fmt: skip
        self.directory = directory
        self._path = directory / JOURNAL_FILE
        self._finished = dict(finished or {})
        self.begun = dict(begun or {})
        empty_directory(directory, but={directory / name for name in (JOURNAL_FILE, *self._finished, *self.begun)})
        with replacing(self._path) as file:
            file.write(_line(describe_run(plan)))
            for name, sha256 in self._finished.items():
                file.write(self._entry(name, sha256))
            for name, part in self.begun.items():
                file.write(_line({"begun": name, "size_bytes": part.size_bytes, "sha256": part.digest.hexdigest()}))
        self._file = self._path.open("ab", buffering=0)

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def __contains__(self, name: str) -> bool:
        """Tell whether a file is finished."""
        return name in self._finished

    def add(self, name: str, sha256: str) -> None:
        """Record a file that has just been finished, with its hash."""
        self._finished[name] = sha256
        self._file.write(self._entry(name, sha256))

    def mark(self, name: str, size_bytes: int, sha256: str) -> None:
        """Record that a file has been written up to somewhere, with the hash of its beginning."""
        self._file.write(_line({"begun": name, "size_bytes": size_bytes, "sha256": sha256}))

    def hashes(self, names: Iterable[str]) -> dict[str, str]:
        """Return the hashes of finished files."""
        return {name: self._finished[name] for name in names}

    def remove(self) -> None:
        """Remove the journal: the output is whole."""
        self._path.unlink()

    def _entry(self, name: str, sha256: str) -> bytes:
        return _line({"file": name, "size_bytes": (self.directory / name).stat().st_size, "sha256": sha256})


def finished_files(plan: JournalledPlan, directory: Path, progress: Progress = ignore_progress) -> dict[str, str]:
    """Return what an interrupted run has finished: SHA-256 by name, of files that have it.

    Parameters
    ----------
    plan : JournalledPlan
    directory : Path
        ``OUT.partial``; nothing is finished where it, or its journal, is not there.
    progress : callable
        Called with bytes hashed.

    Raises
    ------
    UsageError
        If the interrupted run had another order, source, or options, or was of another version.
    OSError
        If a file cannot be read.
    """
    path = directory / JOURNAL_FILE
    if not path.is_file():
        return {}
    head, entries, _ = _read(path)
    expected = describe_run(plan)
    _require_same_run(directory, head, expected)
    there = {
        name: directory / name
        for name, size_bytes in _written_files(plan).items()
        if name in entries and _is_file_of(directory, name, size_bytes)
    }
    hashes = hash_files(there.values(), progress)
    entries |= {PLACEMENT_FILE: expected["placement_sha256"], **expected.get("additions", {})}
    return {name: entries[name] for name, file in there.items() if hashes[file] == entries[name]}


def begun_files(
    plan: JournalledPlan, directory: Path, finished: Mapping[str, str], progress: Progress = ignore_progress
) -> dict[str, Begun]:
    """Return what an interrupted run has written of weight files that it has not finished, as far as it marked it.

    Parameters
    ----------
    plan : JournalledPlan
        Of the same run, which `finished_files` has checked.
    directory : Path
        ``OUT.partial``.
    finished : mapping of str to str
        What `finished_files` returned.
    progress : callable
        Called with bytes hashed.

    Raises
    ------
    OSError
        If a file cannot be read.

    Notes
    -----
    Nothing but the beginning that has the hash is taken, whatever lies behind it.
    """
    path = directory / JOURNAL_FILE
    if not path.is_file():
        return {}
    begun = {}
    for name, (size_bytes, sha256) in _read(path)[2].items():
        whole_bytes = plan.weight_files.get(name)
        if whole_bytes is None or name in finished or not 0 < size_bytes <= whole_bytes:
            continue
        if not _is_file_of(directory, name, None) or (directory / name).stat().st_size < size_bytes:
            continue
        digest = hashlib.sha256()
        with opened(directory / name) as descriptor:
            for piece in chunks(descriptor, 0, size_bytes):
                digest.update(as_bytes(piece))
                progress(piece.nbytes)
        if digest.hexdigest() == sha256:
            begun[name] = Begun(size_bytes, digest)
    return begun


def describe_run(plan: JournalledPlan) -> dict[str, Any]:
    """Return all that the bytes of an output depend on, as the head of its journal.

    Of the source's files that is their size and the time of their last change: to hash them would take as long as to
    write the output. What slips through is found when the output is verified.
    """
    root = plan.root
    files = {name: root / name for name in plan.source_files} | {file.name: file.source for file in plan.carriers}
    additions = {name: _hash_pieces(addition.pieces()) for name, addition in plan.additions.items()}
    return {
        "format": JOURNAL_FORMAT,
        "tool_version": __version__,
        "formats": list(plan.formats),
        "stride": plan.stride,
        "placement_sha256": _hash_pieces(placement_pieces(plan.placement)),
        "source": {name: [path.stat().st_size, path.stat().st_mtime_ns] for name, path in sorted(files.items())},
        **({"gates": plan.gates} if plan.gates != INSIDE else {}),
        **({"additions": additions} if additions else {}),
    }


def _written_files(plan: JournalledPlan) -> dict[str, int | None]:
    """Return the files that `write_output` writes, with their sizes as far as they are known."""
    sizes: dict[str, int | None] = {**plan.weight_files, **plan.plain_files, PLACEMENT_FILE: None}
    return sizes | dict.fromkeys([*(file.name for file in plan.carriers), *plan.additions])


def _is_file_of(directory: Path, name: str, size_bytes: int | None) -> bool:
    """Tell whether a file of that size lies below a directory, reached without a link."""
    path = directory / name
    is_linked = any(part.is_symlink() for part in (path, *path.parents) if directory in part.parents)
    return not is_linked and path.is_file() and size_bytes in (None, path.stat().st_size)


def _hash_pieces(pieces: Iterable[memoryview]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(piece)
    return digest.hexdigest()


def _read(path: Path) -> tuple[dict[str, Any], dict[str, str], dict[str, tuple[int, str]]]:
    """Return the head of a journal, hashes of files, and sizes and hashes of beginnings, up to where it was cut."""
    documents = []
    for line in read_input(path).splitlines():
        try:
            document = parse_json(line)
        except ValueError:
            break
        if not isinstance(document, dict):
            break
        documents.append(document)
    head = documents[0] if documents else {}
    entries = {
        document["file"]: document["sha256"]
        for document in documents[1:]
        if isinstance(document.get("file"), str) and isinstance(document.get("sha256"), str)
    }
    begun = {
        document["begun"]: (document["size_bytes"], document["sha256"])
        for document in documents[1:]
        if isinstance(document.get("begun"), str) and isinstance(document.get("sha256"), str)
        and type(document.get("size_bytes")) is int
    }  # fmt: skip
    return head, entries, begun


def _require_same_run(directory: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise unless the interrupted run would have written what is to be written now; say what differs."""
    if found == expected:
        return
    # A journal has this key only where gates lie apart.
    found, expected = ({"gates": INSIDE, **run} for run in (found, expected))
    key = next((key for key in expected if found.get(key) != expected[key]), "format")
    was, is_now = found.get(key), expected[key]
    if key == "source":
        was = was if isinstance(was, dict) else {}
        name = min(name for name in {*was, *is_now} if was.get(name) != is_now.get(name))
        raise UsageError(
            directory, found=f"an interrupted run whose source had another {name} (by size or time of change)",
            expected="the source as it was", remedy="leave out --resume and start over",
        )  # fmt: skip
    what = "order of neurons, or record of how it came about" if key == "placement_sha256" else f"{key} ({was})"
    raise UsageError(
        directory, found=f"an interrupted run with another {what}",
        expected="the one asked for now" if key == "placement_sha256" else f"{is_now}, as asked for now",
        remedy=_START_OVER,
    )  # fmt: skip


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode() + b"\n"
