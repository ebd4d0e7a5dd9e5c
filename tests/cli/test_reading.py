"""The reader's options of ``simulate``: what they put into the document, and how they are refused."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from ripple_place.cli.main import cli
from ripple_place.errors import UsageError
from ripple_place.flash.pipeline.text import KEYS

TRACE = str(Path(__file__).parents[2] / "examples/tiny-relu-lm-data/heldout.trace.safetensors")
SIMULATE = ["simulate", TRACE, "--layout", "original", "--bundle-bytes", "4KiB", "--layers", "1", "-q"]


def document(*options: str) -> dict:
    """Return the JSON document of a simulation."""
    result = CliRunner().invoke(cli, [*SIMULATE, "--json", *options], catch_exceptions=False)
    assert result.exit_code == 0
    return json.loads(result.stdout)


def test_the_default_document_names_the_conditions() -> None:
    """A reader of the document knows how the reads were issued, and finds the three forms side by side."""
    found = document()
    assert found["collapse"] == "fixed"
    assert found["conditions"] == {
        "core": None, "queue_depth": None, "thermal": "cold", "access": "direct", "span_bytes": 1024 * 4096,
    }  # fmt: skip
    layout = found["layouts"][0]
    forms = [layout[f"flash_time_{form}us_per_token"] for form in ("", "linear_", "ceiling_")]
    assert len(set(forms)) == 3
    assert min(forms) > 0
    assert layout["token_time_us_per_token"] is None


def test_conditions_reach_the_simulator() -> None:
    """Each of them makes the same trace slower."""
    device = ("--device", "ufs4-oneplus12-powerinfer2")
    base = document(*device)["layouts"][0]["flash_time_us_per_token"]
    for options in (("--core", "little"), ("--access", "mmap"), ("--thermal", "warm", "--collapse", "8")):
        changed = document(*device, *options)
        assert changed["layouts"][0]["flash_time_us_per_token"] > base, options
    assert document("--device", "desktop-nvme", "--queue-depth", "1")["conditions"]["queue_depth"] == 1


def test_synchronous_reads_reach_the_simulator() -> None:
    """43 us a page and about a microsecond for the next: no reads but those, one after the other."""
    changed = document("--device", "ufs4-oneplus12-powerinfer2", "--access", "sync", "--collapse", "off")
    assert (changed["conditions"]["access"], changed["conditions"]["queue_depth"]) == ("sync", 1)
    layout = changed["layouts"][0]
    lengths_us = layout["requests_per_token"] * 43 + (layout["bytes_read_per_token"] / 4096
                                                      - layout["requests_per_token"]) * 4096 / 4e9 * 1e6  # fmt: skip
    assert layout["flash_time_us_per_token"] == pytest.approx(lengths_us, rel=1e-4)


def test_planners_are_ordered() -> None:
    """Optimal is no slower than adaptive, auto or off."""
    times = {
        name: document("--collapse", name)["layouts"][0]["flash_time_us_per_token"]
        for name in ("optimal", "adaptive", "auto", "off")
    }
    assert times["optimal"] == min(times.values())
    assert times["off"] == max(times.values())


def test_time_of_a_token() -> None:
    """One layer: serial is reading plus computing, and overlapping in clusters is less."""
    serial = document("--compute-us-per-layer", "0.8ms")["layouts"][0]
    assert serial["compute_us_per_token"] == 800.0
    assert serial["token_time_us_per_token"] == pytest.approx(serial["flash_time_us_per_token"] + 800)
    assert set(serial["token_time_us_percentiles"]) == {"50", "90", "99"}
    cluster = document("--compute-us-per-layer", "800", "--overlap", "cluster")["layouts"][0]
    assert 800 <= cluster["token_time_us_per_token"] < serial["token_time_us_per_token"]


def test_table_of_forms_and_token_time() -> None:
    """``-v`` shows the forms side by side; with a time to compute, the table has the time of a token."""
    result = CliRunner().invoke(cli, [*SIMULATE, "-v", "--compute-us-per-layer", "800us"], catch_exceptions=False)
    assert "additive line  ceiling of IOPS and bandwidth" in result.stdout
    assert "token time  token p99" in result.stdout
    plain = CliRunner().invoke(cli, SIMULATE, catch_exceptions=False).stdout
    assert "token time" not in plain
    assert "additive line" not in plain


def test_the_table_says_of_which_time_a_speedup_is() -> None:
    """Beside token times, a bare `speedup` of flash time was taken for that of the token."""
    result = CliRunner().invoke(cli, [*SIMULATE, "-v", "--compute-us-per-layer", "800us"], catch_exceptions=False)
    tables = [line for line in result.stdout.splitlines() if "flash time/token  " in line]
    assert tables[0].split("  ")[-2:] == ["flash speedup", "token speedup"]
    assert tables[-1].split("  ")[-1] == "flash speedup"
    plain = CliRunner().invoke(cli, SIMULATE, catch_exceptions=False).stdout
    assert "  speedup\n" in plain
    assert "flash speedup" not in plain
    assert "token speedup" not in plain
    assert document("--compute-us-per-layer", "800")["layouts"][0]["token_speedup"] == 1.0
    assert document()["layouts"][0]["token_speedup"] is None


PIPELINE = ["--overlap", "pipeline", "--pipeline", "attention=30us,barriers=serial"]


def test_the_pipeline_reaches_the_document_and_the_table() -> None:
    """With the rates that the device filled in; without barriers a token is faster."""
    found = document(*PIPELINE)
    assert found["compute"]["pipeline"]["thread_bytes_per_s"] == 5.3e9 / 4
    assert found["compute"]["pipeline"]["barriers"] == "serial"
    layout = found["layouts"][0]
    assert layout["pipeline"]["exposed_io_us_per_token"] > 0
    assert layout["token_time_us_per_token"] > layout["flash_time_us_per_token"] + 30
    free = document("--overlap", "pipeline", "--pipeline", "attention=30us")["layouts"][0]
    assert free["token_time_us_per_token"] < layout["token_time_us_per_token"]
    assert free["flash_time_us_per_token"] == layout["flash_time_us_per_token"]
    given = document("--overlap", "pipeline", "--compute-us-per-layer", "800", "--device", "desktop-nvme")["layouts"][0]
    assert given["compute_us_per_token"] == pytest.approx(800)
    printed = CliRunner().invoke(cli, [*SIMULATE, *PIPELINE], catch_exceptions=False).stdout
    assert "exposed I/O  I/O thread busy  compute threads busy" in printed
    assert "exposed I/O" not in CliRunner().invoke(cli, SIMULATE, catch_exceptions=False).stdout


def test_the_picture_of_the_documentation_is_what_its_command_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a retouched one."""
    root = Path(__file__).parents[2]
    text = (root / "docs/pipeline.md").read_text()
    line = re.search(r"ripple-place (simulate .*?)\n```", text, re.DOTALL)
    assert line is not None
    (tmp_path / "examples").symlink_to(root / "examples")
    monkeypatch.chdir(tmp_path)
    CliRunner().invoke(cli, shlex.split(line[1].replace("\\\n", " ")), catch_exceptions=False)
    assert (tmp_path / "pipeline.svg").read_bytes() == (root / "docs/pipeline.svg").read_bytes()


