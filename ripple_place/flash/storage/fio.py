"""fio's files: the requests of layouts as I/O logs, and the job that replays them on another machine."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.printable import one_line, printable
from ripple_place.tensorfile import replacing
from ripple_place.units import format_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.flash.requests import RequestList

DATA_FILE = "ripple-place.data"
"""File that the job reads, in the directory where fio runs; its first section makes it."""
JOB_SUFFIX = ".fio"
_NO_VALUE = re.compile(r"[;#$]|^\s|\s$")
"""What the value of an option cannot hold, and nothing escapes: comments begin at ; and #, and fio puts values in the
place of $NAME and ${NAME}; blanks at its ends are cut off."""


def fio_paths(path: Path, n_layouts: int) -> tuple[Path, list[Path]]:
    """Return where the job and the logs go: the first log to `path`, further ones and the job beside it.

    Raises
    ------
    UsageError
        If `path` would be the job, or has a name that a job cannot hold.

    Examples
    --------
    >>> from pathlib import Path
    >>> job, logs = fio_paths(Path("reads.iolog"), 2)
    >>> job.name, [log.name for log in logs]
    ('reads.fio', ['reads.iolog', 'reads.2.iolog'])
    """
    if path.suffix == JOB_SUFFIX or not path.suffix:
        raise UsageError(
            f"--emit-fio {path}", found=f"suffix {path.suffix!r}",
            expected=f"a name for the log: the job beside it gets {JOB_SUFFIX}",
            remedy=f"name it {path.parent / (path.stem or 'reads')}.iolog",
        )  # fmt: skip
    if _NO_VALUE.search(path.name) or printable(path.name) != path.name:
        raise UsageError(
            f"--emit-fio {path}", found="a name that fio cannot read from a job",
            expected="one without ; # $, controls, and blanks at its ends", remedy="name it reads.iolog",
        )  # fmt: skip
    logs = [path.with_suffix(f".{number}{path.suffix}") for number in range(2, n_layouts + 1)]
    return path.with_suffix(JOB_SUFFIX), [path, *logs]


def write_fio(path: Path, lists: Sequence[RequestList], depth: int) -> list[Path]:
    """Write one I/O log a layout (fio version 2) and a job that replays them one after the other.

    Parameters
    ----------
    path : Path
        See `fio_paths`.
    lists : sequence of RequestList
        None empty.
    depth : int
        Reads in flight.

    Returns
    -------
    list of Path
        The job, then the logs.

    Raises
    ------
    UsageError
        If `path` has no fit suffix.
    OSError
        If storage refuses.

    References
    ----------
    fio documentation, "Trace file format", version 2: file actions ``add``, ``open``, ``close``, I/O actions
    ``read offset length``; waits are left out, so each request goes out as soon as the depth allows. "filename": a
    colon in a name is escaped with a backslash.
    """
    job_path, log_paths = fio_paths(path, len(lists))
    for log_path, requests in zip(log_paths, lists, strict=True):
        with replacing(log_path) as file:
            file.write(iolog(requests).encode())
    with replacing(job_path) as file:
        file.write(job(lists, log_paths, depth).encode())
    return [job_path, *log_paths]


def iolog(requests: RequestList, data_file: str = DATA_FILE) -> str:
    """Return a log of the requests, in order."""
    reads = zip(requests.offset_bytes.tolist(), requests.length_bytes.tolist(), strict=True)
    lines = [
        "fio version 2 iolog",
        f"{data_file} add",
        f"{data_file} open",
        *(f"{data_file} read {offset} {length}" for offset, length in reads),
        f"{data_file} close",
    ]
    return "\n".join(lines) + "\n"


def job(lists: Sequence[RequestList], log_paths: Sequence[Path], depth: int) -> str:
    """Return the job: a section that makes the data file, and one a layout that replays its log."""
    size_bytes = -(-max(requests.end_bytes for requests in lists) // 2**20) * 2**20
    sections = [
        "; Replays the reads of neuron layouts. Run in the directory of this file:",
        f";   fio --output-format=json --output=result.json {_argument(log_paths[0].with_suffix(JOB_SUFFIX))}",
        f"; It writes {DATA_FILE} there ({format_bytes(size_bytes)}), unless it is there already.",
        "; Without libaio, take ioengine=io_uring.",
        "[global]",
        "ioengine=libaio",
        "direct=1",
        f"iodepth={depth}",
        "",
        "[make-data]",
        f"filename={DATA_FILE}",
        "rw=read",
        "bs=1m",
        f"size={size_bytes}",
        "refill_buffers=1",
        "create_only=1",
    ]
    for number, (requests, log_path) in enumerate(zip(lists, log_paths, strict=True), 1):
        n_bytes = int(requests.length_bytes.sum())
        sections += [
            "",
            f"; layout {one_line(requests.layout)}: {requests.n_requests} reads, {n_bytes} bytes, "
            f"{requests.tokens.size} tokens",
            f"[layout-{number}]",
            "stonewall",
            "read_iolog=" + log_path.name.replace(":", "\\:"),
        ]
    return "\n".join(sections) + "\n"


def _argument(job_path: Path) -> str:
    """Return the job as an argument of a command in its directory."""
    return shlex.quote(f"./{job_path.name}" if job_path.name.startswith("-") else job_path.name)
