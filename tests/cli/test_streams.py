"""What commands print: into any encoding, onto terminals that obey sequences, to readers and disks that give out."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from safetensors import safe_open

import ripple_place
from ripple_place.cli import main as main_module
from ripple_place.cli.rendering import echo, echo_warnings, format_table, show_log
from ripple_place.flash.device.files import load_device
from ripple_place.flash.device.writer import format_device
from ripple_place.trace.files import read_trace, write_trace

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]

ROOT = Path(ripple_place.__file__).parents[1]
CODE = Path(ripple_place.__file__).parent / "cli"
FOREIGN = "\x1b[31m\x9b\u202e\u200b"
"""A colour, its C1 form, a turn of direction, nothing."""
NOT_UTF8 = os.fsdecode(b"x\xff\xc3\xa9")
SIMULATE = ("--bundle-bytes", "4KiB", "-q")


def start(*arguments: str, cwd: Path, **streams: object) -> subprocess.CompletedProcess[bytes]:
    """Run a command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "ripple_place", *arguments], cwd=cwd, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, **streams,  # type: ignore[call-overload]
    )  # fmt: skip


def test_all_printing_goes_through_one_function() -> None:
    """`rendering.echo`, which escapes: a command that printed by itself could forget to."""
    printing = re.compile(r"click\.(s?echo|echo_via_pager)\(|\bprint\(|\.write\(")
    assert [path.name for path in sorted(CODE.glob("*.py")) if printing.search(path.read_text())] == ["rendering.py"]


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252", "utf-8"])
def test_streams_of_any_encoding(
    run: Run, monkeypatch: pytest.MonkeyPatch, trace: str, profile: str, encoding: str, tmp_path: Path
) -> None:
    """A name with characters that the streams lack is printed as far as they have them."""
    for name, stream in (("stdout", io.BytesIO()), ("stderr", io.BytesIO())):
        monkeypatch.setattr(sys, name, io.TextIOWrapper(stream, encoding=encoding))
    name = "\u20ac\u4e00.placement"
    monkeypatch.setattr(sys, "argv", ["ripple-place", "reorder", "--profile", profile, "--out", name])
    with pytest.raises(SystemExit) as done:
        main_module.main()
    stdout = sys.stdout.buffer.getvalue()  # type: ignore[attr-defined]
    assert done.value.code == 0
    assert f"Wrote the placement {name}".encode(encoding, "backslashreplace") in stdout
    assert (tmp_path / name).exists()


def test_files_are_utf8_whatever_a_path_is(run: Run, tmp_path: Path, trace: str) -> None:
    """A name that is not UTF-8 is in the pages and pictures as text with escapes; in JSON, as JSON escapes."""
    named = tmp_path / f"{NOT_UTF8}.trace.safetensors"
    named.write_bytes((tmp_path / trace).read_bytes())
    assert run("profile", named.name, "--out", f"{NOT_UTF8}.profile", "--html", "profile.html").code == 0
    (tmp_path / NOT_UTF8).mkdir()
    placement = f"{NOT_UTF8}/placement"
    assert run("reorder", "--profile", f"{NOT_UTF8}.profile", "--out", placement).code == 0
    outcome = run(
        "simulate", named.name, "--layout", placement, *SIMULATE, "--html", "simulation.html", "--svg", "s.svg"
    )
    assert outcome.code == 0, outcome.stderr
    assert "x\\xff\u00e9/placement" in outcome.stdout
    for name in ("profile.html", "simulation.html", "s.svg"):
        assert "x\\xff\u00e9" in (tmp_path / name).read_text(encoding="utf-8")
    document = run("simulate", named.name, "--layout", placement, *SIMULATE, "--json").stdout
    assert json.loads(document)["layouts"][0]["name"] == placement
    assert document.isascii()


def test_a_device_cannot_speak_to_the_terminal(run: Run, tmp_path: Path, trace: str) -> None:
    """Its name, description and sources, on the terminal and in the page: as text."""
    text = format_device(load_device("m1-max")).replace(
        'name = "m1-max"', 'name = "evil\\u001b[31m\\u009b\\u202e\\u200b"'
    )
    text = re.sub(r'^description = "', r'description = "\\u001b]0;title\\u0007<b>', text, flags=re.MULTILINE)
    (tmp_path / "device.toml").write_text(text)
    outcome = run("simulate", trace, "--layout", "original", "--device", "./device.toml", *SIMULATE, "--html", "r.html")
    assert outcome.code == 0, outcome.stderr
    shown = "evil\\x1b[31m\\x9b\\u202e\\u200b"
    assert outcome.stdout.startswith(shown)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert shown in page
    assert "\\x1b]0;title\\x07&lt;b&gt;" in page
    assert all(character.isprintable() or character == "\n" for character in outcome.stdout + page)


