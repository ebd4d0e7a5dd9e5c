"""``ripple-place simulate`` on routes of experts: tables, the document, and options that belong elsewhere."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from ripple_place.trace.files import write_trace
from tests.experts.builders import routed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]


@pytest.fixture
def routes(tmp_path: Path) -> str:
    """Return a trace of experts in the working directory: two layers, a prompt of four tokens, 80 that follow."""
    layers = [[[t % 8, (t * t + 1) % 8] for t in range(84)], [[t * 3 % 8] for t in range(84)]]
    trace = routed(layers, [0] * 4 + [1] * 80, unit_bytes=(3 << 20, 2 << 20))
    write_trace(tmp_path / "routes.trace.safetensors", trace)
    return "routes.trace.safetensors"


def test_layouts_side_by_side(run: Run, routes: str) -> None:
    """Without --layout, the checkpoint's and packed; nothing but the tables on stdout."""
    options = ("--dram-budget", "3experts", "--device", "ufs4-oneplus15r", "--compute-us-per-token", "100ms")
    outcome = run("simulate", routes, *options)
    assert (outcome.code, outcome.stderr) == (0, "")
    lines = outcome.stdout.splitlines()
    assert lines[0].endswith(
        "80 generated tokens after 4 of prompts, 2 layers of experts of 2 MiB to 3 MiB; "
        "lru cache of 15 MiB split by layer"
    )
    assert [line.split()[0] for line in lines[2:5]] == ["layout", "original", "packed"]
    assert "best hits" not in outcome.stdout
    assert "layers.1" in run("simulate", routes, *options, "-v").stdout


def test_prompts(run: Run, routes: str) -> None:
    """A table of their own: time from flash always, with computing where its time is given."""
    options = ("--device", "ufs4-oneplus15r", "--prefill-chunk", "2")
    (table,) = [part for part in run("simulate", routes, *options).stdout.split("\n\n") if part.startswith("prompts")]
    header, *rows = table.splitlines()
    assert header.split("  ")[0] == "prompts"
    assert [row.split()[:2] for row in rows] == [["original", "2.00"], ["packed", "2.00"]]
    assert "tokens/s" not in header
    timed = run("simulate", routes, *options, "--prefill-compute-us-per-token", "9ms", "--dram-budget", "3experts")
    assert "tokens/s" in timed.stdout
    assert "each expert of a layer once a chunk" in timed.stdout
    decoded = json.loads(run("simulate", routes, *options, "--json").stdout)
    assert decoded["layouts"][0]["prefill"]["n_chunks"] == 2


def test_page_and_picture(run: Run, routes: str, tmp_path: Path) -> None:
    """Both are written, and are not written over without --force; a trace is never."""
    options = ("--device", "ufs4-oneplus15r", "--html", "page.html", "--svg", "hits.svg")
    assert run("simulate", routes, *options).code == 0
    assert f"ripple-place simulate {routes}" in (tmp_path / "page.html").read_text()
    assert (tmp_path / "hits.svg").read_text().startswith("<svg")
    assert "--force" in run("simulate", routes, *options).stderr
    assert run("simulate", routes, *options, "--force").code == 0
    before = (tmp_path / routes).read_bytes()
    assert run("simulate", routes, "--html", routes, "--force").code == 2
    assert (tmp_path / routes).read_bytes() == before


def test_the_document_says_what_the_table_says(run: Run, routes: str) -> None:
    """Pool, policy, bound, reading ahead and a sweep; of columns without a value there are none."""
    text = "--dram-budget 12MiB --dram-pool --cache s3fifo --bound --prefetch hottest:2 --no-prefill-admission"
    options = (*text.split(), "--layout", "packed", "--sweep", "cache=none,lru", "--request-bytes", "512KiB")
    document = json.loads(run("simulate", routes, *options, "--json").stdout)
    assert (document["unit"], document["cache"], document["capacity_bytes"]) == ("expert", "s3fifo", 12 << 20)
    assert (document["dram_pool"], document["prefill_admitted"], document["prefetch"]) == (True, False, "hottest:2")
    (layout,) = document["layouts"]
    assert layout["request_bytes"] == 512 << 10
    assert layout["tokens_per_s"] is None
    assert layout["cache_hit_ratio_belady"] >= layout["cache_hit_ratio_by_phase"]["decode"]
    assert 0 < layout["prefetch"]["hit_ratio"] < 1
    assert [point["value"] for point in document["sweep"]["points"]] == ["none", "lru"]
    outcome = run("simulate", routes, *options)
    assert "by cache" in outcome.stdout
    assert "are read in vain" in outcome.stdout
    assert "tokens/s" not in outcome.stdout
    assert "counted on the trace itself" in outcome.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--select", "exact"), "--select: found a trace of experts"),
        (("--collapse", "off"), "--collapse: found a trace of experts"),
        (("--system", "neuralink"), "--system: found a trace of experts"),
        (("--dram-budget", "placement"), "found 0 profiles, --dram-budget placement"),
        (("--bundle-bytes", "4KiB,8KiB"), "and one size"),
        (("--overlap", "pipeline"), "--overlap pipeline: found experts"),
    ],
)
def test_options_of_neurons(run: Run, routes: str, options: tuple[str, ...], says: str) -> None:
    """Experts are read whole: such options are refused, and nothing is written."""
    outcome = run("simulate", routes, *options)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert says in outcome.stderr


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--prefetch", "previous"), "--prefetch: found blocks of neurons"),
        (("--compute-us-per-token", "9ms"), "--compute-us-per-token: found blocks of neurons"),
        (("--no-prefill-admission",), "--no-prefill-admission: found blocks of neurons"),
        (("--prefill-chunk", "512"), "--prefill-chunk: found blocks of neurons"),
        (("--prefill-compute-us-per-token", "9ms"), "--prefill-compute-us-per-token: found blocks of neurons"),
        (("--request-bytes", "1MiB"), "--request-bytes: found blocks of neurons"),
        (("--dram-budget", "16experts"), "--dram-budget 16experts: found no budget"),
    ],
)
def test_options_of_experts(run: Run, trace: str, options: tuple[str, ...], says: str) -> None:
    """A trace of neurons has none of these."""
    outcome = run("simulate", trace, "--layout", "original", "--bundle-bytes", "4KiB", *options)
    assert outcome.code == 2
    assert says in outcome.stderr
