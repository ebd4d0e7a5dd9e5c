"""What the numbers of rules rest on, in sentences: what they are charged for, see, were tuned on, and cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.select.registry import parse_rule

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.pages.report import Report
    from ripple_place.select.tuned import TunedRule


def rule_assumptions(report: Report) -> list[str]:
    """Return the sentences; none without rules."""
    if not report.rules:
        return []
    return [*_charged(report), _seen(report), *_tuned(report), *_loss(report)]


def _charged(report: Report) -> list[str]:
    """Return what is read, and charged, to decide."""
    rules = [parse_rule(text) for text in report.rules]
    free = [str(rule) for rule in rules if rule.knowledge.sees == "predictor"]
    sentences = []
    if free and report.predicted is None:
        sentences.append(
            f"Nothing is charged for deciding by {'; '.join(free)}: a predictor that lies in DRAM is assumed to know "
            "what these rules look at."
        )
    for rule in rules:
        if rule.knowledge.sees != "predictor":
            sentences.append(
                f"{rule} is charged for what it decides by ({rule.knowledge.sentence}): for each token and block, read "
                "in the largest requests."
            )
    return sentences


def _seen(report: Report) -> str:
    if report.predicted is not None:
        return "What is predicted and does not fire is read as well; what fires and is not predicted is dropped."
    if report.magnitude_noise:
        return (
            f"Rules see each output times exp(s z), with z standard normal and s = {report.magnitude_noise:g}: "
            "the magnitude noise of a predictor."
        )
    return "Rules see magnitudes without noise; a predictor that errs chooses worse (--magnitude-noise)."


def _tuned(report: Report) -> list[str]:
    """Return on what each rule was tuned, by layout."""
    sentences = []
    for group in report.groups:
        tuned = report.tuned.get(group.title)
        names = [str(parse_rule(text)) for text in report.rules]
        found = [] if tuned is None else [tuned.rules[name] for name in names if name in tuned.rules]
        sentences += [f"{group.title}: {_tuning(rule)}" for rule in found]
    return sentences or ["No rule was tuned: its values are those of the command."]


def _tuning(tuned: TunedRule) -> str:
    """Return what `selection.json` says of a rule."""
    note: Mapping[str, Any] = tuned.report
    price = "" if tuned.tuning.price is None else f" to a price of {tuned.tuning.price:.3g} nats per microsecond"
    rise, tokens = note.get("nll_rise"), note.get("n_tokens")
    where = "a text" if tokens is None else f"{tokens:,} tokens"
    came_out = "" if rise is None else f", where the NLL rose by {rise:.5f} nats a token"
    return f"{tuned.rule} was tuned{price} on {where} that `reorder` read{came_out}; importance: {tuned.importance}."


def _loss(report: Report) -> list[str]:
    """Return what the losses are means over."""
    rows = [result.to_json() for result in report.results]
    n_scored = next((row["n_scored"] for row in rows if row.get("n_scored")), None)
    if n_scored is not None:
        return [
            f"Loss is the mean over {n_scored:,} predicted tokens of the text, in nats, against the exact model on the "
            "same tokens; standard errors are over windows of the text."
        ]
    if any(row["predicted_loss"] is not None for row in rows):
        return [
            "Predicted loss is the importance of what was dropped, in nats a token: no model ran, and how errors add "
            "up from block to block is not in it."
        ]
    return ["Loss is unknown: no model ran, and no importance was given (profile --importance)."]