def test_no_name_can_forge_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """A cell and a warning are one line each, and a name without end does not stretch the table without end."""
    table = format_table(["layout"], [["a\nVerified: all"], ["b" * 5000]])
    assert [line[:20] for line in table.splitlines()] == ["layout", "a\\nVerified: all", "b" * 20]
    assert max(map(len, table.splitlines())) < 300
    echo_warnings([f"one\nError: two{FOREIGN}"], quiet=False)
    assert capsys.readouterr().err == "Warning: one\\nError: two\\x1b[31m\\x9b\\u202e\\u200b.\n"
    show_log(quiet=False)
    logging.getLogger("ripple_place").warning("one\nError: two")
    assert capsys.readouterr().err == "Warning: one\\nError: two.\n"
    echo(f"a\nb{FOREIGN}")
    assert capsys.readouterr().out == "a\nb\\x1b[31m\\x9b\\u202e\\u200b\n"


@pytest.mark.parametrize("arguments", [["verify", "a", f"b{FOREIGN}"], ["simulate", "a", f"--{FOREIGN}"], [FOREIGN]])
def test_errors_cannot_either(run: Run, arguments: list[str]) -> None:
    """Ours, and those of click, which quote what was given."""
    outcome = run(*arguments)
    assert outcome.code == 2
    assert "\\x1b[31m" in outcome.stderr
    assert all(character.isprintable() or character == "\n" for character in outcome.stderr)


def test_a_model_is_recognised_by_a_name_that_is_no_utf8(run: Run, tmp_path: Path, pico_opt: Path, trace: str) -> None:
    """Metadata have it escaped: no warning that the profile is of another model."""
    model = pico_opt.rename(tmp_path / NOT_UTF8)
    recorded = read_trace(tmp_path / trace)
    write_trace(tmp_path / "t", replace(recorded, metadata={**recorded.metadata, "model": model.name}))
    assert run("profile", "t", "--out", "p", "--no-verdict").code == 0
    outcome = run("reorder", model, "--profile", "p", "--out", "out", "--ordering", "greedy")
    assert (outcome.code, outcome.stderr) == (0, "")


def test_a_locale_in_which_names_are_no_utf8(run: Run, tmp_path: Path, pico_opt: Path, profile: str) -> None:
    """An output with names of any kind verifies where Python is told that file names are ASCII, and so is stdout."""
    (pico_opt / "mod\u00e8le.json").write_text("{}")
    (pico_opt / f"{NOT_UTF8}.json").write_text("{}")
    source = pico_opt.rename(tmp_path / "mod\u00e8le")
    assert run("reorder", source, "--profile", profile, "--out", f"{NOT_UTF8}.out").code == 0
    locale = {"LC_ALL": "C", "PYTHONUTF8": "0"}
    done = subprocess.run(
        [sys.executable, "-m", "ripple_place", "verify", source, f"{NOT_UTF8}.out", "--restore", "\u00e9"],
        cwd=tmp_path, check=False, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT), **locale},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"Restored \\xe9: 7 files" in done.stdout
    assert {path.name for path in (tmp_path / "\u00e9").iterdir()} >= {"mod\u00e8le.json", f"{NOT_UTF8}.json"}


def test_a_full_disk_behind_stdout(tmp_path: Path) -> None:
    """Code 5, and a sentence that names the stream."""
    with Path("/dev/full").open("wb") as full:
        done = start("simulate", "--list-devices", cwd=tmp_path, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 5
    assert done.stderr == b"Error: standard output: No space left on device. Make room, or write elsewhere.\n"


def test_a_reader_that_has_gone(tmp_path: Path) -> None:
    """`ripple-place ... | head` ends as SIGPIPE ends other programs, without a complaint about a pipe."""
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = start("simulate", "--list-devices", cwd=tmp_path, stdout=write_end, stderr=subprocess.PIPE)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")


def test_streams_that_are_closed(tmp_path: Path, run: Run, trace: str) -> None:
    """`<&- >&- 2>&-`: what is printed is discarded, and goes into no file that is opened in their place."""
    command = f"{sys.executable} -m ripple_place profile {trace} --out p --no-verdict <&- >&- 2>&-"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, check=False, env=environment)
    assert done.returncode == 0
    with safe_open(tmp_path / "p", "numpy") as file:
        assert file.metadata()["format"] == "ripple-place.profile/1"
