"""Which rule a capture takes; tests/torch tries rules on models."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ripple_place.capture.batches import BatchLayout
from ripple_place.capture.params import DEFAULT_RULE, WindowParams
from ripple_place.capture.rule_choice import TRIED_RULES, UNTRIED_RULE, Trial, Trials, activation_of, choose_rule
from ripple_place.capture.text import CalibrationText
from ripple_place.capture.whole import spread_batches


def config_of(**values: Any) -> Any:
    """Return what a config of transformers answers."""
    text = SimpleNamespace(**values)
    return SimpleNamespace(get_text_config=lambda: text)


@pytest.mark.parametrize(
    "key", ["hidden_act", "hidden_activation", "activation_function", "mlp_hidden_act", "dense_act_fn"]
)
def test_configs_name_the_activation_in_many_ways(key: str) -> None:
    """Of the text model; keys that hold something else are passed over."""
    assert activation_of(config_of(**{"hidden_act": None, "activation": 3, key: "silu"})) == "silu"
    assert activation_of(config_of(vocab_size=9)) is None


def fail() -> Trials:
    """Stand in for trials that nobody needs."""
    raise AssertionError("a ReLU model needs no trial")


@pytest.mark.parametrize("activation", ["relu", "relu2", None])
def test_relu_models_are_recorded_exactly(activation: str | None) -> None:
    """And models that do not say: the verdict tells what comes of that."""
    choice = choose_rule(config_of(hidden_act=activation), fail)
    assert (choice.rule, choice.activation) == (DEFAULT_RULE, activation)


def trials_of(*rises: float, without: float | None = 30.0) -> Trials:
    """Return trials with these rises of the perplexity."""
    return Trials(without, tuple(Trial(rule, 30 * (1 + rise)) for rule, rise in zip(TRIED_RULES, rises, strict=False)))


@pytest.mark.parametrize(
    ("trials", "chosen"),
    [
        (trials_of(0.0, 0.01, 0.03, 0.049), TRIED_RULES[3]),
        (trials_of(0.0, 0.01, 0.06), TRIED_RULES[1]),
        (trials_of(-0.01, 0.2), TRIED_RULES[0]),
        (trials_of(0.3), TRIED_RULES[0]),
        (trials_of(without=None), UNTRIED_RULE),
    ],
)
def test_the_harshest_acceptable_rule_is_chosen(trials: Trials, chosen: object) -> None:
    """Where none is acceptable, the mildest; where nothing could be scored, the one that is taken untried."""
    choice = choose_rule(config_of(hidden_act="silu"), lambda: trials)
    assert choice.rule == chosen
    assert len(choice.to_json()["trials"]) == len(trials.trials)


def test_without_trials_smooth_models_still_get_a_rule() -> None:
    """Layer by layer, or without scores."""
    assert choose_rule(config_of(hidden_act="gelu_new"), None).rule == UNTRIED_RULE


@pytest.mark.parametrize(
    ("n_tokens", "expected"),
    [(1, (4,)), (512, (4,)), (513, (2, 6)), (1024, (2, 6)), (1200, (1, 4, 6)), (10**6, tuple(range(8)))],
)
def test_batches_spread_over_the_text(n_tokens: int, expected: tuple[int, ...]) -> None:
    """The middles of as few even parts as have the tokens; all of a text that has fewer."""
    text = CalibrationText.of_texts([np.zeros(50_000, np.int32)], WindowParams(4096, 4096, 256))
    batches = text.batches(BatchLayout())
    assert len(batches) == 8
    assert spread_batches(batches, n_tokens) == expected
