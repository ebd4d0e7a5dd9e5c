"""The rules of a simulation on its layouts: what was tuned for them, and their scores."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.blocks import COLUMN
from ripple_place.errors import UsageError
from ripple_place.flash.simulator import simulate
from ripple_place.graph.profile import read_importance
from ripple_place.predict.params import TRUE
from ripple_place.scoring.parts import parts_of_layouts
from ripple_place.scoring.predictions import count_predictions
from ripple_place.select.registry import check_units, parse_rule
from ripple_place.select.result import SelectionResult
from ripple_place.select.rule import Tuning
from ripple_place.select.selected_block import WorthCount
from ripple_place.select.sight import Noise
from ripple_place.select.simulate import simulate_selected
from ripple_place.select.tuned import ReaderNote, TunedRules, read_tuned

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.capture.rules_in_model import ModelText
    from ripple_place.flash.device.conditions import ConditionedDevice
    from ripple_place.flash.layout import Layout
    from ripple_place.flash.results import LayoutResult
    from ripple_place.flash.simulator import SimulationParams
    from ripple_place.scoring.params import SimulateParams
    from ripple_place.select.rule import Rule
    from ripple_place.select.sight import Predictions
    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.tracking import Track


def tuned_for(layouts: Sequence[Layout]) -> dict[str, TunedRules]:
    """Read, by layout, the rules that outputs of `reorder` were tuned for; other layouts were not.

    Raises
    ------
    CheckpointError, OSError
        As `ripple_place.select.tuned.read_tuned`.
    """
    paths = {layout.name: Path(layout.name) for layout in layouts}
    found = {name: read_tuned(path) for name, path in paths.items() if path.is_dir()}
    return {name: tuned for name, tuned in found.items() if tuned is not None}


class RuleScorer:
    """Scores each rule on each layout.

    Parameters
    ----------
    trace : ActivationTrace
        Of the model that is simulated; with magnitudes unless `model` is given.
    device : ConditionedDevice
    simulation : SimulationParams
    params : SimulateParams
    model : ModelText or None
        Where rules are to run inside a model, for their loss.
    predictions : Predictions, optional
        What rules see inside the model; default what neurons put out, with the noise of `params`.
    fired : ActivationTrace, optional
        With predictions, of which the bits of `trace` are a copy: what fired and was missed is counted.
    """

    def __init__(
        self, trace: ActivationTrace, device: ConditionedDevice, simulation: SimulationParams, params: SimulateParams,
        model: ModelText | None, *, predictions: Predictions | None = None, fired: ActivationTrace | None = None,
    ) -> None:  # fmt: skip
        self._predictions, self._fired = predictions, fired
        self._trace, self._device, self._simulation, self._model = trace, device, simulation, model
        self._rules = [parse_rule(text) for text in params.select]
        check_units(self._rules, trace.unit)
        if params.magnitude_noise and trace.unit == COLUMN:
            raise UsageError(
                "--magnitude-noise", found="blocks of columns, whose magnitudes a reader knows",
                expected="neurons, whose magnitudes a predictor tells", remedy="leave --magnitude-noise out",
            )  # fmt: skip
        self._noise = Noise(params.magnitude_noise, params.seed)
        measured = None if params.profile is None else read_importance(Path(params.profile))
        self._untuned = Tuning.nothing()
        if measured is not None:
            self._untuned = replace(self._untuned, importance=measured.values, sensitivity=measured.sensitivities)

    def score(self, layouts: Sequence[Layout], tuned: Mapping[str, TunedRules], track: Track) -> list[LayoutResult]:
        """Return the scores, those of a layout's rules together.

        Parameters
        ----------
        layouts : sequence of Layout
        tuned : mapping of str to TunedRules
            Of `tuned_for`.
        track : Track
            Receives progress updates.

        Raises
        ------
        UsageError
            If something is missing that a rule needs, or it was tuned for another reader.
        """
        n_parts = self._model.n_parts if self._model is not None else parts_of_layouts(layouts)
        pairs = [
            (layout, rule, self._tuning(layout, rule, tuned.get(layout.name)))
            for layout in layouts
            for rule in self._rules
        ]
        if self._model is not None:
            return self._inside(pairs, track)
        results = []
        for layout, rule, tuning in track(pairs, "simulating"):
            if not rule.changes_output and rule.knowledge.on(self._trace.unit).sees == "predictor":
                results.append(self._exact(layout, rule))
            else:
                results.append(
                    simulate_selected(
                        self._trace, layout, self._device, self._simulation, rule, tuning, noise=self._noise,
                        n_parts=n_parts,
                    )
                )  # fmt: skip
        return results

    def _inside(self, pairs: Sequence[tuple[Layout, Rule, Tuning]], track: Track) -> list[LayoutResult]:
        """Run all rules inside the model."""
        from ripple_place.capture.rules_in_model import RuleRun

        assert self._model is not None
        runs = {str(at): RuleRun(rule, layout, tuning) for at, (layout, rule, tuning) in enumerate(pairs)}
        outcomes = self._model.run_rules(runs, self._device, self._simulation, self._predictions or self._noise, track)
        return [outcomes[str(at)].flash for at in range(len(pairs))]

    def _exact(self, layout: Layout, rule: Rule) -> LayoutResult:
        """Simulate a rule that drops nothing of what the bits say."""
        result = simulate(self._trace, layout, self._device, self._simulation)
        worth = WorthCount(n_active=result.totals.n_active)
        if self._fired is not None:
            worth = count_predictions(self._fired)
        needs = rule.knowledge.on(self._trace.unit).sentence
        selection = SelectionResult(
            str(rule), needs, worth, self._trace.n_tokens, False, is_predicted=self._fired is not None
        )
        return replace(result, selection=selection)

    def _tuning(self, layout: Layout, rule: Rule, tuned: TunedRules | None) -> Tuning:
        """Return what was fitted for a rule on a layout, else what the profile knows of the neurons."""
        if tuned is None:
            return self._untuned
        activity = TRUE if self._predictions is None else self._predictions.note
        reader = ReaderNote.of(self._device, self._simulation, layout, activity)
        found = tuned.tuning_for(layout.name, rule, reader)
        if found is not None:
            return found
        first = next(iter(tuned.rules.values())).tuning
        if self._untuned.importance:
            return self._untuned
        return replace(Tuning.nothing(), importance=first.importance, sensitivity=first.sensitivity)
