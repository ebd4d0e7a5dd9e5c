"""One writer of a profile at a time; nothing is added to it twice; and what a killed run did is not done again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.capture import source
from ripple_place.capture.params import DEFAULT_RULE, CaptureParams, WindowParams
from ripple_place.capture.run import Capture
from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.graph.importance import ImportanceNote, ModelImportance, SensitivityNote
from ripple_place.graph.profile import read_importance, read_profile, write_profile
from ripple_place.locks import one_writer
from ripple_place.tensorfile import TensorFile
from ripple_place.trace.files import read_trace
from ripple_place.workflows import profile as workflow
from ripple_place.workflows import profile_sources as sources_module
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.profile_sources import Work
from tests.trace_builders import random_activity, trace_of, unpack, write_stock_trace

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPEND = ProfileParams(append=True)
NEW, ADD = ProfileParams(verdict=None), ProfileParams(append=True, verdict=None)
"""Without a verdict, which takes most of the time."""


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, np.ndarray]:
    """Return the activity of the traces ``a``, ``b`` and ``c``, which lie in `tmp_path`."""
    rng = np.random.default_rng(0)
    parts = {name: random_activity(rng, n_rows, 9) for name, n_rows in (("a", 300), ("b", 200), ("c", 100))}
    for name, part in parts.items():
        write_stock_trace(tmp_path / name, {"layers.0": part})
    return parts


def names_in(directory: Path) -> set[str]:
    """Return what lies in a directory."""
    return set(os.listdir(directory))


def end_early(
    error: BaseException, patch: pytest.MonkeyPatch, *arguments: Any, function: str = "judge"
) -> None:  # fmt: skip
    """Profile, and let it end in one of its steps: after the profile is in place, unless another is named."""

    def fail(*arguments: object, **options: object) -> None:
        raise error

    with patch.context() as patched:
        patched.setattr(workflow, function, fail)
        with pytest.raises(type(error)):
            profile(*arguments)


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("params", [ProfileParams(), APPEND, ProfileParams(force=True)])
def test_one_writer(tmp_path: Path, params: ProfileParams) -> None:
    """A second run is refused while the first one lives, before it reads anything; nothing of the lock stays."""
    with one_writer(tmp_path / "p"), pytest.raises(UsageError, match="p: found another process writing it; expected"):
        profile(tmp_path / "none", tmp_path / "p", params)
    profile(tmp_path / "a", tmp_path / "p", params)
    assert names_in(tmp_path) == {"a", "b", "c", "p"}


@pytest.mark.usefixtures("parts")
def test_two_runs_at_once(tmp_path: Path) -> None:
    """Of two that are started together, each that says it succeeded has left its rows."""
    run = [sys.executable, "-m", "ripple_place", "profile", "--no-verdict", "--out"]
    profile(tmp_path / "a", tmp_path / "p")
    both = [
        subprocess.Popen([*run, "p", name, "--append"], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        for name in "bc"
    ]
    errors = [process.communicate()[1].decode() for process in both]
    codes = [process.returncode for process in both]
    assert set(codes) <= {0, 2}
    assert 0 in codes
    for code, error in zip(codes, errors, strict=True):
        assert (code == 2) == ("another process writing it" in error)
    added = sum(size for code, size in zip(codes, (200, 100), strict=True) if code == 0)
    assert read_trace(tmp_path / "p").n_tokens == 300 + added


@pytest.mark.usefixtures("parts")
def test_a_profile_that_appeared_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first look and the lock, another run may have ended: its profile is not overwritten."""

    @contextmanager
    def late(path: Path) -> Iterator[Any]:
        (tmp_path / "p").write_text("theirs")
        with one_writer(path) as lock:
            yield lock

    monkeypatch.setattr(workflow, "one_writer", late)
    with pytest.raises(UsageError, match="p: found a file; expected a new name"):
        profile(tmp_path / "a", tmp_path / "p")
    assert (tmp_path / "p").read_text() == "theirs"


