"""Serving experts: accesses of a prompt once a batch, caches by layer and of all, and what is read ahead."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.experts.accesses import list_accesses
from ripple_place.experts.prefetch import Prefetch, guess
from ripple_place.experts.serving import Memory, once_per_batch, serve
from ripple_place.trace.activation_trace import DECODE, PREFILL
from tests.experts.builders import routed

START = np.zeros(1, np.int64)


def memory(policy: str, *capacity_bytes: int, n_items: int = 16, **more: object) -> Memory:
    """Return caches of experts of a byte each."""
    ones = np.ones(n_items, np.int64)
    return Memory(policy, capacity_bytes, ones, ones, ones.astype(float), **more)  # type: ignore[arg-type]


def test_prompts_ask_once_a_layer() -> None:
    """Two tokens of a prompt share expert 1 of layer 0, which the second asks for; decoded ones ask by themselves."""
    trace = routed([[[0, 1], [1, 2], [1], [1]], [[4], [4], [5], [4]]], [PREFILL, PREFILL, DECODE, DECODE])
    once = once_per_batch(list_accesses(trace))
    assert (once.items.tolist(), once.tokens.tolist()) == (
        [0, 1, 2, 8 + 4, 1, 8 + 5, 1, 8 + 4],
        [0, 1, 1, 1, 2, 2, 3, 3],
    )
    assert once.is_decode.tolist() == [False] * 4 + [True] * 4


def test_one_pool_and_a_cache_for_each_layer() -> None:
    """Three tokens, two layers, LRU. A pool of 2 keeps the last two accesses; two caches of 1 the layer's own last."""
    accesses = list_accesses(routed([[[0], [0], [1]], [[3], [3], [3]]]))
    pooled = serve(accesses, memory("lru", 2), START)
    assert pooled.is_hit.tolist() == [False, False, True, True, False, True]
    apart = serve(accesses, memory("lru", 1, 1), START)
    assert apart.is_hit.tolist() == [False, False, True, True, False, True]
    # Of three bytes in all, two for the first layer: nothing else changes but that 1 does not push out 0.
    assert serve(accesses, memory("lru", 0, 1), START).is_hit.tolist() == [False, False, False, True, False, True]
    assert serve(accesses, memory("none", 2), START).is_hit.sum() == 0


def test_bound_and_segments() -> None:
    """The bound hits where LRU cannot; a cache that is emptied before token 2 finds nothing there."""
    accesses = list_accesses(routed([[[0], [1], [0], [1], [0]]]))
    served = serve(accesses, memory("lru", 1), START, with_bound=True)
    assert served.is_hit.sum() == 0
    assert served.is_best_hit is not None
    assert served.is_best_hit.sum() == 0  # A miss always enters: one byte serves nothing here.
    served = serve(accesses, memory("lru", 2, reset_tokens=(0, 2)), START, with_bound=True)
    assert served.is_hit.tolist() == [False, False, False, False, True]


def test_what_prompts_miss_may_stay_out() -> None:
    """Admitted, expert 0 of the prompt serves the token after it; otherwise that token reads it."""
    accesses = list_accesses(routed([[[0], [0], [0]]], [PREFILL, DECODE, DECODE]))
    assert serve(accesses, memory("lru", 2), START).is_hit.tolist() == [False, True, True]
    bypassed = serve(accesses, memory("lru", 2, admits_prefill=False), START)
    assert bypassed.is_hit.tolist() == [False, False, True]


def test_guesses_of_the_token_before() -> None:
    """Nothing for the first token, in the prompt, or across segments."""
    trace = routed(
        [[[0], [1, 2], [3], [4]], [[5], [6], [7], [0]]], [PREFILL, DECODE, DECODE, DECODE], segment_starts=(0, 3)
    )
    accesses = once_per_batch(list_accesses(trace))
    guesses = guess(accesses, Prefetch("previous"), np.zeros(16, np.int64), trace.segment_starts)
    # Token 2 is guessed from token 1: 1 and 2 in layer 0, 6 in layer 1. Its accesses are at places 5 and 6.
    assert list(zip(guesses.items.tolist(), guesses.before.tolist(), strict=True)) == [(1, 5), (2, 5), (8 + 6, 6)]


def test_guesses_of_the_hottest() -> None:
    """The two most frequent of each layer, the lower one of equals, for each token."""
    accesses = list_accesses(routed([[[0], [1]]], n_experts=4))
    guesses = guess(accesses, Prefetch("hottest", 2), np.array([1, 3, 1, 0]), START)
    assert list(zip(guesses.items.tolist(), guesses.before.tolist(), strict=True)) == [(1, 0), (0, 0), (1, 1), (0, 1)]


def test_reading_ahead_by_hand() -> None:
    """Without a cache, token 1 uses 0 and 2 of what token 0 used, 0 and 1: one right, one in vain."""
    accesses = list_accesses(routed([[[0, 1], [0, 2]]]))
    served = serve(accesses, memory("none", 0), START, Prefetch("previous"))
    assert served.is_ahead.tolist() == [False, False, True, False]
    assert served.ahead.items.tolist() == [0, 1]
    assert served.n_guesses == 2
    # In a cache that holds what the token before used, nothing is left to read ahead.
    cached = serve(accesses, memory("lru", 4), START, Prefetch("previous"))
    assert (cached.ahead.items.size, cached.n_guesses) == (0, 2)


@pytest.mark.parametrize("policy", ["lru", "lfu", "s3fifo", "sieve", "greedydual", "belady", "pinned+lru"])
def test_reading_ahead_leaves_the_cache_alone(policy: str) -> None:
    """Hits are the same with and without, and what is read ahead was not there."""
    rng = np.random.default_rng(3)
    layers = [[sorted(rng.choice(8, 2, replace=False).tolist()) for _ in range(40)] for _ in range(2)]
    accesses = list_accesses(routed(layers))
    plain = serve(accesses, memory(policy, 3, 2), START)
    for prefetch in (Prefetch("previous"), Prefetch("hottest", 3)):
        ahead = serve(accesses, memory(policy, 3, 2), START, prefetch)
        assert ahead.is_hit.tolist() == plain.is_hit.tolist()
        assert not (ahead.is_hit & ahead.is_ahead).any()
        # A cache that goes by recency has what the token before used.
        assert ahead.is_ahead.any() or prefetch.kind == "previous"


@pytest.mark.parametrize("text", ["", "hottest", "hottest:0", "previous:2", "next"])
def test_what_is_no_prefetch(text: str) -> None:
    """A kind that is not known, or a number that is none."""
    with pytest.raises(UsageError, match="--prefetch"):
        Prefetch.parse(text)
    assert str(Prefetch.parse("hottest:3")) == "hottest:3"
