"""What numbers of rules rest on: what is charged, what rules see, where they were tuned, and what loss is a mean of."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ripple_place.pages.assumptions import assumptions
from ripple_place.pages.rule_assumptions import rule_assumptions
from ripple_place.select.rule import Tuning
from ripple_place.select.tuned import TunedRule, TunedRules
from tests.pages.conftest import by_rule

if TYPE_CHECKING:
    from ripple_place.pages.report import Report


def test_nothing_is_said_without_rules(report: Report) -> None:
    """The page of a simulation without rules stays as it is."""
    assert rule_assumptions(report) == []


def test_what_is_charged_to_decide(report_by_rule: Report) -> None:
    """A predictor is free; weights that are read to decide are not."""
    said = rule_assumptions(report_by_rule)
    assert said[0].startswith("Nothing is charged for deciding by exact; top-k=5%; top-k=20%; flash-aware,price=1e-06:")
    assert set(said) <= set(assumptions(report_by_rule))
    (first, second, *_) = rule_assumptions(replace(report_by_rule, rules=("exact", "top-k=5%,sees=output") * 2))
    assert first.startswith("Nothing is charged for deciding by exact; exact:")
    assert second.startswith("top-k=5%,sees=output is charged for what it decides by (|h|, from ")


def test_magnitude_noise(report_by_rule: Report) -> None:
    """How wrong the predictor is taken to be."""
    assert any("Rules see magnitudes without noise" in sentence for sentence in rule_assumptions(report_by_rule))
    noisy = rule_assumptions(replace(report_by_rule, magnitude_noise=0.5))
    assert any("s = 0.5" in sentence for sentence in noisy)


def test_on_what_rules_were_tuned(report_by_rule: Report) -> None:
    """By the selection.json of each layout; otherwise values are those of the command."""
    assert any("No rule was tuned" in sentence for sentence in rule_assumptions(report_by_rule))
    tuning = replace(Tuning.nothing(), price=2e-6)
    rule = TunedRule("top-k=5%", None, tuning, "fisher", {"n_tokens": 4096, "nll_rise": 0.0009})  # type: ignore[arg-type]
    report = replace(report_by_rule, tuned={"original": TunedRules({"top-k=5%": rule})})
    (sentence,) = [each for each in rule_assumptions(report) if "was tuned" in each]
    assert sentence == (
        "original: top-k=5% was tuned to a price of 2e-06 nats per microsecond on 4,096 tokens that `reorder` read, "
        "where the NLL rose by 0.00090 nats a token; importance: fisher."
    )


def test_over_what_loss_is_a_mean(report_by_rule: Report) -> None:
    """Tokens of a text; predicted without a model; unknown without importance."""
    assert rule_assumptions(report_by_rule)[-1].startswith("Loss is the mean over 1,234 predicted tokens of the text")
    first = report_by_rule.results[0]
    for has_importance, start in ((True, "Predicted loss is the importance"), (False, "Loss is unknown: no model ran")):
        results = [by_rule(first, at, is_measured=False, has_importance=has_importance) for at in range(4)] * 2
        assert rule_assumptions(replace(report_by_rule, results=results))[-1].startswith(start)
