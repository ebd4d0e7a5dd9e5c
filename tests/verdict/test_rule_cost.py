"""What a rule costs the model is weighed: a lossy rule at any price is no help."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.graph.counting import count_trace
from ripple_place.trace.sources import join_traces
from ripple_place.tracking import no_track
from ripple_place.verdict.judge import VerdictParams, judge
from ripple_place.verdict.rule_cost import RuleCost
from ripple_place.verdict.sentences import sentences
from tests.trace_builders import planted_clusters, trace_of

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.verdict.verdict import Verdict


def verdict_by(active: np.ndarray, **metadata: str) -> Verdict:
    """Return the verdict on a trace that says this of itself."""
    trace = replace(trace_of(active), metadata=metadata)
    _, statistics = count_trace(trace, 64)
    return judge(trace, statistics, VerdictParams(), no_track)


def clustered() -> np.ndarray:
    """Return activity that is well worth ordering."""
    return planted_clusters(np.random.default_rng(0), n_clusters=12, cluster_size=10, n_rows=2048)[0]


@pytest.mark.parametrize(
    ("metadata", "changes_output", "rise"),
    [
        ({"activity": "relu"}, False, 0.0),
        ({"activity": "threshold=0"}, False, 0.0),
        ({"activity": "relu>0"}, None, None),
        ({}, None, None),
        ({"activity": "top-k=10%"}, True, None),
        ({"activity": "top-k=10%", "perplexity": "33", "perplexity_without_rule": "30"}, True, 0.1),
        ({"activity": "teal=50%, union of 4 sequences", "perplexity": "30", "perplexity_without_rule": "30"}, True, 0),
        ({"activity": "top-k=10%", "perplexity": "nan", "perplexity_without_rule": "30"}, True, None),
        ({"activity": "top-k=10%", "perplexity": "33", "perplexity_without_rule": "0"}, True, None),
    ],
)
def test_what_the_metadata_say(metadata: dict[str, str], changes_output: bool | None, rise: float | None) -> None:
    """By our rules' names; numbers that are none are not believed."""
    cost = RuleCost.of_trace(metadata)
    assert cost.changes_output is changes_output
    assert cost.rise == (None if rise is None else pytest.approx(rise))


@pytest.mark.parametrize(
    ("perplexity", "helps", "head", "cost"),
    [
        ("30.3", True, "Reordering helps this model: ", "is 30.30 instead of 30.00 (+1.0%), if the device knows"),
        ("55.5", False, "Reordering does not make up for what the rule cats=70% costs", "(+85.0%)"),
    ],
)
def test_the_verdict_weighs_the_rule(perplexity: str, helps: bool, head: str, cost: str) -> None:
    """The same activity: with a small rise it helps, with a large one it does not, and each says the figures."""
    verdict = verdict_by(clustered(), activity="cats=70%", perplexity=perplexity, perplexity_without_rule="30")
    assert verdict.helps is helps
    said = sentences(verdict)
    assert said[0].startswith(head)
    assert cost in said[1]
    assert ("Keep more neurons" in said[1]) is not helps
    document = verdict.to_json()
    assert document["helps"] is helps
    assert document["rule"]["perplexity_rise"] == pytest.approx(float(perplexity) / 30 - 1)
    json.dumps(document, allow_nan=False)


def test_a_rule_of_unknown_cost_is_said_to_be_one() -> None:
    """A lossy rule without figures: the gain stands, with a warning."""
    said = sentences(verdict_by(clustered(), activity="top-k=10%"))
    assert said[0].startswith("Reordering helps this model: ")
    assert said[1].startswith("What the rule top-k=10% costs was not measured")


@pytest.mark.parametrize("activity", ["relu", "relu>0"])
def test_exact_and_foreign_rules_are_not_spoken_of(activity: str) -> None:
    """There is nothing to say of the one, and nothing known of the other."""
    assert not any(
        "perplexity" in line or "costs was not" in line
        for line in sentences(verdict_by(clustered(), activity=activity))
    )


def test_smooth_activations_get_advice(tmp_path: Path) -> None:
    """By `relu` all neurons of a SwiGLU model are active: that is said, not that the model cannot be helped."""
    active = np.random.default_rng(0).random((2048, 120)) < 0.99
    said = sentences(verdict_by(active, activity="relu"))
    assert said[0].startswith(
        "Reordering does not help this model by this rule: nearly all of its neurons are active (99"
    )
    assert "--active top-k=30%" in said[0]


def test_perplexities_of_joined_texts(tmp_path: Path) -> None:
    """By tokens, in logarithms; unknown where one of the texts was not scored, or the rules differ."""
    first = replace(trace_of(clustered()), metadata={"activity": "top-k=10%", "perplexity": "20"})
    second = replace(trace_of(clustered()[:1024]), metadata={"activity": "top-k=10%", "perplexity": "40"})
    paths = [tmp_path / "a", tmp_path / "b"]
    joined = join_traces(paths, [first, second])
    assert float(joined.metadata["perplexity"]) == pytest.approx(20 ** (2 / 3) * 40 ** (1 / 3))
    for other in ({"activity": "top-k=10%"}, {"activity": "top-k=20%", "perplexity": "40"}):
        assert "perplexity" not in join_traces(paths, [first, replace(second, metadata=other)]).metadata
