"""``--activity predicted`` of `profile` and `simulate`, on traces that recorded what a predictor said."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.graph.profile import read_profile
from tests.trace_builders import pack, planted_clusters, write_stock_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]

NAMES = ("layers.0", "layers.1")


@pytest.fixture
def predicted(tmp_path: Path) -> dict[str, np.ndarray]:
    """Write a trace with predictions, and one in which these fired, in the working directory; return them."""
    rng = np.random.default_rng(0)
    active, predicted = (
        {name: planted_clusters(rng, n_clusters=3, cluster_size=8, n_rows=300)[0] for name in NAMES} for _ in range(2)
    )
    tensors = {f"{name}.predicted": pack(bits) for name, bits in predicted.items()}
    write_stock_trace(tmp_path / "told", active, tensors=tensors, activity="relu>0", predicted_recall="0.99")
    write_stock_trace(tmp_path / "fired", predicted, activity="relu>0")
    return predicted


def test_what_was_predicted_is_counted(run: Run, predicted: dict[str, np.ndarray], tmp_path: Path) -> None:
    """Counts, verdict and digest are those of a trace in which it had fired; the profile says what it is of."""
    documents = [
        json.loads(run("profile", source, *more, "--out", f"{source}.profile", "--json").stdout)
        for source, more in (("told", ("--activity", "predicted")), ("fired", ()))
    ]
    one, other = documents
    assert one.pop("activity") == "relu>0, as predicted at recall 0.99"
    assert other.pop("activity") == "relu>0"
    assert (one["profile"], one["blocks"]) == (other["profile"], other["blocks"])
    learned = read_profile(tmp_path / "told.profile")
    for name, bits in predicted.items():
        np.testing.assert_array_equal(learned.blocks[name].frequency, bits.sum(axis=0))
    assert run("reorder", "--profile", "told.profile", "--bundle-bytes", "4KiB", "--out", "placement").code == 0
    # Profiled again, it is what it was.
    again = run("profile", "told.profile", "--activity", "predicted", "--out", "again", "--json").stdout
    assert json.loads(again)["profile"] == one["profile"]


def test_what_fired_and_what_was_predicted_stay_apart(run: Run, predicted: dict[str, np.ndarray]) -> None:
    """Neither is added to a profile of the other, and traces without predictions are refused."""
    assert run("profile", "told", "--no-verdict", "--out", "p").code == 0
    outcome = run("profile", "told", "--activity", "predicted", "--no-verdict", "--append", "--out", "p")
    assert outcome.code == 2
    assert "found counts of what fired, and of what was predicted" in outcome.stderr
    outcome = run("profile", "fired", "--activity", "predicted", "--out", "q")
    assert "fired: layers.0: found no predictions" in outcome.stderr
    # What a profile of what fired has of predictions stays in it.
    assert run("profile", "p", "--activity", "predicted", "--no-verdict", "--out", "q").code == 0


def test_what_was_predicted_is_read(run: Run, predicted: dict[str, np.ndarray]) -> None:
    """The table says so in a sentence, and how many of the neurons that are read fire."""
    options = ("--layout", "original", "--bundle-bytes", "4KiB", "--activity", "predicted")
    text = run("simulate", "told", *options).stdout
    sentence = "\n\nWhat is read is what predictors said when the trace was recorded, at a recall of 0.99.\n"
    assert sentence in text
    assert text.split("\n\n")[1] == run("simulate", "fired", *options[:4]).stdout.split("\n\n")[1].rstrip("\n")
    text = run("simulate", "told", *options, "--select", "exact").stdout
    assert "  precision  " in text
    outcome = run("simulate", "told", *options, "--recall", "0.9")
    assert outcome.code == 2
    assert "Leave --recall out, or name the model with --text" in outcome.stderr
