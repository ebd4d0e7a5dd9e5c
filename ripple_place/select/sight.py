"""What a rule sees of a token: what neurons put out, the same with noise, or what a predictor says of them."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from ripple_place.blocks import NEURON
from ripple_place.errors import UsageError
from ripple_place.predict.params import MAGNITUDE
from ripple_place.predict.predictor import softplus
from ripple_place.select.active_rows import ActiveRows

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ripple_place.arrays import Float32Array
    from ripple_place.predict.predictor import BlockPredictor, ModelPredictor
    from ripple_place.select.rule import Rule


@dataclass(frozen=True)
class Ffn:
    """What a rule may know of the FFN that a block is a part of; attributes as of `ripple_place.select.rule.BlockView`.

    Parameters
    ----------
    unit : str
    is_gated : bool
    n_opposite : int or None
    """

    unit: str = NEURON
    is_gated: bool = True
    n_opposite: int | None = None


class BlockSight(Protocol):
    """What a rule sees in one block.

    Attributes
    ----------
    is_predicted : bool
        Whether a predictor says what fires: it may name neurons that do not, and knows nothing of gates.
    """

    is_predicted: bool

    def see(self, rows: ActiveRows, inputs: Float32Array | None) -> ActiveRows:
        """Return what is seen of the next rows.

        Parameters
        ----------
        rows : ActiveRows
            What fires.
        inputs : ndarray of shape (n_rows, n_inputs), float32, or None
            Inputs of the FFN; needed if `is_predicted`.

        Returns
        -------
        ActiveRows
            Of the same rows; of the same neurons unless `is_predicted`.
        """
        ...


class Sight(Protocol):
    """What rules see in the blocks of a model."""

    @property
    def is_the_same(self) -> bool:
        """Whether every run of a rule sees the same."""
        ...

    def of_block(self, name: str, rule: Rule, n_neurons: int, ffn: Ffn) -> BlockSight:
        """Return what a rule sees in a block.

        Raises
        ------
        UsageError
            If the rule looks at what cannot be seen there.
        """
        ...


class Outputs:
    """What neurons put out, as it is."""

    is_predicted = False

    def see(self, rows: ActiveRows, inputs: Float32Array | None) -> ActiveRows:
        """Return the rows."""
        return rows


class NoisyOutputs:
    """What neurons put out, times ``exp(sigma z)``, z standard normal."""

    is_predicted = False

    def __init__(self, sigma: float, random: np.random.Generator) -> None:
        self._sigma, self._random = sigma, random

    def see(self, rows: ActiveRows, inputs: Float32Array | None) -> ActiveRows:
        """Return the rows with other values."""
        noise = np.exp(self._sigma * self._random.standard_normal(rows.values.shape, np.float32))
        return replace(rows, values=rows.values * noise)


@dataclass(frozen=True)
class Noise:
    """What a predictor of magnitudes gets wrong: rules see each output times ``exp(sigma z)``, z standard normal.

    Parameters
    ----------
    sigma : float
        0: it is exact.
    seed : int
    """

    sigma: float = 0.0
    seed: int = 0

    @property
    def is_the_same(self) -> bool:
        """Whether there is no noise."""
        return self.sigma == 0

    def of_block(self, name: str, rule: Rule, n_neurons: int, ffn: Ffn) -> BlockSight:
        """Return what any rule sees in a block; its noise depends on the block's name."""
        if self.sigma == 0:
            return Outputs()
        return NoisyOutputs(self.sigma, np.random.default_rng([self.seed, zlib.crc32(name.encode())]))


class PredictedOutputs:
    """What a predictor says: which neurons fire, and how much they put out, or 1 where that does not matter.

    Parameters
    ----------
    name : str
        Of the block, for messages.
    predictor : BlockPredictor
    place : int
        Of the recall, among those that thresholds were set for.
    with_magnitudes : bool
        Whether values are predicted magnitudes.
    """

    is_predicted = True

    def __init__(self, name: str, predictor: BlockPredictor, place: int, *, with_magnitudes: bool) -> None:
        self._name, self._predictor, self._place = name, predictor, place
        self._scale = predictor.scale if with_magnitudes else None

    def see(self, rows: ActiveRows, inputs: Float32Array | None) -> ActiveRows:
        """Return the neurons that are predicted to fire."""
        assert inputs is not None
        if inputs.shape[1] != self._predictor.n_inputs:
            raise _of_another_model(self._name, f"inputs of width {self._predictor.n_inputs}", f"{inputs.shape[1]}")
        scores = self._predictor.scores(inputs)
        seen = ActiveRows.from_mask(self._predictor.fires(scores, self._place))
        if self._scale is None:
            return seen
        return replace(seen, values=self._scale[seen.neurons] * softplus(scores[seen.row, seen.neurons]))


