"""Kills of `profile --append`: the profile is the old one or the new one, the next run completes it, and nothing stays.

Called by `tests.crashes.runs`. Traces are added, and a capture: the model is one that needs no torch, and writes its
rows through `ripple_place.capture.writer` as a real one does.
"""

from __future__ import annotations

import random
import shutil
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.stats  # noqa: F401  # Imported before the forks, not by each.

from ripple_place.capture import source
from ripple_place.capture.params import WindowParams
from ripple_place.capture.run import Capture
from ripple_place.capture.text import CalibrationText
from ripple_place.capture.writer import BlockLayout, TraceWriter
from ripple_place.workflows import profile as workflow
from tests.crashes import forks
from tests.trace_builders import pack, random_activity, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.capture.params import CaptureParams

N_NEURONS, N_TOKENS, N_BATCHES = 48, 400, 8


def run_capture(model: Path, params: CaptureParams, directory: Path, *, resume: bool, **_: object) -> Capture:
    """Record a random trace, in batches that are noted and continued as those of a real model."""
    text = CalibrationText.of_texts(
        [np.arange(N_TOKENS + 1, dtype=np.int32)], WindowParams(N_TOKENS, N_TOKENS // 2, 64)
    )
    writer = TraceWriter(directory, {"model": model.name}, resume=resume)
    done = int(writer.progress.get("batches", 0))
    active = random_activity(np.random.default_rng(7), N_TOKENS, N_NEURONS)
    for batch in range(done, N_BATCHES):
        time.sleep(0.002)  # So that kills fall here, too.
        writer.append("layers.0", pack(active[batch * N_TOKENS // N_BATCHES : (batch + 1) * N_TOKENS // N_BATCHES]))
        writer.commit({"batches": batch + 1})
    trace = writer.trace({"layers.0": BlockLayout(N_NEURONS)}, text, {"activity": str(params.rule)})
    return Capture(trace, directory, None, None, layer_by_layer=False, n_resumed=done)


def judge(*_: object) -> None:
    """Take the time of a verdict, without the work, which writes nothing."""
    time.sleep(0.3)


def stand_in() -> None:
    """Let a process record from the model above, and come to no verdict."""
    functions: Any = source
    functions.run_capture, functions.require_capture_extra = run_capture, lambda model: None
    judges: Any = workflow
    judges.judge = judge


class ProfileCase:
    """A profile, and what is appended to it: a trace or a model."""

    def __init__(self, root: Path, *, captures: bool) -> None:
        self.root, self.out, self.stderr = root, root / "p", root / "stderr"
        rng = np.random.default_rng(0)
        for name in "ab":
            write_stock_trace(root / name, {"layers.0": random_activity(rng, N_TOKENS, N_NEURONS)}, activity="relu")
        (root / "model").mkdir()
        (root / "model" / "config.json").write_text("{}")
        (root / "text").write_text("some text")
        self.arguments = ["profile", "--out", str(self.out), "--append"]
        self.arguments += [str(root / "model"), "--text", str(root / "text")] if captures else [str(root / "b")]
        first = ["profile", str(root / "a"), "--out", str(self.out), "--no-verdict"]
        assert forks.finish(forks.start(first, self.stderr)) == 0, self.stderr.read_text()
        self.old = self.out.read_bytes()
        begin = time.perf_counter()
        assert self.finish() == 0, self.stderr.read_text()
        self.seconds = time.perf_counter() - begin
        self.new = self.out.read_bytes()
        assert self.new != self.old
        self.names = {path.name for path in root.iterdir()}

    def start_over(self) -> None:
        """Go back to the profile to append to."""
        self.out.write_bytes(self.old)

    def start(self) -> int:
        """Fork a run; return its process id."""
        return forks.start(self.arguments, self.stderr, stand_in)

    def finish(self) -> int:
        """Run to the end; return the exit code."""
        return forks.finish(self.start())

    def strays(self) -> set[str]:
        """Return the names of what is there and was not at the start."""
        return {path.name for path in self.root.iterdir()} - self.names


def run_profile_kills(directory: Path, n_kills: int, seed: int) -> dict[str, int]:
    """Kill runs at random moments and run them again; return how many were hit, and when.

    Parameters
    ----------
    directory : Path
    n_kills : int
        Of each kind of source.
    seed : int
    """
    rng = random.Random(seed)
    hit = {"killed": 0, "capturing": 0, "in the verdict": 0}
    for captures in (False, True):
        root = directory / f"profile-{captures}"
        root.mkdir()
        case = ProfileCase(root, captures=captures)
        n_before = hit["killed"]
        while hit["killed"] < n_before + n_kills:
            case.start_over()
            while forks.kill(case.start(), case.stderr, rng.random() * case.seconds):
                hit["killed"] += 1
                _check_killed(case, hit)
                if rng.random() < 0.6:
                    break
            _check_next_run(case)
        shutil.rmtree(root)
    return hit


def _check_killed(case: ProfileCase, hit: dict[str, int]) -> None:
    """Check what a kill leaves: a whole profile, and nothing unforeseen beside it."""
    found = case.out.read_bytes()
    assert found in (case.old, case.new), "half a profile"
    hit["in the verdict"] += found == case.new
    hit["capturing"] += (case.root / "p.partial").exists()
    unforeseen = {name for name in case.strays() if not name.startswith(".p.")} - {"p.partial"}
    assert not unforeseen, unforeseen


def _check_next_run(case: ProfileCase) -> None:
    """Check that the same command completes what was killed, adds nothing twice, and leaves nothing."""
    is_ended = case.out.read_bytes() == case.new and not (case.root / ".p.lock").exists()
    code = case.finish()
    # A run that had ended, or was killed in its last instant, is not repeated.
    assert code == (2 if is_ended else 0), (code, case.stderr.read_text())
    assert case.out.read_bytes() == case.new, "text lost or doubled"
    assert not case.strays(), case.strays()
