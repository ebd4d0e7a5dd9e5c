"""``--family``: every command that reads the tensors of a model takes the same file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ripple_place.checkpoint.model.ffn import open_model
from ripple_place.placement import write_placement
from tests.builders import contents, llama_config, llama_tensors, random_placement, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]

EXAMPLE = (Path(__file__).parents[2] / "docs" / "families.md").read_text().split("```toml\n")[1].split("```")[0]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a model of a type that no shipped family knows, with a placement and the file that describes it."""
    (tmp_path / "mine.toml").write_text(EXAMPLE)
    path = write_checkpoint(tmp_path / "model", llama_tensors(), llama_config(model_type="my_model"))
    write_placement(tmp_path / "p.placement", random_placement(open_model(path, tmp_path / "mine.toml")))
    return path


def test_from_reorder_to_restore(run: Run, model: Path) -> None:
    """A file of one's own, or a shipped family by name, carries a model through all commands."""
    apply = ("reorder", "model", "--placement", "p.placement")
    refused = run(*apply, "--out", "out")
    assert refused.code == 3
    assert "add --family llama; else write a family file" in refused.stderr
    for family in ("mine.toml", "llama"):
        assert run(*apply, "--out", f"out-{family}", "--family", family).code == 0
        assert run("verify", "model", f"out-{family}").code == 3
        proof = run("verify", "model", f"out-{family}", "--family", family, "--restore", f"again-{family}")
        assert proof.code == 0, proof.stderr
        assert contents(Path(f"again-{family}")) == contents(model)
        assert run("verify", f"out-{family}", "--restore", f"alone-{family}", "--family", family).code == 0


def test_a_profile_asks_before_the_model_runs(run: Run, model: Path) -> None:
    """What `reorder` would refuse is refused before hours are spent."""
    Path("wiki.txt").write_text("text")
    outcome = run("profile", "model", "--text", "wiki.txt", "--out", "p", "--family", "gpt2")
    assert outcome.code == 1
    assert "found no FFN tensors" in outcome.stderr
