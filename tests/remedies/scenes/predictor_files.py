"""Predictors: which are asked for, files of them, their proof in an output, and their export."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from unittest.mock import patch

from ripple_place.checkpoint.names import PREDICTORS_FILE
from ripple_place.errors import CheckpointError
from ripple_place.predict.files import predictors_content, read_predictors
from ripple_place.predict.params import PredictorParams
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.verify import verify
from tests.builders import adjust_manifest
from tests.predict.builders import add_predictor, predictor_of
from tests.remedies.bench import model_at, profile_at, trace_at
from tests.remedies.cases import case, instead, run
from tests.remedies.scenes.captures import without_torch

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.predict.predictor import ModelPredictor
    from tests.remedies.cases import Attempts

# Which are asked for.

_PARAMS = "predict/params.py:PredictorParams.__post_init__"
instead(_PARAMS, "such as 64", "a rank of 0: one above", lambda: PredictorParams(0), lambda: PredictorParams(64))
instead(
    _PARAMS, "name one of these", "something else than activity or magnitude: one of the two",
    lambda: PredictorParams(64, "sign"), lambda: PredictorParams(64, "magnitude"),
)  # fmt: skip
instead(
    _PARAMS, "such as 0.99", "a recall of 1: one below", lambda: PredictorParams(64, recalls=(1.0,)),
    lambda: PredictorParams(64, recalls=(0.99,)),
)  # fmt: skip
instead(
    _PARAMS, "leave one out", "a recall twice: once", lambda: PredictorParams(64, recalls=(0.9, 0.9)),
    lambda: PredictorParams(64, recalls=(0.9,)),
)  # fmt: skip
instead(
    "predict/params.py:place_of_recall", "", "a recall without thresholds: one of those there are, or fitted for it",
    lambda: predictor_of(recalls=(0.9,)).note.place_of(0.99), lambda: predictor_of(recalls=(0.9,)).note.place_of(0.9),
    lambda: predictor_of(recalls=(0.99,)).note.place_of(0.99),
)  # fmt: skip


# Files of them.


def read(path: Path, content: bytes) -> ModelPredictor:
    """Read a file of predictors with some content."""
    path.write_bytes(content)
    return read_predictors(path, CheckpointError)


@case("predict/files.py:read_predictors")
def another_file(folder: Path) -> Attempts:
    """Weights in place of predictors: they are fitted again."""
    yield lambda: read_predictors(model_at(folder / "model") / "model.safetensors", CheckpointError)
    yield lambda: read(folder / "file", predictors_content(predictor_of()))


@case("predict/files.py:_error")
def damaged_file(folder: Path) -> Attempts:
    """A note of something that no predictor tells: they are fitted again."""
    content = predictors_content(predictor_of())
    yield lambda: read(folder / "file", content.replace(b'\\"activity\\"', b'\\"anything\\"'))
    yield lambda: read(folder / "file", content)


# In an output.


def predicting(folder: Path, predictor: ModelPredictor | None = None) -> Path:
    """Write a profile with predictors, or replace the one that is there."""
    path = folder / "profile"
    return add_predictor(path if path.exists() else profile_at(path), predictor)


def reordered(folder: Path) -> Path:
    """Reorder a model by that profile, to the same place again and again."""
    if not (folder / "model").exists():
        model_at(folder / "model")
    options = ("--profile", folder / "profile", "--ordering", "frequency", "--out", folder / "out", "--force")
    run("reorder", folder / "model", *options)
    return folder / "out"


@case("checkpoint/output/additions.py:check_predictors_of")
def predictors_of_another_model(folder: Path) -> Attempts:
    """Predictors of a model with a wider hidden state: this one is profiled."""
    predicting(folder, predictor_of(n_inputs=16))
    yield lambda: reordered(folder)
    predicting(folder)


@case("checkpoint/proof/predictors.py:check_predictors", "do not use")
def predictors_of_another_output(folder: Path) -> Attempts:
    """An output with predictors of another model, and a manifest that agrees: reordered again."""
    predicting(folder)
    out = reordered(folder)
    (out / PREDICTORS_FILE).write_bytes(predictors_content(predictor_of(n_inputs=16)))
    adjust_manifest(out)
    yield lambda: verify(folder / "model", out)
    reordered(folder)


@case("checkpoint/proof/predictors.py:require_predictors")
def output_without_predictors(folder: Path) -> Attempts:
    """An output that was made before the profile had predictors: without --profile, or reordered."""
    profile_at(folder / "profile")
    out = reordered(folder)
    predicting(folder)
    yield lambda: verify(folder / "model", out, profile=folder / "profile")
    yield lambda: verify(folder / "model", out)
    reordered(folder)
    yield lambda: verify(folder / "model", out, profile=folder / "profile")


@case("checkpoint/proof/predictors.py:check_predictors", "give the profile that")
def predictors_of_another_profile(folder: Path) -> Attempts:
    """Predictors that were fitted again since: the profile of then is given, or the model reordered."""
    predicting(folder)
    out = reordered(folder)
    predicting(folder, predictor_of(seed=1))
    yield lambda: verify(folder / "model", out, profile=folder / "profile")
    predicting(folder)
    yield lambda: verify(folder / "model", out, profile=folder / "profile")
    predicting(folder, predictor_of(seed=1))
    reordered(folder)
    yield lambda: verify(folder / "model", out, profile=folder / "profile")


@case("workflows/verify.py:_predictor_of", "correct the path")
def profile_to_prove_by_is_missing(folder: Path) -> Attempts:
    """A profile that is not there, to prove predictors by: the path is corrected."""
    predicting(folder)
    out = reordered(folder)
    yield lambda: verify(folder / "model", out, profile=folder / "profil")
    yield lambda: verify(folder / "model", out, profile=folder / "profile")


@case("workflows/verify.py:_predictor_of", "leave --profile out")
def profile_to_prove_by_has_no_predictors(folder: Path) -> Attempts:
    """A profile without predictors, to prove them by: it is left out, or the one that has them given."""
    predicting(folder)
    out = reordered(folder)
    other = profile_at(folder / "other")
    yield lambda: verify(folder / "model", out, profile=other)
    yield lambda: verify(folder / "model", out)
    yield lambda: verify(folder / "model", out, profile=folder / "profile")


# Their export. What is written is tested in tests/torch.


def exported(source: Path, out: Path, *, force: bool = False) -> None:
    """Profile a source, and export its predictors, all but the writing."""
    with patch("ripple_place.workflows.profile.write_powerinfer"):
        params = ProfileParams(verdict=None, powerinfer=out, force=force)
        profile(source, source.with_name(f"again{sum(1 for _ in source.parent.iterdir())}"), params)


def with_torch(attempts: Attempts) -> Attempts:
    """Make attempts where torch is installed, or seems to be."""
    with patch("ripple_place.capture.extra.find_spec", lambda name: name):
        yield from attempts


@case("capture/extra.py:require_torch", "", "no torch for PowerInfer's files: it is installed")
def no_torch(folder: Path) -> Attempts:
    """They are torch's."""
    source = predicting(folder)
    with patch("ripple_place.capture.extra.find_spec", without_torch):
        yield partial(exported, source, folder / "export")
    with patch("ripple_place.capture.extra.find_spec", lambda name: name):
        yield partial(exported, source, folder / "export")


