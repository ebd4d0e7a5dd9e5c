"""The rules of systems that drop something: tuned on one text, run on another, for their loss and their reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.scoring.parts import parts_of_layouts
from ripple_place.select.registry import check_units, parse_rule
from ripple_place.select.rule import Tuning
from ripple_place.select.sight import Noise
from ripple_place.select.simulate import simulate_selected

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.capture.rules_in_model import ModelText, RuleRun
    from ripple_place.flash.results import LayoutResult
    from ripple_place.graph.profile import Profile
    from ripple_place.scoring.system_params import SystemParams
    from ripple_place.scoring.system_reader import SystemReader
    from ripple_place.select.rule import Rule
    from ripple_place.trace.activation_trace import ActivationTrace
    from ripple_place.tracking import Track


class RulesOfSystems:
    """Runs the rules of lossy systems.

    Parameters
    ----------
    sources : sequence of Path
        What is simulated.
    params : SystemParams
    track : Track
        Receives progress updates.
    """

    def __init__(self, sources: Sequence[Path], params: SystemParams, track: Track) -> None:
        self._sources, self._params, self._track = [Path(source) for source in sources], params, track

    def run(
        self, readers: Mapping[str, SystemReader], trace: ActivationTrace, model: ModelText | None,
        profile: Profile | None,
    ) -> dict[str, LayoutResult]:  # fmt: skip
        """Return what each reader's rule costs.

        Parameters
        ----------
        readers : mapping of str to SystemReader
            By system, all of one unit.
        trace : ActivationTrace
            What is simulated; with magnitudes where there is no model.
        model : ModelText or None
            Where rules run, for their loss.
        profile : Profile or None
            Knows what dropping units costs.

        Raises
        ------
        UsageError
            If a rule has to be tuned and there is no text for it, or lacks something else.
        UnsupportedError, TraceFormatError, CheckpointError, OSError
            As `ripple_place.capture.rules_in_model.ModelText`.
        """
        if not readers:
            return {}
        rules = {name: parse_rule(reader.knobs.uses) for name, reader in readers.items()}
        check_units(rules.values(), trace.unit)
        known = _known(profile)
        fitted = {name: readers[name] for name in readers if _needs_tuning(rules[name])}
        tuned = self._tune(fitted, rules, known, trace, is_model=model is not None)
        tunings = {name: tuned.get(name, known) for name in readers}
        if model is None:
            return self._on_trace(readers, rules, tunings, trace)
        from ripple_place.capture.rules_in_model import RuleRun

        # A reader's device is its own; those that read alike run together.
        results: dict[str, LayoutResult] = {}
        by_device: dict[object, dict[str, RuleRun]] = {}
        for name, reader in readers.items():
            run = RuleRun(rules[name], reader.layout.layout, tunings[name], reader.simulation(trace))
            by_device.setdefault(reader.device.conditions, {})[name] = run
        for runs in by_device.values():
            device = readers[next(iter(runs))].device
            first = readers[next(iter(runs))].simulation(trace)
            outcomes = model.run_rules(runs, device, first, Noise(), self._track)
            results |= {name: outcome.flash for name, outcome in outcomes.items()}
        return results

    def _on_trace(
        self, readers: Mapping[str, SystemReader], rules: Mapping[str, Rule], tunings: Mapping[str, Tuning],
        trace: ActivationTrace,
    ) -> dict[str, LayoutResult]:  # fmt: skip
        """Run rules on magnitudes that were recorded; their loss is not known then."""
        results = {}
        for name, reader in self._track(list(readers.items()), "simulating rules"):
            layout = reader.layout.layout
            results[name] = simulate_selected(
                trace, layout, reader.device, reader.simulation(trace), rules[name], tunings[name],
                n_parts=parts_of_layouts([layout]),
            )  # fmt: skip
        return results

    def _tune(
        self, readers: Mapping[str, SystemReader], rules: Mapping[str, Rule], known: Tuning, trace: ActivationTrace, *,
        is_model: bool,
    ) -> dict[str, Tuning]:  # fmt: skip
        """Fit prices and thresholds on the text for that."""
        if not readers:
            return {}
        if self._params.tune is None:
            name = next(iter(readers))
            priced = f"{name.partition(',')[0]},uses=flash-aware;price=1e-06"
            raise UsageError(
                f"--system {name}", found=f"the rule {rules[name]}, which has to be tuned, and no text for that",
                expected="a text other than the one that it is judged on",
                remedy=f"add --tune-text FILE, or give a price: --system '{priced}'" if is_model else
                "name the model with --text and --tune-text in place of the trace, or give a price: "
                f"--system '{priced}'",
            )  # fmt: skip
        from ripple_place.capture.rules_in_model import ModelText
        from ripple_place.capture.tune_rule import RuleTuner

        text = ModelText.load(self._sources[0], replace(self._params.tune, unit=trace.unit))
        tunings = {}
        for name, reader in readers.items():
            tuner = RuleTuner(text, reader.device, reader.simulation(trace), reader.layout.layout, self._track)
            tunings[name], _ = tuner.tune(rules[name], known, compensate=False)
        return tunings


def _needs_tuning(rule: Rule) -> bool:
    """Tell whether a rule is written by a wanted rise of the loss, or has thresholds to fit."""
    activity = getattr(rule, "rule", None)
    return rule.target is not None or (activity is not None and activity.is_fitted)


def _known(profile: Profile | None) -> Tuning:
    """Return what a profile knows of what dropping units costs."""
    importance = None if profile is None else profile.importance
    if importance is None:
        return Tuning.nothing()
    return replace(Tuning.nothing(), importance=importance.values, sensitivity=importance.sensitivities)
