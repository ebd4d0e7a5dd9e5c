"""Activity rules against twins that are written to be obvious, and what is no rule."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.trace.activity_rules import ActivityRule, check_finite

RULES = ["relu", "threshold=0", "threshold=0.5", "top-k=3", "top-k=25%", "top-k=100%", "cats=50%", "teal=90%"]


def slow_active(rule: str, row: list[float], gate: list[float], threshold: float | None) -> list[bool]:
    """Decide for each neuron of a token, one after the other."""
    kind, _, amount = rule.partition("=")
    if kind == "relu":
        return [value != 0 for value in row]
    if kind == "threshold":
        return [abs(value) > float(amount) for value in row]
    if kind == "top-k":
        k = max(1, math.floor(len(row) * float(amount[:-1]) / 100 + 0.5)) if amount[-1] == "%" else int(amount)
        # Active unless k or more are larger.
        return [value != 0 and sum(abs(other) > abs(value) for other in row) < k for value in row]
    assert threshold is not None
    if kind == "cats":
        return [abs(value) >= threshold for value in gate]
    return [abs(value) > threshold for value in row]


def slow_fit(rule: str, sizes: list[float]) -> float:
    """Return the smallest of the values that P % of them do not exceed."""
    percent = float(rule.partition("=")[2][:-1])
    return min(size for size in sizes if sum(other <= size for other in sizes) >= percent / 100 * len(sizes))


matrices = st.integers(1, 12).flatmap(
    lambda width: st.lists(
        st.lists(st.sampled_from([-2.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 1.5]), min_size=width, max_size=width),
        min_size=1,
        max_size=6,
    )
)


@pytest.mark.parametrize("rule", RULES)
@given(rows=matrices)
def test_against_the_twin(rule: str, rows: list[list[float]]) -> None:
    """Ties and zeros included: few different values make many of both."""
    parsed = ActivityRule.parse(rule)
    gates = [row[::-1] for row in rows]
    threshold = None
    if parsed.is_fitted:
        sizes = [abs(value) for row in (gates if parsed.uses_gate else rows) for value in row]
        threshold = parsed.fit(np.array(sizes, np.float32))
        assert threshold == slow_fit(rule, sizes)
    active = parsed.active(np.array(rows, np.float32), np.array(gates, np.float32), threshold)
    assert active.tolist() == [slow_active(rule, *both, threshold) for both in zip(rows, gates, strict=True)]


@pytest.mark.parametrize("rule", RULES)
def test_written_as_it_is_parsed(rule: str) -> None:
    """The trace's metadata and --active say the same thing."""
    assert str(ActivityRule.parse(rule)) == rule
    assert ActivityRule.parse(str(ActivityRule.parse(rule))) == ActivityRule.parse(rule)


def test_which_rules_change_the_model() -> None:
    """A rule that drops zeros alone costs nothing, and no second forward is run for it."""
    assert [rule for rule in RULES if not ActivityRule.parse(rule).changes_output] == ["relu", "threshold=0"]


@pytest.mark.parametrize(
    "text",
    ["", "relu=1", "relu=", "gelu", "threshold", "threshold=-1", "threshold=1%", "threshold=1e999", "top-k=0",
     "top-k=1.5", "top-k=0%", "top-k=101%", "cats=50", "cats=0%", "cats=100%", "teal=101%", "teal=half"],
)  # fmt: skip
def test_what_is_no_rule(text: str) -> None:
    """Each mistake is answered with what can be written."""
    with pytest.raises(UsageError, match=r"--active: found .*; expected relu, threshold=0.1, top-k=512, "):
        ActivityRule.parse(text)


def test_the_first_that_is_no_number_is_named() -> None:
    """By token where rows are some of the tokens, by row otherwise."""
    outputs = np.ones((3, 4), np.float16)
    check_finite(outputs, "layers.0")
    outputs[1, 2] = np.inf
    outputs[2, 0] = np.nan
    match = r"layers.0, token 1, neuron 2: found inf; expected finite outputs \(2 of 12 here are not\). Record it again"
    with pytest.raises(TraceFormatError, match=match):
        check_finite(outputs, "layers.0")
    with pytest.raises(TraceFormatError, match="token 101, neuron 2"):
        check_finite(outputs, "layers.0", first_row=100)
    with pytest.raises(TraceFormatError, match="token 70, neuron 2"):
        check_finite(outputs, "layers.0", np.array([5, 70, 71], np.int32))
