"""What `profile` takes besides trace files: models, counts, batches, more text for a profile that is there."""

from __future__ import annotations

import importlib.util
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.capture import extra
from ripple_place.graph.profile import read_profile
from ripple_place.trace.files import read_trace
from tests.torch_files import write_torch_file
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
        "extra `capture`. Run: pip install 'torch>=2.4' 'transformers>=5.0'.\n"
    )
    assert run("profile", trace, "--out", "p").code == 0


def test_text_without_a_model(run: Run, trace: str) -> None:
    """A trace has been read already; text beside it is a mistake."""
    outcome = run("profile", trace, "--text", "wiki.txt", "--out", "p")
    assert outcome.code == 2
    assert "--text: found no model to read it" in outcome.stderr


@pytest.mark.parametrize(
    "option",
    [["--active", "cats=50%"], ["--max-tokens", "5"], ["--no-perplexity"], ["--importance"], ["--sensitivity"]],
)
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
        write_torch_file(tmp_path / "counts" / f"activation_{layer}.pt", frequency)
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


def test_the_verdict_ends_the_output(run: Run, tmp_path: Path, trace: str) -> None:
    """A table of blocks and sentences below what was counted, the same in the document; costs as asked for."""
    outcome = run("profile", trace, "--out", "p", "--break-even-gap", "5", "--html", "page.html")
    assert outcome.code == 0
    assert "300 tokens in 1 segments. Wrote p and page.html\n\nblock " in outcome.stdout
    lines = outcome.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("layers.")] == ["layers.0", "layers.1"] * 2
    assert lines[-2].startswith("- The trace is too short to tell: 300 tokens.")
    assert lines[-1] == "- Cost is lambda x reads + neurons read, at lambda 5."
    page = (tmp_path / "page.html").read_text()
    assert "ripple-place profile pico.trace.safetensors --out p --break-even-gap 5" in page
    document = json.loads(run("profile", trace, "--out", "q", "--bundle-bytes", "8KiB", "--json").stdout)["verdict"]
    assert (document["unit"], document["bundle_bytes"]) == ("us", 8192)
    assert document["device"] == "ufs4-oneplus12-neuralink"
    assert document["sentences"][-1] == "Cost is flash time on ufs4-oneplus12-neuralink, at 8 KiB a neuron."
    assert set(document["blocks"]) == {"layers.0", "layers.1"}
    assert set(document["overall"]) >= {"orderings", "read_length_mean", "learned", "together", "neighbors_kept"}


def test_without_the_verdict(run: Run, tmp_path: Path, trace: str) -> None:
    """Left out on request; then there is nothing for a page to show. Counts have none."""
    outcome = run("profile", trace, "--out", "p", "--no-verdict")
    assert outcome.stdout.splitlines()[-1] == "300 tokens in 1 segments. Wrote p"
    assert json.loads(run("profile", trace, "--out", "q", "--no-verdict", "--json").stdout)["verdict"] is None
    outcome = run("profile", trace, "--out", "r", "--no-verdict", "--html", "page.html")
    assert outcome.code == 2
    assert "--html: found no verdict to show" in outcome.stderr
    (tmp_path / "counts").mkdir()
    write_torch_file(tmp_path / "counts" / "activation_0.pt", np.array([3, 9], "f4"))
    outcome = run("profile", "powerinfer:counts", "--out", "r", "--html", "page.html")
    assert outcome.code == 2
    extras = "--append, --union, --activity, --graphml, --powerinfer or --html"
    assert f"expected counts by themselves, without {extras}" in outcome.stderr
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (["--device", "floppy"], "device floppy: found no shipped profile by that name"),
        (["--break-even-gap", "5", "--bundle-bytes", "4KiB"], "expected what reads cost, said once"),
        (["--bundle-bytes", "0"], "bundle"),
    ],
)
def test_refused_options_of_the_verdict(run: Run, tmp_path: Path, trace: str, options: list[str], match: str) -> None:
    """Before anything is counted."""
    outcome = run("profile", trace, "--out", "p", *options)
    assert outcome.code == 2
    assert match in outcome.stderr
    assert not (tmp_path / "p").exists()


def test_of_many_blocks_the_first_few_are_listed(run: Run, tmp_path: Path) -> None:
    """A mixture of experts has hundreds: the table and the notes name four each, and say how many more there are."""
    rng = np.random.default_rng(0)
    experts = {f"layers.0.experts.{i}": random_activity(rng, 300, 20) for i in range(10)}
    experts |= {f"layers.1.experts.{i}": np.zeros((300, 20), bool) for i in range(11)}
    write_stock_trace(tmp_path / "t.safetensors", experts)
    lines = run("profile", "t.safetensors", "--out", "p").stdout.splitlines()
    start = next(i for i, line in enumerate(lines) if "stops paying" in line)
    assert [line.split()[0] for line in lines[start + 1 : start + 5]] == [f"layers.0.experts.{i}" for i in range(4)]
    assert lines[start + 5] == "and 6 more (--json has all)"
    notes = [line for line in lines if ": placement" in line]
    assert len(notes) == 4
    assert lines[lines.index(notes[-1]) + 1].startswith("and ")
