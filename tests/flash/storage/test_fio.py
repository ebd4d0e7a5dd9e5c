"""fio's files, parsed as strictly as fio's manual describes them."""

from __future__ import annotations

import configparser
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.requests import RequestList
from ripple_place.flash.storage.fio import DATA_FILE, fio_paths, iolog, write_fio

if TYPE_CHECKING:
    from pathlib import Path


def requests(*spans: tuple[int, int], layout: str = "original") -> RequestList:
    """Return the requests of one token and block."""
    offsets, lengths = np.array(spans, np.int64).T
    return RequestList(layout, np.array([0]), offsets, lengths, np.array([0, len(spans)]), 1.0)


def parse_iolog(text: str) -> list[tuple[int, int]]:
    """Return (offset, length) of each read of a version 2 log, after checking every line."""
    header, add, opened, *reads, closed = text.splitlines()
    assert header == "fio version 2 iolog"
    assert [add, opened, closed] == [f"{DATA_FILE} {action}" for action in ("add", "open", "close")]
    matches = [re.fullmatch(rf"{re.escape(DATA_FILE)} read (\d+) (\d+)", line) for line in reads]
    assert all(matches)
    return [(int(match[1]), int(match[2])) for match in matches if match]


def test_a_log_by_hand() -> None:
    """Two reads, in order, as in the manual's example."""
    assert iolog(requests((8192, 4096), (0, 16384))) == (
        "fio version 2 iolog\nripple-place.data add\nripple-place.data open\nripple-place.data read 8192 4096\n"
        "ripple-place.data read 0 16384\nripple-place.data close\n"
    )


def test_one_log_a_layout_and_one_job(tmp_path: Path) -> None:
    """The job makes a data file that is long enough, and replays each log after the one before."""
    lists = [requests((0, 4096), (3 << 20, 8192)), requests((4096, 4096), layout="a\nb")]
    written = write_fio(tmp_path / "reads.iolog", lists, 16)
    assert [path.name for path in written] == ["reads.fio", "reads.iolog", "reads.2.iolog"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in written)
    assert [parse_iolog(path.read_text()) for path in written[1:]] == [[(0, 4096), (3 << 20, 8192)], [(4096, 4096)]]
    job = configparser.ConfigParser(allow_no_value=True, comment_prefixes=(";",), delimiters=("=",), strict=True)
    job.read_string(written[0].read_text())
    assert dict(job["global"]) == {"ioengine": "libaio", "direct": "1", "iodepth": "16"}
    assert job["make-data"]["filename"] == DATA_FILE
    assert int(job["make-data"]["size"]) == 4 << 20
    assert [(job[name]["read_iolog"], "stonewall" in job[name]) for name in ("layout-1", "layout-2")] == [
        ("reads.iolog", True), ("reads.2.iolog", True),
    ]  # fmt: skip
    assert job.sections() == ["global", "make-data", "layout-1", "layout-2"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a:b%.iolog", r"a\:b%.iolog"), (":a::b.iolog", r"\:a\:\:b.iolog"), (r"a\b\:c.iolog", r"a\b\\:c.iolog"),
        ("[a]=b c{d},'e'\".iolog", "[a]=b c{d},'e'\".iolog"), ("caf\u00e9.iolog", "caf\u00e9.iolog"),
    ],
)  # fmt: skip
def test_names_are_written_as_fio_reads_them(tmp_path: Path, name: str, value: str) -> None:
    """A colon would part two names; nothing else is special. fio 3.33 replays each of these."""
    job, _ = write_fio(tmp_path / name, [requests((0, 4096))], 1)
    assert job.read_text(encoding="utf-8").splitlines()[-1] == f"read_iolog={value}"


@pytest.mark.parametrize(
    "name", ["a;b", "a#b", "a$b", "${HOME}", "a\nb", "a\tb", "\x1b", " a", "\udcff", "\u202e", "a."], ids=ascii
)
def test_names_that_no_job_can_hold(tmp_path: Path, name: str) -> None:
    """Comments and variables that fio sees in any value, line ends, and what is cut off."""
    with pytest.raises(UsageError, match=r"a name that fio cannot read from a job.*Name it reads\.iolog"):
        fio_paths(tmp_path / (f"{name} " if name == "a." else f"{name}.iolog"), 1)


def test_comments_are_single_lines_and_commands_can_be_copied(tmp_path: Path) -> None:
    """Whatever a layout and the job are called."""
    job, _ = write_fio(tmp_path / "-a b.iolog", [requests((0, 4096), layout="x\x1b[0m\n[section]")], 1)
    lines = job.read_text().splitlines()
    assert lines[1].endswith(" './-a b.fio'")
    assert [line for line in lines if line.startswith("[")] == ["[global]", "[make-data]", "[layout-1]"]
    assert any(line.startswith(r"; layout x\x1b[0m\n[section]: 1 reads") for line in lines)


@pytest.mark.parametrize("name", ["reads.fio", "reads"])
def test_a_log_cannot_have_the_jobs_name(tmp_path: Path, name: str) -> None:
    """The job beside the log ends in .fio."""
    with pytest.raises(UsageError, match=r"Name it .*reads\.iolog"):
        fio_paths(tmp_path / name, 1)
