"""Regression, training, thresholds: against reference formulas, and on blocks of which the truth is known."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from ripple_place.predict import training
from ripple_place.predict.examples import Examples
from ripple_place.predict.fit import fit_predictor
from ripple_place.predict.judging import NEVER, count_predictions, lost_square, thresholds
from ripple_place.predict.params import PredictorParams
from ripple_place.predict.predictor import BlockPredictor, softplus
from ripple_place.predict.regression import LowRank, Standard, reduced_rank_regression
from ripple_place.predict.report import judge_predictor, predicted_bits
from ripple_place.predict.training import logistic_residual, poisson_residual, trained
from tests.predict.planted import RANK, block_with_magnitudes, planted_examples

if TYPE_CHECKING:
    from ripple_place.trace.activation_trace import BlockTrace


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take few and small steps: the blocks are small."""
    monkeypatch.setattr(training, "N_STEPS", 300)
    monkeypatch.setattr(training, "BATCH_ROWS", 64)


def everything(x: np.ndarray, outputs: np.ndarray) -> Examples:
    """Return all rows of a block with these outputs."""
    return Examples(x.astype(np.float32), block_with_magnitudes(outputs.astype(np.float32)), np.arange(len(x)))


def test_standardised_inputs_have_mean_0_and_spread_1() -> None:
    """A constant input is the exception: it is not divided by next to nothing."""
    examples, _ = planted_examples()
    x = examples.x.copy()
    x[:, 3] = 7
    standard = Standard.of(replace(examples, x=x))
    found = standard(x[examples.rows])
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-4)
    assert np.abs(found[:, 3]).max() < 1e-2
    np.testing.assert_allclose(np.delete(found, 3, axis=1).std(axis=0), 1, rtol=1e-3)


def test_regression_is_the_best_of_its_rank() -> None:
    """Against the textbook: of all rank-r maps, V V^T of the least squares fit leaves the smallest error."""
    examples, _ = planted_examples(n_rows=2000)
    fires = examples.fires(np.arange(len(examples))).astype(float)
    mean, typical = fires.mean(axis=0), fires.std(axis=0)
    standard = Standard.of(examples)
    x = standard(examples.inputs(np.arange(len(examples)))).astype(float)
    wanted = (fires - mean) / typical
    full = np.linalg.lstsq(x, wanted, rcond=None)[0]
    _, _, vectors = np.linalg.svd(x @ full, full_matrices=False)
    for rank in (1, 4):
        best = full @ vectors[:rank].T @ vectors[:rank]
        found = reduced_rank_regression(examples, standard, rank, examples.fires, mean, typical)
        assert found.down.shape == (rank, x.shape[1])
        error = ((wanted - x @ found.down.T.astype(float) @ found.up.T) ** 2).sum()
        assert error == pytest.approx(((wanted - x @ best) ** 2).sum(), rel=1e-3)


def test_maps_of_raw_inputs_are_the_same_maps() -> None:
    """Mean and spread go into the matrix and the bias."""
    examples, _ = planted_examples()
    standard, random = Standard.of(examples), np.random.default_rng(0)
    low = LowRank(*(random.normal(size=shape).astype(np.float32) for shape in ((3, 24), (100, 3), (100,))))
    x = examples.inputs(np.arange(10))
    raw = low.of_raw_inputs(standard)
    expected = standard(x) @ low.down.T @ low.up.T + low.bias
    np.testing.assert_allclose(x @ raw.down.T @ raw.up.T + raw.bias, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("residual", "loss", "wanted"),
    [
        (logistic_residual, lambda s, y: np.logaddexp(0, s) - y * s, (0.0, 1.0)),
        (poisson_residual, lambda s, y: np.logaddexp(0, s) - y * np.log(np.logaddexp(0, s)), (0.0, 0.3, 2.5)),
    ],
)  # fmt: skip
def test_residuals_are_gradients(residual, loss, wanted) -> None:  # type: ignore[no-untyped-def]
    """Against differences of the loss."""
    scores = np.linspace(-6, 6, 25)
    for target in wanted:
        targets = np.full(25, target)
        expected = (loss(scores + 1e-5, targets) - loss(scores - 1e-5, targets)) / 2e-5
        found = residual(scores.astype(np.float32).copy(), targets.astype(np.float32))
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-5)


