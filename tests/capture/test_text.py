"""Segments, windows and batches: what is recorded, how often, and with what context."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripple_place.capture.batches import BatchLayout
from ripple_place.capture.params import WindowParams
from ripple_place.capture.text import CalibrationText, read_texts
from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

sizes = st.integers(1, 60)


@st.composite
def texts(draw: st.DrawFn) -> CalibrationText:
    """Draw some texts and windows over them."""
    lengths = draw(st.lists(st.integers(1, 200), min_size=1, max_size=4))
    params = WindowParams(draw(st.integers(1, 150)), draw(sizes), draw(st.integers(2, 40)))
    start = 0
    parts = []
    for length in lengths:
        parts.append(np.arange(start, start + length, dtype=np.int32))
        start += length
    return CalibrationText.of_texts(parts, params)


@given(text=texts())
def test_every_recorded_token_is_seen_once_and_with_context(text: CalibrationText) -> None:
    """Over all windows each token of each segment is recorded exactly once, in order, by a window that ends past it."""
    size = text.params.sequence_length
    recorded = []
    segment_of = np.repeat(np.arange(len(text.segments)), [length for _, length in text.segments])
    for window in text.windows():
        assert 1 <= window.length <= size
        first = window.start + window.n_context
        recorded += range(first, window.start + window.length)
        start, length = text.segments[segment_of[window.token]]
        assert start <= window.start
        assert window.start + window.length <= start + length
        # Half a window of context, but for a segment's beginning.
        assert first == start or window.n_context >= size - size // 2
    assert text.ids[recorded].tolist() == text.tokens.tolist()


@given(text=texts())
def test_windows_apart_see_every_token_once(text: CalibrationText) -> None:
    """Windows that do not overlap cover the recorded tokens in order, each once, none across the end of a segment."""
    seen = []
    for window in text.windows_apart():
        assert 1 <= window.length <= text.params.sequence_length
        assert window.n_context == 0
        assert window.token == len(seen)
        seen += range(window.start, window.start + window.length)
        assert any(start <= window.start and seen[-1] < start + length for start, length in text.segments)
    assert text.ids[seen].tolist() == text.tokens.tolist()
    batches = text.batches_apart(BatchLayout())
    assert [window for batch in batches for window in batch.windows] == list(text.windows_apart())
    assert max(len(batch.windows) for batch in batches) <= text.params.batch_size


@given(text=texts())
def test_segments_do_not_overlap(text: CalibrationText) -> None:
    """Within a text, segments lie apart and in order; their starts count recorded tokens."""
    ends = [start + length for start, length in text.segments]
    assert all(end <= start for end, (start, _) in zip(ends, text.segments[1:], strict=False))
    assert ends[-1] <= text.ids.size
    assert text.segment_starts[0] == 0
    assert np.append(text.segment_starts, text.n_tokens).tolist() == np.cumsum(
        [0, *(length for _, length in text.segments)]
    ).tolist()  # fmt: skip


@given(text=texts(), encoder_decoder=st.booleans())
def test_rows_of_batches(text: CalibrationText, encoder_decoder: bool) -> None:
    """Whatever the batches and pads, the id at a recorded position is the recorded token; none is recorded twice."""
    layout = BatchLayout(pad_id=-5, decoder_start_id=-7 if encoder_decoder else None)
    seen: dict[str, list[int]] = {}
    for batch in text.batches(layout):
        inputs = batch.inputs()
        names = {"": "input_ids", "encoder": "input_ids", "decoder": "decoder_input_ids"}
        for stack, rows in batch.rows().items():
            ids = inputs[names[stack]]
            assert rows.n_positions == ids.size
            np.testing.assert_array_equal(ids.ravel()[rows.positions], text.tokens[rows.tokens])
            seen.setdefault(stack, []).extend(rows.tokens.tolist())
        masks = [inputs[name] for name in ("attention_mask", "decoder_attention_mask") if name in inputs]
        padded = any((inputs[name] == -5).any() for name in set(names.values()) & inputs.keys())
        assert bool(masks) == padded
    for tokens in seen.values():
        assert tokens == sorted(set(tokens))
    if not encoder_decoder:
        assert seen[""] == list(range(text.n_tokens))


@given(text=texts())
def test_targets(text: CalibrationText) -> None:
    """The target of a position is the id that follows it in its window."""
    for batch in text.batches(BatchLayout(pad_id=-5)):
        ids = batch.inputs()["input_ids"]
        positions, targets = batch.targets()
        np.testing.assert_array_equal(ids.ravel()[positions] + 1, targets)  # The texts count upwards.
        assert set(positions) <= set(batch.rows()[""].positions)
        assert positions.size == sum(window.length - window.n_context - 1 for window in batch.windows)


def test_the_windows_of_shared_traces() -> None:
    """Four segments of 2048, evenly spaced; windows of 256 with stride 128: as docs/profiling.md says."""
    text = CalibrationText.of_texts([np.arange(100_000, dtype=np.int32)], WindowParams())
    assert [start for start, _ in text.segments] == np.linspace(0, 100_000 - 2049, 4).astype(int).tolist()
    windows = list(text.windows())
    assert len(windows) == 4 * 15
    assert [(window.start, window.length, window.n_context) for window in windows[:3]] == [
        (0, 256, 0), (128, 256, 128), (256, 256, 128),
    ]  # fmt: skip
    assert {len(batch.windows) for batch in text.batches(BatchLayout())} == {4}


@pytest.mark.parametrize(
    ("max_tokens", "lengths"),
    [(8192, [2048] * 4), (2048, [512] * 4), (600, [150] * 4), (300, [128, 128]), (100, [100]), (20_000, [2048] * 9)],
)
def test_a_short_profile_sees_all_of_the_text(max_tokens: int, lengths: list[int]) -> None:
    """At least four segments, from beginning to end, unless they had less than half a window; one is in the middle."""
    text = CalibrationText.of_texts([np.arange(100_000, dtype=np.int32)], WindowParams(max_tokens=max_tokens))
    starts = [start for start, _ in text.segments]
    assert [length for _, length in text.segments] == lengths
    if len(starts) > 1:
        assert (starts[0], starts[-1]) == (0, 100_000 - lengths[-1] - 1)
    else:
        assert starts == [(100_000 - lengths[0] - 1) // 2]


def test_several_texts_share_the_segments() -> None:
    """In proportion to their lengths, at least one each."""
    parts = [np.zeros(size, np.int32) for size in (3000, 900, 100)]
    text = CalibrationText.of_texts(parts, WindowParams(max_tokens=1000, segment_length=100))
    starts = np.array([start for start, _ in text.segments])
    assert np.histogram(starts, [0, 3000, 3900, 4000])[0].tolist() == [7, 2, 1]


def test_texts_are_utf8(tmp_path: Path) -> None:
    """Also with the mark that some editors begin it with, which is no part of the text; others are refused."""

    def tokenizer(text: str, **_: object) -> dict[str, list[int]]:
        return {"input_ids": list(map(ord, text))}

    path = tmp_path / "text"
    path.write_text("caf\u00e9", encoding="utf-8-sig")
    assert read_texts([path], tokenizer)[0].tolist() == list(map(ord, "caf\u00e9"))
    for encoding in ("utf-16", "latin-1"):
        path.write_text("caf\u00e9", encoding=encoding)
        with pytest.raises(UsageError, match="expected text in UTF-8"):
            read_texts([path], tokenizer)


@pytest.mark.parametrize("parts", [[], [np.zeros(0, np.int32)]])
def test_no_tokens(parts: list[np.ndarray]) -> None:
    """Nothing to run on is said before a model is loaded."""
    with pytest.raises(UsageError, match="--text: found a text without tokens"):
        CalibrationText.of_texts(parts, WindowParams())


@pytest.mark.parametrize("values", [(0, 1, 2), (1, 0, 2), (1, 1, 1)])
def test_windows_of_nothing(values: tuple[int, int, int]) -> None:
    """A window needs a token to see and one to follow."""
    with pytest.raises(UsageError, match="expected at least 1, 1 and 2"):
        WindowParams(*values)