def test_nothing_is_added_twice(tmp_path: Path, parts: dict[str, np.ndarray]) -> None:
    """Not by another name, in another kind of file, in a profile, or as one of several; and the profile stays."""
    profile(tmp_path / "a", tmp_path / "p", NEW)
    profile(tmp_path / "b", tmp_path / "p", ADD)
    np.savez(tmp_path / "b.npz", **{"layers.0": parts["b"]})
    (tmp_path / "copy").write_bytes((tmp_path / "a").read_bytes())
    profile([tmp_path / "b", tmp_path / "c"], tmp_path / "b-and-c", NEW)
    profile(tmp_path / "p", tmp_path / "p-again", NEW)
    before = (tmp_path / "p").read_bytes()
    assert (tmp_path / "p-again").read_bytes() == before
    for sources in ("a", "b", "b.npz", "copy", "b-and-c", "p-again", "c b"):
        paths = [tmp_path / name for name in sources.split()]
        with pytest.raises(UsageError, match=rf"p --append: found the content of {paths[-1]} in it already; expected"):
            profile(paths, tmp_path / "p", ADD)
        assert (tmp_path / "p").read_bytes() == before
    profile(tmp_path / "c", tmp_path / "p", ADD)
    np.testing.assert_array_equal(
        unpack(read_trace(tmp_path / "p").blocks["layers.0"]), np.concatenate(list(parts.values()))
    )
    assert not [name for name in names_in(tmp_path) if name.startswith(".")]


@pytest.mark.usefixtures("parts")
def test_profiles_of_before(tmp_path: Path) -> None:
    """A profile without a record takes what is new, and what it was made of alone is recognised by its bits."""
    profile(tmp_path / "a", tmp_path / "p", NEW)
    assert "source_digests" not in TensorFile.open(tmp_path / "p").metadata
    with pytest.raises(UsageError, match="in it already"):
        profile(tmp_path / "a", tmp_path / "p", ADD)
    profile(tmp_path / "b", tmp_path / "p", ADD)
    recorded = json.loads(TensorFile.open(tmp_path / "p").metadata["source_digests"])
    assert len(recorded) == 2
    joined = read_profile(tmp_path / "p")
    assert joined.trace is not None
    write_profile(tmp_path / "old", replace(joined, trace=replace(joined.trace, sources=())))
    profile(tmp_path / "c", tmp_path / "old", ADD)
    assert read_trace(tmp_path / "old").n_tokens == 600
    assert len(read_trace(tmp_path / "old").sources) == 2


@pytest.mark.usefixtures("parts")
@pytest.mark.parametrize("first", [["a"], ["a", "b"]])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "full")])
def test_killed_during_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: list[str], error: BaseException
) -> None:
    """The same command goes on to the verdict and adds nothing; given once more, it is refused."""
    *earlier, last = first
    for name in earlier:
        profile(tmp_path / name, tmp_path / "p")
    end_early(error, monkeypatch, tmp_path / last, tmp_path / "p", APPEND)
    before = (tmp_path / "p").read_bytes()
    assert read_trace(tmp_path / "p").n_tokens == 300 + 200 * len(earlier)
    for _ in range(2):
        end_early(error, monkeypatch, tmp_path / last, tmp_path / "p", APPEND)
        assert (tmp_path / "p").read_bytes() == before
    report = profile(tmp_path / last, tmp_path / "p", APPEND)
    assert report.verdict is not None
    assert "p had these sources already, from a run that did not end: nothing was added" in report.warnings[-1]
    assert (tmp_path / "p").read_bytes() == before
    assert names_in(tmp_path) == {"a", "b", "c", "p"}
    with pytest.raises(UsageError, match="in it already"):
        profile(tmp_path / last, tmp_path / "p", APPEND)
    assert names_in(tmp_path) == {"a", "b", "c", "p"}


@pytest.mark.usefixtures("parts")
def test_another_command_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other sources, or others besides, are a new matter; what is in the profile stays in it once."""
    profile(tmp_path / "a", tmp_path / "p")
    end_early(KeyboardInterrupt(), monkeypatch, tmp_path / "b", tmp_path / "p", APPEND)
    for sources, params in (("bc", APPEND), ("b", replace(APPEND, n_neighbors=3)), ("b", replace(APPEND, union=2))):
        with pytest.raises(UsageError, match=r"found the content of .*/b in it already"):
            profile([tmp_path / name for name in sources], tmp_path / "p", params)
    end_early(KeyboardInterrupt(), monkeypatch, tmp_path / "c", tmp_path / "p", APPEND)
    with pytest.raises(UsageError, match="in it already"):
        profile(tmp_path / "b", tmp_path / "p", APPEND)
    assert profile(tmp_path / "c", tmp_path / "p", APPEND).n_tokens == 600
    assert names_in(tmp_path) == {"a", "b", "c", "p"}


@pytest.mark.usefixtures("parts")
def test_a_first_run_that_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The documented way to go on, --append, does so too where the run before had none; unions are not joined anew."""
    for params in (ProfileParams(), ProfileParams(union=2)):
        (tmp_path / "p").unlink(missing_ok=True)
        sources = [tmp_path / "a", tmp_path / "b"]
        end_early(KeyboardInterrupt(), monkeypatch, sources, tmp_path / "p", params)
        before = (tmp_path / "p").read_bytes()
        assert profile(sources, tmp_path / "p", replace(params, append=True)).verdict is not None
        assert (tmp_path / "p").read_bytes() == before


