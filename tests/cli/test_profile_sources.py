"""What `profile` takes besides trace files: models, counts, batches, more text for a profile that is there."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.graph.profile import read_profile
from ripple_place.trace.capture import extra
from ripple_place.trace.files import read_trace
from tests.trace.test_counts import write_tensor
from tests.trace_builders import random_activity, unpack, write_stock_trace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]


@pytest.mark.parametrize("text", [[], ["--text", "wiki.txt"]])
def test_a_model_without_torch(
    run: Run, pico_opt: Path, trace: str, monkeypatch: pytest.MonkeyPatch, text: list[str]
) -> None:
    """One sentence says what to install, whatever else is missing; traces need nothing of it."""
    real = importlib.util.find_spec
    monkeypatch.setattr(extra, "find_spec", lambda name: None if name in ("torch", "transformers") else real(name))
    outcome = run("profile", pico_opt, *text, "--out", "p")
    assert outcome.code == 3
    assert outcome.stderr == (
        f"Error: {pico_opt}: found a model, and no torch and no transformers to run it; expected the packages of the "
        "extra `capture`. Run: pip install 'ripple-place[capture]'.\n"
    )
    assert run("profile", trace, "--out", "p").code == 0


def test_text_without_a_model(run: Run, trace: str) -> None:
    """A trace has been read already; text beside it is a mistake."""
    outcome = run("profile", trace, "--text", "wiki.txt", "--out", "p")
    assert outcome.code == 2
    assert "--text: found no model to read it" in outcome.stderr


@pytest.mark.parametrize("option", [["--active", "cats=50%"], ["--max-tokens", "5"], ["--no-perplexity"]])
def test_options_of_a_capture_without_one(run: Run, trace: str, option: list[str]) -> None:
    """A rule beside a trace would be ignored: the trace has one already, and the user would believe otherwise."""
    outcome = run("profile", trace, *option, "--out", "p")
    assert outcome.code == 2
    assert "found traces, which were recorded before; expected a model and --text FILE" in outcome.stderr


def test_powerinfer_counts(run: Run, tmp_path: Path) -> None:
    """Counts make a profile that orders by frequency, and says of everything else what it lacks."""
    (tmp_path / "counts").mkdir()
    frequency = np.array([3, 9, 0, 5], "f4")
    for layer in range(2):
        write_tensor(tmp_path / "counts" / f"activation_{layer}.pt", frequency, "FloatStorage")
    outcome = run("profile", "powerinfer:counts", "--out", "p")
    assert outcome.code == 0
    assert "layers.1        4       -     1        52.9%     -" in outcome.stdout
    assert "Warning: counts say nothing of which neurons fire together: order by frequency" in outcome.stderr
    document = json.loads(run("profile", "powerinfer:counts,tokens=10", "--out", "q", "--json").stdout)
    assert document["n_tokens"] == 10
    assert document["blocks"]["layers.0"]["active_share"] == pytest.approx(17 / 40)
    assert read_profile(tmp_path / "q").blocks["layers.0"].frequency.tolist() == [3, 9, 0, 5]
    assert run("reorder", "--profile", "p", "--ordering", "frequency", "--out", "f.placement").code == 0
    for ordering in ("greedy", "flash-time"):
        outcome = run("reorder", "--profile", "p", "--ordering", ordering, "--break-even-gap", "5", "--out", "x")
        assert outcome.code == 1
        assert "profile a trace" in outcome.stderr.lower()
    outcome = run("simulate", "p", "--layout", "original", "--bundle-bytes", "4KiB")
    assert outcome.code == 1
    assert "found no activation bits" in outcome.stderr
    outcome = run("profile", "powerinfer:counts", "--out", "p", "--append")
    assert outcome.code == 2
    assert "expected counts by themselves" in outcome.stderr


def test_append(run: Run, tmp_path: Path) -> None:
    """Traces are added to a profile behind what it has; without a profile there is nothing to add to."""
    rng = np.random.default_rng(0)
    parts = [random_activity(rng, n_rows, 9) for n_rows in (300, 200)]
    for i, part in enumerate(parts):
        write_stock_trace(tmp_path / f"{i}.safetensors", {"layers.0": part})
    for i in range(2):
        assert run("profile", f"{i}.safetensors", "--out", "p", "--append").code == 0
    trace = read_trace(tmp_path / "p")
    np.testing.assert_array_equal(unpack(trace.blocks["layers.0"]), np.concatenate(parts))
    assert trace.segment_starts.tolist() == [0, 300]


def test_union(run: Run, tmp_path: Path) -> None:
    """The profile of a batch is that of its sequences' union, and says so."""
    rng = np.random.default_rng(0)
    active = random_activity(rng, 400, 9)
    starts = {"segment_starts": np.array([0, 100, 200, 300])}
    write_stock_trace(tmp_path / "t.safetensors", {"layers.0": active}, tensors=starts, activity="relu")
    document = json.loads(run("profile", "t.safetensors", "--union", "2", "--out", "p", "--json").stdout)
    assert (document["n_tokens"], document["activity"]) == (200, "relu, union of 2 sequences")
    np.testing.assert_array_equal(unpack(read_trace(tmp_path / "p").blocks["layers.0"]), active[:200] | active[200:])
    outcome = run("profile", "t.safetensors", "--union", "5", "--out", "q")
    assert outcome.code == 2
    assert "--union 5: found a trace of 4 segments; expected at least 5" in outcome.stderr
