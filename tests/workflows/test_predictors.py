"""Predictors of a profile on their way: into a reordered model, through its proof, and out in another tool's layout."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np
import pytest

from ripple_place.checkpoint.names import PREDICTORS_FILE
from ripple_place.checkpoint.writing import WritingParams
from ripple_place.errors import CheckpointError, TraceFormatError, UnsupportedError, UsageError
from ripple_place.placing.params import PlacingParams
from ripple_place.predict.files import predictors_content, read_predictors
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import reorder
from ripple_place.workflows.verify import verify
from tests.builders import contents
from tests.predict.builders import add_predictor, predictor_of
from tests.trace_builders import write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.predict.predictor import ModelPredictor

FREQUENCY = PlacingParams(ordering="frequency")


@pytest.fixture
def predicting(profile_path: Path) -> Path:
    """Return a profile with predictors."""
    return add_predictor(profile_path)


@pytest.mark.parametrize("layers", [None, "1"])
def test_reorder_writes_and_verify_proves_them(
    tmp_path: Path, pico_opt: Path, predicting: Path, layers: str | None
) -> None:
    """Of all blocks, those that were not selected in original order."""
    report = reorder(pico_opt, predicting, tmp_path / "out", PlacingParams(ordering="frequency", layers=layers))
    content = (tmp_path / "out" / PREDICTORS_FILE).read_bytes()
    assert report.plan is not None
    assert content == predictors_content(predictor_of().in_orders(report.plan.orders))
    assert report.to_json()["bytes_of_predictors"] == len(content)
    proof = verify(pico_opt, tmp_path / "out", profile=predicting, restore_to=tmp_path / "back")
    assert proof.verification is not None
    assert proof.verification.checks["predictors equal the profile's, in the new order"] == 2
    assert contents(tmp_path / "back") == contents(pico_opt)
    assert list(read_predictors(tmp_path / "out" / PREDICTORS_FILE, CheckpointError).blocks) == ["layers.0", "layers.1"]


def test_a_plan_counts_them(tmp_path: Path, pico_opt: Path, predicting: Path) -> None:
    """A dry run says how long the file will be, and writes nothing."""
    report = reorder(pico_opt, predicting, tmp_path / "out", FREQUENCY, WritingParams(dry_run=True))
    assert report.to_json()["bytes_of_predictors"] == len(predictors_content(predictor_of()))
    assert not (tmp_path / "out").exists()


def test_without_predictors_there_is_no_file(tmp_path: Path, pico_opt: Path, profile_path: Path) -> None:
    """And without a checkpoint none either: a placement is one file."""
    report = reorder(pico_opt, profile_path, tmp_path / "out", FREQUENCY)
    assert report.to_json()["bytes_of_predictors"] is None
    assert not (tmp_path / "out" / PREDICTORS_FILE).exists()
    alone = reorder(None, add_predictor(profile_path), tmp_path / "placement", FREQUENCY)
    assert alone.to_json()["bytes_of_predictors"] is None


def test_predictors_of_another_model(tmp_path: Path, pico_opt: Path, profile_path: Path) -> None:
    """They are refused before anything is placed."""
    add_predictor(profile_path, predictor_of(n_inputs=16))
    with (
        patch("ripple_place.workflows.reorder.place_neurons", side_effect=AssertionError),
        pytest.raises(TraceFormatError, match=r"layers\.0\.predictor: found predictors of 24 neurons from 16 inputs"),
    ):
        reorder(pico_opt, profile_path, tmp_path / "out", FREQUENCY)


def test_a_profile_without_predictors_proves_none(tmp_path: Path, pico_opt: Path, profile_path: Path) -> None:
    """Whatever the output has; and a profile that is not there is no profile."""
    plain = profile_path.rename(tmp_path / "plain")
    reorder(pico_opt, add_predictor(plain, to=profile_path), tmp_path / "out", FREQUENCY)
    with pytest.raises(UsageError, match="found no predictors in it"):
        verify(pico_opt, tmp_path / "out", profile=plain)
    with pytest.raises(UsageError, match="found nothing there"):
        verify(pico_opt, tmp_path / "out", profile=tmp_path / "none")
    with pytest.raises(UsageError, match="no checkpoint to compare with"):
        verify(None, tmp_path / "out", profile=profile_path, restore_to=tmp_path / "back")


# Exports; what is written is tested in tests/torch.


def refused(sources: object, out: Path, message: str, error: type[Exception] = UsageError, **params: object) -> None:
    """Assert that an export is refused, with torch there, before anything is written."""
    params = {"powerinfer": out.with_name("predictors"), **params}
    with (
        patch("ripple_place.capture.extra.find_spec"),
        pytest.raises(error, match=message),
    ):
        profile(sources, out, ProfileParams(verdict=None, **params))  # type: ignore[arg-type]
    assert not out.exists()


def test_nothing_to_export(tmp_path: Path, trace_path: Path, pico_opt: Path) -> None:
    """Neither a trace nor a profile without predictors has some, and no model has them of itself."""
    refused(trace_path, tmp_path / "out", "--powerinfer: found no predictors")
    refused([trace_path, pico_opt], tmp_path / "out", "--powerinfer: found no predictors")


def test_blocks_without_a_layout(tmp_path: Path) -> None:
    """Experts."""
    name = "layers.0.experts.1"
    active = np.random.default_rng(0).random((40, 24)) < 0.3
    trace = write_stock_trace(tmp_path / "trace", {name: active}, activity="relu")
    profile(trace, tmp_path / "profile", ProfileParams(verdict=None))
    add_predictor(tmp_path / "profile", predictor_of({name: 24}))
    refused(tmp_path / "profile", tmp_path / "out", f"{name}: found a block that is not", UnsupportedError)


def test_places_that_cannot_be_written(tmp_path: Path, predicting: Path) -> None:
    """Files, directories with something in them, sources, and places in directories that are not there."""
    (tmp_path / "file").write_text("")
    refused(predicting, tmp_path / "out", "found a file; expected a directory", powerinfer=tmp_path / "file")
    refused(predicting, tmp_path / "out", "no directory to make it in", powerinfer=tmp_path / "none" / "predictors")
    refused(predicting, tmp_path / "out", "another path of this command", powerinfer=tmp_path / "out")
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "model_0.pt").write_text("")
    refused(predicting, tmp_path / "out", r"model_0\.pt in it.*--force", powerinfer=taken)
    (taken / "notes.txt").write_text("")
    refused(predicting, tmp_path / "out", r"notes\.txt in it", powerinfer=taken, force=True)
    (tmp_path / "link").symlink_to(taken)
    refused(predicting, tmp_path / "out", "found a link", powerinfer=tmp_path / "link")


def test_without_torch(tmp_path: Path, predicting: Path) -> None:
    """What is missing is said before the work, and how to get it."""
    with (
        patch("ripple_place.capture.extra.find_spec", return_value=None),
        pytest.raises(UnsupportedError, match=r"no torch to write its files with.*pip install"),
    ):
        profile(predicting, tmp_path / "out", ProfileParams(powerinfer=tmp_path / "predictors"))
    assert not (tmp_path / "out").exists()


def test_what_is_exported_is_what_the_profile_has(tmp_path: Path, predicting: Path, trace_path: Path) -> None:
    """Of two sources the last one's; of a profile that is appended to its own, if nothing else has some."""
    other = add_predictor(predicting, predictor_of(seed=1), to=tmp_path / "other")
    written: list[tuple[Path, ModelPredictor]] = []
    with (
        patch("ripple_place.capture.extra.find_spec"),
        patch("ripple_place.workflows.profile.write_powerinfer", lambda *given: written.append(given)),
    ):
        params = ProfileParams(verdict=None, powerinfer=tmp_path / "predictors")
        profile([predicting, other], tmp_path / "out", params)
        profile(more_text(tmp_path), tmp_path / "out", replace(params, append=True))
    for path, predictor in written:
        assert path == tmp_path / "predictors"
        assert predictors_content(predictor) == predictors_content(predictor_of(seed=1))
    assert len(written) == 2


def more_text(folder: Path) -> Path:
    """Return another trace of the same blocks."""
    rng = np.random.default_rng(7)
    blocks = {name: rng.random((40, 24)) < 0.2 for name in ("layers.0", "layers.1")}
    return write_stock_trace(folder / "more.trace.safetensors", blocks, activity="relu>0", model="pico")
