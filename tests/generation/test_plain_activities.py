"""Activities that look at inputs alone, against products of whole matrices."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.generation.plain_activities import Everything, Gates, KnownWeights, Oracle, Predicted
from ripple_place.generation.row_form import RowForm, form_of_block
from ripple_place.predict.predictor import BlockPredictor

N_UNITS, HIDDEN, N_TOKENS = 30, 16, 4


def relu(values: np.ndarray) -> np.ndarray:
    """Return what is above 0."""
    return np.maximum(values, 0)


def form_of(roles: tuple[str, ...]) -> RowForm:
    """Return the form of float32 rows."""
    parts = [{"role": role, "tensor": role, "dtype": "F32", "length_bytes": 4 * HIDDEN} for role in roles]
    return form_of_block("layers.0", {"n_neurons": N_UNITS, "components": parts})


@pytest.fixture
def inputs() -> np.ndarray:
    """Return what an FFN gets."""
    return np.random.default_rng(1).standard_normal((N_TOKENS, HIDDEN)).astype(np.float32)


def known(roles: tuple[str, ...], seed: int = 2) -> tuple[KnownWeights, dict[str, np.ndarray]]:
    """Return weights in memory with biases of up, and what they are, the bias included."""
    rng = np.random.default_rng(seed)
    weights = {role: rng.standard_normal((N_UNITS, HIDDEN)).astype(np.float32) for role in roles}
    bias = rng.standard_normal(N_UNITS).astype(np.float32)
    rows = np.concatenate([weights[role] for role in roles], axis=1).view(np.uint8)
    return KnownWeights(form_of((*roles, "down")), rows, {"up": bias}), {**weights, "bias": bias}


def test_an_oracle_says_what_puts_out_something(inputs: np.ndarray) -> None:
    """Without a gate."""
    weights, matrices = known(("up",))
    decision = Oracle(weights, relu).decide(inputs)
    np.testing.assert_array_equal(decision.is_wanted, inputs @ matrices["up"].T + matrices["bias"] > 0)
    assert decision.known == {}
    assert Oracle(weights, relu).n_bytes == weights.n_bytes == 4 * N_UNITS * HIDDEN


def test_an_oracle_of_gated_units(inputs: np.ndarray) -> None:
    """What is put out is gate times up."""
    weights, matrices = known(("gate", "up"))
    outputs, gate = Oracle(weights, relu).outputs(inputs)
    np.testing.assert_allclose(gate, relu(inputs @ matrices["gate"].T), atol=1e-5)
    np.testing.assert_allclose(outputs, gate * (inputs @ matrices["up"].T + matrices["bias"]), atol=1e-5)


def test_gates_say_what_is_open_and_what_they_give(inputs: np.ndarray) -> None:
    """They are not read again."""
    weights, matrices = known(("gate", "up"))
    decision = Gates(weights, relu).decide(inputs)
    np.testing.assert_array_equal(decision.is_wanted, inputs @ matrices["gate"].T > 0)
    np.testing.assert_allclose(decision.known["gate"], inputs @ matrices["gate"].T, atol=1e-5)


def test_everything_is_everything(inputs: np.ndarray) -> None:
    """For each token."""
    assert Everything(N_UNITS).decide(inputs).is_wanted.tolist() == [[True] * N_UNITS] * N_TOKENS


def test_a_predictor_and_an_oracle_are_compared(inputs: np.ndarray) -> None:
    """Counts over tokens, added up over calls."""
    rng = np.random.default_rng(3)
    predictor = BlockPredictor(
        rng.standard_normal((5, HIDDEN)).astype(np.float16), rng.standard_normal((N_UNITS, 5)).astype(np.float16),
        rng.standard_normal(N_UNITS).astype(np.float32), np.array([-0.5, 0.5], np.float32),
    )  # fmt: skip
    oracle = Oracle(known(("up",))[0], relu)
    predicted = Predicted(predictor, 1, oracle)
    expected = predictor.scores(inputs) >= 0.5
    for _ in range(2):
        np.testing.assert_array_equal(predicted.decide(inputs).is_wanted, expected)
    fires = oracle.decide(inputs).is_wanted
    assert predicted.n_true == 2 * fires.sum()
    assert predicted.n_predicted == 2 * expected.sum()
    assert predicted.n_both == 2 * (fires & expected).sum()
    assert predicted.n_bytes == predictor.n_bytes + oracle.n_bytes
    assert Predicted(predictor, 0).n_bytes == predictor.n_bytes
    assert (Predicted(predictor, 0).decide(inputs).is_wanted == (predictor.scores(inputs) >= -0.5)).all()