def test_training_does_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor on how often it is done; on the seed it does."""
    monkeypatch.setattr(training, "NEURONS_AT_A_TIME", 32)
    examples, _ = planted_examples()
    start = LowRank(np.ones((2, 24), np.float32), np.ones((100, 2), np.float32), np.zeros(100, np.float32))
    maps = [
        trained(start, examples, Standard.of(examples), examples.fires, logistic_residual, seed=seed, n_threads=n)
        for seed, n in ((0, 1), (0, 3), (1, 1))
    ]
    for part in ("down", "up", "bias"):
        assert getattr(maps[0], part).tobytes() == getattr(maps[1], part).tobytes()
    assert maps[0].up.tobytes() != maps[2].up.tobytes()


def test_what_follows_a_rule_is_predicted() -> None:
    """Of neurons that follow a rule of rank 6, nearly all is known; of less rank, less."""
    fitted, held_out = planted_examples(n_rows=4000)
    precision = []
    for rank in (RANK, 2):
        found = fit_predictor(fitted, held_out, PredictorParams(rank))
        assert found.method == "logistic"
        counts = count_predictions(found.predictor, held_out, found.predictor.threshold)
        assert [count.recall for count in counts] == pytest.approx([0.95, 0.99, 0.999], abs=2e-3)
        precision.append(counts[1].precision)
    assert precision[0] > 0.9 > precision[1]


def test_fitting_does_not_depend_on_the_threads_of_the_library() -> None:
    """However many it may use: the same bytes."""
    random = np.random.default_rng(0)
    x = random.standard_normal((1500, 256)).astype(np.float32)
    examples = everything(x, x @ random.standard_normal((256, 1200)) > 20)
    found = []
    for n_threads in (1, 2):
        with threadpool_limits(limits=n_threads, user_api="blas"):
            found.append(fit_predictor(examples, examples, PredictorParams(16)).predictor)
    for part in ("down", "up", "bias", "threshold"):
        assert getattr(found[0], part).tobytes() == getattr(found[1], part).tobytes()


def test_thresholds_leave_as_much_below_as_they_may() -> None:
    """Of 100 scores of what fires, 0.99 leaves one below, 0.95 five; of nothing that fires, nothing is reached."""
    scores = np.arange(100.0)
    predictor = BlockPredictor(
        np.ones((1, 1), np.float16), np.ones((1, 1), np.float16), np.zeros(1, np.float32), np.empty(0, np.float32)
    )
    examples = everything(scores[:, None], np.ones((100, 1)))
    assert thresholds(predictor, examples, (0.95, 0.99, 0.999)).tolist() == [5, 1, 0]
    idle = everything(scores[:, None], np.zeros((100, 1)))
    assert thresholds(predictor, idle, (0.5,)).tolist() == [np.float32(NEVER)]


def test_counts_by_hand() -> None:
    """Two neurons that score x and -x: at threshold 2, the hits, the misses with what they cost, and the rest."""
    predictor = BlockPredictor(
        np.ones((1, 1), np.float16), np.array([[1], [-1]], np.float16), np.zeros(2, np.float32),
        np.array([2], np.float32),
    )  # fmt: skip
    x, outputs = np.array([[3.0], [-5], [1], [2]]), np.array([[1.0, 0], [2, 0], [3, 0], [0, 0]])
    importance = np.array([10, 1], np.float32)
    (count,) = count_predictions(predictor, everything(x, outputs), predictor.threshold, importance)
    assert (count.n_active, count.n_predicted, count.n_hits) == (3, 3, 1)
    assert count.missed_nats == 10 * (4 + 9)
    assert (count.recall, count.precision, count.over_predicted) == (1 / 3, 1 / 3, 2 / 3)
    both = count + count
    assert (both.n_rows, both.n_neurons, both.n_active, both.recall) == (4, 4, 6, 1 / 3)


def test_magnitudes_are_predicted() -> None:
    """Of a ReLU, the larger outputs are found; behind a gate, a model of magnitudes finds them better than chances."""
    for is_gated in (False, True):
        fitted, held_out = planted_examples(n_rows=4000, is_gated=is_gated)
        found = fit_predictor(fitted, held_out, PredictorParams(2 * RANK, "magnitude"))
        assert found.predictor.scale is not None
        assert found.predictor.scale.min() >= 0
        by_chance = replace(found.predictor, scale=np.ones(100, np.float32), up=found.predictor.up[::-1])
        assert lost_square(found.predictor, held_out) < 0.5 * lost_square(by_chance, held_out)
        if not is_gated:
            some = np.arange(len(held_out))
            scores, outputs = found.predictor.scores(held_out.inputs(some)), held_out.outputs(some)
            assert np.corrcoef(found.predictor.magnitudes(scores).ravel(), outputs.ravel())[0, 1] > 0.9


def test_blocks_in_which_little_happens() -> None:
    """Neurons that never fire, or always do, a single row, more rank than inputs: all give finite predictors."""
    random = np.random.default_rng(0)
    x = random.normal(size=(40, 4)).astype(np.float32)
    for fires in (np.zeros((40, 9)), np.ones((40, 9)), np.eye(40, 9)):
        for rows in (np.arange(40), np.array([0])):
            examples = Examples(x, block_with_magnitudes(fires.astype(np.float32)), rows)
            for predicts in ("activity", "magnitude"):
                found = fit_predictor(examples, examples, PredictorParams(64, predicts, (0.9,))).predictor
                assert found.rank == 4
                arrays = (found.down, found.up, found.bias, found.threshold)
                assert all(np.isfinite(array).all() for array in arrays)
                if fires.any() and rows.size > 1:
                    (count,) = count_predictions(found, examples, found.threshold)
                    assert count.recall >= 0.9


def test_predictors_follow_their_neurons() -> None:
    """In another order, slot s scores as neuron ``order[s]``."""
    random = np.random.default_rng(0)
    predictor = BlockPredictor(
        random.normal(size=(2, 5)).astype(np.float16), random.normal(size=(9, 2)).astype(np.float16),
        random.normal(size=9).astype(np.float32), np.zeros(1, np.float32), np.ones(9, np.float32),
    )  # fmt: skip
    order = random.permutation(9).astype(np.int32)
    x = random.normal(size=(3, 5)).astype(np.float32)
    np.testing.assert_array_equal(predictor.in_order(order).scores(x), predictor.scores(x)[:, order])
    assert softplus(np.array([0, 100], np.float32)).tolist() == pytest.approx([np.log(2), 30], rel=1e-6)


def test_a_report_says_what_reading_costs() -> None:
    """Costs are those of what is predicted; the curve sets thresholds on the judged rows."""
    fitted, held_out = planted_examples()
    found = fit_predictor(fitted, held_out, PredictorParams(RANK, recalls=(0.9, 0.97)))

    def cost_of(block: BlockTrace) -> float:
        return float(np.unpackbits(np.asarray(block.active)).sum()) / block.n_rows

    judged = judge_predictor(found, (0.9, 0.97), held_out, 0.5, cost_of=cost_of)
    assert [point.wanted_recall for point in judged.curve] == [0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 0.995, 0.999]
    for point in (*judged.at_thresholds, *judged.curve):
        assert point.cost == pytest.approx(point.count.n_predicted / point.count.n_rows)
        assert point.count.recall >= point.wanted_recall
    assert judged.cost == pytest.approx(judged.curve[0].count.n_active / len(held_out))
    document = judged.to_json()
    assert document["cost_per_token"] == pytest.approx(judged.cost / 2)
    bits = predicted_bits(found.predictor, held_out, found.predictor.threshold)
    assert [np.unpackbits(rows).sum() for rows in bits] == [p.count.n_predicted for p in judged.at_thresholds]
