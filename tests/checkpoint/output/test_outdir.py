"""The output directory: apart from the source, whole or absent, and never somebody else's."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ripple_place.checkpoint import rewrite as rewrite_module
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.outdir import replacing_directory
from ripple_place.checkpoint.output.plan import RewritePlan, plan_rewrite
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import UsageError, VerificationError
from tests.builders import contents, random_placement

if TYPE_CHECKING:
    from pathlib import Path


def plan(source: Path, out: Path, *, seed: int = 1, force: bool = False) -> RewritePlan:
    """Plan a random rewrite."""
    model = describe_ffn(Checkpoint.open(source))
    return plan_rewrite(model, random_placement(model, seed=seed), out, force=force)


@pytest.mark.parametrize("where", ["pico-opt", "pico-opt/inside", ".", "linked"])
def test_source_and_output_are_apart(pico_opt: Path, tmp_path: Path, where: str) -> None:
    """Not even under another name may the output touch the source."""
    (tmp_path / "linked").symlink_to(pico_opt)
    with pytest.raises(UsageError, match="expected an output apart from the source"):
        plan(pico_opt, tmp_path / where, force=True)


def test_force_replaces_an_output(pico_opt: Path, tmp_path: Path) -> None:
    """An existing output is refused, or replaced without a trace."""
    out = tmp_path / "out"
    execute(plan(pico_opt, out))
    with pytest.raises(UsageError, match=r"there already.*--force"):
        plan(pico_opt, out)
    before = contents(out)
    execute(plan(pico_opt, out, seed=2, force=True))
    assert contents(out).keys() == before.keys()
    assert contents(out) != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pico-opt"]


def test_force_replaces_nothing_else(pico_opt: Path, tmp_path: Path) -> None:
    """A mistyped --out must not cost a home directory."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("")
    with pytest.raises(UsageError, match="no output of ours"):
        plan(pico_opt, tmp_path / "home", force=True)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="no output of ours"):
        plan(pico_opt, tmp_path / "file", force=True)


def test_an_output_that_appeared_meanwhile(pico_opt: Path, tmp_path: Path) -> None:
    """Checked again before anything is written."""
    planned = plan(pico_opt, tmp_path / "out")
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="there already"):
        execute(planned)


def test_an_error_leaves_nothing(pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old output stays as it was when the new one fails."""
    out = tmp_path / "out"
    execute(plan(pico_opt, out))
    before = contents(out)

    def fail(*arguments: object) -> None:
        raise OSError(5, "storage is on fire")

    monkeypatch.setattr(rewrite_module, "placement_pieces", fail)
    with pytest.raises(OSError, match="on fire"):
        execute(plan(pico_opt, out, seed=2, force=True))
    assert contents(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pico-opt"]


def test_what_does_not_verify_does_not_appear(pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that forgets to permute is found out, though it writes a sound file."""

    def forget(source: object, order: object, out: object) -> None:
        out[:] = source  # type: ignore[index]

    monkeypatch.setattr("ripple_place.checkpoint.output.permute.gather_columns", forget)
    with pytest.raises(VerificationError, match=r"fc2.weight: found other weights for neuron \d+"):
        execute(plan(pico_opt, tmp_path / "out"))
    assert not list(tmp_path.glob("out*"))
    assert execute(plan(pico_opt, tmp_path / "out"), verify=False) is None


def test_a_killed_run_is_replaced(pico_opt: Path, tmp_path: Path) -> None:
    """What a kill or Ctrl-C leaves is ours, and the next run starts over."""
    with suppress(KeyboardInterrupt), replacing_directory(tmp_path / "out") as partial:
        (partial / "half").write_text("x")
        raise KeyboardInterrupt
    assert (tmp_path / "out.partial" / "half").exists()
    execute(plan(pico_opt, tmp_path / "out"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pico-opt"]
    assert not (tmp_path / "out" / "half").exists()


def test_a_partial_directory_that_is_not_ours(tmp_path: Path) -> None:
    """Nothing that we did not write is removed."""
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.partial" / "letter").write_text("")
    with pytest.raises(UsageError, match="not ours"), replacing_directory(tmp_path / "out"):
        pass
    assert (tmp_path / "out.partial" / "letter").exists()


def test_two_writers(tmp_path: Path) -> None:
    """A second process is told to wait instead of emptying the directory under the first."""
    script = (
        "import sys; from pathlib import Path\n"
        "from ripple_place.checkpoint.output.outdir import replacing_directory as r\n"
        "try:\n    with r(Path(sys.argv[1])): pass\nexcept Exception as error: print(error)"
    )
    with replacing_directory(tmp_path / "out") as partial:
        second = subprocess.run(
            [sys.executable, "-c", script, str(tmp_path / "out")], capture_output=True, text=True, check=True
        )
        assert "another process writing it" in second.stdout
        assert (partial / "ripple_place").is_dir()
    assert (tmp_path / "out").is_dir()
