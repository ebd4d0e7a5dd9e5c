"""Proof and restoration in one call; what is proved is tested in tests/checkpoint."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ripple_place.errors import UsageError
from ripple_place.workflows.reorder import reorder
from ripple_place.workflows.verify import verify

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def out(tmp_path: Path, pico_opt: Path, profile_path: Path) -> Path:
    """Return the pico OPT model, reordered."""
    reorder(pico_opt, profile_path, tmp_path / "out")
    return tmp_path / "out"


@pytest.mark.parametrize("kind", ["path", "text"])
def test_proof_and_restoration(tmp_path: Path, pico_opt: Path, out: Path, kind: str) -> None:
    """One call does both, on paths and on text; the document has what each of them says."""
    convert: Callable[[Path], Path | str] = str if kind == "text" else lambda path: path
    report = verify(convert(pico_opt), convert(out), restore_to=convert(tmp_path / "back"))
    assert report.verification is not None
    assert report.restored is not None
    document = report.to_json()
    assert list(document) == [
        "checkpoint", "out", "tensors_permuted", "tensors_untouched", "bytes_compared", "checks", "restored",
    ]  # fmt: skip
    assert document["tensors_permuted"] == report.verification.n_permuted > 0
    assert document["restored"]["directory"] == str(tmp_path / "back")
    for path in (path for path in pico_opt.rglob("*") if path.is_file()):
        assert (tmp_path / "back" / path.relative_to(pico_opt)).read_bytes() == path.read_bytes()


def test_restoration_alone(tmp_path: Path, out: Path) -> None:
    """The original is not needed."""
    report = verify(None, out, restore_to=tmp_path / "back")
    assert report.verification is None
    assert list(report.to_json()) == ["out", "restored"]
    assert report.to_json()["restored"]["files"] == sum(path.is_file() for path in (tmp_path / "back").rglob("*"))


def test_proof_alone(tmp_path: Path, pico_opt: Path, out: Path) -> None:
    """Nothing is written."""
    before = sorted(tmp_path.iterdir())
    report = verify(pico_opt, out)
    assert report.restored is None
    assert "restored" not in report.to_json()
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("options", [{}, {"logits": True, "restore_to": "back"}, {"adapter": "a", "restore_to": "b"}])
def test_without_a_checkpoint_there_is_nothing_to_prove(out: Path, options: dict[str, object]) -> None:
    """Logits are those of two models, and originals are compared with those of a checkpoint."""
    with pytest.raises(UsageError, match="verify: found no checkpoint to compare with"):
        verify(None, out, **options)  # type: ignore[arg-type]