@dataclass(frozen=True, eq=False)
class Predictions:
    """What the predictors of a model say at one recall.

    Parameters
    ----------
    predictor : ModelPredictor
    recall : float
        One of those that thresholds were set for.

    Raises
    ------
    UsageError
        If it is none of them.
    """

    predictor: ModelPredictor
    recall: float
    is_the_same: ClassVar[bool] = True
    _place: int = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_place", self.predictor.note.place_of(self.recall))

    @classmethod
    def at(cls, predictor: ModelPredictor, recall: float | None) -> Predictions:
        """Return predictions at a recall; None takes `PredictorNote.default_recall`."""
        return cls(predictor, predictor.note.default_recall if recall is None else recall)

    @property
    def note(self) -> str:
        """What is noted of a rule that was tuned with these predictions."""
        return f"predicted at {self.recall:g}"

    def n_bytes(self, blocks: Iterable[str]) -> int:
        """Return the DRAM that the predictors of some blocks take."""
        return sum(self.predictor.blocks[name].n_bytes for name in blocks)

    def check(self, rules: Iterable[Rule]) -> None:
        """Refuse rules that look at what the predictors do not say.

        Raises
        ------
        UsageError
            If a rule reads weights to decide, or looks at magnitudes and none are predicted.
        """
        rules = list(rules)
        check_told(rules)
        for rule in rules:
            if rule.knowledge.of != "activity" and self.predictor.note.predicts != MAGNITUDE:
                raise UsageError(
                    f"--activity predicted --select {rule}", found="predictors of which neurons fire",
                    expected="predictors of how much they put out, which the rule looks at",
                    remedy="fit them with `ripple-place profile --predict magnitude`, or take --select exact",
                )  # fmt: skip

    def of_block(self, name: str, rule: Rule, n_neurons: int, ffn: Ffn) -> BlockSight:
        """Return what a rule sees in a block.

        Raises
        ------
        UsageError
            As `check`; or if the block has no predictor, or one of another size, or the rule looks at a gate.
        """
        self.check([rule])
        predictor = self.predictor.blocks.get(name)
        if predictor is None:
            raise UsageError(
                f"--activity predicted: {name}", found="no predictor of its neurons", expected="one for each block",
                remedy="leave its layer out with --layers, or fit predictors on more text",
            )  # fmt: skip
        if predictor.n_neurons != n_neurons:
            raise _of_another_model(name, f"{predictor.n_neurons} neurons", f"{n_neurons}")
        if rule.uses_gate and ffn.is_gated:
            raise UsageError(
                f"--activity predicted --select {rule}", found=f"gates in {name}, of which predictors say nothing",
                expected="a rule that looks at |h|", remedy="take top-k, or leave --activity predicted out",
            )  # fmt: skip
        return PredictedOutputs(name, predictor, self._place, with_magnitudes=rule.knowledge.of != "activity")


def check_told(rules: Iterable[Rule]) -> None:
    """Refuse rules that no predictor tells what they look at.

    Raises
    ------
    UsageError
        If one reads weights to decide.
    """
    for rule in rules:
        if rule.knowledge.sees != "predictor":
            raise UsageError(
                f"--activity predicted --select {rule}", found="a rule that reads weights to know what it looks at",
                expected="one that decides by a predictor",
                remedy="write sees=predictor, or leave --activity predicted out",
            )  # fmt: skip


def _of_another_model(name: str, found: str, expected: str) -> UsageError:
    return UsageError(
        f"--activity predicted: {name}", found=f"a predictor for {found}", expected=expected,
        remedy="name the --profile of this model",
    )  # fmt: skip
