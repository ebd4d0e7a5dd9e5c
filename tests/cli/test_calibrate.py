"""``calibrate`` and ``simulate --measure`` as commands: tables, documents, and refusals."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="direct reads need Linux")

QUICK = ["--size", "1MiB", "--max-size", "8KiB", "--repeats", "1", "--time", "1us"]


@pytest.fixture
def storage(tmp_path: Path) -> str:
    """Return a directory to measure, in the working directory."""
    (tmp_path / "storage").mkdir()
    return "storage"


def test_from_calibration_to_measurement(run: Run, tmp_path: Path, trace: str, storage: str) -> None:
    """The way of docs/devices.md: calibrate, simulate with the profile, and measure the same reads on a file."""
    outcome = run("calibrate", storage, "--out", "disk.toml", "--depth", "2", *QUICK)
    assert outcome.code == 0, outcome.stderr
    rows = [line.split() for line in outcome.stdout.splitlines()]
    assert rows[0] == ["read", "depth", "1", "depth", "2"]
    assert [row[:2] for row in rows[1:3]] == [["4", "KiB"], ["8", "KiB"]]
    assert ["bundle", "overhead", "bandwidth", "break-even", "gap"] in rows
    assert "R^2" in outcome.stdout
    assert outcome.stdout.endswith("Wrote disk.toml\n")

    (tmp_path / "data").write_bytes(os.urandom(1 << 20))
    outcome = run(
        "simulate", trace, "--layout", "original", "--bundle-bytes", "4KiB", "--device", "./disk.toml", "--measure",
        "data", "--measure-tokens", "5", "--emit-fio", "reads.iolog",
    )  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    assert outcome.stdout.startswith("disk; 300 tokens, 2 blocks")
    assert "Measured with 2 reads in flight: 5 tokens, medians of 5 interleaved repeats" in outcome.stdout
    assert "Wrote reads.fio, reads.iolog: " in outcome.stdout
    assert (tmp_path / "reads.fio").exists()


def test_calibration_as_a_document(run: Run, storage: str) -> None:
    """One JSON document, no bars, no tables."""
    outcome = run("calibrate", storage, "--out", "disk.toml", "--depth", "1", *QUICK, "--json", "--quiet")
    assert (outcome.code, outcome.stderr) == (0, "")
    document = json.loads(outcome.stdout)
    assert (document["out"], document["directory"], document["queue_depth"]) == ("disk.toml", "storage", 1)


def test_measurement_as_a_document(run: Run, tmp_path: Path, trace: str) -> None:
    """The layouts' documents grow by one key, and their other keys stay."""
    (tmp_path / "data").write_bytes(os.urandom(1 << 20))
    arguments = ["simulate", trace, "--layout", "original", "--bundle-bytes", "4KiB", "--json"]
    plain = json.loads(run(*arguments).stdout)
    outcome = run(*arguments, "--measure", "data", "--measure-tokens", "3", "--measure-depth", "2")
    assert outcome.code == 0, outcome.stderr
    layout = json.loads(outcome.stdout)["layouts"][0]
    assert layout.pop("measured")["queue_depth"] == 2
    assert layout == plain["layouts"][0]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["calibrate", "none", "--out", "x.toml"], 2, "none: found no directory; expected a directory on the storage"),
        (["calibrate", "storage", "--out", "there.toml"], 2, "there.toml: found a file; expected a new name"),
        (["calibrate", "storage", "--out", "none/x.toml"], 2, "make the directory first"),
        (["calibrate", "storage", "--out", "x.toml", "--size", "1000TiB"], 5, "make room, or write a smaller one"),
        (["calibrate", "storage", "--out", "x.toml", "--size", "64KiB"], 2, "less than four of the largest reads"),
        (["calibrate", "storage", "--out", "x.toml", "--max-size", "5000"], 2, "no multiple of 4 kib"),
        (["calibrate", "storage", "--out", "x.toml", "--depth", "0"], 2, "0 is not in the range"),
        (["calibrate", "storage", "--out", "x.toml", "--time", "999999999999999s"], 2, "a day at most"),
        (["calibrate", "storage", "--out", "x.toml", "--time", "0"], 2, "more than nothing"),
        (["calibrate", "storage", "--out", "x.toml", "--repeats", "1" + 30 * "0"], 2, "expected 1 to 1000"),
        (["calibrate", "storage", "--out", "x.toml", "--time", "soon"], 2, "such as 80us"),
        (["calibrate", "storage"], 2, "missing option '--out'"),
        (["simulate", "{trace}", "--measure", "none"], 2, "--measure none: found no file"),
        (["simulate", "{trace}", "--measure", "storage"], 2, "--measure storage: found no file"),
        (["simulate", "{trace}", "--measure", "there.toml"], 2, "name a larger file"),
        (["simulate", "{trace}", "--emit-fio", "reads.fio"], 2, "name it reads.iolog"),
        (["simulate", "{trace}", "--emit-fio", "there.toml"], 2, "overwrite it with --force"),
        (["simulate", "{trace}", "--emit-fio", "{trace}", "--force"], 2, "choose another name"),
        (["simulate", "{trace}", "--emit-fio", "x.log", "--access", "mmap"], 2, "measure with --access direct"),
    ],
)
def test_refusals(
    run: Run, tmp_path: Path, trace: str, storage: str, arguments: list[str], code: int, message: str
) -> None:
    """Each ends in its code and says what to do; no file is made or changed."""
    (tmp_path / "there.toml").write_text("mine")
    if arguments[0] == "simulate":
        arguments = [*arguments, "--layout", "original", "--bundle-bytes", "4KiB"]
    before = sorted((path, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*"))
    outcome = run(*(argument.format(trace=trace) for argument in arguments))
    assert (outcome.code, outcome.stdout) == (code, ""), outcome.stderr
    assert message in outcome.stderr.lower()
    assert sorted((path, path.is_file() and path.read_bytes()) for path in tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission(run: Run, tmp_path: Path, storage: str) -> None:
    """The system's refusal, exit code 5."""
    (tmp_path / storage).chmod(0o500)
    outcome = run("calibrate", storage, "--out", "x.toml", *QUICK)
    assert outcome.code == 5
    assert "Permission denied" in outcome.stderr
    assert not (tmp_path / "x.toml").exists()


def test_storage_that_refuses_to_write(run: Run, tmp_path: Path, storage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system mounted read-only: exit code 5, for root as well."""
    import errno

    def refuse(descriptor: int, data: bytes) -> int:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("ripple_place.flash.storage.scratch.os.write", refuse)
    outcome = run("calibrate", storage, "--out", "x.toml", *QUICK)
    assert outcome.code == 5
    assert "Read-only file system" in outcome.stderr
    assert list((tmp_path / storage).iterdir()) == []
