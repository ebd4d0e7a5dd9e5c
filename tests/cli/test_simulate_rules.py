"""What ``simulate --select`` prints, and the page it writes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

SIMULATE = ("simulate", "pico.trace.safetensors", "--bundle-bytes", "4KiB", "--layout", "original")


def test_the_table_says_what_speedups_are_against(run: Callable[..., Outcome], trace: str) -> None:
    """As the document and the page do."""
    rule = ("--select", "exact")
    text = run(*SIMULATE, *rule, "--html", "page.html").stdout
    assert "\n\nSpeedup is against original, exact.\n" in text
    assert json.loads(run(*SIMULATE, *rule, "--json").stdout)["baseline"] == "original, exact"
    assert "Speedup is against" not in run(*SIMULATE).stdout


def test_names_of_results_have_the_rule(run: Callable[..., Outcome], trace: str, tmp_path: Path) -> None:
    """In the tables of blocks and of forms, of sweeps and of transfer."""
    text = run(*SIMULATE, "--select", "exact", "-v", "--sweep", "collapse=off,auto", "--transfer").stdout
    assert "\noriginal, exact:\nblock " in text
    assert "\ncollapse   original, exact\n" in text
    assert "\ntrace                    original, exact\n" in text
    assert "\noriginal, exact  " in text
    run(*SIMULATE, "--select", "exact", "--html", "page.html")
    assert "Speedup is against original, exact." in (tmp_path / "page.html").read_text()


def test_reads_of_rules_are_not_replayed(run: Callable[..., Outcome], trace: str) -> None:
    """Refused before anything is simulated."""
    outcome = run(*SIMULATE, "--select", "exact", "--emit-fio", "reads.iolog")
    assert outcome.code == 2
    assert "Leave out --select, or --emit-fio" in outcome.stderr