def test_every_key_of_the_pipeline_is_documented() -> None:
    """In the table of parameters."""
    text = (Path(__file__).parents[2] / "docs/pipeline.md").read_text()
    rows = " ".join(re.findall(r"^\| (`.*?) \|", text, re.MULTILINE))
    assert all(f"`{key}`" in rows for key in KEYS)


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (["--collapse", "adaptive"], "adaptive access collapse"),
        (["--access", "mmap"], "memory-mapped, 128 KiB read ahead"),
        (["--collapse", "off"], "access collapse over gaps up to 0"),
    ],
)
def test_header_says_what_is_read_through(options: list[str], phrase: str) -> None:
    """The line above the table."""
    assert phrase in CliRunner().invoke(cli, [*SIMULATE, *options], catch_exceptions=False).stdout


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--core", "little"], "--core little: found device ufs4-oneplus12-neuralink knows none"),
        (["--device", "m1-max", "--access", "mmap"], "--access mmap: found device m1-max knows direct"),
        (["--queue-depth", "4"], "knows no queue depths"),
        (["--overlap", "layer"], "--overlap layer: found no time to compute; expected one. Add --compute-us-per-layer"),
        (["--pipeline", "threads=2"], "--overlap serial: found --pipeline; expected"),
        (["--overlap", "pipeline", "--compute-us-per-layer", "5", "--pipeline", "attention=6us"], "attention takes 6"),
        (["--overlap", "pipeline", "--pipeline", "cores=2"], "--pipeline cores=2: found 'cores=2'"),
        (["--overlap", "pipeline", "--device", "desktop-nvme"], "desktop-nvme has no cpu_sparse_bytes_per_s"),
        (["--timeline", "a.svg"], "--timeline a.svg: found no pipeline, whose threads it shows"),
        (["--access", "mmap", "--collapse", "3"], "--access mmap: found access collapse 3; expected none"),
        (["--collapse", "greedy"], "found 'greedy'; expected auto, off, adaptive, optimal, or a number"),
        (["--compute-us-per-layer", "fast"], "found 'fast'"),
    ],
)
def test_refusals(options: list[str], match: str) -> None:
    """What a profile does not know, and options that make no sense together, are usage errors."""
    result = CliRunner().invoke(cli, [*SIMULATE, *options])
    if isinstance(result.exception, UsageError):
        message = str(result.exception)
    else:
        assert result.exit_code == 2
        message = result.stderr
    assert match in " ".join(message.split())
