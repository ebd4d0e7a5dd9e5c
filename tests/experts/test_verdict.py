"""The verdict on routes: hot sets, reuse, hits against slots and communities that were planted, or are not there."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.experts.caches import BOUND
from ripple_place.experts.verdict.communities import communities
from ripple_place.experts.verdict.hot_set import hot_set, new_experts, top_shares
from ripple_place.experts.verdict.judge import judge_experts
from ripple_place.experts.verdict.reuse import reuse
from ripple_place.experts.verdict.sentences import sentences
from ripple_place.flash.device.files import load_device
from ripple_place.pages.experts_page import experts_page
from ripple_place.trace.activation_trace import DECODE, PREFILL, ActivationTrace, BlockTrace
from tests.trace_builders import pack


def routes(uses: list[np.ndarray], n_prompt: int = 0, **metadata: str) -> ActivationTrace:
    """Return a trace of layers from which experts each token uses."""
    n_tokens = len(uses[0])
    phases = np.full(n_tokens, DECODE, np.uint8)
    phases[:n_prompt] = PREFILL
    blocks = {f"layers.{layer}": BlockTrace(used.shape[1], pack(used)) for layer, used in enumerate(uses)}
    return ActivationTrace(blocks, n_tokens, np.array([0]), None, {"unit": "expert", **metadata}, phases=phases)


def drawn(rng: np.random.Generator, weights: np.ndarray, n_tokens: int, used: int = 2) -> np.ndarray:
    """Return uses of experts that are drawn by weight, `used` a token."""
    uses = np.zeros((n_tokens, weights.size), bool)
    for row in uses:
        row[rng.choice(weights.size, used, replace=False, p=weights / weights.sum())] = True
    return uses


def test_shares_by_hand() -> None:
    """Twenty experts: the hottest tenth is two, a quarter five, half ten."""
    counts = np.array([10, 6, 1, 1, 1, 1, *[0] * 14])
    assert top_shares(counts) == pytest.approx((16 / 20, 19 / 20, 1.0))
    experts = np.array([0, 1, 0, 2, 0, 3], np.int32)
    found = hot_set(experts, np.array([0, 0, 1, 1, 2, 2], np.int32), 4, 2)
    assert found.seen_share == 1.0
    assert found.tokens_to_half_seen == 1
    assert hot_set(experts[:1], np.zeros(1, np.int32), 4, 1).tokens_to_half_seen is None


def test_reuse_by_hand() -> None:
    """Of the second token's experts one was used before, of the third's none; a segment begins at the fourth."""
    uses = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 1, 0, 1], [0, 1, 0, 1]], bool)
    found = reuse(uses, np.array([False, True, True, False]))
    assert found.last_token == pytest.approx(1 / 4)
    # The list is made from the first two tokens: experts 0 and 1; the two others use 1 and 3.
    assert found.static_list == pytest.approx(1 / 2)
    assert found.chance == pytest.approx(1 / 2)
    assert reuse(np.zeros((0, 4), bool), np.zeros(0, bool)).last_token is None


def test_a_hot_set_is_found_and_an_even_use_is_not_one() -> None:
    """By what chance would show in as many tokens."""
    rng = np.random.default_rng(0)
    hot = routes([drawn(rng, np.arange(1, 41) ** -1.5, 400)])
    even = routes([drawn(rng, np.ones(40), 400)])
    assert sentences(judge_experts(hot))[1].startswith("There is a hot set")
    assert sentences(judge_experts(even))[1].startswith("There is no hot set")


def test_planted_communities_mean_something_and_independent_experts_do_not() -> None:
    """Groups of four experts of which a token uses two."""
    rng = np.random.default_rng(1)
    group = rng.integers(0, 5, 600)
    uses = np.zeros((600, 20), bool)
    for token, row in enumerate(uses):
        row[4 * group[token] + rng.choice(4, 2, replace=False)] = True
    planted = communities(uses)
    assert planted.n_communities == 5
    assert planted.mean_something
    assert not communities(drawn(rng, np.ones(20), 600)).mean_something
    assert communities(np.eye(4, dtype=bool)).modularity == 0.0


def test_new_experts_are_counted_once() -> None:
    """What the prompt used is not new any more."""
    from ripple_place.experts.accesses import list_accesses

    uses = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1]], bool)
    assert new_experts(list_accesses(routes([uses], n_prompt=1))).tolist() == [0.5, 0.5]


def test_the_whole_verdict() -> None:
    """Numbers agree with each other, the bound is not beaten by what starts empty, and the page has it all."""
    rng = np.random.default_rng(2)
    layers = [drawn(rng, np.arange(1, 33) ** -0.8, 300, used=4) for _ in range(3)]
    sizes = '{"layers.0": 1048576, "layers.1": 1048576, "layers.2": 2097152}'
    verdict = judge_experts(routes(layers, n_prompt=40, unit_bytes=sizes), load_device("desktop-nvme"))
    assert (verdict.n_prompt_tokens, verdict.n_decoded) == (40, 260)
    assert verdict.per_token == pytest.approx(dict.fromkeys(verdict.layers, 4.0))
    assert verdict.token_bytes == 16 * 2**20
    assert verdict.model_bytes == 128 * 2**20
    assert verdict.curves.slots == (2, 4, 8, 16)
    for policy, ratios in verdict.curves.hit_ratio.items():
        assert all(0 <= ratio <= 1 for ratio in ratios)
        if not policy.startswith("pinned"):
            bound = verdict.curves.hit_ratio[BOUND]
            assert all(ratio <= best + 0.02 for ratio, best in zip(ratios, bound, strict=True)), policy
    lines = sentences(verdict)
    assert "4 of 32 experts in each of 3 layers" in lines[0]
    assert "16 MiB a token, of 128 MiB" in lines[0]
    assert any("desktop-nvme" in line for line in lines)
    document = verdict.to_json()
    assert document["bytes_per_token"] == 16 * 2**20
    assert set(document["layers"]) == {"layers.0", "layers.1", "layers.2"}
    page = experts_page(verdict, ["x.csv"], ["few"], "ripple-place profile x.csv")
    for text in ("Hits against slots", "s3fifo", "layers.2", "x.csv", "<svg"):
        assert text in page


def test_short_routes_are_said_to_be_short() -> None:
    """And routes without a prompt or without sizes are judged too."""
    verdict = judge_experts(routes([drawn(np.random.default_rng(3), np.ones(8), 20)]))
    lines = sentences(verdict)
    assert any(line.startswith("These are few tokens (20)") for line in lines)
    assert verdict.token_bytes is None
    assert verdict.read_us is None
