"""``simulate --system`` on the command line: the table, the document, the picture, and which options go with it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]

COMMON = ("--bundle-bytes", "12KiB", "--dram-budget", "50%")
NAMES = ("llama.cpp", "llm-in-a-flash", "neuralink-s", "neuralink", "powerinfer2", "ours")


def systems(*names: str) -> list[str]:
    """Return the options that name systems."""
    return [part for name in names for part in ("--system", name)]


def test_the_table(run: Run, trace: str, profile: str) -> None:
    """The device, the DRAM of all, a row a system in the order of the options, and what speedups are against."""
    result = run("simulate", trace, "--profile", profile, *systems(*NAMES), *COMMON, "--effort", 0)
    assert result.code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "ufs4-oneplus12-neuralink; 300 tokens; DRAM for 288 KiB of 576 KiB (50.0%) in each system"
    header = lines[2].split()
    assert header[0] == "system"
    rows = [line for line in lines[3:] if line.split() and line.split()[0] in NAMES]
    assert [row.split()[0] for row in rows] == list(NAMES)
    assert "1.00x" in rows[0]
    assert lines[-1] == "Speedup is against llama.cpp."
    assert "perplexity" not in result.stdout
    assert "300 tokens" in result.stdout


def test_the_document_says_what_the_table_does(run: Run, trace: str, profile: str) -> None:
    """Time and speedup of each, rounded."""
    options = ("simulate", trace, "--profile", profile, *systems("llm-in-a-flash", "neuralink"), *COMMON)
    document = json.loads(run(*options, "--json").stdout)
    text = run(*options).stdout
    for entry in document["layouts"]:
        row = next(line for line in text.splitlines() if line.startswith(entry["system"]))
        assert f"{entry['speedup']:.2f}x" in row
        assert f"{entry['cache_hit_ratio']:.1%}" in row
        assert f"{entry['reads_per_token']:,.1f}" in row


def test_one_system_from_a_file(run: Run, trace: str, tmp_path: Path) -> None:
    """With a knob changed on top; no profile where it orders nothing."""
    (tmp_path / "mine.toml").write_text(
        'name = "mine"\ndescription = "x"\ncache = "lru"\n[sources]\ncache = "assumed: x"\n'
    )
    result = run("simulate", trace, *systems("mine.toml,cache=fifo"), *COMMON, "--json")
    (entry,) = json.loads(result.stdout)["layouts"]
    assert (entry["system"], entry["policy"]) == ("mine.toml,cache=fifo", "fifo")


def test_the_picture(run: Run, trace: str, tmp_path: Path) -> None:
    """A well-formed file with a row a system; what exists is not overwritten."""
    options = ("simulate", trace, *systems("llama.cpp", "llm-in-a-flash"), *COMMON, "--svg", "a.svg")
    assert run(*options).code == 0
    root = ElementTree.fromstring((tmp_path / "a.svg").read_text())
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"llama.cpp", "llm-in-a-flash"} <= set(texts)
    again = run(*options)
    assert again.code == 2
    assert "a.svg" in again.stderr
    assert run(*options, "--force").code == 0


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--layout", "original"), "--layout: found --system as well"),
        (("--cache", "lru"), "--cache: found --system as well"),
        (("--admission", "linking"), "--admission: found --system as well"),
        (("--select", "exact"), "--select: found --system as well"),
        (("--collapse", "off"), "--collapse: found --system as well"),
        (("--queue-depth", "4"), "--queue-depth: found --system as well"),
        (("--access", "sync"), "--access: found --system as well"),
        (("--overlap", "layer"), "--overlap: found --system as well"),
        (("--unit", "column"), "--unit: found --system as well"),
        (("--bound",), "--bound: found --system as well"),
        (("--dram-pool",), "--dram-pool: found --system as well"),
        (("--gate-first", "predicted"), "--gate-first: found --system as well"),
        (("--bundle-form", "int4"), "--bundle-form: found --system as well"),
        (("--batch", "2"), "--batch: found --system as well"),
        (("--sweep", "dram-budget=1%"), "--sweep: found --system as well"),
        (("--transfer",), "--transfer: found --system as well"),
        (("--html", "a.html"), "--html: found --system as well"),
        (("--timeline", "a.svg"), "--timeline: found --system as well"),
        (("--system", "nobody"), "--system nobody: found no shipped system by that name"),
    ],
)
def test_options_that_do_not_go_with_systems(run: Run, trace: str, options: tuple[str, ...], match: str) -> None:
    """Systems have knobs of their own for that."""
    result = run("simulate", trace, *systems("neuralink"), *COMMON, *options)
    assert result.code == 2
    assert match in result.stderr


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--tune-text", "a.txt"), "--tune-text: found no system"),
        (("--tune-tokens", "9"), "--tune-tokens: found no system"),
        (("--effort", "3"), "--effort: found no system"),
    ],
)
def test_options_of_systems_alone(run: Run, trace: str, options: tuple[str, ...], match: str) -> None:
    """Refused where layouts are compared."""
    result = run("simulate", trace, "--layout", "original", *COMMON, *options)
    assert result.code == 2
    assert match in result.stderr


def test_neither_layout_nor_system(run: Run, trace: str) -> None:
    """Something must be scored."""
    result = run("simulate", trace)
    assert result.code == 2
    assert "found no layout and no system" in result.stderr


def test_a_segmented_cache_by_the_plan_of_a_layout(run: Run, trace: str, profile: str) -> None:
    """`reorder --plan`, then `simulate --cache segmented`: hot rows stay, in one pool, for batches too."""
    planned = run(
        "reorder", "--profile", profile, "--plan", "powerinfer2", "--dram-budget", "50%", "--bundle-bytes", "4KiB",
        "--ordering", "original", "--out", "planned",
    )  # fmt: skip
    assert planned.code == 0, planned.stderr
    options = ("simulate", trace, "--layout", "planned", "--layout", "original", "--cache", "segmented")
    result = run(*options, "--dram-budget", "50%")
    assert result.code == 0, result.stderr
    assert "one pool" in result.stdout
    document = json.loads(run(*options, "--dram-budget", "50%", "--json").stdout)
    assert (document["cache"], document["pool_neurons"]) == ("segmented", 24)
    lru = json.loads(
        run("simulate", trace, "--layout", "planned", "--dram-budget", "50%", "--cache", "lru", "--json").stdout
    )
    assert document["layouts"][0]["active_per_token"] > lru["layouts"][0]["active_per_token"]
    refused = run("simulate", trace, "--layout", "original", *COMMON, "--cache", "segmented")
    assert refused.code == 2
    assert "ripple-place reorder --plan powerinfer2" in refused.stderr
