"""From traces to a profile: what is counted, what is said of it, and that it is the same every time."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import networkx
import numba
import numpy as np
import pytest

from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.graph.profile import read_profile
from ripple_place.trace.files import read_trace
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from tests.trace_builders import random_activity, unpack, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path


def test_counts(tmp_path: Path, trace_path: Path) -> None:
    """The profile holds the trace, how often each neuron fires, and how often with each of its neighbours."""
    report = profile([trace_path], tmp_path / "p", ProfileParams(n_neighbors=23))
    learned = read_profile(tmp_path / "p")
    assert (learned.digest, learned.n_neighbors) == (report.digest, 23)
    for name, block in read_trace(trace_path).blocks.items():
        active = unpack(block).astype(int)
        np.testing.assert_array_equal(learned.blocks[name].frequency, active.sum(axis=0))
        together = active.T @ active
        np.fill_diagonal(together, 0)
        np.testing.assert_array_equal(learned.blocks[name].graph.toarray(), together)


def test_same_bytes_whatever_the_threads(tmp_path: Path, trace_path: Path) -> None:
    """A second run, and one on other threads, writes the same file."""
    before = numba.get_num_threads()
    for n_threads in (1, 2):
        numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))
        profile([trace_path], tmp_path / f"p{n_threads}", ProfileParams(n_neighbors=5))
    numba.set_num_threads(before)
    profile([trace_path], tmp_path / "p", ProfileParams(n_neighbors=5))
    assert (tmp_path / "p").read_bytes() == (tmp_path / "p1").read_bytes() == (tmp_path / "p2").read_bytes()


def test_a_profile_is_a_source(tmp_path: Path, trace_path: Path) -> None:
    """Profiling a profile gives the same profile, by whatever name; joined with the trace, twice the counts."""
    profile([trace_path], tmp_path / "wiki.profile")
    profile([tmp_path / "wiki.profile"], tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "wiki.profile").read_bytes()
    report = profile([tmp_path / "again", trace_path], tmp_path / "twice")
    assert report.n_tokens == 600
    once, twice = (read_profile(tmp_path / name).blocks["layers.1"] for name in ("again", "twice"))
    np.testing.assert_array_equal(twice.frequency, 2 * once.frequency)


def test_document(tmp_path: Path, trace_path: Path) -> None:
    """What `--json` prints: about the trace, each block, and how it may mislead."""
    document = profile([trace_path], tmp_path / "p").to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (document["n_tokens"], document["n_segments"]) == (300, 1)
    assert (document["activity"], document["model"], document["dataset"]) == ("relu>0", "pico", None)
    assert list(document["blocks"]) == ["layers.0", "layers.1"]
    assert document["blocks"]["layers.0"]["lift_of_best_neighbors"] > 2


@pytest.mark.parametrize(
    ("active", "match"),
    [
        (
            random_activity(np.random.default_rng(0), 40, 9),
            "the trace has 40 tokens; pair counts are mostly noise below",
        ),
        (np.zeros((2000, 9)), "no neuron fires in layers.0: check the activity rule"),
        (np.ones((2000, 9)), "more than half of the neurons fire in layers.0: no placement can help"),
    ],
)
def test_warnings(tmp_path: Path, active: np.ndarray, match: str) -> None:
    """A trace that is short, silent or dense gives a profile, and a sentence on what it is worth."""
    report = profile([write_stock_trace(tmp_path / "t", {"layers.0": active})], tmp_path / "p")
    assert [warning for warning in report.warnings if match in warning]
    assert len(report.warnings) == 1


def test_nothing_to_warn_of(tmp_path: Path) -> None:
    """A long, sparse trace is quietly profiled."""
    active = random_activity(np.random.default_rng(0), 1024, 9)
    assert profile([write_stock_trace(tmp_path / "t", {"layers.0": active})], tmp_path / "p").warnings == ()


def test_graphml(tmp_path: Path, trace_path: Path) -> None:
    """The graphs of all blocks in one file."""
    profile([trace_path], tmp_path / "p", ProfileParams(graphml=tmp_path / "g.graphml", n_neighbors=2))
    assert networkx.read_graphml(tmp_path / "g.graphml").number_of_nodes() == 48


@pytest.mark.parametrize(
    ("out", "graphml", "force", "match"),
    [
        (
            "old",
            None,
            False,
            "old: found a file; expected a new name. Choose another name, or overwrite it with --force",
        ),
        ("p", "old", False, "old: found a file; expected a new name"),
        (".", None, True, "found a directory; expected a file to write"),
        ("none/p", None, False, "p: found no directory to write it in; expected .*none to exist"),
        ("old/p", None, False, "p: found no directory to write it in"),
        ("pico.trace.safetensors", None, True, "found another file of this command; expected a file of its own"),
        ("./x/../pico.trace.safetensors", None, True, "found another file of this command"),
        ("p", "pico.trace.safetensors", True, "found another file of this command"),
        ("p", "p", True, "found another file of this command"),
    ],
)
def test_refused_outputs(
    tmp_path: Path, trace_path: Path, out: str, graphml: str | None, force: bool, match: str
) -> None:
    """Before any work: nothing is overwritten unasked, an input never, and one output not by the other."""
    (tmp_path / "old").write_text("old")
    (tmp_path / "x").mkdir()
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(UsageError, match=match):
        profile([trace_path], tmp_path / out, ProfileParams(graphml=graphml and tmp_path / graphml, force=force))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"append": True, "force": True}, "--append --force: found both; expected one"),
        ({"verdict": None, "html": "page.html"}, "--html: found no verdict to show"),
        ({"n_neighbors": 0}, "--neighbors: found 0; expected 1 to 4096"),
        ({"n_neighbors": 4097}, "--neighbors: found 4097"),
        ({"union": 0}, "--union: found 0; expected at least 1"),
    ],
)
def test_refused_parameters(params: dict[str, object], match: str) -> None:
    """Refused when the parameters are made, before anything is read."""
    with pytest.raises(UsageError, match=match):
        ProfileParams(**params)  # type: ignore[arg-type]


def test_paths_as_text(tmp_path: Path, trace_path: Path) -> None:
    """Wherever a path is taken, text is; one source needs no list. Same bytes either way."""
    params = ProfileParams(graphml=str(tmp_path / "g"), html=str(tmp_path / "h"))
    report = profile(str(trace_path), str(tmp_path / "p"), params)
    assert report.verdict is not None
    profile([trace_path], tmp_path / "q", ProfileParams(graphml=tmp_path / "g2", html=tmp_path / "h2"))
    for one, other in (("p", "q"), ("g", "g2"), ("h", "h2")):
        assert (tmp_path / one).read_bytes() == (tmp_path / other).read_bytes()


def test_force(tmp_path: Path, trace_path: Path) -> None:
    """An old output is replaced when that is asked for."""
    (tmp_path / "p").write_text("old")
    profile([trace_path], tmp_path / "p", ProfileParams(force=True))
    read_profile(tmp_path / "p")


def test_a_bad_trace_leaves_nothing(tmp_path: Path) -> None:
    """The second of two sources is bad: no profile appears."""
    good = write_stock_trace(tmp_path / "a", {"layers.0": np.eye(4)})
    bad = write_stock_trace(tmp_path / "b", {"layers.0": np.eye(4)}, blocks='{"layers.0": 9}')
    with pytest.raises(TraceFormatError, match=r"b: layers.0.active"):
        profile([good, bad], tmp_path / "p")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_no_source_at_all(tmp_path: Path) -> None:
    """The command line demands one; so does the library."""
    with pytest.raises(UsageError, match="sources: found none; expected a trace, or a model"):
        profile([], tmp_path / "p")
