"""The page docs/remedies.md: every remedy, the cases that reach it, and whether doing it helps."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from tests.remedies.sites import find_sites

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.remedies.cases import Case

PAGE = Path(__file__).parents[2] / "docs" / "remedies.md"
_HEAD = """# Remedies

Every error ends in a remedy. This page lists each remedy in the code, the cases that reach it, and whether following
it helps. `tests/remedies` holds the cases: each provokes the error, does what the remedy says, and tries again.
`make golden` writes this page. `...` stands for a part that depends on the case.
"""
_COLUMNS = "| in | remedy | case: what is done | does it help |\n|---|---|---|---|\n"


def format_page(cases: Iterable[Case]) -> str:
    """Return the page."""
    by_site: dict[object, list[Case]] = {}
    for case in cases:
        by_site.setdefault(case.site, []).append(case)
    parts = [_HEAD]
    for module, sites in groupby(find_sites(), key=lambda site: site.module):
        rows = [
            f"| `{site.function}` | {_cell(site.remedy)} | {_cell(case.story)} | {_outcome(case)} |\n"
            for site in sites
            for case in by_site.get(site, [])
        ]
        if rows:
            parts += [
                f"\n## {module}\n\n| in | remedy | case: what is done | does it help |\n|---|---|---|---|\n",
                *rows,
            ]
    return "".join(parts)


def _outcome(case: Case) -> str:
    return f"not tried: {_cell(case.untried)}" if case.untried else "yes"


def _cell(text: str) -> str:
    return text.replace("{}", "...").replace("|", "\\|").replace("\n", " ")
