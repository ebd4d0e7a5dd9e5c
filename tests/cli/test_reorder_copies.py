"""``reorder --copies``: what is printed, what is refused, and how simulate says that it reads from either copy."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.builders import opt_config, opt_tensors, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]

COST = ("--ordering", "flash-time", "--break-even-gap", 2, "--effort", 1, "--copies", 2)


def test_what_is_printed(run: Run, trace: str, profile: str) -> None:
    """A row a block, what it buys for how much flash, and the same in JSON; simulate says which layout has two."""
    outcome = run("reorder", "--profile", profile, "--out", "p", *COST, "--bundle-bytes", "4KiB")
    assert outcome.code == 0, outcome.stderr
    table = next(part for part in outcome.stdout.split("\n\n") if "two copies" in part)
    assert [line.split()[0] for line in table.splitlines()] == ["block", "layers.0", "layers.1"]
    assert table.startswith("block     held out: cost/token, one copy  two copies  change")
    line = r"Copies: cost/token on the 38 tokens held out is [\d.]+ from one copy, [\d.]+ from two: [\d.]+% less "
    assert re.search(line + r"for 192 KiB more flash, [\d.]+% per MiB\.\n", outcome.stdout)
    unsized = run("reorder", "--profile", profile, "--out", "q", *COST)
    assert "% less; without --bundle-bytes, how much flash that takes is unknown." in unsized.stdout
    document = json.loads(run("reorder", "--profile", profile, "--out", "r", *COST, "--json").stdout)
    assert document["copies"]["cost_per_token"]["two"] <= document["copies"]["cost_per_token"]["one"]
    assert (document["copies"]["extra_bytes"], document["copies"]["gain_per_gib"]) == (None, None)

    scored = run("simulate", trace, "--layout", "original", "--layout", "p")
    assert scored.stdout.splitlines()[0].endswith("; p read from either of two copies")
    assert "copies" not in run("simulate", trace, "--layout", "original", "--bundle-bytes", "4KiB").stdout
    refused = run("simulate", trace, "--layout", "p", "--collapse", "optimal")
    assert refused.code == 2
    assert "--collapse optimal: found a layout with two copies of its neurons" in refused.stderr


def test_the_default_device(run: Run, profile: str) -> None:
    """A second copy is made for a cost: without another, that of the default device."""
    outcome = run("reorder", "--profile", profile, "--out", "p", "--copies", 2, "--effort", 1, "--bundle-bytes", "4KiB")
    assert outcome.code == 0, outcome.stderr
    assert "Copies: cost/token on the 38 tokens held out" in outcome.stdout


def test_pictures(run: Run, trace: str, profile: str) -> None:
    """Both copies are drawn, one behind the other."""
    assert run("reorder", "--profile", profile, "--out", "p", *COST, "--bundle-bytes", "4KiB").code == 0
    outcome = run("simulate", trace, "--layout", "p", "--html", "page.html", "--svg", "reads.svg", "--collapse", 1)
    assert outcome.code == 0, outcome.stderr


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (
            ("--format", "drop-in"),
            "--copies 2: found formats drop-in; expected 1 copy, or 2 in the bundled format. Add ",
        ),
        (("--copies", 3), "Invalid value for '--copies': 3 is not in the range 1<=x<=2"),
    ],
)
def test_usage_errors(run: Run, tmp_path: Path, profile: str, options: tuple[object, ...], match: str) -> None:
    """Exit code 2, and what to write instead, before anything is ordered."""
    write_checkpoint(tmp_path / "m", opt_tensors(), opt_config())
    outcome = run("reorder", "m", "--profile", profile, "--out", "out", *COST, *options)
    assert outcome.code == 2
    assert match in outcome.stderr
    assert not (tmp_path / "out").exists()
