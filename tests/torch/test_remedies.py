"""The remedies that only a real model reaches: doing each helps."""

import pytest

from tests.remedies.cases import all_cases, walk


@pytest.mark.parametrize(
    "case", [case for case in all_cases() if case.needs_torch], ids=lambda case: f"{case.where}-{case.story}"
)
def test_doing_it_helps(case, tmp_path, monkeypatch):
    """As tests/remedies walks the others."""
    monkeypatch.chdir(tmp_path)
    walk(case, tmp_path)
