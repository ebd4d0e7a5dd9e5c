"""Makes, for each block, what decides which units a token uses."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ripple_place.blocks import NEURON
from ripple_place.checkpoint.names import BUNDLED_FILE, PREDICTORS_FILE
from ripple_place.errors import CheckpointError, UnsupportedError, UsageError
from ripple_place.flash.device.conditions import ConditionedDevice, under
from ripple_place.generation.known_weights import read_first_bytes
from ripple_place.generation.params import ALL, GATE, ORACLE, PREDICTED, RULE
from ripple_place.generation.plain_activities import Everything, Gates, KnownWeights, Oracle, Predicted
from ripple_place.generation.row_form import DOWN
from ripple_place.generation.row_form import GATE as GATE_ROLE
from ripple_place.generation.ruled import Ruled
from ripple_place.predict.files import read_predictors
from ripple_place.predict.params import TRUE
from ripple_place.predict.predictor import ModelPredictor
from ripple_place.select.registry import check_units
from ripple_place.select.rule import Tuning
from ripple_place.select.sight import Ffn, Noise, Predictions
from ripple_place.select.simulate import refuse_pool
from ripple_place.select.tuned import ReaderNote, read_tuned
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.checkpoint.output.manifest import Manifest
    from ripple_place.generation.decision import Activity
    from ripple_place.generation.params import GenerationParams
    from ripple_place.generation.skeleton import Skeleton
    from ripple_place.predict.predictor import BlockPredictor
    from ripple_place.runtime.layout_reader import LayoutReader
    from ripple_place.select.rule import Rule
    from ripple_place.select.sight import Sight


def make_activities(
    skeleton: Skeleton, manifest: Manifest, reader: LayoutReader, params: GenerationParams, track: Track = no_track
) -> dict[str, Activity]:
    """Return an activity for each block.

    Parameters
    ----------
    skeleton : Skeleton
        With its weights.
    manifest : Manifest
    reader : LayoutReader
    params : GenerationParams
    track : Track
        Receives progress updates.

    Raises
    ------
    UsageError, UnsupportedError
        If predictors are missing or gates do not tell what fires.
    CheckpointError, OSError
        If a file is malformed, or cannot be read.
    """
    makers = _Makers(skeleton, manifest, reader, params)
    if params.activity == GATE:
        makers.check_gates()
    if params.rule is not None:
        makers.prepare_rule(params.rule)
    make: dict[str, Callable[[str], Activity]] = {
        ALL: makers.everything, ORACLE: makers.oracle, GATE: makers.gates, PREDICTED: makers.predicted,
        RULE: makers.ruled,
    }  # fmt: skip
    return {block: make[params.activity](block) for block in track([*skeleton.places], "loading what decides")}


def check_routed(params: GenerationParams) -> None:
    """Refuse activities other than the router's, where units are experts.

    Raises
    ------
    UsageError
    """
    if params.activity != ORACLE:
        raise UsageError(
            f"--activity {params.activity}", found="a pack of experts, of which the router decides",
            expected="no activity of another kind", remedy="leave --activity out",
        )  # fmt: skip


class _Makers:
    """Makes activities of a model."""

    def __init__(
        self, skeleton: Skeleton, manifest: Manifest, reader: LayoutReader, params: GenerationParams
    ) -> None:  # fmt: skip
        self._skeleton, self._manifest, self._reader, self._params = skeleton, manifest, reader, params
        self._predictor: ModelPredictor | None = None
        self._sight: Sight = Noise()
        self._tuning = Tuning.nothing()

    def everything(self, block: str) -> Everything:
        return Everything(self._skeleton.places[block].form.n_units)

    def oracle(self, block: str) -> Oracle:
        place = self._skeleton.places[block]
        return Oracle(self._known(block, place.form.components[DOWN].at_bytes), place.function)

    def gates(self, block: str) -> Gates:
        place = self._skeleton.places[block]
        return Gates(self._known(block, place.form.components[GATE_ROLE].length_bytes), place.function)

    def predicted(self, block: str) -> Predicted:
        predictor = self.predictor
        recall = predictor.note.default_recall if self._params.recall is None else self._params.recall
        place = predictor.note.place_of(recall)
        return Predicted(
            self._predictor_of(block), place, self.oracle(block) if self._params.check_recall else None
        )  # fmt: skip

    def prepare_rule(self, rule: Rule) -> None:
        """Find what the rule sees, and what was tuned for it."""
        check_units([rule], NEURON)
        reader = self._reader
        if reader.simulation.pool_neurons is not None:
            refuse_pool(rule)
        activity = TRUE
        if self._params.sees == PREDICTED:
            note, layout = self.predictor.note, reader.layout
            in_source_order = {
                name: block.in_order(layout.blocks[name].placement.slot_of)
                for name, block in self.predictor.blocks.items()
            }
            predictions = Predictions.at(ModelPredictor(in_source_order, note), self._params.recall)
            predictions.check([rule])
            self._sight, activity = predictions, predictions.note
        tuned = read_tuned(self._manifest.out)
        if tuned is None:
            return
        device = reader.device if isinstance(reader.device, ConditionedDevice) else under(reader.device)
        note_of_reader = ReaderNote.of(device, reader.simulation, reader.layout, activity)
        found = tuned.tuning_for(reader.layout.name, rule, note_of_reader)
        if found is None:
            known = next(iter(tuned.rules.values())).tuning
            found = replace(Tuning.nothing(), importance=known.importance, sensitivity=known.sensitivity)
        self._tuning = found

    def ruled(self, block: str) -> Ruled:
        rule, place = self._params.rule, self._skeleton.places[block]
        assert rule is not None
        is_predicted = self._params.sees == PREDICTED
        return Ruled(
            block, rule, self._reader, self._tuning, self._sight, Ffn(NEURON, place.form.is_gated, None),
            None if is_predicted else self.oracle(block),
            self._predictor_of(block).n_bytes if is_predicted else 0,
        )  # fmt: skip

    @property
    def predictor(self) -> ModelPredictor:
        """The output's predictors, in slot order."""
        if self._predictor is None:
            path = self._manifest.out / PREDICTORS_FILE
            if not path.is_file():
                raise UsageError(
                    path, found="no predictors", expected="those of a profile",
                    remedy="run `ripple-place profile --predictor` and reorder with that profile, or take another "
                    "--activity",
                )  # fmt: skip
            self._predictor = read_predictors(path, CheckpointError)
        return self._predictor

    def _predictor_of(self, block: str) -> BlockPredictor:
        found, form = self.predictor.blocks.get(block), self._skeleton.places[block].form
        if found is None:
            raise UsageError(
                f"--activity predicted: {block}", found="no predictor of its neurons", expected="one for each block",
                remedy="fit predictors on more text, or take another --activity",
            )  # fmt: skip
        if (found.n_neurons, found.n_inputs) != (form.n_units, form.hidden):
            raise CheckpointError(
                f"{self._manifest.out / PREDICTORS_FILE}: {block}",
                found=f"a predictor of {found.n_neurons} neurons from {found.n_inputs} inputs",
                expected=f"{form.n_units} neurons, {form.hidden} inputs",
                remedy="copy the output again from where it was written, or run `ripple-place reorder` again",
            )  # fmt: skip
        return found

    def check_gates(self) -> None:
        """Refuse gates that do not say what fires."""
        import numpy as np

        for block, place in self._skeleton.places.items():
            if not place.form.is_gated:
                raise UnsupportedError(
                    f"--activity gate: {block}", found="an FFN without a gate", expected="a gate that says what fires",
                    remedy="take --activity predicted, or --activity oracle to prove equality",
                )  # fmt: skip
            if (place.function(np.linspace(-4, -1, 4, dtype=np.float32)) != 0).any():
                raise UnsupportedError(
                    f"--activity gate: {block}", found="an activation function without zeros",
                    expected="one that is 0 below 0, such as ReLU",
                    remedy="take --activity rule, which drops what puts out little",
                )  # fmt: skip

    def _known(self, block: str, n_bytes: int) -> KnownWeights:
        form, entry = self._skeleton.places[block].form, self._manifest.document["bundled"][block]
        weights = read_first_bytes(self._manifest.out / BUNDLED_FILE, entry, n_bytes)
        return KnownWeights(form, weights, self._skeleton.biases(block))
