"""docs/python.md: its example runs as it stands, and its reference names what there is."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import fields
from pathlib import Path

import pytest

import ripple_place
from ripple_place.flash.results import LayoutResult
from ripple_place.generation.report import OutputRun, RunReport
from ripple_place.generation.step import Step
from ripple_place.placing.block_report import BlockReport
from ripple_place.placing.reorder_report import ReorderReport
from ripple_place.scoring.report import SimulateReport
from ripple_place.scoring.system_result import SystemResult
from ripple_place.scoring.systems import SystemScores
from ripple_place.workflows.pack import PackReport
from ripple_place.workflows.profile import ProfileReport
from ripple_place.workflows.verify import VerifyReport

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "python.md").read_text()
PARAMS = [name for name in ripple_place.__all__ if name.endswith(("Params", "Extras", "Conditions"))]
RESULTS = (
    ProfileReport, ReorderReport, BlockReport, PackReport, SimulateReport, LayoutResult, SystemScores, SystemResult,
    RunReport, OutputRun, Step, VerifyReport,
)  # fmt: skip


def test_the_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a directory with the examples: ten lines beside the import, and what they print makes sense."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    example = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1]  # type: ignore[index]
    assert len([line for line in example.splitlines() if line and not line.startswith("import")]) == 10
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, "docs/python.md", "exec"), {})
    last = printed.getvalue().splitlines()[-1]
    before, after, n_permuted = map(int, re.fullmatch(r"(\d+) us a token before, (\d+) us after; (\d+)", last).groups())  # type: ignore[union-attr]
    assert after < before
    assert n_permuted > 0


def test_every_public_name_is_documented() -> None:
    """And every documented function is there."""
    for name in set(ripple_place.__all__) - {"__version__"}:
        assert re.search(rf"`{name}\b", TEXT), name
        assert getattr(ripple_place, name).__doc__, name
    for name in re.findall(r"^\| `(\w+)\(", TEXT, re.MULTILINE):
        assert callable(getattr(ripple_place, name))


@pytest.mark.parametrize(
    "documented", [*(getattr(ripple_place, name) for name in PARAMS), *RESULTS], ids=lambda of: of.__name__
)
def test_every_field_is_documented(documented: type) -> None:
    """Neither more nor fewer, in the row of the class."""
    row = re.search(rf"^\| `{documented.__name__}`.*", TEXT, re.MULTILINE)
    assert row is not None
    cell = row[0].split("|")[-2].partition(";")[0]
    assert re.findall(r"`(\w+)`", cell) == [field.name for field in fields(documented)]


def test_unknown_names_are_refused() -> None:
    """As by any module; and the names that there are can be listed."""
    with pytest.raises(AttributeError, match="no attribute 'reordr'"):
        ripple_place.reordr  # noqa: B018
    assert set(ripple_place.__all__) <= set(dir(ripple_place))
