"""A model as a source: where its rows lie, what is resumed, discarded or refused. tests/torch runs real models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.capture import source
from ripple_place.capture.params import DEFAULT_RULE, CaptureParams
from ripple_place.capture.run import Capture
from ripple_place.capture.source import capture_source, fitted_thresholds
from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.tracking import no_track

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "3", '{"layers.0": "x"}', '{"layers.0": NaN}', '{"layers.0": 1' + "0" * 400 + "}"]
)
def test_thresholds_that_are_none(text: str) -> None:
    """A profile is continued by what its metadata say: that must be numbers."""
    block = BlockTrace(8, np.ones((3, 1), np.uint8))
    trace = ActivationTrace({"layers.0": block}, 3, np.zeros(1, np.int64), None, {"thresholds": text})
    with pytest.raises(TraceFormatError, match=r"p: thresholds: found .*expected a number for each block"):
        fitted_thresholds("p", trace)


def test_thresholds() -> None:
    """None where nothing was fitted."""
    block = BlockTrace(8, np.ones((3, 1), np.uint8))
    for metadata, expected in (({}, None), ({"thresholds": '{"layers.0": 0.5}'}, {"layers.0": 0.5})):
        trace = ActivationTrace({"layers.0": block}, 3, np.zeros(1, np.int64), None, metadata)
        assert fitted_thresholds("p", trace) == expected


def trace_by(rule: str, **metadata: str) -> ActivationTrace:
    """Return a trace that was recorded by some rule."""
    block = BlockTrace(8, np.ones((3, 1), np.uint8))
    return ActivationTrace({"layers.0": block}, 3, np.zeros(1, np.int64), None, {"activity": rule, **metadata})


class Runs:
    """Stands in for `run_capture`: records how it was called, and fails on request."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.error: BaseException | None = None

    def __call__(self, model: Path, params: CaptureParams, directory: Path, **options: Any) -> Capture:
        """Take the place of `run_capture`."""
        directory.mkdir(exist_ok=True)
        self.calls.append({"model": model, "directory": directory, **options})
        if self.error is not None:
            raise self.error
        return Capture(
            trace_by(str(params.rule or DEFAULT_RULE)), directory, None, None, layer_by_layer=False, n_resumed=0
        )


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """Return what takes the place of running a model, and of the packages that it needs."""
    runs = Runs()
    monkeypatch.setattr(source, "run_capture", runs)
    monkeypatch.setattr(source, "require_capture_extra", lambda model: None)
    return runs


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Return a directory that looks like a checkpoint."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    return tmp_path / "model"


PARAMS = CaptureParams("wiki.txt")


def record(
    model: Path, *, params: CaptureParams | None = PARAMS, earlier: ActivationTrace | None = None, append: bool = False,
    force: bool = False,
) -> Capture:  # fmt: skip
    """Capture for the profile ``p`` beside the model."""
    out = model.with_name("p")
    return capture_source([model], params, out, earlier, append=append, force=force, track=no_track)


def test_a_capture_lies_beside_the_profile(model: Path, runs: Runs) -> None:
    """Nothing to resume, nothing to be consistent with; the directory is the caller's to remove."""
    done = record(model)
    assert done.directory == model.with_name("p.partial")
    assert runs.calls == [
        {"model": model, "directory": done.directory, "resume": False, "thresholds": None, "track": no_track}
    ]
    done.remove_files()
    assert not done.directory.exists()


def test_an_interrupted_capture_is_not_overwritten_unasked(model: Path, runs: Runs) -> None:
    """What lies there may be hours of work: --append goes on with it, --force discards it."""
    model.with_name("p.partial").mkdir()
    with pytest.raises(UsageError, match=r"p.partial: found an interrupted capture; expected none"):
        record(model)
    record(model, append=True)
    record(model, force=True)
    assert [call["resume"] for call in runs.calls] == [True, False]


@pytest.mark.parametrize(("resumed", "left"), [(False, False), (True, True)])
def test_after_an_error_only_a_resumed_capture_stays(model: Path, runs: Runs, resumed: bool, left: bool) -> None:
    """A capture that could not start leaves nothing; what an earlier one did is kept."""
    if resumed:
        model.with_name("p.partial").mkdir()
    runs.error = UsageError("--text", found="nothing", expected="text", remedy="give some")
    with pytest.raises(UsageError, match="--text"):
        record(model, append=resumed)
    assert model.with_name("p.partial").exists() == left


def test_ctrl_c_leaves_what_was_done(model: Path, runs: Runs) -> None:
    """An interruption is no error: the rows are there for the next run."""
    runs.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        record(model)
    assert model.with_name("p.partial").exists()


def test_a_profile_is_continued_by_its_own_rule_and_thresholds(model: Path, runs: Runs) -> None:
    """Rows by another rule would not be of the same kind; thresholds are those of the first text."""
    params = CaptureParams("wiki.txt", rule=ActivityRule.parse("teal=50%"))
    record(model, params=params, earlier=trace_by("teal=50%", thresholds='{"layers.0": 0.25}'), append=True)
    assert runs.calls[0]["thresholds"] == {"layers.0": 0.25}
    with pytest.raises(UsageError, match=r"p --append: found a profile by the rule 'relu'; expected teal=50%"):
        record(model, params=params, earlier=trace_by("relu"), append=True)


def test_what_a_model_needs(model: Path, runs: Runs) -> None:
    """A config, a text, and to be the only one."""
    with pytest.raises(UsageError, match="found a model and no text"):
        record(model, params=None)
    with pytest.raises(UsageError, match="found several models; expected one"):
        capture_source([model, model], PARAMS, model, None, append=False, force=False, track=no_track)
    (model / "config.json").unlink()
    with pytest.raises(UsageError, match=r"found a directory without config\.json"):
        record(model)
    assert runs.calls == []
