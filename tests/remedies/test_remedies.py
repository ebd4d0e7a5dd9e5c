"""Every remedy in the code is reached by a case, and doing it helps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.golden_files import check_file
from tests.remedies.cases import Case, all_cases, walk
from tests.remedies.page import PAGE, format_page
from tests.remedies.sites import HOLE, find_sites

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "case", [case for case in all_cases() if not case.needs_torch], ids=lambda case: f"{case.where}-{case.story}"
)
def test_doing_it_helps(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The case ends at the site that it names; what the remedy says is done; the error is gone."""
    monkeypatch.chdir(tmp_path)
    walk(case, tmp_path)


def test_every_remedy_has_a_case() -> None:
    """A new error needs a case that reaches it."""
    covered = {case.site for case in all_cases()}
    bare = [site for site in find_sites() if site not in covered]
    assert not bare, "\n".join(f"{site.where}: {site.said}. {site.remedy}" for site in bare)


def test_every_remedy_can_be_read_off_the_code() -> None:
    """What is computed by means that `tests.remedies.sites` does not follow would be a hole and nothing else."""
    assert not [site for site in find_sites() if not site.remedy.replace(HOLE, "").strip(" ;:,.")]


def test_every_case_tells_its_story() -> None:
    """On the page, a colon parts the case from what is done."""
    assert not [case.story for case in all_cases() if not case.untried and ": " not in case.story]


def test_the_page_is_up_to_date() -> None:
    """docs/remedies.md lists the remedies as they are; `make golden` writes it."""
    check_file(PAGE, format_page(all_cases()).encode())
