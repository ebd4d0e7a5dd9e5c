"""Files beside the model that it does not need: declared, hashed, kept over a kill, and none where none are wanted."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from safetensors.numpy import save

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import (
    ADDITIONS,
    COMPENSATION_FILE,
    JOURNAL_FILE,
    MANIFEST_FILE,
    PLACEMENT_FILE,
    PLAN_FILE,
    PREDICTORS_FILE,
    SELECTION_FILE,
)
from ripple_place.checkpoint.output.additions import Addition
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.output.plan import RewritePlan, plan_rewrite
from ripple_place.checkpoint.proof.verify import ADDED, verify
from ripple_place.checkpoint.restore import restore
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import UsageError, VerificationError
from ripple_place.predict.files import predictors_content
from tests.builders import adjust_manifest, contents, random_placement
from tests.failing_call import FailingCall
from tests.predict.builders import predictor_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = {
    SELECTION_FILE: b'{"rules": []}\n', COMPENSATION_FILE: save({}),
    PREDICTORS_FILE: predictors_content(predictor_of()), PLAN_FILE: b'{"format": "ripple-place.plan/1"}\n',
}  # fmt: skip


def plan(source: Path, out: Path, additions: dict[str, bytes] | None = None) -> RewritePlan:
    """Plan a rewrite with additions."""
    model = describe_ffn(Checkpoint.open(source))
    planned = plan_rewrite(model, random_placement(model), out)
    if additions is None:
        return planned
    return replace(planned, additions={name: Addition.of_bytes(content) for name, content in additions.items()})


@pytest.fixture
def out(pico_opt: Path, tmp_path: Path) -> Path:
    """Return an output with additions."""
    execute(plan(pico_opt, tmp_path / "out", FILES))
    return tmp_path / "out"


def test_they_are_declared_and_proved(pico_opt: Path, out: Path) -> None:
    """The manifest names them and has their hashes; verification counts them and holds anywhere."""
    for name, content in FILES.items():
        assert (out / name).read_bytes() == content
    document = read_manifest(out).document
    assert document["additions"] == ADDITIONS
    assert document["files"].keys() >= FILES.keys()
    assert verify(pico_opt, out).checks[ADDED] == 4
    assert ADDED in {check["check"] for check in document["checks"]}


def test_nothing_else_changes(pico_opt: Path, out: Path, tmp_path: Path) -> None:
    """All other files are those of a run without additions, whose manifest does not speak of any."""
    execute(plan(pico_opt, tmp_path / "plain"))
    plain, with_them = contents(tmp_path / "plain"), contents(out)
    assert with_them.keys() - plain.keys() == FILES.keys()
    assert [name for name in plain if plain[name] != with_them[name]] == [MANIFEST_FILE]
    assert "additions" not in read_manifest(tmp_path / "plain").document
    execute(plan(pico_opt, tmp_path / "none", {}))
    assert contents(tmp_path / "none") == plain


def test_one_alone(pico_opt: Path, tmp_path: Path) -> None:
    """The manifest names what there is."""
    execute(plan(pico_opt, tmp_path / "out", {SELECTION_FILE: b"{}"}))
    assert read_manifest(tmp_path / "out").document["additions"] == {SELECTION_FILE: "selection"}
    assert verify(pico_opt, tmp_path / "out").checks[ADDED] == 1


def torn(out: Path) -> None:
    """Make the vectors no safetensors file, and the manifest agree."""
    (out / COMPENSATION_FILE).write_bytes(b"none")
    adjust_manifest(out)


@pytest.mark.parametrize(
    "harm",
    [
        lambda out: (out / SELECTION_FILE).write_bytes(b'{"rules": [] }\n'),
        lambda out: (out / COMPENSATION_FILE).write_bytes(FILES[COMPENSATION_FILE] + b" "),
        lambda out: (out / PREDICTORS_FILE).write_bytes(predictors_content(predictor_of(seed=1))),
        lambda out: (out / SELECTION_FILE).unlink(),
        lambda out: (out / PREDICTORS_FILE).unlink(),
        lambda out: (out / COMPENSATION_FILE).unlink(),
        lambda out: (out / PLAN_FILE).unlink(),
        lambda out: (out / PLAN_FILE).write_bytes(FILES[PLAN_FILE] + b" "),
        lambda out: (out / "ripple_place" / "more.json").write_text("{}"),
        lambda out: adjust_manifest(out, additions={SELECTION_FILE: "selection"}),
        lambda out: adjust_manifest(out, additions={}),
        lambda out: adjust_manifest(out, additions={**ADDITIONS, "ripple_place/more.json": "more"}),
        lambda out: adjust_manifest(out, additions={**ADDITIONS, SELECTION_FILE: "compensation"}),
        lambda out: adjust_manifest(out, additions={"config.json": "selection"}),
        lambda out: adjust_manifest(out, additions={SELECTION_FILE: ["selection"]}),
        lambda out: adjust_manifest(out, additions=[*ADDITIONS]),
        lambda out: adjust_manifest(out, additions=None),
        torn,
    ],
)
def test_what_is_changed_is_found(pico_opt: Path, out: Path, harm: Callable[[Path], object]) -> None:
    """Changed, removed, undeclared or declared as something else."""
    harm(out)
    with pytest.raises(VerificationError):
        verify(pico_opt, out)


def test_undeclared(pico_opt: Path, tmp_path: Path) -> None:
    """An output without additions, into which someone put some."""
    execute(plan(pico_opt, tmp_path / "out"))
    (tmp_path / "out" / SELECTION_FILE).write_bytes(FILES[SELECTION_FILE])
    with pytest.raises(VerificationError, match=r"selection\.json"):
        verify(pico_opt, tmp_path / "out")


def test_the_original_comes_back(pico_opt: Path, out: Path, tmp_path: Path) -> None:
    """Without them."""
    restore(out, tmp_path / "again")
    assert contents(tmp_path / "again") == contents(pico_opt)


def forge(partial: Path, name: str) -> None:
    """Change a finished file, and its line in the journal with it."""
    content = predictors_content(predictor_of(seed=1))
    before = hashlib.sha256((partial / name).read_bytes()).hexdigest()
    (partial / name).write_bytes(content)
    *head, rest = (partial / JOURNAL_FILE).read_text().partition("\n")
    (partial / JOURNAL_FILE).write_text("".join(head) + rest.replace(before, hashlib.sha256(content).hexdigest()))


def test_a_kill(pico_opt: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written of them stays for --resume, which refuses other ones: they are part of what a run is."""
    with monkeypatch.context() as patched:
        patched.setattr("ripple_place.checkpoint.rewrite.seal_output", FailingCall(print, 1, KeyboardInterrupt()))
        with pytest.raises(KeyboardInterrupt):
            execute(plan(pico_opt, tmp_path / "out", FILES))
    partial = tmp_path / "out.partial"
    journal = (partial / JOURNAL_FILE).read_text()
    assert all(journal.count(f'"{name}"') == 2 for name in FILES), "in the head, and as written"
    inodes = {name: (partial / name).stat().st_ino for name in (*FILES, PLACEMENT_FILE)}
    for other in (None, {**FILES, SELECTION_FILE: b"other"}):
        with pytest.raises(UsageError, match=r"out\.partial"):
            execute(plan(pico_opt, tmp_path / "out", other), resume=True)
    (partial / COMPENSATION_FILE).write_bytes(b"torn")
    forge(partial, PREDICTORS_FILE)
    execute(plan(pico_opt, tmp_path / "out", FILES), resume=True)
    assert (tmp_path / "out" / SELECTION_FILE).stat().st_ino == inodes[SELECTION_FILE]
    assert (tmp_path / "out" / COMPENSATION_FILE).read_bytes() == FILES[COMPENSATION_FILE]
    assert (tmp_path / "out" / PREDICTORS_FILE).read_bytes() == FILES[PREDICTORS_FILE]
    execute(plan(pico_opt, tmp_path / "whole", FILES))
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")
