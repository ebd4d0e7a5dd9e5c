"""``ripple-place reorder`` for a DRAM budget, and its comparison of orderings: what is printed and recorded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.ordering.registry import compared_orderings, plain_orderings
from tests.trace_builders import write_stock_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]

COST = ("--ordering", "flash-time", "--break-even-gap", 3, "--effort", 2)


def test_for_a_budget(run: Run, trace: str, profile: str) -> None:
    """The table says how much of each block is in DRAM, the lines below how it was split; -v what was tried."""
    outcome = run("reorder", "--profile", profile, "--out", "p", *COST, "--dram-budget", "25%", "--cache", "pinned",
                  "--bundle-bytes", "4KiB", "-v")  # fmt: skip
    assert outcome.code == 0, outcome.stderr
    header = outcome.stdout.splitlines()[0].split("  ")
    assert "in DRAM" in [cell.strip() for cell in header]
    assert "tried behind the cache" in outcome.stdout
    assert "Cost: lambda x reads + neurons read, behind the pinned cache" in outcome.stdout
    assert "DRAM: 25.0%, pinned, split " in outcome.stdout
    quiet = run("reorder", "--profile", profile, "--out", "q", *COST, "--dram-budget", "96KiB", "--cache", "auto",
                "--bundle-bytes", "4KiB")  # fmt: skip
    assert "tried behind the cache" not in quiet.stdout
    assert "DRAM: 96 KiB, " in quiet.stdout
    assert "Policies before ordering for them, cost/token held out: lru " in quiet.stdout

    scored = run("simulate", trace, "--layout", "original", "--layout", "p", "--dram-budget", "placement")
    assert scored.code == 0, scored.stderr
    assert "pinned cache of 25.0% of the neurons, split as p records" in scored.stdout
    warned = run("simulate", trace, "--layout", "p")
    assert "Warning: p was made for DRAM under pinned and is scored without it" in warned.stderr


def test_the_comparison(run: Run, profile: str) -> None:
    """Orderings by DRAM, in flash time with a device, in cost with a break-even gap; the gain in a sentence."""
    outcome = run("reorder", "--profile", profile, "--out", "p", *COST)
    rows = [line.split() for line in outcome.stdout.split("\n\n")[1].splitlines()]
    assert [row[0] for row in rows[1:-1]] == [
        name for name in compared_orderings() if name in (*plain_orderings(), "flash-time")
    ]
    assert all(len(row) == 5 for row in rows[1:-1])
    assert rows[0][:4] == ["cost/token", "no", "DRAM", "hottest"]
    assert " ".join(rows[-1]).startswith("On the 38 tokens held out, all blocks. Beyond frequency order, ")
    timed = run("reorder", "--profile", profile, "--out", "q", "--compare", "--effort", 1, "--bundle-bytes", "4KiB")
    assert timed.code == 0, timed.stderr
    assert "flash time/token" in timed.stdout
    assert " us" in timed.stdout
    assert "flash time/token" not in run("reorder", "--profile", profile, "--out", "r").stdout


def test_json(run: Run, profile: str) -> None:
    """New keys beside the old ones; null where there is no budget and no comparison."""
    document = json.loads(run("reorder", "--profile", profile, "--out", "p", "--json").stdout)
    assert (document["dram"], document["orderings"]) == (None, None)
    assert document["blocks"]["layers.0"]["tried"] == []
    document = json.loads(
        run("reorder", "--profile", profile, "--out", "q", *COST, "--dram-budget", "25%", "--json").stdout
    )
    assert document["dram"].keys() == {
        "cache", "budget_bytes", "budget_share", "capacity_neurons", "split", "held_out_by_split", "held_out_by_cache",
    }  # fmt: skip
    assert document["dram"]["cache"] == "s3fifo"
    assert document["orderings"]["dram_shares"] == [0, 0.05, 0.1, 0.2]
    assert document["blocks"]["layers.0"].keys() >= {"note", "capacity_neurons", "n_pinned", "tried"}


def test_a_block_that_cannot_be_helped(run: Run, tmp_path: Path) -> None:
    """The report says so, and why."""
    active = np.random.default_rng(0).random((200, 24)) < 0.6
    write_stock_trace(tmp_path / "dense.trace.safetensors", {"layers.0": active})
    assert run("profile", "dense.trace.safetensors", "--out", "dense").code == 0
    outcome = run("reorder", "--profile", "dense", "--out", "p", *COST)
    share = 100 * active.mean()
    assert f"layers.0: placement cannot help: {share:.0f} % of its neurons are active." in outcome.stdout


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("--cache", "lru"), "--cache lru: found no DRAM budget; expected one. Add --dram-budget 10%"),
        (("--dram-budget", "10%", "--cache", "arc"), "cache arc: found no policy by that name"),
        (("--dram-budget", "1MiB", *COST), "nothing that says how long a neuron's weights are"),
        (("--dram-budget", "10%"), "--dram-budget: found nothing that says what a read costs"),
        (("--dram-budget", "placement"), "Invalid value for '--dram-budget'"),
    ],
)
def test_usage_errors(run: Run, profile: str, options: tuple[str, ...], match: str) -> None:
    """Exit code 2, and what to write instead."""
    outcome = run("reorder", "--profile", profile, "--out", "p", *options)
    assert outcome.code == 2
    assert match in outcome.stderr
