"""Traces with what a predictor said: read, written, joined, and taken for what fired."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.errors import TraceFormatError
from ripple_place.storedarray import StoredArray
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
from ripple_place.trace.files import read_trace, write_trace
from ripple_place.trace.origin import trace_digest
from ripple_place.trace.sources import join_traces
from ripple_place.trace.union import union_of_segments
from tests.trace_builders import pack, random_activity, unpack, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path


def predicted_trace(
    seed: int = 0, *, recall: str | None = "0.99", names: tuple[str, ...] = ("layers.0", "layers.1"),
    without: tuple[str, ...] = (),
) -> ActivationTrace:  # fmt: skip
    """Return a trace of 13 neurons and 12 tokens in two segments, with predictions."""
    rng = np.random.default_rng(seed)
    blocks = {}
    for name in names:
        active, predicted = (pack(random_activity(rng, 12, 13)) for _ in range(2))
        blocks[name] = BlockTrace(13, active, predicted=None if name in without else predicted)
    metadata = {"activity": "relu>0", "perplexity": "9.5", **({} if recall is None else {"predicted_recall": recall})}
    return ActivationTrace(blocks, 12, np.array([0, 6]), None, metadata, ("a",))


def predictions_of(block: BlockTrace) -> np.ndarray:
    """Return predictions as a dense matrix."""
    assert block.predicted is not None
    return unpack(BlockTrace(block.n_neurons, np.asarray(block.predicted)))


def test_files_keep_them(tmp_path: Path) -> None:
    """They stay in the file until they are used; the recall is among the metadata. The digest is of what fired."""
    trace = predicted_trace(without=("layers.1",))
    write_trace(tmp_path / "t", trace)
    again = read_trace(tmp_path / "t")
    block = again.blocks["layers.0"]
    assert isinstance(block.predicted, StoredArray)
    np.testing.assert_array_equal(np.asarray(block.predicted), np.asarray(trace.blocks["layers.0"].predicted))
    assert again.blocks["layers.1"].predicted is None
    assert (again.predicted_recall, again.has_predictions) == (0.99, True)
    assert trace_digest(again) == trace_digest(predicted_trace(names=("layers.0", "layers.1"), without=("layers.0",)))


def test_written_by_others(tmp_path: Path) -> None:
    """As docs/formats.md says, with the library of safetensors; without a recall that is unknown."""
    active, predicted = (random_activity(np.random.default_rng(1), 5, 9) for _ in range(2))
    path = write_stock_trace(tmp_path / "t", {"layers.0": active}, tensors={"layers.0.predicted": pack(predicted)})
    trace = read_trace(path)
    np.testing.assert_array_equal(predictions_of(trace.blocks["layers.0"]), predicted)
    assert trace.predicted_recall is None
    assert trace.as_predicted().metadata["activity"] == "unknown, as predicted"


@pytest.mark.parametrize(
    ("predicted", "recall", "match"),
    [
        (np.zeros((4, 2), np.uint8), "0.9", r"layers\.0\.predicted: found shape \[4, 2\]; expected \[5, 2\]"),
        (np.full((5, 2), 255, np.uint8), "0.9", r"layers\.0\.predicted: found bits set past neuron 8"),
        (np.zeros((5, 2), np.uint8), "99%", r"predicted_recall: found '99%'; expected a share above 0 and below 1"),
        (np.zeros((5, 2), np.uint8), "1", r"predicted_recall: found '1'"),
    ],
)  # fmt: skip
def test_malformed(tmp_path: Path, predicted: np.ndarray, recall: str, match: str) -> None:
    """Shapes, padding and the recall are checked."""
    active = random_activity(np.random.default_rng(1), 5, 9)
    tensors = {"layers.0.predicted": predicted}
    path = write_stock_trace(tmp_path / "t", {"layers.0": active}, tensors=tensors, predicted_recall=recall)
    with pytest.raises(TraceFormatError, match=match):
        read_trace(path)


def test_taken_for_what_fired() -> None:
    """The predicted bits are the active ones then, and nothing is left of what was measured on what fired."""
    trace = predicted_trace()
    as_predicted = trace.as_predicted()
    for name, block in as_predicted.blocks.items():
        np.testing.assert_array_equal(unpack(block), predictions_of(trace.blocks[name]))
        assert block.predicted is block.magnitudes is None
    assert as_predicted.metadata == {"activity": "relu>0, as predicted at recall 0.99"}
    assert (as_predicted.sources, as_predicted.is_as_predicted, trace.is_as_predicted) == (("a",), True, False)
    with pytest.raises(TraceFormatError, match=r"layers\.1: found no predictions; .* Record them with `ripple-place"):
        predicted_trace(without=("layers.1",)).as_predicted()


def test_selected() -> None:
    """Blocks that are left keep theirs; without any, the recall means nothing."""
    trace = predicted_trace(without=("layers.1",))
    assert trace.select(["layers.0"]).predicted_recall == 0.99
    assert trace.select(["layers.1"]).predicted_recall is None


def test_one_after_the_other(tmp_path: Path) -> None:
    """A block keeps its predictions if all parts have some, at one recall."""
    one, other = predicted_trace(0), predicted_trace(1, without=("layers.1",))
    paths = [tmp_path / "one", tmp_path / "other"]
    joined = join_traces(paths, [one, other])
    expected = [predictions_of(part.blocks["layers.0"]) for part in (one, other)]
    np.testing.assert_array_equal(predictions_of(joined.blocks["layers.0"]), np.concatenate(expected))
    assert joined.blocks["layers.1"].predicted is None
    assert joined.predicted_recall == 0.99
    for different in (
        replace(one, metadata={**one.metadata, "predicted_recall": "0.95"}),
        predicted_trace(recall=None),
    ):
        mixed = join_traces(paths, [one, different])
        assert not mixed.has_predictions
        assert "predicted_recall" not in mixed.metadata


def test_side_by_side(tmp_path: Path) -> None:
    """Blocks keep what they have, and the recall is that of those that have some."""
    paths = [tmp_path / "one", tmp_path / "other"]
    bare = predicted_trace(names=("layers.7",), without=("layers.7",), recall=None)
    for order in (1, -1):
        joined = join_traces(paths, [predicted_trace(), bare][::order])
        assert [block.predicted is None for block in joined.blocks.values()] == [False, False, True]
        assert joined.predicted_recall == 0.99
    differing = predicted_trace(names=("layers.7",), recall="0.9")
    assert not join_traces(paths, [predicted_trace(), differing]).has_predictions


def test_a_batch_reads_what_any_of_its_sequences_is_predicted_to_need() -> None:
    """The union of predictions is that of the bits."""
    trace = predicted_trace()
    union = union_of_segments(trace, 2)
    for name, block in union.blocks.items():
        dense = predictions_of(trace.blocks[name])
        np.testing.assert_array_equal(predictions_of(block), dense[:6] | dense[6:])
    assert union.predicted_recall == 0.99
    as_predicted = union_of_segments(trace.as_predicted(), 2)
    np.testing.assert_array_equal(unpack(as_predicted.blocks["layers.0"]), predictions_of(union.blocks["layers.0"]))