_DIRECTORY = "capture/powerinfer_files.py:check_powerinfer_directory"


@case(_DIRECTORY, "another path", "predictors exported to the place of the profile: to another one")
def export_is_a_source(folder: Path) -> Attempts:
    """It would be replaced."""
    source = predicting(folder)
    yield from with_torch(iter((partial(exported, source, source), partial(exported, source, folder / "export"))))


def taken(folder: Path, name: str) -> tuple[Path, Path]:
    """Return a profile, and a directory with a file of some name."""
    (folder / "taken").mkdir()
    (folder / "taken" / name).touch()
    return predicting(folder), folder / "taken"


@case(_DIRECTORY, "an empty one. choose another name.", "predictors exported to a folder of something else: to another")
def export_is_somebody_elses(folder: Path) -> Attempts:
    """Nothing in it is replaced."""
    source, path = taken(folder, "notes.txt")
    yield from with_torch(iter((partial(exported, source, path), partial(exported, source, folder / "export"))))


@case(_DIRECTORY, "with --force", "predictors exported a second time: to another folder, or with --force")
def export_is_there(folder: Path) -> Attempts:
    """An earlier export is not replaced by accident."""
    source, path = taken(folder, "model_0.pt")
    ways = (
        partial(exported, source, path), partial(exported, source, folder / "export"),
        partial(exported, source, path, force=True),
    )  # fmt: skip
    yield from with_torch(iter(ways))


@case(_DIRECTORY, "a directory to write", "predictors exported to a file: to another name")
def export_is_a_file(folder: Path) -> Attempts:
    """There are several files of them."""
    source, path = predicting(folder), trace_at(folder / "trace")
    yield from with_torch(iter((partial(exported, source, path), partial(exported, source, folder / "export"))))


@case(_DIRECTORY, "make that directory first", "predictors exported to where there is no folder: it is made")
def export_has_no_parent(folder: Path) -> Attempts:
    """As for files."""
    source = predicting(folder)

    def attempts() -> Attempts:
        yield partial(exported, source, folder / "new" / "export")
        (folder / "new").mkdir()
        yield partial(exported, source, folder / "new" / "export")

    yield from with_torch(attempts())


_LAYERS = "predict/powerinfer.py:powerinfer_layers"


@case(_LAYERS, "writes these predictors", "predictors of experts for PowerInfer: without --powerinfer")
def export_of_experts(folder: Path) -> Attempts:
    """It knows one FFN a layer."""
    names = ("layers.0.experts.0", "layers.0.experts.1")
    source = add_predictor(profile_at(folder / "experts", names=names), predictor_of(dict.fromkeys(names, 24)))
    out = folder / "again"
    attempts = partial(exported, source, folder / "export"), lambda: profile(source, out, ProfileParams(verdict=None))
    yield from with_torch(iter(attempts))


@case(_LAYERS, "without the tensor", "predictors without a constant for PowerInfer: they are fitted again")
def export_without_a_constant(folder: Path) -> Attempts:
    """Nothing could take the place of the biases."""
    source = predicting(folder, predictor_of(with_constant=False))

    def attempts() -> Attempts:
        yield partial(exported, source, folder / "export")
        predicting(folder)
        yield partial(exported, source, folder / "export")

    yield from with_torch(attempts())


@case("workflows/powerinfer_export.py:check_export", "", "a trace and --powerinfer: a profile with predictors")
def export_of_nothing(folder: Path) -> Attempts:
    """A trace says which neurons fire, and nothing of the inputs."""
    trace, source = trace_at(folder / "trace"), predicting(folder)
    yield from with_torch(iter((partial(exported, trace, folder / "a"), partial(exported, source, folder / "b"))))
