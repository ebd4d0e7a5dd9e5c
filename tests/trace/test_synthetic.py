"""Synthetic workloads: the same bytes for the same source, one model to all its texts, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numba
import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.ordering.frequency import frequency_order
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.ordering.objective import reads_per_token
from ripple_place.trace import synthetic
from ripple_place.trace.sources import read_source, read_sources
from ripple_place.trace.synthetic import MODELS, SyntheticSource, draw_trace, feature_shares
from tests.trace_builders import unpack

if TYPE_CHECKING:
    from ripple_place.trace.activation_trace import ActivationTrace


def draw(name: str = "opt-6.7b", **options: int | float) -> ActivationTrace:
    """Draw a small trace."""
    return draw_trace(SyntheticSource(name, **{"tokens": 48, "blocks": 2, "neurons": 76, **options}))  # type: ignore[arg-type]


def content(trace: ActivationTrace) -> list[bytes]:
    """Return all bits."""
    return [block.active.tobytes() for block in trace.blocks.values()]


def test_the_same_source_gives_the_same_bytes() -> None:
    """And each of seed, text and model gives others."""
    assert content(draw()) == content(draw())
    others = [draw(seed=1), draw(text=2), draw("llama-2-7b"), draw(active=0.1)]
    assert len({b"".join(content(trace)) for trace in [draw(), *others]}) == 5


def test_blocks_differ() -> None:
    """Every block has a wiring of its own."""
    first, second = content(draw())
    assert first != second


def test_the_bytes_do_not_depend_on_threads_or_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One thread or all, one segment at a time or four: every random number is a function of its place."""
    monkeypatch.setattr(synthetic, "SEGMENT_TOKENS", 16)
    expected = content(draw())
    monkeypatch.setattr(synthetic, "CHUNK_SEGMENTS", 1)
    assert content(draw()) == expected
    n_threads = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        assert content(draw()) == expected
    finally:
        numba.set_num_threads(n_threads)


def test_a_longer_trace_starts_like_a_shorter_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a quick try is a part of the whole, across chunks and within a segment."""
    monkeypatch.setattr(synthetic, "SEGMENT_TOKENS", 16)
    long, short = draw(tokens=100), draw(tokens=40)
    for name, block in short.blocks.items():
        np.testing.assert_array_equal(long.blocks[name].active[:40], block.active)
    assert long.segment_starts.tolist() == list(range(0, 100, 16))


@pytest.mark.parametrize("active", [0.0, 0.03, 0.5, 0.9])
@pytest.mark.parametrize("name", sorted(MODELS))
def test_exactly_the_asked_share_fires(name: str, active: float) -> None:
    """The model's own share by default; the same number of neurons for every token."""
    trace = draw(name, active=active, blocks=1)
    share = active or MODELS[name].active_share
    assert (unpack(trace.blocks["layers.0"]).sum(axis=1) == round(share * 76)).all()


def test_texts_of_one_seed_are_texts_to_one_model() -> None:
    """Neurons that fire together in one text do so in another, which they do not in another model's text.

    Ten best pairs of each neuron by lift, judged by how often they fire together elsewhere.
    """
    size = {"tokens": 400, "blocks": 1, "neurons": 96, "active": 0.08}
    learned, same, other = (
        unpack(draw(text=text, seed=seed, **size).blocks["layers.0"]).astype(float)
        for text, seed in ((1, 0), (2, 0), (2, 1))
    )
    lift = np.corrcoef(learned.T + 1e-9 * np.arange(96)[:, None])
    np.fill_diagonal(lift, -1)
    best = np.argsort(-lift, axis=None)[:60]
    again, elsewhere = (np.nanmean(np.corrcoef(trace.T).ravel()[best]) for trace in (same, other))
    assert again > 0.3
    assert elsewhere < 0.1


def test_orderings_rank_as_published() -> None:
    """Checkpoint order beats chance a little, hot-cold checkpoint order, and greedy hot-cold, on text not seen."""
    size = {"tokens": 320, "blocks": 1, "neurons": 256}
    profile, test = (NeuronBits.of_block(draw(text=text, **size).blocks["layers.0"]) for text in (1, 2))
    orders = [np.arange(256, dtype=np.int32), frequency_order(profile.frequency()), greedy_path(profile)]
    reads = [reads_per_token(test, order) for order in orders]
    assert reads[0] > reads[1] > reads[2]
    assert reads[0] / reads[2] > 1.3


@pytest.mark.parametrize(
    ("n_features", "mean", "zipf"), [(4, 0.5, 1.0), (50, 0.2, 3.2), (50, 0.9, 3.2), (800, 0.025, 0.6)]
)
def test_feature_shares_have_the_mean_they_should(n_features: int, mean: float, zipf: float) -> None:
    """Descending, never above the cap, and right on average, however many reach the cap."""
    shares = feature_shares(n_features, mean, zipf)
    assert shares.mean() == pytest.approx(mean)
    assert shares.max() <= synthetic.MOST_OFTEN_ON
    assert (np.diff(shares) <= 0).all()


def test_a_source_is_read_like_a_file() -> None:
    """With its options, and next to others: two texts are joined one after the other."""
    source = "synthetic:llama-2-7b,tokens=40,blocks=1,neurons=64,active=.25,seed=3,text={}"
    trace = read_source(Path(source.format(1)))
    assert content(trace) == content(draw_trace(SyntheticSource("llama-2-7b", 40, 1, 64, 0.25, 3, 1)))
    assert trace.metadata == {
        "activity": "the 16 highest of 64",
        "model": "synthetic:llama-2-7b, seed 3",
        "dataset": "synthetic text 1",
    }
    joined = read_sources([Path(source.format(text)) for text in (1, 2)])
    assert (joined.n_tokens, joined.segment_starts.tolist()) == (80, [0, 40])


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("synthetic:", r"synthetic:: found no such .*; expected synthetic:opt-6.7b or synthetic:llama-2-7b"),
        ("synthetic:opt", "synthetic:opt: found no such synthetic workload"),
        ("synthetic:opt-6.7b,", "found ''; expected a number for one of tokens, blocks, neurons, active, seed, text"),
        ("synthetic:opt-6.7b,token=5", "found 'token=5'"),
        ("synthetic:opt-6.7b,name=5", "found 'name=5'"),
        ("synthetic:opt-6.7b,tokens=-5", "found 'tokens=-5'"),
        ("synthetic:opt-6.7b,tokens=5,tokens=6", "found 'tokens=6'; expected .*, each at most once"),
        ("synthetic:opt-6.7b,active=2", "found 'active=2'"),
        ("synthetic:opt-6.7b,active=.95,tokens=0", "found tokens=0, active=0.95; expected 1 to 16777216 tokens"),
        ("synthetic:opt-6.7b,neurons=8", "found neurons=8"),
        ("synthetic:opt-6.7b,blocks=1024,tokens=9999999", "found a trace of 20971517902848 bytes; expected at most"),
    ],
)
def test_bad_sources_are_refused(source: str, message: str) -> None:
    """As a wrong use, naming what there is, and before anything is drawn."""
    with pytest.raises(UsageError, match=message):
        read_source(Path(source))