@pytest.mark.usefixtures("parts")
def test_before_the_profile_is_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends earlier leaves nothing, and the same command then does all of it."""
    profile(tmp_path / "a", tmp_path / "p")
    before = (tmp_path / "p").read_bytes()
    end_early(KeyboardInterrupt(), monkeypatch, tmp_path / "b", tmp_path / "p", APPEND, function="write_profile")
    assert (tmp_path / "p").read_bytes() == before
    assert names_in(tmp_path) == {"a", "b", "c", "p"}
    assert profile(tmp_path / "b", tmp_path / "p", APPEND).n_tokens == 500


@pytest.mark.usefixtures("parts")
def test_other_files_of_a_killed_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A graph that the killed run wrote is its own to write again; somebody else's is not."""
    params = ProfileParams(append=True, graphml=tmp_path / "g", html=tmp_path / "h")
    end_early(KeyboardInterrupt(), monkeypatch, tmp_path / "a", tmp_path / "p", params)
    assert {"g", ".p.lock"} <= names_in(tmp_path)
    with pytest.raises(UsageError, match="a: found another file of this command"):
        profile(tmp_path / "a", tmp_path / "p", replace(params, graphml=tmp_path / "a"))
    with pytest.raises(UsageError, match="b: found a file; expected a new name"):
        profile(tmp_path / "a", tmp_path / "p", replace(params, html=tmp_path / "b"))


def test_blocks_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that are added to others are recorded as well, and recognised after a kill."""
    rng = np.random.default_rng(0)
    for layer in range(2):
        write_stock_trace(tmp_path / f"{layer}", {f"layers.{layer}": random_activity(rng, 300, 9)})
    profile(tmp_path / "0", tmp_path / "p")
    end_early(KeyboardInterrupt(), monkeypatch, tmp_path / "1", tmp_path / "p", APPEND)
    assert list(profile(tmp_path / "1", tmp_path / "p", APPEND).statistics) == ["layers.0", "layers.1"]
    for layer in range(2):
        with pytest.raises(UsageError, match="in it already"):
            profile(tmp_path / f"{layer}", tmp_path / "p", APPEND)


@pytest.mark.parametrize("record", ["[1]", "{}", "[", '[""]', "3", "[" * 100_000])
def test_a_damaged_record(tmp_path: Path, record: str) -> None:
    """It is said, rather than taken for a profile that has nothing yet."""
    write_stock_trace(tmp_path / "a", {"layers.0": np.eye(9)}, source_digests=record)
    with pytest.raises(TraceFormatError, match=r"metadata 'source_digests': found .*expected a JSON list of digests"):
        read_trace(tmp_path / "a")


@pytest.mark.parametrize("note", ["", "{}", "[]", '{"sources": 3}', '{"sources": ["a"], "n_neighbors": 64, "un', "3"])
def test_notes_that_tell_of_no_work(note: str) -> None:
    """A note that was cut short, or is of another version, is no note."""
    assert Work.of_note(note) == Work()


def test_a_note() -> None:
    """What is noted is read back; other files make no other work."""
    work = Work(("a", "b"), 64, 2, captures=True, files=("g",))
    assert Work.of_note(work.to_note()) == work
    assert work.is_same(replace(work, files=(), captures=False))
    assert not work.is_same(replace(work, sources=("a",)))


class Model:
    """Stands in for a model that is run: records rows in the directory, one file, and goes on with what is there."""

    def __init__(self, root: Path) -> None:
        self.path, self.text, self.n_runs = root / "model", root / "text", 0
        self.path.mkdir()
        (self.path / "config.json").write_text("{}")
        self.text.write_text("some text")
        self.params = CaptureParams(self.text)
        self.rng = np.random.default_rng(0)

    def run(self, model: Path, params: CaptureParams, directory: Path, **options: object) -> Capture:
        """Take the place of `run_capture`."""
        directory.mkdir(exist_ok=True)
        for name in ("state.json", "layers.0.active.raw"):
            (directory / name).write_text("")
        self.n_runs += 1
        trace = trace_of(random_activity(self.rng, 300, 9))
        trace = replace(trace, metadata={"activity": str(params.rule or DEFAULT_RULE)})
        return Capture(trace, directory, None, None, layer_by_layer=False, n_resumed=0)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    """Return what takes the place of running a model, and of the packages that it needs."""
    model = Model(tmp_path)
    monkeypatch.setattr(source, "run_capture", model.run)
    monkeypatch.setattr(source, "require_capture_extra", lambda model: None)
    return model


def test_rows_are_gone_once_the_profile_has_them(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed during the verdict and run again: the text is in the profile once, and the model does not run."""
    params = ProfileParams(capture=model.params, append=True)
    for text in ("some text", "more text"):
        model.text.write_text(text)
        end_early(KeyboardInterrupt(), monkeypatch, model.path, tmp_path / "p", params)
        assert not (tmp_path / "p.partial").exists()
        before, n_runs = (tmp_path / "p").read_bytes(), model.n_runs
        report = profile(model.path, tmp_path / "p", params)
        assert (report.capture, model.n_runs) == (None, n_runs)
        assert report.verdict is not None
        assert (tmp_path / "p").read_bytes() == before
        with pytest.raises(UsageError, match=r"p --append: found the content of .*/model in it already; expected"):
            profile(model.path, tmp_path / "p", params)
        assert model.n_runs == n_runs
    assert read_trace(tmp_path / "p").n_tokens == 600
    assert names_in(tmp_path) == {"model", "text", "p"}


