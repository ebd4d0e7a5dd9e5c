"""The activity rule of a capture for which none is named: exact for ReLU models, else as sparse as the text bears.

Smooth activations (SiLU, GELU and their kin) leave no neuron at exactly zero, so that the rule `relu` skips nothing.
There some rules are tried on a little of the text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.capture.params import DEFAULT_RULE
from ripple_place.capture.perplexity import LogLikelihood
from ripple_place.capture.recorder import Recorder
from ripple_place.capture.whole import forward, spread_batches
from ripple_place.trace.activity_rules import ActivityRule

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ripple_place.capture.batches import Batch
    from ripple_place.capture.sites import Site
    from ripple_place.tracking import Track

TRIED_RULES = tuple(ActivityRule("top-k", percent, is_percent=True) for percent in (50, 30, 20, 10))
"""From mild to harsh. At equal sparsity top-k costs nearly as little as TEAL (docs/profiling.md), and it needs no
thresholds, so that profiles of several texts fit each other."""
UNTRIED_RULE = TRIED_RULES[1]
"""Where nothing can be tried: mild enough for the models that were tried."""
ACCEPTED_RISE = 0.05
"""The chosen rule raises the perplexity by at most this share. A convention."""
TRIAL_TOKENS = 1024

_CONFIG_KEYS = (
    "hidden_act", "hidden_activation", "activation_function", "mlp_hidden_act", "dense_act_fn", "activation",
    "hidden_activation_function", "ffn_act_fn", "afn", "act_fn",
)  # fmt: skip
_LEAKY = ("leaky", "prelu", "rrelu")


@dataclass(frozen=True)
class Trial:
    """A rule, and the perplexity of the trial's tokens by it."""

    rule: ActivityRule
    perplexity: float


@dataclass(frozen=True)
class RuleChoice:
    """The rule of a capture, and how it was chosen.

    Attributes
    ----------
    rule : ActivityRule
    activation : str or None
        Name of the model's activation function; None if its config does not tell.
    perplexity_without_rule : float or None
        Of the trial's tokens with every neuron; None if nothing was tried.
    trials : tuple of Trial
        From mild to harsh; the last may be the first that cost too much.
    """

    rule: ActivityRule
    activation: str | None
    perplexity_without_rule: float | None = None
    trials: tuple[Trial, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the entry ``rule_choice`` of ``profile --json``."""
        return {
            "activation": self.activation,
            "accepted_rise": ACCEPTED_RISE,
            "perplexity_without_rule": self.perplexity_without_rule,
            "trials": [{"rule": str(trial.rule), "perplexity": trial.perplexity} for trial in self.trials],
        }


def activation_of(config: Any) -> str | None:
    """Return the name of a model's activation function, where its config tells.

    Parameters
    ----------
    config : transformers.PreTrainedConfig
        That of the text model is looked at, where a model has several parts.
    """
    text = config.get_text_config()
    return next((value for key in _CONFIG_KEYS if isinstance(value := getattr(text, key, None), str)), None)


def is_smooth(activation: str) -> bool:
    """Return whether an activation function leaves hardly any neuron at exactly zero.

    >>> [is_smooth(name) for name in ("silu", "gelu_new", "relu", "relu2", "leaky_relu", "reglu")]
    [True, True, False, False, True, False]
    """
    name = activation.lower()
    return not (name == "reglu" or ("relu" in name and not any(kind in name for kind in _LEAKY)))


def choose_rule(config: Any, try_out: Callable[[], Trials] | None) -> RuleChoice:
    """Choose the rule of a capture.

    Parameters
    ----------
    config : transformers.PreTrainedConfig
    try_out : callable or None
        Returns what the rules cost; called for smooth activations alone. None where they cannot be tried.
    """
    activation = activation_of(config)
    if activation is None or not is_smooth(activation):
        return RuleChoice(DEFAULT_RULE, activation)
    if try_out is None:
        return RuleChoice(UNTRIED_RULE, activation)
    trials = try_out()
    return RuleChoice(trials.chosen, activation, trials.perplexity_without_rule, trials.trials)


@dataclass(frozen=True)
class Trials:
    """What rules cost on the same tokens.

    Attributes
    ----------
    perplexity_without_rule : float or None
        None where the text has no token to be predicted.
    trials : tuple of Trial
        From mild to harsh, up to the first that costs more than `ACCEPTED_RISE`.
    """

    perplexity_without_rule: float | None
    trials: tuple[Trial, ...]

    @property
    def chosen(self) -> ActivityRule:
        """The harshest rule that is acceptable, else the mildest that there is."""
        if self.perplexity_without_rule is None:
            return UNTRIED_RULE
        most = (1 + ACCEPTED_RISE) * self.perplexity_without_rule
        accepted = [trial.rule for trial in self.trials if trial.perplexity <= most]
        return accepted[-1] if accepted else TRIED_RULES[0]


def try_rules(model: Any, sites: Sequence[Site], batches: Sequence[Batch], device: str, track: Track) -> Trials:
    """Score some batches with every neuron, and by one rule after the other until one costs too much.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Whole, and able to put out logits.
    sites : sequence of Site
        Of `model`.
    batches : sequence of Batch
        Those in the middles of even parts of the text are run: `TRIAL_TOKENS` of it.
    device : str
        ``cpu`` or ``cuda``.
    track : Track
        Receives progress updates.

    Notes
    -----
    Cost: up to five forwards of about 2000 tokens, of which the second half of each window is scored.
    """
    import torch

    chosen = [batches[i] for i in spread_batches(batches, TRIAL_TOKENS)]

    def perplexity_by(rule: ActivityRule | None) -> float | None:
        recorder = Recorder(rule or DEFAULT_RULE, Nowhere(), sites)
        likelihood = LogLikelihood()
        with torch.inference_mode(), recorder.attach(device):
            for batch in chosen:
                if rule is not None:
                    recorder.recording(batch.rows())
                likelihood.add(forward(model, batch, device, logits=True), *batch.targets())
        return likelihood.perplexity

    trials: list[Trial] = []
    without = None
    for rule in track((None, *TRIED_RULES), "trying rules"):
        perplexity = perplexity_by(rule)
        if perplexity is None:
            break
        if rule is None:
            without = perplexity
            continue
        trials.append(Trial(rule, perplexity))
        if without is not None and perplexity > (1 + ACCEPTED_RISE) * without:
            break
    return Trials(without, tuple(trials))


class Nowhere:
    """Takes a recorder's rows and keeps none."""

    def append(self, *rows: object) -> None:
        """Forget rows."""

    def holds_row(self, *row: object) -> bool:
        """Hold none."""
        return False

    def merge(self, *rows: object) -> None:
        """Forget rows."""
