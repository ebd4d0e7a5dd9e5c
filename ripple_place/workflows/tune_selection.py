"""Tune selection rules for an output that is about to be written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ripple_place.blocks import NEURON, unit_metadata
from ripple_place.checkpoint.output.additions import Addition
from ripple_place.errors import UsageError
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.layout import BlockExtent, Layout
from ripple_place.flash.simulator import SimulationParams
from ripple_place.placement import ModelPlacement
from ripple_place.placing.recorded_dram import RecordedDram
from ripple_place.predict.params import TRUE, check_activity
from ripple_place.select.registry import check_units, parse_rule
from ripple_place.select.rule import Tuning
from ripple_place.select.sight import Predictions
from ripple_place.select.tuned import ReaderNote, TunedRule, TunedRules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.capture.params import CaptureParams
    from ripple_place.capture.rules_in_model import ModelText
    from ripple_place.checkpoint.output.plan import RewritePlan
    from ripple_place.graph.profile import Profile
    from ripple_place.placing.params import PlacingParams
    from ripple_place.tracking import Track


@dataclass(frozen=True)
class TuneParams:
    """Which rules to tune, and on what.

    Parameters
    ----------
    rules : tuple of str
        See `ripple_place.select.registry.parse_rule`.
    capture : CaptureParams
        The text, and how the model reads it.
    activity : str
        ``predicted``: rules see what the predictors of the profile say, as they will when the model is served.
    recall : float, optional
        One of those that the predictors' thresholds were set for. Default: 0.99, or else the highest.

    Raises
    ------
    UsageError
        If a rule is unknown, stands twice, or drops nothing; or there is a recall and nothing is predicted.
    """

    rules: tuple[str, ...]
    capture: CaptureParams
    activity: str = TRUE
    recall: float | None = None

    def __post_init__(self) -> None:
        check_activity(self.activity, self.recall)
        rules = [parse_rule(text) for text in self.rules]
        names = [str(rule) for rule in rules]
        for rule in rules:
            if not rule.changes_output or names.count(str(rule)) > 1:
                raise UsageError(
                    f"--select {rule}", found="it twice" if rule.changes_output else "a rule that drops nothing",
                    expected="rules to tune, each once", remedy="leave it out",
                )  # fmt: skip

    def check(self, placing: PlacingParams, checkpoint: object) -> None:
        """Refuse what rules cannot be tuned for, before the long part.

        Raises
        ------
        UsageError
            If there is no checkpoint, no device, or two copies.
        """
        if checkpoint is None:
            raise _cannot_tune(self.rules[0], "no checkpoint", "name the checkpoint as well")
        if placing.break_even_gap is not None:
            raise _cannot_tune(self.rules[0], "--break-even-gap", "name a --device instead")
        if placing.copies == 2:
            raise _cannot_tune(self.rules[0], "--copies 2", "leave --copies out")

    def check_profile(self, profile: Profile, names: Sequence[str]) -> None:
        """Refuse profiles that rules cannot be tuned with.

        Raises
        ------
        UsageError
            If a rule is not one of the profile's unit, or columns come without importance: sizes of weights do not
            compare the two spaces. Or if the profile has no predictors for rules that are to see what they say.
        """
        self.sight(profile)
        check_units(map(parse_rule, self.rules), profile.unit)
        if profile.unit != NEURON and any(profile.blocks[name].importance is None for name in names):
            raise UsageError(
                f"--select {self.rules[0]}", found=f"a profile of {profile.unit}s without importance",
                expected="what dropping each costs", remedy="profile the model with --importance",
            )  # fmt: skip

    def sight(self, profile: Profile) -> Predictions | None:
        """Return what rules see where that is predicted; None where it is what neurons put out.

        Raises
        ------
        UsageError
            If the profile has no predictors, or none that say what the rules look at.
        """
        if self.activity == TRUE:
            return None
        if profile.predictor is None:
            raise UsageError(
                "--activity predicted", found="a profile without predictors", expected="one that has some",
                remedy="fit them with `ripple-place profile --predictor RANK`, or leave --activity out",
            )  # fmt: skip
        sight = Predictions.at(profile.predictor, self.recall)
        sight.check(map(parse_rule, self.rules))
        return sight


def tune_selection(
    plan: RewritePlan, profile: Profile, placing: PlacingParams, params: TuneParams, track: Track
) -> tuple[RewritePlan, TunedRules]:
    """Return the plan with the files of tuned rules, and the rules.

    Parameters
    ----------
    plan : RewritePlan
        Says where each neuron will lie.
    profile : Profile
        With importance, unless that of sizes is to do.
    placing : PlacingParams
        Device, cache and DRAM.
    params : TuneParams
    track : Track
        Receives progress updates.

    Raises
    ------
    UsageError, UnsupportedError, CheckpointError, TraceFormatError, OSError
        As `ripple_place.capture.rules_in_model.ModelText` and `ripple_place.capture.tune_rule.RuleTuner`.
    """
    from ripple_place.capture.rules_in_model import ModelText
    from ripple_place.capture.tune_rule import RuleTuner

    layout = _layout(plan, profile)
    recorded = RecordedDram.of(str(plan.out), plan.placement)
    simulation = SimulationParams()
    if recorded is not None:
        simulation = SimulationParams(
            recorded.cache, {name: recorded.capacity_neurons.get(name, 0) for name in layout.blocks}
        )
    assert placing.device_profile is not None
    device = replace(under(placing.device_profile, ReadConditions()), span_bytes=layout.span_bytes)
    model = ModelText.load(plan.model.checkpoint.path, replace(params.capture, unit=profile.unit))
    known, method = _known(profile, layout, model)
    sight = params.sight(profile)
    reader = ReaderNote.of(device, simulation, layout, TRUE if sight is None else sight.note)
    tuner = RuleTuner(model, device, simulation, layout, track, sight)
    rules = {}
    for text in params.rules:
        rule = parse_rule(text)
        # On columns the mean of what is dropped makes matters worse (docs/columns.md).
        tuning, report = tuner.tune(rule, known, compensate=profile.unit == NEURON)
        rules[str(rule)] = TunedRule(str(rule), reader, tuning, method, report)
    tuned = TunedRules(rules)
    files = {name: Addition.of_bytes(content) for name, content in tuned.files().items()}
    return replace(plan, additions={**plan.additions, **files}), tuned


def _cannot_tune(rule: str, found: str, remedy: str) -> UsageError:
    return UsageError(
        f"--select {rule}", found=found, expected="a model, and a device that reads one copy of it, to tune the rule "
        "for", remedy=remedy,
    )  # fmt: skip


def _layout(plan: RewritePlan, profile: Profile) -> Layout:
    """Return where the neurons of the placed blocks will lie."""
    blocks, extents = {}, {}
    for name, placement in plan.placement.blocks.items():
        block = plan.model.blocks[name]
        blocks[name] = replace(placement, frequency=profile.blocks[name].frequency)
        extents[name] = BlockExtent.packed(block.bundle_bytes)
        if plan.bundle is not None:
            index = plan.bundle.index[name]
            extents[name] = BlockExtent(block.bundle_bytes, index["stride_bytes"], index["offset_bytes"])
    return Layout.from_extents(str(plan.out), ModelPlacement(blocks, unit_metadata(profile.unit)), extents)


def _known(profile: Profile, layout: Layout, model: ModelText) -> tuple[Tuning, str]:
    """Return what dropping neurons costs: as measured, or by their size, and which of the two."""
    from ripple_place.capture.tune_rule import size_importance

    measured = {name: profile.blocks[name].importance for name in layout.blocks}
    importance = {name: values for name, values in measured.items() if values is not None}
    if len(importance) < len(measured):
        sites = {site.block: site for site in model.scored.sites}
        sizes = {name: size_importance(sites[name]) for name in layout.blocks}
        return replace(Tuning.nothing(), importance=sizes), "size"
    found = {name: profile.blocks[name].sensitivity for name in layout.blocks}
    sensitivity = {name: weights for name, weights in found.items() if weights is not None}
    return replace(Tuning.nothing(), importance=importance, sensitivity=sensitivity), "fisher"