@pytest.mark.parametrize("n_left", [0, 1, 2])
@pytest.mark.parametrize("then", ["same", "other text", "a trace"])
def test_killed_while_the_rows_are_removed(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_left: int, then: str
) -> None:
    """Whatever of the rows is left then, no run adds them again, and the next one removes them."""

    def killed(capture: Capture) -> None:
        for path in sorted(capture.directory.iterdir())[n_left:]:
            path.unlink()
        raise KeyboardInterrupt

    params = ProfileParams(capture=model.params, append=True)
    with monkeypatch.context() as patched:
        patched.setattr(Capture, "remove_files", killed)
        with pytest.raises(KeyboardInterrupt):
            profile(model.path, tmp_path / "p", params)
    sources: Any = model.path
    if then == "other text":
        model.text.write_text("more text")
    elif then == "a trace":
        sources = write_stock_trace(tmp_path / "b", {"layers.0": random_activity(model.rng, 300, 9)})
        params = APPEND
    n_tokens = profile(sources, tmp_path / "p", params).n_tokens
    assert n_tokens == (300 if then == "same" else 600)
    assert names_in(tmp_path) - {"b"} == {"model", "text", "p"}


@pytest.mark.parametrize(
    ("how", "function", "expected"),
    [
        ({}, "count_trace", "p.partial stays: the same command with --append goes on from it."),
        ({"append": True}, "count_trace", "p.partial stays: the same command goes on from it."),
        ({"force": True}, "count_trace", "p.partial stays: once {out} is moved away, the same command with --append in "
         "place of --force goes on from it."),
        ({}, "judge", "p is in place: the same command with --append goes on to what comes after it."),
    ],
)  # fmt: skip
def test_an_interrupted_run_says_how_to_go_on(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: dict[str, bool], function: str, expected: str
) -> None:
    """And goes on so: the model does not run again."""
    out = tmp_path / "p"
    if how.get("force"):
        write_stock_trace(out, {"layers.0": random_activity(model.rng, 300, 9)})
    interrupt = KeyboardInterrupt()
    params = ProfileParams(capture=model.params, **how)
    end_early(interrupt, monkeypatch, model.path, out, params, function=function)
    assert interrupt.__notes__ == [f"{tmp_path}/{expected.format(out=out)}"]


@pytest.mark.usefixtures("parts")
def test_a_run_that_was_killed_before_it_wrote(tmp_path: Path) -> None:
    """Its lock says that there was one; the next run says so, and leaves nothing of it."""
    (tmp_path / ".p.lock").write_text("")
    report = profile(tmp_path / "a", tmp_path / "p", NEW)
    assert f"an earlier run on {tmp_path / 'p'} was killed before it ended" in report.warnings[-1]
    assert names_in(tmp_path) == {"a", "b", "c", "p"}
    assert "killed" not in str(profile(tmp_path / "a", tmp_path / "p", replace(NEW, force=True)).warnings)


