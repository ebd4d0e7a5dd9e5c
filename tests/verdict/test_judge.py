"""The verdict: what is known of the activity comes out, costs are the orderings' own, and words follow the numbers."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.device.files import load_device, read_device
from ripple_place.flash.device.writer import write_device
from ripple_place.graph.counting import count_trace
from ripple_place.ordering.greedy_path import greedy_path
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
from ripple_place.tracking import no_track
from ripple_place.verdict import judge as verdict_module
from ripple_place.verdict.judge import VerdictParams, judge, middle_token
from ripple_place.verdict.score import Crowd
from ripple_place.verdict.scoring import part_of
from ripple_place.verdict.sentences import block_row, sentences
from tests.flash.builders import linear_device
from tests.reference.gap_cost import gap_cost
from tests.trace_builders import bits_of, block_of, planted_clusters, random_activity, trace_of, unpack

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.verdict.verdict import Verdict


def verdict_of(trace: ActivationTrace, **params: object) -> Verdict:
    """Return the verdict on a trace."""
    _, statistics = count_trace(trace, 64)
    return judge(trace, statistics, VerdictParams(**params), no_track)  # type: ignore[arg-type]


def clustered(n_rows: int, seed: int = 0) -> np.ndarray:
    """Return activity in which 12 clusters of 10 scattered neurons fire together."""
    rng = np.random.default_rng(seed)
    return planted_clusters(rng, n_clusters=12, cluster_size=10, n_rows=n_rows)[0]


def weakly_clustered(n_rows: int) -> np.ndarray:
    """Return activity whose 40 clusters fire so rarely, and so little whole, that it takes many tokens to see them."""
    rng = np.random.default_rng(1)
    cluster_of = rng.permutation(np.repeat(np.arange(40), 10))
    fires = rng.random((n_rows, 40)) < 0.02
    return (fires[:, cluster_of] & (rng.random((n_rows, 400)) < 0.5)) | (rng.random((n_rows, 400)) < 0.01)


def test_clusters_are_worth_reordering() -> None:
    """Planted clusters: greedy order saves much on the other half, frequency order nothing like it; and it says so."""
    verdict = verdict_of(trace_of(clustered(2048), clustered(2048, seed=1)))
    assert verdict.overall is not None
    assert verdict.overall.gain("greedy") > 0.4
    assert verdict.overall.gain("greedy") > verdict.overall.gain("frequency") + 0.3
    assert verdict.is_long_enough is True
    assert verdict.notes == {}
    assert sentences(verdict)[0].startswith("Reordering helps this model: on the half of the trace that did not choose")
    assert any(line.startswith("The trace is long enough: ordering on 1,024 tokens") for line in sentences(verdict))
    assert "at lambda 3.15: ufs4-oneplus12-neuralink with 4 KiB a neuron" in sentences(verdict)[-1]
    assert verdict.overall.neighbors_kept is not None
    assert verdict.overall.neighbors_kept[0] > 0.7


def test_independent_activity_is_not() -> None:
    """Neurons that fire by themselves: no order saves anything on other tokens, and a note says why."""
    verdict = verdict_of(trace_of(random_activity(np.random.default_rng(0), 4096, 300, share=0.1)))
    assert verdict.overall is not None
    assert abs(verdict.overall.gain("greedy")) < 0.02
    assert sentences(verdict)[0].startswith("Reordering does not help this model: ")
    assert "little fires together twice" in verdict.notes["layers.0"]
    assert verdict.to_json()["helps"] is False
    assert verdict.overall.neighbors_kept is not None
    kept, by_chance = verdict.overall.neighbors_kept
    assert kept == pytest.approx(by_chance, abs=0.03)


def test_more_text_is_asked_for_where_it_would_help() -> None:
    """Clusters that few tokens show: twice the tokens still lower the cost; with eight times as many that ends."""
    short, long = (verdict_of(trace_of(weakly_clustered(n_rows))) for n_rows in (1024, 12288))
    assert short.is_long_enough is False
    assert any(line.startswith("More text will still help: ordering on 512 tokens") for line in sentences(short))
    assert long.is_long_enough is True
    assert short.overall is not None
    assert [step.n_rows for step in short.overall.learned] == [64, 128, 256, 512]


@pytest.mark.parametrize("n_rows", [1, 60, 300])
def test_a_short_trace_cannot_tell(n_rows: int) -> None:
    """Whatever it looks like, some hundred tokens say nothing of how many are enough."""
    verdict = verdict_of(trace_of(clustered(n_rows)))
    assert verdict.is_long_enough is None
    amount = "1 token" if n_rows == 1 else f"{n_rows} tokens"
    assert f"The trace is too short to tell: {amount}. Record more text, some thousand tokens." in sentences(verdict)
    assert ("layers.0" in verdict.blocks) == (n_rows == 300)


def test_blocks_that_cannot_be_helped_say_why() -> None:
    """One that never fires, one that always does, one that no token reaches, one that few do; one that is fine."""
    blocks = {
        "layers.0": block_of(np.zeros((2048, 40))),
        "layers.1": block_of(np.ones((2048, 40))),
        "layers.2": block_of(np.zeros((0, 40)), []),
        "layers.3": block_of(clustered(100), list(range(100))),
        "layers.4": block_of(clustered(300), list(range(300))),
        "layers.5": block_of(clustered(2048)),
    }
    verdict = verdict_of(ActivationTrace(blocks, 2048, np.array([0])))
    assert list(verdict.blocks) == ["layers.1", "layers.5"]
    assert verdict.notes == {
        "layers.0": "placement cannot help: none of its neurons is ever active",
        "layers.1": "placement cannot help: 100 % of its neurons are active",
        "layers.2": "no token reaches it",
        "layers.3": "nothing can be said: 100 tokens reach it, too few for one half to judge the other",
        "layers.4": "nothing can be said: 300 tokens reach it, too few for one half to judge the other",
    }
    assert not any("spread evenly" in line for line in sentences(verdict))
    document = verdict.to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert list(document["blocks"]) == list(blocks)
    assert (document["n_blocks"], document["n_blocks_judged"]) == (6, 2)


def test_costs_are_those_of_the_other_half() -> None:
    """Counted by hand: ordered on the first half, charged on the second, the hottest tenth of the first kept."""
    active = clustered(600)
    verdict = verdict_of(trace_of(active), break_even_gap=5.0)
    first, second = active[:300], active[300:]
    score = verdict.blocks["layers.0"].score
    greedy = greedy_path(bits_of(first))
    hottest = np.argsort(-first.sum(0), kind="stable")[:12]
    kept = second.copy()
    kept[:, hottest] = False
    assert score.orderings.cost_per_token["greedy"] == pytest.approx(
        [gap_cost(rows.tolist(), greedy.tolist(), 5.0) for rows in (second, kept)]
    )
    assert score.orderings.dram_shares == (0.0, 0.1)
    assert score.learned[-1].cost == pytest.approx(score.orderings.cost_per_token["greedy"][0])
    assert score.crowds[0].greedy == pytest.approx(score.orderings.cost_per_token["greedy"][0])
    assert score.orderings.n_tokens == 300


def test_flash_time_where_bytes_are_known() -> None:
    """On a line and whole pages, flash time is lambda x reads + neurons read in microseconds a bundle."""
    trace = trace_of(clustered(600))
    device = linear_device(max_request_bytes=4096 * 128)
    time, cost = (verdict_of(trace, device=device, bundle_bytes=n_bytes).overall for n_bytes in (4096, None))
    assert time is not None
    assert cost is not None
    assert (time.orderings.unit, cost.orderings.unit) == ("us", "neurons")
    for name in ("original", "frequency", "greedy"):
        assert time.orderings.cost_per_token[name] == pytest.approx(cost.orderings.cost_per_token[name])
    words = sentences(verdict_of(trace, device=device, bundle_bytes=4096))
    assert words[-1] == "Cost is flash time on linear, at 4 KiB a neuron."


def test_blocks_add_up_by_the_tokens_that_reach_them() -> None:
    """An expert that every fourth token reaches counts a quarter: of cost, of reads, of neurons."""
    expert = block_of(clustered(512, seed=2), list(range(0, 2048, 4)))
    dense = block_of(clustered(2048))
    verdict = verdict_of(ActivationTrace({"layers.0": dense, "layers.0.experts.1": expert}, 2048, np.array([0])))
    assert verdict.overall is not None
    scores = [verdict.blocks[name].score for name in ("layers.0", "layers.0.experts.1")]
    for value in (
        lambda score: score.orderings.cost_per_token["greedy"][1], lambda score: score.reads["original"],
        lambda score: score.neurons_read["greedy"], lambda score: score.learned[-1].cost,
        lambda score: score.crowds[1].n_active,
    ):  # fmt: skip
        assert value(verdict.overall) == pytest.approx(value(scores[0]) + value(scores[1]) / 4)


def test_placement_stops_paying_as_more_neurons_are_active() -> None:
    """Tokens joined are denser and gain less; the share at which the gain ends lies between those measured."""
    verdict = verdict_of(trace_of(clustered(4096)))
    score = verdict.blocks["layers.0"].score
    shares = [crowd.active_share for crowd in score.crowds]
    assert shares == sorted(shares)
    assert [crowd.n_together for crowd in score.crowds] == [1, 2, 4, 8, 16, 32]
    assert score.crowds[-1].gain < 0.02 < score.crowds[0].gain
    stops = score.stops_paying_share
    assert stops is not None
    assert shares[0] < stops < shares[-1]
    assert any("greedy order stops paying at about" in line for line in sentences(verdict))
    joined = unpack(verdict.blocks["layers.0"].judged)
    assert shares[1] == (joined[:1024] | joined[1024:]).mean()


def test_the_share_is_interpolated_by_hand() -> None:
    """A gain of 6 % at 10 %, -2 % at 40 %: 2 % lies halfway, at 20 % on a scale of doublings."""
    score = verdict_of(trace_of(clustered(600))).blocks["layers.0"].score
    crowds = (Crowd(1, 10, 100, 100, 94), Crowd(2, 40, 100, 100, 102))
    assert replace(score, crowds=crowds).stops_paying_share == pytest.approx(0.2)
    assert replace(score, crowds=crowds[:1]).stops_paying_share is None
    assert replace(score, crowds=crowds[1:]).stops_paying_share == 0.4


def test_large_models_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of more blocks than there is time for, some, evenly spread; the verdict says which share."""
    trace = trace_of(*(clustered(512, seed) for seed in range(6)))
    monkeypatch.setattr(verdict_module, "MAX_WORK", 3 * 120**2 * 256)
    verdict = verdict_of(trace)
    assert list(verdict.blocks) == ["layers.1", "layers.3", "layers.5"]
    assert sentences(verdict)[-1] == "3 of 6 blocks were judged, spread evenly over the model."
    monkeypatch.setattr(verdict_module, "MAX_WORK", 1)
    assert len(verdict_of(trace).blocks) == 1


