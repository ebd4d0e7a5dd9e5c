"""The defaults of `profile` stand once: the command line takes them from the library's parameters."""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.capture.params import CaptureParams, WindowParams
from ripple_place.capture.run import Capture
from ripple_place.cli.main import cli
from ripple_place.flash.device.files import DEFAULT_DEVICE
from ripple_place.predict.params import PredictorParams
from ripple_place.verdict.judge import VerdictParams
from ripple_place.workflows import profile as workflow
from ripple_place.workflows import profile_sources
from ripple_place.workflows.profile_params import MAX_NEIGHBORS, ProfileParams
from tests.trace_builders import trace_of

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from ripple_place.trace.activation_trace import ActivationTrace
    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]

FIELDS: dict[str, tuple[type, str]] = {
    "texts": (CaptureParams, "texts"),
    "max_tokens": (WindowParams, "max_tokens"),
    "segment_length": (WindowParams, "segment_length"),
    "sequence_length": (WindowParams, "sequence_length"),
    "rule": (CaptureParams, "rule"),
    "unit": (CaptureParams, "unit"),
    "magnitudes": (CaptureParams, "magnitudes"),
    "perplexity": (CaptureParams, "perplexity"),
    "layer_by_layer": (CaptureParams, "layer_by_layer"),
    "torch_device": (CaptureParams, "device"),
    "dtype": (CaptureParams, "dtype"),
    "threads": (CaptureParams, "n_threads"),
    "allow_unsupported": (CaptureParams, "allow_unsupported"),
    "family": (CaptureParams, "family"),
    "importance": (CaptureParams, "importance"),
    "sensitivity": (CaptureParams, "sensitivity"),
    "adapter": (CaptureParams, "adapter"),
    "predictor": (CaptureParams, "predictor"),
    "predicts": (PredictorParams, "predicts"),
    "recalls": (PredictorParams, "recalls"),
    "predictor_from": (CaptureParams, "predictor_from"),
    "record_predicted": (CaptureParams, "record_predicted"),
    "seed": (CaptureParams, "seed"),
    "union": (ProfileParams, "union"),
    "activity": (ProfileParams, "activity"),
    "append": (ProfileParams, "append"),
    "neighbors": (ProfileParams, "n_neighbors"),
    "graphml": (ProfileParams, "graphml"),
    "powerinfer": (ProfileParams, "powerinfer"),
    "verdict": (ProfileParams, "verdict"),
    "bundle_bytes": (VerdictParams, "bundle_bytes"),
    "device": (VerdictParams, "device"),
    "break_even_gap": (VerdictParams, "break_even_gap"),
    "html": (ProfileParams, "html"),
    "force": (ProfileParams, "force"),
}
"""The library's parameter behind each option."""
NO_PARAMETER = {"sources", "out", "as_json", "quiet", "verbose"}
"""Options that are no parameters of the library: arguments of `profile` itself, and what is printed."""
NO_OPTION = {
    (CaptureParams, "windows"),  # Its parts are options.
    (ProfileParams, "capture"),
    (PredictorParams, "rank"),  # What `--predictor` says.
    (ProfileParams, "command"),  # What the user typed.
}


def default_of(params: type, name: str) -> Any:
    """Return the default of a dataclass's field; MISSING if there is none."""
    field = next(field for field in fields(params) if field.name == name)
    return field.default if field.default_factory is MISSING else field.default_factory()


def test_every_option_has_the_default_of_the_library() -> None:
    """Walks the options that click has: each belongs to a field, and stands for that field's default if left out."""
    command = cli.commands["profile"]
    left_out = command.make_context("profile", ["t.npz", "--out", "p"]).params
    for option in command.params:
        if option.name in NO_PARAMETER:
            continue
        assert option.name in FIELDS, f"{option.name}: add it to FIELDS, and its default to a dataclass"
        value, expected = left_out[option.name], default_of(*FIELDS[option.name])
        if option.name == "verdict":
            assert value == (expected is not None)
        elif option.name == "texts":
            assert (value, expected) == ((), MISSING)
        else:
            assert value == expected, option.name


def test_every_field_has_an_option() -> None:
    """What the library can do the command line can, and the other way round."""
    all_fields = {
        (params, field.name)
        for params in (ProfileParams, CaptureParams, WindowParams, VerdictParams, PredictorParams)
        for field in fields(params)
    }
    assert all_fields - NO_OPTION == set(FIELDS.values())


def test_the_limits_and_the_device_in_the_help() -> None:
    """The range of neighbours is the library's, and so is the device that the help names."""
    options = {option.name: option for option in cli.commands["profile"].params}
    assert options["neighbors"].type.max == MAX_NEIGHBORS
    assert DEFAULT_DEVICE in options["device"].help
    assert VerdictParams().read_costs(trace_of(np.eye(8)))["layers.0"].device.name == DEFAULT_DEVICE


def test_a_bare_command_passes_the_defaults(run: Run, trace: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reaches the library is `ProfileParams()`, but for the command that the page shows."""
    seen: list[ProfileParams] = []
    real = workflow.profile

    def spy(sources: Any, out: Any, params: ProfileParams, track: Any) -> Any:
        seen.append(params)
        return real(sources, out, params, track)

    monkeypatch.setattr(workflow, "profile", spy)
    assert run("profile", trace, "--out", "p").code == 0
    assert seen == [ProfileParams(command=f"ripple-place profile {trace} --out p")]


def test_a_bare_capture_passes_the_defaults(
    run: Run, tmp_path: Path, pico_opt: Path, four_neurons: ActivationTrace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a model and a text, `CaptureParams(texts)`."""
    seen: list[CaptureParams | None] = []

    def capture_source(models: Any, params: CaptureParams | None, *given: Any, **more: Any) -> Capture:
        seen.append(params)
        return Capture(four_neurons, tmp_path / "rows", None, None, layer_by_layer=False, n_resumed=0)

    monkeypatch.setattr(profile_sources, "capture_source", capture_source)
    outcome = run("profile", pico_opt, "--text", "wiki.txt", "--out", "p")
    assert outcome.code == 0
    assert seen == [CaptureParams((Path("wiki.txt"),))]
