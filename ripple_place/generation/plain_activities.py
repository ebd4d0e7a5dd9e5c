"""Activities that look at inputs alone: all units, what weights in memory say, and what predictors say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.generation.decision import Decision
from ripple_place.generation.row_form import GATE, UP
from ripple_place.kernels.sparse_ffn import F16, dot_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.arrays import BoolArray, Float32Array, UInt8Array
    from ripple_place.generation.row_form import RowForm
    from ripple_place.predict.predictor import BlockPredictor

    Function = Callable[[Float32Array], Float32Array]


class Plain:
    """What these activities have in common: prompts in chunks, and nothing in place of what is dropped."""

    is_one_by_one = False
    added: Float32Array | None = None


class Everything(Plain):
    """Every unit."""

    n_bytes = 0

    def __init__(self, n_units: int) -> None:
        self._n_units = n_units

    def decide(self, inputs: Float32Array) -> Decision:
        """Return all units."""
        return Decision(np.ones((inputs.shape[0], self._n_units), bool))


class KnownWeights:
    """Weights of all units in memory, up and gate or one of them.

    Parameters
    ----------
    form : RowForm
        Of whole rows.
    weights : ndarray of shape (n_units, n_bytes), uint8
        What rows begin with.
    biases : mapping of str to ndarray of shape (n_units,), float32
        By role.
    """

    def __init__(self, form: RowForm, weights: UInt8Array, biases: dict[str, Float32Array]) -> None:
        self.form, self._weights, self._biases = form, weights, biases

    @property
    def n_bytes(self) -> int:
        """Memory of the weights."""
        return self._weights.nbytes

    def products(self, role: str, inputs: Float32Array) -> Float32Array:
        """Return what the units of a role give, shape (n_tokens, n_units), biases included."""
        part = self.form.components[role]
        values = _products(self._weights, part.at_bytes, part.form, inputs)
        if role in self._biases:
            values += self._biases[role]
        return values


class Oracle(Plain):
    """What weights in memory say: a unit fires where it puts out anything but 0.

    Parameters
    ----------
    weights : KnownWeights
        Gate, if there is one, and up.
    function : callable
        The activation function.
    """

    def __init__(self, weights: KnownWeights, function: Function) -> None:
        self._weights, self._function = weights, function

    @property
    def n_bytes(self) -> int:
        """Memory of the weights."""
        return self._weights.n_bytes

    def outputs(self, inputs: Float32Array) -> tuple[Float32Array, Float32Array]:
        """Return what units put out, and what the activation function does, both of shape (n_tokens, n_units)."""
        up = self._weights.products(UP, inputs)
        if not self._weights.form.is_gated:
            outputs = self._function(up)
            return outputs, outputs
        gate = self._function(self._weights.products(GATE, inputs))
        return gate * up, gate

    def decide(self, inputs: Float32Array) -> Decision:
        """Return the units that put out something."""
        return Decision(self.outputs(inputs)[0] != 0)


class Gates(Plain):
    """What gates in memory say: exact where the activation function is 0 for most of them.

    Parameters
    ----------
    weights : KnownWeights
        The gates.
    function : callable
    """

    def __init__(self, weights: KnownWeights, function: Function) -> None:
        self._weights, self._function = weights, function

    @property
    def n_bytes(self) -> int:
        """Memory of the gates."""
        return self._weights.n_bytes

    def decide(self, inputs: Float32Array) -> Decision:
        """Return the units whose gates are open."""
        gate = self._weights.products(GATE, inputs)
        return Decision(self._function(gate) != 0, {GATE: gate})


class Predicted(Plain):
    """What a predictor says.

    Parameters
    ----------
    predictor : BlockPredictor
        In slot order.
    place : int
        Of the recall.
    oracle : Oracle, optional
        Counts what the predictor misses.

    Attributes
    ----------
    n_true, n_predicted, n_both : int
        Counted beside an oracle, over all tokens.
    """

    def __init__(self, predictor: BlockPredictor, place: int, oracle: Oracle | None = None) -> None:
        self._predictor, self._place, self._oracle = predictor, place, oracle
        self._down, self._up = (
            np.ascontiguousarray(array, np.float16).view(np.uint8) for array in (predictor.down, predictor.up)
        )
        self.n_true = self.n_predicted = self.n_both = 0

    @property
    def is_checked(self) -> bool:
        """Whether an oracle counts."""
        return self._oracle is not None

    @property
    def n_bytes(self) -> int:
        """Memory of the predictor, and of the oracle beside it."""
        return self._predictor.n_bytes + (0 if self._oracle is None else self._oracle.n_bytes)

    def decide(self, inputs: Float32Array) -> Decision:
        """Return the units that are predicted to fire."""
        scores = _products(self._up, 0, F16, _products(self._down, 0, F16, inputs))
        scores += self._predictor.bias
        is_predicted: BoolArray = self._predictor.fires(scores, self._place)
        if self._oracle is not None:
            fires = self._oracle.decide(inputs).is_wanted
            self.n_true += int(np.count_nonzero(fires))
            self.n_predicted += int(np.count_nonzero(is_predicted))
            self.n_both += int(np.count_nonzero(fires & is_predicted))
        return Decision(is_predicted)


def _products(rows: UInt8Array, at_bytes: int, form: int, inputs: Float32Array) -> Float32Array:
    """Return products of all rows with inputs, shape (n_tokens, n_rows); see `dot_rows`."""
    values = np.zeros((inputs.shape[0], rows.shape[0]), np.float32)
    which = np.arange(rows.shape[0], dtype=np.int32)
    dot_rows(rows, at_bytes, form, which, np.ones(values.shape, bool), inputs, values)
    return values
