"""Tunes a rule for a layout and a reader: its price, its thresholds, and what makes up for what it drops.

A rule at a price is tuned for a wanted rise of the loss. The rise itself is noisy: over 24,000 tokens its standard
error is a third of a rise of .001 nats. The KL divergence is not, and the two are proportional. So prices are chosen by
KL times a ratio of rise to KL that is rarely exceeded. KL itself may be `KL_ROOM` times the wanted rise at
most, however little the rise is: compensation lowers the one more than the other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.blocks import is_input_block
from ripple_place.capture.loss import compensation_of
from ripple_place.capture.recorder import Recorder
from ripple_place.capture.rule_choice import Nowhere
from ripple_place.capture.rules_in_model import RuleRun
from ripple_place.capture.whole import forward, spread_batches
from ripple_place.errors import UsageError
from ripple_place.select.exact import Exact
from ripple_place.select.rule import Tuning
from ripple_place.select.sight import Noise
from ripple_place.trace.activity_rules import FIT_TOKENS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.arrays import Float32Array
    from ripple_place.capture.rules_in_model import ModelText, RuleOutcome
    from ripple_place.capture.sites import Site
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import Layout
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.select.rule import Rule
    from ripple_place.select.sight import Sight
    from ripple_place.tracking import Track

FIRST_PRICES = (0.5, 2.0, 8.0, 32.0)
"""Tried first, times the wanted rise over the exact flash time: prices come out at 2 to 10 times that."""
LATER_PRICES = (0.65, 1.0, 1.55)
"""Tried next, around the price that the first ones point to, with compensation."""
KL_ROOM = 1.5
"""Times the wanted rise of the loss that the KL divergence may be."""
MARGIN = 0.9
"""Of both limits that is made use of: what is tuned on one text comes out a little higher on another."""
EXPECTED_RATIO, RATIO_SPREAD = 1.0, 0.25
"""Of the rise to KL, before the text has said anything, and its standard deviation: the two are equal for a text that
the model itself might have written."""


@dataclass(frozen=True, eq=False)
class Trial:
    """A price that was tried, and what came of it."""

    price: float
    kl: float
    rise: float
    rise_error: float | None
    dropped: Mapping[str, Float32Array]


class RuleTuner:
    """Tunes one rule after the other on one text.

    Parameters
    ----------
    model : ModelText
    device : DeviceProfile
    params : SimulationParams
    layout : Layout
        Of the blocks in which the rules work.
    track : Track
    sight : Sight, optional
        What the rules see; default what neurons put out.
    """

    def __init__(
        self, model: ModelText, device: DeviceProfile, params: SimulationParams, layout: Layout, track: Track,
        sight: Sight | None = None,
    ) -> None:  # fmt: skip
        self._model, self._device, self._params, self._layout, self._track = model, device, params, layout, track
        self._sight = sight or Noise()
        self._exact_us: float | None = None
        self._compensates = True
        self._sites = {site.block: site for site in model.scored.sites if site.block in layout.blocks}

    def tune(self, rule: Rule, known: Tuning, *, compensate: bool = True) -> tuple[Tuning, dict[str, Any]]:
        """Return what was fitted for a rule, and the loss by it on the text.

        Parameters
        ----------
        rule : Rule
        known : Tuning
            Importance and sensitivity.
        compensate : bool
            Whether the mean of what is dropped is added to each block's output.

        Raises
        ------
        UsageError
            If the text is too short to tell the wanted rise.
        UnsupportedError, TraceFormatError
            As `ripple_place.capture.loss.measure_loss`.

        Notes
        -----
        Cost: for a rule at a price about 12 forwards of the text, else 4.
        """
        self._compensates = compensate
        tuning = replace(known, thresholds=self._fit_thresholds(rule))
        if rule.target is None:
            dropped = self._run(rule, [tuning])[0].dropped if rule.changes_output else {}
        else:
            price, dropped = self._find_price(rule, rule.target, tuning)
            tuning = replace(tuning, price=price)
        tuning = replace(tuning, compensation=self._compensation(dropped))
        outcome = self._run(rule, [tuning])[0]
        report = {
            "n_tokens": self._model.n_tokens,
            **outcome.loss.to_json(),
            "flash_time_us_per_token": outcome.flash.totals.flash_time_us / outcome.flash.n_tokens,
            "exact_flash_time_us_per_token": self._exact_flash_us(),
        }
        return tuning, report

    def _find_price(self, rule: Rule, target: float, tuning: Tuning) -> tuple[float, Mapping[str, Float32Array]]:
        """Return the price at which the loss rises as wanted, and what is dropped at it."""
        if self._exact_flash_us() == 0:
            raise UsageError(
                f"--select {rule}", found="a reader that has everything in DRAM", expected="reads that a rule may save",
                remedy="give a smaller --dram-budget, or leave --select out",
            )  # fmt: skip
        unit = target / self._exact_flash_us()
        prices = [unit * factor for factor in FIRST_PRICES]
        trials = self._try(rule, [replace(tuning, price=price) for price in prices])
        price = _price_at(trials, target)
        near = [price * factor for factor in LATER_PRICES]
        compensated = self._try(
            rule,
            [replace(tuning, price=at, compensation=self._compensation(_dropped_at(trials, at))) for at in near],
        )
        price = _price_at(compensated, target)
        return price, _dropped_at(compensated, price)

    def _try(self, rule: Rule, tunings: Sequence[Tuning]) -> list[Trial]:
        outcomes = self._run(rule, tunings)
        return [
            Trial(
                tuning.price or 0.0, outcome.loss.kl, outcome.loss.nll_rise, outcome.loss.nll_rise_se, outcome.dropped
            )
            for tuning, outcome in zip(tunings, outcomes, strict=True)
        ]

    def _run(self, rule: Rule, tunings: Sequence[Tuning]) -> list[RuleOutcome]:
        """Run a rule with each of some tunings, all beside one exact run."""
        runs = {str(i): RuleRun(rule, self._layout, tuning) for i, tuning in enumerate(tunings)}
        outcomes = self._model.run_rules(runs, self._device, self._params, self._sight, self._track, with_dropped=True)
        return [outcomes[name] for name in runs]

    def _exact_flash_us(self) -> float:
        """Return the flash time of a token if nothing is dropped, in microseconds."""
        if self._exact_us is None:
            flash = self._run(Exact(), [Tuning.nothing()])[0].flash
            self._exact_us = flash.totals.flash_time_us / flash.n_tokens
        return self._exact_us

    def _compensation(self, dropped: Mapping[str, Float32Array]) -> dict[str, Float32Array]:
        """Return what makes up for what is dropped on average, by block."""
        if not self._compensates:
            return {}
        return {
            block: mean if is_input_block(block) else compensation_of(self._sites[block], mean)
            for block, mean in dropped.items()
        }

    def _fit_thresholds(self, rule: Rule) -> dict[str, float]:
        """Fit the thresholds of a rule of profiles that has some, on tokens spread over the text."""
        import torch

        activity = getattr(rule, "rule", None)
        if activity is None or not activity.is_fitted:
            return {}
        scored = self._model.scored
        recorder = Recorder(activity, Nowhere(), [*self._sites.values()])
        with torch.inference_mode(), recorder.attach(scored.device):
            for i in spread_batches(scored.batches, FIT_TOKENS):
                recorder.fitting(scored.batches[i].rows())
                forward(scored.model, scored.batches[i], scored.device, logits=False)
            recorder.fit()
        return recorder.thresholds


def size_importance(site: Site) -> Float32Array:
    """Return the squared length of each neuron's down column: what importance is where no gradients were measured.

    Parameters
    ----------
    site : Site
        Of a dense FFN.

    Returns
    -------
    ndarray of shape (n_neurons,), float32
    """
    weight = site.module.weight.detach().float()
    # GPT-2's Conv1D holds its weight as [in, out].
    squared = (weight * weight).sum(dim=1 if hasattr(site.module, "nf") else 0)
    sizes: Float32Array = squared.cpu().numpy()
    return sizes


def _limit(trials: Sequence[Trial], target: float) -> float:
    """Return the KL divergence at which the loss rises as wanted."""
    return MARGIN * min(KL_ROOM * target, target / max(_ratio(trials), 1 / KL_ROOM))


def _ratio(trials: Sequence[Trial]) -> float:
    """Return a ratio of rise to KL that is rarely exceeded: one standard deviation above what is known of it.

    Known are the ratio of the surest trial and the one that is expected anyway, each with its precision.
    """
    told = [
        (trial.rise_error / trial.kl, trial.rise / trial.kl) for trial in trials if trial.kl > 0 and trial.rise_error
    ]
    expected_weight = 1 / RATIO_SPREAD**2
    if not told:
        return EXPECTED_RATIO + RATIO_SPREAD
    spread, ratio = min(told)
    weight = 1 / spread**2
    known = (weight * ratio + expected_weight * EXPECTED_RATIO) / (weight + expected_weight)
    return known + 1 / math.sqrt(weight + expected_weight)


def _price_at(trials: Sequence[Trial], target: float) -> float:
    """Return the price at which KL reaches its limit, on the line through the logarithms of the two nearest trials."""
    wanted = math.log(_limit(trials, target))
    known = sorted((math.log(trial.kl), math.log(trial.price)) for trial in trials if trial.kl > 0)
    if len(known) < 2:
        raise UsageError(
            "--tune-text", found=f"a text on which no price that was tried changes anything (wanted: {target:g} nats)",
            expected="a text on which dropping neurons costs something", remedy="give more text, or want a larger rise",
        )  # fmt: skip
    at = int(np.clip(np.searchsorted([kl for kl, _ in known], wanted), 1, len(known) - 1))
    (left_kl, left), (right_kl, right) = known[at - 1], known[at]
    slope = (right - left) / max(right_kl - left_kl, 1e-12)
    # What lies far outside of what was tried is not believed.
    return math.exp(float(np.clip(left + slope * (wanted - left_kl), known[0][1] - 1.5, known[-1][1] + 1.5)))


def _dropped_at(trials: Sequence[Trial], price: float) -> dict[str, Float32Array]:
    """Return what is dropped at a price, between those of the two nearest trials by the logarithm of the price."""
    ordered = sorted(trials, key=lambda trial: trial.price)
    prices = np.log([trial.price for trial in ordered])
    at = int(np.clip(np.searchsorted(prices, math.log(price)), 1, len(ordered) - 1))
    share = float(np.clip((math.log(price) - prices[at - 1]) / (prices[at] - prices[at - 1]), 0, 1))
    left, right = ordered[at - 1].dropped, ordered[at].dropped
    return {block: ((1 - share) * left[block] + share * right[block]).astype(np.float32) for block in left}
