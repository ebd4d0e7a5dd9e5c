"""Rows written while a model runs: read back as a trace, and good again after an interruption."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.capture import writer as module
from ripple_place.capture.params import WindowParams
from ripple_place.capture.text import CalibrationText
from ripple_place.capture.writer import BlockLayout, TraceWriter
from ripple_place.errors import TraceFormatError, UsageError
from tests.trace_builders import pack, random_activity, unpack

if TYPE_CHECKING:
    from pathlib import Path

TEXT = CalibrationText.of_texts([np.arange(100, dtype=np.int32)], WindowParams(20, 10, 4))
LAYOUTS = {"layers.0": BlockLayout(13), "layers.0.experts.1": BlockLayout(9, routed=True),
           "layers.0.experts.2": BlockLayout(9, routed=True)}  # fmt: skip


@pytest.mark.parametrize("flush_bytes", [0, 10**6])
def test_rows_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flush_bytes: int) -> None:
    """Appended in pieces, interrupted and cut back: what was committed, and blocks without a row."""
    monkeypatch.setattr(module, "FLUSH_BYTES", flush_bytes)
    rng = np.random.default_rng(0)
    active, routed = random_activity(rng, 20, 13), random_activity(rng, 3, 9)
    values = rng.random(active.sum()).astype(np.float32)
    starts = np.concatenate([[0], np.cumsum(active.sum(axis=1))])

    def append(writer: TraceWriter, rows: slice) -> None:
        part = active[rows]
        span = slice(int(starts[rows.start]), int(starts[rows.stop]))
        magnitudes = (part.sum(axis=1), np.nonzero(part)[1].astype(np.int32), values[span])
        writer.append("layers.0", pack(part), None, magnitudes)

    writer = TraceWriter(tmp_path / "w", {"model": "m"}, resume=False)
    append(writer, slice(0, 7))
    writer.append("layers.0.experts.1", pack(routed), np.array([2, 3, 5], np.int32))
    writer.commit({"batches": 1})
    append(writer, slice(7, 11))
    writer.append("layers.0.experts.2", pack(routed), np.array([7, 8, 9], np.int32))
    writer._flush()  # Written, and not noted: the process ends here.

    again = TraceWriter(tmp_path / "w", {"model": "m"}, resume=True)
    assert again.progress == {"batches": 1}
    append(again, slice(7, 20))
    again.commit({"batches": 2})
    trace = again.trace(LAYOUTS, TEXT, {"activity": "relu"})
    np.testing.assert_array_equal(unpack(trace.blocks["layers.0"]), active)
    magnitudes = trace.blocks["layers.0"].magnitudes
    assert magnitudes is not None
    np.testing.assert_array_equal(magnitudes.values, values)
    np.testing.assert_array_equal(magnitudes.indptr, starts)
    np.testing.assert_array_equal(unpack(trace.blocks["layers.0.experts.1"]), routed)
    assert trace.blocks["layers.0.experts.1"].token_index.tolist() == [2, 3, 5]  # type: ignore[union-attr]
    assert trace.blocks["layers.0.experts.2"].n_rows == 0
    assert trace.segment_starts.tolist() == [0, 10]


def test_begun_anew(tmp_path: Path) -> None:
    """Without resume, what an earlier capture left is gone."""
    TraceWriter(tmp_path / "w", {}, resume=False).commit({"batches": 3})
    (tmp_path / "w" / "layers.9.active.raw").write_bytes(b"old")
    writer = TraceWriter(tmp_path / "w", {}, resume=False)
    assert writer.progress == {}
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["state.json"]


def test_another_capture(tmp_path: Path) -> None:
    """Rows of another text must not be mixed in; the message says what differs."""
    TraceWriter(tmp_path / "w", {"text": "a", "rule": "relu"}, resume=False)
    with pytest.raises(UsageError, match=r"w: found an interrupted capture with another text; .* begin anew: --force"):
        TraceWriter(tmp_path / "w", {"text": "b", "rule": "relu"}, resume=True)


@pytest.mark.parametrize(
    "state",
    ["", "[]", "{}", '{"identity": {}, "progress": 1, "sizes": {}}',
     json.dumps({"identity": {}, "progress": {}, "sizes": {"layers.0.active.raw": 5}})],
)  # fmt: skip
def test_damaged_states(tmp_path: Path, state: str) -> None:
    """A state that cannot be trusted, or files shorter than it says, end the attempt to go on."""
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "state.json").write_text(state)
    (tmp_path / "w" / "layers.0.active.raw").write_bytes(b"abc")
    with pytest.raises(TraceFormatError, match=r"state.json: found .* begin anew: --force|Begin anew: --force"):
        TraceWriter(tmp_path / "w", {}, resume=True)