def test_what_makes_a_capture_another_one(model: Model, tmp_path: Path) -> None:
    """Model, text, windows and rule count; how the model is run does not."""
    base = source.capture_origin(model.path, model.params)
    assert base == source.capture_origin(model.path, replace(model.params, device="cpu", n_threads=1, magnitudes=True))
    changed = replace(model.params, windows=WindowParams(max_tokens=4096))
    assert source.capture_origin(model.path, changed) != base
    model.text.write_text("other text")
    assert source.capture_origin(model.path, model.params) not in (base, ())
    model.text.write_text("some text")
    (model.path / "model.safetensors").write_bytes(b"123")
    assert source.capture_origin(model.path, model.params) not in (base, ())
    assert source.capture_origin(model.path, None) == ()
    assert source.capture_origin(tmp_path, model.params) == ()
    model.text.unlink()
    assert source.capture_origin(model.path, model.params) == ()


@pytest.mark.parametrize("params", [ProfileParams(), APPEND, ProfileParams(force=True)])
@pytest.mark.parametrize("kind", ["letters", "link", "file", "folder"])
def test_a_directory_that_is_not_ours(model: Model, tmp_path: Path, params: ProfileParams, kind: str) -> None:
    """What somebody keeps where rows would go is neither emptied nor written to."""
    place, kept = tmp_path / "p.partial", tmp_path / "kept"
    (kept / "letters").mkdir(parents=True)
    (kept / "state.json").write_text("theirs")
    if kind == "letters":
        kept.rename(place)
    elif kind == "link":
        place.symlink_to(kept)
    elif kind == "file":
        place.write_text("theirs")
    else:
        (place / "rows.raw").mkdir(parents=True)
    before = sorted(str(path) for path in tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=r"p\.partial: found something that is no interrupted capture of ours"):
        profile(model.path, tmp_path / "p", replace(params, capture=model.params))
    assert sorted(str(path) for path in tmp_path.rglob("*")) == before


def add_importance(path: Path, value: float, n_tokens: int) -> ModelImportance:
    """Put importance into a profile, the same for all neurons."""
    importance = ModelImportance(
        {"layers.0": np.full(9, value, np.float32)}, {"layers.0": np.full(5, value, np.float32)},
        ImportanceNote(n_tokens, 0, {"layers.0": n_tokens}, {"layers.0": SensitivityNote("up", None)}),
    )  # fmt: skip
    write_profile(path, read_profile(path).with_importance(importance))
    return importance


@pytest.mark.usefixtures("parts")
def test_importance_is_kept(tmp_path: Path) -> None:
    """By a trace that is appended, by profiles that are joined, and by one that is profiled again."""
    p, q, both = (tmp_path / name for name in ("p", "q", "both"))
    profile(tmp_path / "a", p, NEW)
    profile(tmp_path / "b", q, NEW)
    assert profile(q, tmp_path / "q-again", NEW).importance is None
    add_importance(p, 1.0, 300)
    add_importance(q, 5.0, 100)
    report = profile(tmp_path / "c", p, ADD)
    assert report.importance is not None
    assert report.to_json()["importance"]["blocks"]["layers.0"]["mean"] == 1
    profile([p, q], both, NEW)
    for path, value, weight, n_tokens in ((p, 1, 1, 300), (both, 2, 5, 400)):
        kept = read_importance(path)
        assert kept is not None
        assert set(kept.values["layers.0"]) == {value}
        assert set(kept.sensitivities["layers.0"]) == {weight}
        assert kept.note.n_tokens == n_tokens
    profile(p, tmp_path / "p-again", NEW)
    assert (tmp_path / "p-again").read_bytes() == p.read_bytes()


def test_importance_of_a_run_that_was_killed(
    tmp_path: Path, parts: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same command goes on with the importance in the profile; one that measures another is refused."""
    model, p = tmp_path / "model", tmp_path / "p"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (tmp_path / "text").write_text("a")
    profile(tmp_path / "a", p, NEW)
    added = add_importance(p, 1.0, 300)

    def capture_source(*_: Any, **__: Any) -> Capture:
        return Capture(
            trace_of(parts["b"]), tmp_path / "rows", None, None, layer_by_layer=False, n_resumed=0, importance=added
        )

    monkeypatch.setattr(sources_module, "capture_source", capture_source)
    text = CaptureParams(tmp_path / "text", rule=DEFAULT_RULE, importance=True)
    params = replace(APPEND, capture=text)
    end_early(KeyboardInterrupt(), monkeypatch, model, p, params)
    before = p.read_bytes()
    for other in (replace(text, importance=False), replace(text, sensitivity=True), replace(text, seed=1)):
        with pytest.raises(UsageError, match="in it already"):
            profile(model, p, replace(params, capture=other))
    end_early(KeyboardInterrupt(), monkeypatch, model, p, params)
    report = profile(model, p, params)
    assert report.importance is not None
    assert report.importance.note.n_tokens == 600
    assert p.read_bytes() == before
