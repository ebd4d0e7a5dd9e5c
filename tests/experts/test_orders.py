"""Orders of experts on storage: what they save on tokens that did not make them, and whether the verdict says so."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest

from ripple_place.experts.verdict.judge import ExpertVerdict, judge_experts
from ripple_place.experts.verdict.orders import count_reads, greedy_order
from ripple_place.experts.verdict.sentences import sentences
from tests.experts.builders import routed
from tests.flash.builders import linear_device

PAGE = 4096
NEITHER = "Neither order pays: not that of experts on storage, nor that of neurons inside them, which are read whole."
PAYS = "That order of experts pays; one of neurons inside them does not, since they are read whole."
DEPENDS = "Whether that pays depends on what a read takes"


def plain_reads(uses: np.ndarray, order: np.ndarray) -> int:
    """Return runs of used experts, slot by slot."""
    n_reads = 0
    for row in uses:
        before = False
        for expert in order:
            n_reads += bool(row[expert]) and not before
            before = bool(row[expert])
    return n_reads


@pytest.mark.parametrize("seed", range(20))
def test_reads_and_orders(seed: int) -> None:
    """Reads equal a plain count; a greedy order is a permutation, and on few experts close to the best there is."""
    rng = np.random.default_rng(seed)
    uses = rng.random((int(rng.integers(1, 40)), int(rng.integers(1, 7)))) < rng.random()
    order = greedy_order(uses)
    assert sorted(order) == list(range(uses.shape[1]))
    assert count_reads(uses, order) == plain_reads(uses, order)
    best = min(plain_reads(uses, np.array(each)) for each in permutations(range(uses.shape[1])))
    joined = int(uses.sum()) - best
    # Joining the heaviest edge first gets half of what the best path joins at least.
    assert int(uses.sum()) - count_reads(uses, order) >= joined / 2


def test_pairs_are_joined_by_count() -> None:
    """0 and 3 three times, 1 and 2 twice, 3 and 1 once: one chain, and 4, which nothing is used with, behind it."""
    rows = [[0, 3]] * 3 + [[1, 2]] * 2 + [[1, 3], [4]]
    uses = np.zeros((len(rows), 5), bool)
    for row, experts in zip(uses, rows, strict=True):
        row[experts] = True
    assert greedy_order(uses).tolist() in ([0, 3, 1, 2, 4], [2, 1, 3, 0, 4])
    assert greedy_order(np.zeros((3, 4), bool)).tolist() == [0, 1, 2, 3]


def verdict_of(pages: int | None) -> ExpertVerdict:
    """Return the verdict on tokens that use two experts each, always the same pairs, which lie far apart."""
    tokens = [[one, one + 8] for one in np.random.default_rng(0).integers(0, 8, 400).tolist()]
    trace = routed([tokens], n_experts=16, unit_bytes=None if pages is None else [pages * PAGE])
    return judge_experts(trace, None if pages is None else linear_device())


def test_an_order_that_pays() -> None:
    """Experts of three pages on a device whose reads take 10 us besides 1 us a page: of 26 us two together save 10."""
    verdict = verdict_of(3)
    assert verdict.orders is not None
    assert (verdict.orders.alone, verdict.orders.greedy) == (2.0, 1.0)
    # In the original order 7 and 8 are neighbours, and never used together.
    assert verdict.orders.original == 2.0
    assert verdict.order_saves == pytest.approx(10 / 26)
    lines = sentences(verdict)
    assert PAYS in lines
    assert NEITHER not in lines
    assert any("1 reads a token, and 2 in the original order" in line for line in lines)
    assert verdict.to_json()["order_saves"] == verdict.order_saves
    assert verdict.to_json()["reads_per_token_by_order"] == {"alone": 2.0, "original": 2.0, "greedy": 1.0}


def test_neither_order_pays() -> None:
    """Where a read's start is nothing beside its bytes, half of the reads are worth nothing."""
    verdict = verdict_of(3000)
    assert verdict.orders is not None
    assert verdict.orders.saved_share == 0.5
    assert verdict.order_saves is not None
    assert 0 < verdict.order_saves < 0.02
    lines = sentences(verdict)
    assert NEITHER in lines
    assert PAYS not in lines


def test_an_order_that_costs() -> None:
    """Experts whose neighbours change with the second half: an order made from the first half does not pay."""
    tokens = [[t % 8, t % 8 + 8] for t in range(64)] + [[t % 15, t % 15 + 1] for t in range(64)]
    verdict = judge_experts(routed([tokens], n_experts=16, unit_bytes=[3 * PAGE]), linear_device())
    assert verdict.order_saves is not None
    assert verdict.order_saves < 0
    assert NEITHER in sentences(verdict)


def test_without_a_device() -> None:
    """Reads are known, and their time is not; of orders that save no reads, that is enough."""
    lines = sentences(verdict_of(None))
    assert any(line.startswith(DEPENDS) for line in lines)
    assert not {PAYS, NEITHER} & {*lines}
    tokens = [[t % 15, t % 15 + 1] for t in range(60)]
    assert NEITHER in sentences(judge_experts(routed([tokens], n_experts=16)))


def test_too_few_tokens() -> None:
    """One token makes no order and judges none: nothing is said."""
    verdict = judge_experts(routed([[[0, 1]]], n_experts=16))
    assert (verdict.orders, verdict.order_saves) == (None, None)
    assert verdict.to_json()["reads_per_token_by_order"] is None
    lines = sentences(verdict)
    assert not any("pays:" in line or "reads a token" in line for line in lines)
