"""Scores of experts: a trace of four tokens by hand, JSON keys, and every way to ask for what cannot be had."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.errors import PlacementError, UsageError
from ripple_place.experts.budget import ExpertSlots
from ripple_place.experts.prefetch import Prefetch
from ripple_place.experts.score import score_experts
from ripple_place.experts.serve_params import ServeParams
from ripple_place.flash.device.conditions import ReadConditions
from ripple_place.flash.device.writer import write_device
from ripple_place.placement import ModelPlacement, NeuronPlacement, write_placement
from ripple_place.trace.activation_trace import DECODE, PREFILL
from ripple_place.workflows.simulate_experts import simulate_experts
from tests.experts.builders import routed
from tests.flash.builders import block_trace, linear_device, trace_of

if TYPE_CHECKING:
    from pathlib import Path

PAGE = 4096
TRACE = routed(
    [[[0, 1], [1, 2], [1, 4], [1, 2]], [[4], [4], [5], [4]]], [PREFILL, DECODE, DECODE, DECODE],
    unit_bytes=(6 * PAGE, 3 * PAGE),
)  # fmt: skip


@pytest.fixture
def line(tmp_path: Path) -> str:
    """Return the file of a device of 10 us a request and a page a microsecond, split at 16 pages."""
    write_device(tmp_path / "line.toml", linear_device())
    return str(tmp_path / "line.toml")


def scored(line: str, **params: Any) -> dict[str, Any]:
    """Return the document of a simulation on the line."""
    return score_experts(TRACE, ServeParams(device=line, **params), ("routes",)).to_json()


def test_by_hand(line: str) -> None:
    """Two experts a layer in LRU caches. The prompt leaves 0, 1 and 4 there; then 2 misses, 4 and 5, then 2 and 4.

    Layer 0: 1 hits, 2 misses; 1 hits, 4 misses; 1 hits, 2 misses. Layer 1: 4 hits; 5 misses; 4 hits.
    """
    document = scored(line, dram_budget=ExpertSlots(2), layouts=("packed", "original"), compute_us_per_layer=100.0)
    assert (document["unit"], document["n_tokens"], document["n_prefill_tokens"]) == ("expert", 4, 1)
    assert (document["capacity_bytes"], document["dram_budget"]) == (2 * 9 * PAGE, "2experts")
    packed, original = document["layouts"]
    assert packed["cache_hit_ratio_by_phase"] == {"prefill": 0.0, "decode": 5 / 9}
    assert packed["cache_hit_ratio"] == 5 / 12
    assert packed["misses_per_token"] == pytest.approx(4 / 3)
    # Three reads of 6 pages, 16 us each, and one of 3, 13 us.
    assert packed["flash_time_us_per_token"] == pytest.approx((3 * 16 + 13) / 3)
    assert packed["bytes_read_per_token"] == pytest.approx(21 * PAGE / 3)
    assert packed["token_time_us_per_token"] == pytest.approx(200 + 61 / 3)
    assert packed["tokens_per_s"] == pytest.approx(1e6 / (200 + 61 / 3))
    # Three pieces of 2 and of 1 pages that begin within a page: 13 and 12 us each.
    assert original["flash_time_us_per_token"] == pytest.approx((9 * 13 + 3 * 12) / 3)
    assert original["reads_per_token"] == 3 * packed["reads_per_token"]
    assert original["speedup"] == pytest.approx(61 / 153)
    assert original["token_speedup"] == pytest.approx((600 + 61) / (600 + 153))
    assert packed["prefill_bytes_read"] == 15 * PAGE
    blocks = packed["blocks"]
    assert blocks["layers.1"]["cache_hit_ratio_by_phase"]["decode"] == 2 / 3
    assert sum(block["flash_time_us_per_token"] for block in blocks.values()) == pytest.approx(61 / 3)
    assert packed["cache_hit_ratio_bytes"] == pytest.approx((3 * 6 + 2 * 3) / (6 * 6 + 3 * 3))


PROMPT = routed(
    [[[0, 1], [1, 2], [1, 4], [0, 7], [3]], [[4], [4], [5], [4], [6]]], [PREFILL] * 4 + [DECODE],
    unit_bytes=(6 * PAGE, 3 * PAGE),
)  # fmt: skip
"""A prompt of four tokens, which use five experts of layer 0 and two of layer 1."""


@pytest.mark.parametrize(
    ("chunk", "flash_us", "n_pages", "experts", "serial_us", "layer_us"),
    [
        # Experts 0 to 2 side by side are 18 pages, two requests, 38 us; 4 and 7 take 16 us each. Layer 1: 6 pages.
        (None, 70 + 16, 36, 7, 86 + 40, 70 + 20 + 20),
        (4, 70 + 16, 36, 7, 86 + 40, 70 + 20 + 20),
        # Tokens 0 and 1: 0 to 2, and 4. Tokens 2 and 3: 0 and 1, 4, 7; and 4, 5.
        (2, 38 + 13 + 54 + 16, 18 + 3 + 24 + 6, 5, 121 + 40, 38 + 13 + 10 + 54 + 16 + 10),
        # One token is alone in the second chunk: 0 and 7, and 4.
        (3, 38 + 16 + 16 + 32 + 13, 24 + 6 + 12 + 3, 4.5, 115 + 40, 54 + 16 + 15 + 32 + 13 + 5),
    ],
)
def test_prompts_by_hand(
    line: str, chunk: int | None, flash_us: float, n_pages: int, experts: float, serial_us: float, layer_us: float
) -> None:
    """Without a cache, a chunk reads the union of what its tokens use; 5 us a layer and token compute it."""
    for overlap, time_us in (("serial", serial_us), ("layer", layer_us)):
        params = ServeParams(
            device=line, layouts=("packed",), prefill_chunk=chunk, prefill_compute_us_per_token=10.0, overlap=overlap
        )
        document = score_experts(PROMPT, params).to_json()
        row = document["layouts"][0]
        prefill = row["prefill"]
        assert (document["prefill_chunk"], prefill["n_tokens"]) == (chunk, 4)
        assert prefill["n_chunks"] == -(-4 // (chunk or 4))
        assert prefill["flash_time_us"] == pytest.approx(flash_us)
        assert prefill["flash_time_us_per_token"] == pytest.approx(flash_us / 4)
        assert prefill["bytes_read"] == n_pages * PAGE
        assert prefill["experts_per_chunk"] == experts
        assert prefill["time_us"] == pytest.approx(time_us)
        assert prefill["tokens_per_s"] == pytest.approx(4e6 / time_us)
        # What is generated does not change, and nothing is known of its time.
        assert row["flash_time_us_per_token"] == pytest.approx(16 + 13)
        assert row["tokens_per_s"] is None


def test_prompts_through_a_cache(line: str) -> None:
    """What the first chunk brought is there for the second; prompts of two segments are two."""
    row = score_experts(PROMPT, ServeParams(device=line, dram_budget=1.0, prefill_chunk=2)).to_json()["layouts"][1]
    # 0, 1 and 4 of the second chunk are hits: 4 and 7 of layer 0 are not, nor is 5 of layer 1.
    assert row["prefill"]["flash_time_us"] == pytest.approx(38 + 13 + 16 + 16 + 13)
    assert row["cache_hit_ratio_by_phase"]["prefill"] == pytest.approx(3 / 10)
    apart = replace(PROMPT, segment_starts=np.array([0, 1]))
    assert score_experts(apart, ServeParams(device=line)).to_json()["layouts"][1]["prefill"]["n_chunks"] == 2


def test_no_prompts(line: str) -> None:
    """A trace without phases has none, and one without generated tokens has nothing else."""
    decoded = routed([[[0], [1]]], unit_bytes=(6 * PAGE,))
    assert score_experts(decoded, ServeParams(device=line)).to_json()["layouts"][0]["prefill"] is None
    prompt = routed([[[0], [1]]], [PREFILL, PREFILL], unit_bytes=(6 * PAGE,))
    row = score_experts(prompt, ServeParams(device=line, layouts=("packed",))).to_json()["layouts"][0]
    assert row["prefill"]["flash_time_us"] == 22.0
    assert row["prefill"]["time_us"] is None


def test_overlap_and_reading_ahead(line: str) -> None:
    """Without a cache: 2 x 6 and 3 pages a token, packed. Guesses of the token before are right half the time."""
    serial = scored(line, layouts=("packed",), compute_us_per_layer=15.0)["layouts"][0]
    # Experts 1 and 2 lie side by side: 12 pages, 22 us; 1 and 4 do not: 32 us. Layer 1 takes 13 us.
    assert serial["flash_time_us_per_token"] == pytest.approx((22 + 32 + 22) / 3 + 13)
    assert serial["token_time_us_per_token"] == pytest.approx((22 + 32 + 22) / 3 + 13 + 30)
    hidden = scored(line, layouts=("packed",), compute_us_per_layer=15.0, overlap="layer")["layouts"][0]
    assert hidden["token_time_us_per_token"] == pytest.approx((22 + 32 + 22) / 3 + 15 + 15)
    guessed = scored(line, layouts=("packed",), compute_us_per_layer=15.0, prefetch=Prefetch("previous"))["layouts"][0]
    # Tokens 2 and 3 guess 1, 2 and 1, 4, of which 1 is right; in layer 1, nothing is. Token 1 has only the prompt.
    assert guessed["prefetch"]["guesses_per_token"] == 2.0
    assert guessed["prefetch"]["hit_ratio"] == pytest.approx(2 / 9)
    assert guessed["prefetch"]["wasted_bytes_per_token"] == pytest.approx((2 * 6 + 2 * 3) * PAGE / 3)
    # Missed: 22 + 13, 16 + 13, 16 + 13. Ahead, of which 15 us hide: 22, 13 and 32, 13.
    assert guessed["token_time_us_per_token"] == pytest.approx((35 + 29 + 29 + 7 + 17) / 3 + 30)


def test_the_split_that_takes_least_time(line: str) -> None:
    """On a device whose queue few reads do not fill, halves of the largest request are tried; a given size stays."""
    long = routed([[[0], [1], [3]]], unit_bytes=(3 * 2**20,))
    chosen = score_experts(long, ServeParams(device="ufs4-oneplus15r", layouts=("packed",)))
    times = {
        size: score_experts(long, ServeParams(device="ufs4-oneplus15r", layouts=("packed",), request_bytes=size))
        for size in (2**17, 2**18, 2**19, 2**20, 2**21, 2**22, 2**23)
    }
    spent = {size: float(scores.results[0].flash_us.sum()) for size, scores in times.items()}
    assert chosen.results[0].request_bytes == min(spent, key=spent.__getitem__) < 2**22
    assert float(chosen.results[0].flash_us.sum()) == min(spent.values())


def test_a_placement_of_experts(line: str, tmp_path: Path) -> None:
    """Where 1 and 4 lie side by side in layer 0, the token that uses both reads once."""
    orders = {"layers.0": [1, 4, 0, 2, 3, 5, 6, 7], "layers.1": list(range(8))}
    placement = ModelPlacement(
        {name: NeuronPlacement(np.array(order, np.int32)) for name, order in orders.items()}, {"unit": "expert"}
    )
    write_placement(tmp_path / "order", placement)
    document = scored(line, layouts=(str(tmp_path / "order"),))
    assert document["layouts"][0]["flash_time_us_per_token"] == pytest.approx((32 + 22 + 32) / 3 + 13)
    write_placement(tmp_path / "neurons", replace(placement, metadata={}))
    with pytest.raises(PlacementError, match="a placement of neurons in 2 blocks"):
        scored(line, layouts=(str(tmp_path / "neurons"),))


def test_a_sweep(line: str) -> None:
    """Policies and budgets side by side; each point is what a simulation of its own says."""
    report = simulate_experts(
        TRACE, ServeParams(device=line, dram_budget=ExpertSlots(2)), ("cache", ("none", "lru", "belady"))
    )  # fmt: skip
    points = report.to_json()["sweep"]["points"]
    assert [point["value"] for point in points] == ["none", "lru", "belady"]
    assert points[1]["layouts"] == report.to_json()["layouts"]
    assert points[0]["layouts"][0]["cache_hit_ratio"] == 0.0
    assert points[2]["layouts"][0]["cache_hit_ratio"] >= points[1]["layouts"][0]["cache_hit_ratio"]
    swept = simulate_experts(TRACE, ServeParams(device=line), ("dram-budget", ("0", "2experts", "100%")))
    assert [point.capacity_bytes for point in swept.points] == [(0, 0), (12 * PAGE, 6 * PAGE), (48 * PAGE, 24 * PAGE)]
    with pytest.raises(UsageError, match="--sweep collapse: found experts"):
        simulate_experts(TRACE, ServeParams(device=line), ("collapse", ("off",)))


def test_the_bound_is_beside_the_cache(line: str) -> None:
    """Of the tokens that are generated; not asked for, it is null."""
    document = scored(line, dram_budget=ExpertSlots(2), bound=True)
    assert document["layouts"][0]["cache_hit_ratio_belady"] == 5 / 9
    assert scored(line)["layouts"][0]["cache_hit_ratio_belady"] is None


def test_warnings(line: str) -> None:
    """Few tokens, and counts of the trace itself."""
    assert "3 generated tokens are few" in scored(line)["warnings"][-1]
    pinned = scored(line, dram_budget=ExpertSlots(2), cache="pinned")
    assert any("counted on the trace itself" in warning for warning in pinned["warnings"])


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"cache": "arc", "dram_budget": 0.5}, "--cache arc: found no policy of experts"),
        ({"cache": "lru"}, "--cache lru: found no DRAM for experts"),
        ({"dram_pool": True}, "--dram-pool: found no DRAM"),
        ({"bound": True}, "--bound: found no DRAM"),
        ({"admits_prefill": False}, "--no-prefill-admission: found no DRAM"),
        ({"reset_at_segments": True}, "--reset-at-segments: found no DRAM"),
        ({"dram_budget": 1.5}, "dram_budget: found 1.5"),
        ({"dram_budget": -1}, "dram_budget: found -1"),
        ({"dram_budget": 4096}, "room of 2 KiB in the largest cache"),
        ({"compute_us_per_layer": 1.0, "compute_us_per_token": 1.0}, "one time of at least 0"),
        ({"compute_us_per_token": -1.0}, "one time of at least 0"),
        ({"overlap": "layer"}, "--overlap layer: found experts, and no time"),
        ({"overlap": "cluster", "compute_us_per_layer": 1.0}, "--overlap cluster: found experts; expected serial or"),
        ({"overlap": "layer", "compute_us_per_layer": 1.0, "prefetch": Prefetch("previous")}, "one of the two"),
        ({"layouts": ("packed", "packed")}, "each layout once"),
        ({"baseline": "order"}, "baseline order"),
        ({"layouts": ("nowhere",)}, "--layout nowhere: found nothing there"),
        ({"expert_bytes": 0}, "--bundle-bytes: found 0"),
        ({"conditions": ReadConditions(access="mmap")}, "--access mmap: found experts"),
        ({"request_bytes": 5000}, "--request-bytes 5000: found device linear, of pages of 4096"),
        ({"request_bytes": 2**20}, "at most 65536 bytes"),
        ({"layers": "7"}, "found layers 7"),
    ],
)
def test_what_cannot_be_had(line: str, params: dict[str, Any], match: str) -> None:
    """Each is refused with what there is."""
    with pytest.raises(UsageError, match=match):
        scored(line, **params)


def test_traces_that_do_not_do(line: str, tmp_path: Path) -> None:
    """Of neurons, without sizes, or with a profile of something else."""
    neurons = trace_of({"layers.0": block_trace(np.eye(8, dtype=bool))}, 8)
    with pytest.raises(UsageError, match="found blocks of neurons"):
        score_experts(neurons, ServeParams(device=line))
    unsized = replace(TRACE, metadata={"unit": "expert"})
    with pytest.raises(UsageError, match="does not say how long experts are"):
        score_experts(unsized, ServeParams(device=line))
    sized = score_experts(unsized, ServeParams(device=line, expert_bytes=3 * PAGE))
    assert sized.unit_bytes == {"layers.0": 3 * PAGE, "layers.1": 3 * PAGE}