def test_rows_next_to_the_middle_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of long traces the last rows before the middle choose, and the first behind it judge."""
    monkeypatch.setattr(verdict_module, "MAX_SEARCHED_ROWS", 128)
    monkeypatch.setattr(verdict_module, "MAX_JUDGED_ROWS", 64)
    active = clustered(600)
    block = verdict_of(trace_of(active)).blocks["layers.0"]
    np.testing.assert_array_equal(unpack(block.judged), active[300:364])
    np.testing.assert_array_equal(block.greedy, greedy_path(bits_of(active[172:300])))


@pytest.mark.parametrize(
    ("starts", "n_tokens", "middle"),
    [([0], 100, 50), ([0, 45, 90], 100, 45), ([0, 20, 80], 100, 50), ([0, 1], 2, 1), ([0], 1, 0)],
)
def test_halves_part_between_texts(starts: list[int], n_tokens: int, middle: int) -> None:
    """At a segment's start if one is near the middle; else within a segment."""
    block = BlockTrace(8, np.zeros((n_tokens, 1), np.uint8))
    assert middle_token(ActivationTrace({"layers.0": block}, n_tokens, np.array(starts))) == middle


def test_parts_are_spread_and_nested() -> None:
    """A quarter of the rows is every fourth group of 64, and lies in the half."""
    block = BlockTrace(16, np.arange(1000, dtype=np.uint16).view(np.uint8).reshape(1000, 2))
    rows = [set(np.ascontiguousarray(part_of(block, part).active).view(np.uint16).ravel()) for part in (4, 2)]
    assert rows[0] == {*range(64), *range(256, 320), *range(512, 576), *range(768, 832)}
    assert rows[0] < rows[1]


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"break_even_gap": 5.0, "bundle_bytes": 4096}, "--break-even-gap: found --device or --bundle-bytes as well"),
        ({"break_even_gap": 5.0, "device": linear_device()}, "expected what reads cost, said once"),
        ({"break_even_gap": -1.0}, "--break-even-gap: found -1.0; expected a number from 0 to 1e"),
        ({"bundle_bytes": 0}, "bundle"),
    ],
)
def test_refused_parameters(params: dict[str, object], match: str) -> None:
    """What reads cost is said once, and can be."""
    with pytest.raises(UsageError, match=match):
        VerdictParams(**params)  # type: ignore[arg-type]


def test_a_device_by_name_or_file(tmp_path: Path) -> None:
    """A shipped profile's name and a device file, as text or path, are loaded when the parameters are made."""
    file = tmp_path / "my.toml"
    write_device(file, linear_device())
    assert VerdictParams(str(file)).device == VerdictParams(file).device == read_device(file)
    assert VerdictParams("m1-max").device == load_device("m1-max")
    with pytest.raises(UsageError, match="device floppy: found no shipped profile by that name"):
        VerdictParams("floppy")


def test_a_row_of_the_table() -> None:
    """Columns follow the head; what is unknown is a dash."""
    verdict = verdict_of(trace_of(clustered(140)))
    row = block_row(verdict, "layers.0")
    assert row[0] == "layers.0"
    assert row[2].startswith("-")
    assert row[6] == "-"
