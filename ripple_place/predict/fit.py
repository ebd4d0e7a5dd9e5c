"""Fits the predictor of one block: regression, then training, then thresholds on rows that neither has seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from ripple_place.predict.constant import constant_direction
from ripple_place.predict.judging import count_predictions, lost_square, thresholds
from ripple_place.predict.params import MAGNITUDE
from ripple_place.predict.predictor import LOGISTIC, POISSON, REGRESSION, BlockPredictor, softplus
from ripple_place.predict.regression import LowRank, Standard, input_square, reduced_rank_regression
from ripple_place.predict.training import logistic_residual, poisson_residual, trained

if TYPE_CHECKING:
    from ripple_place.arrays import BoolArray, Float32Array, Float64Array, Int64Array
    from ripple_place.predict.examples import Examples
    from ripple_place.predict.params import PredictorParams

JUDGED_RECALL = 0.99
"""Of what fires: at it the precision of candidates is compared."""
_RAREST = 1e-5
"""Chance to fire of a neuron that never did."""
_LARGEST_HALF = 6e4
"""float16 ends at 65,504."""


@dataclass(frozen=True, eq=False)
class FittedPredictor:
    """A predictor, and what fitted best.

    Attributes
    ----------
    predictor : BlockPredictor
    method : str
        One of `ripple_place.predict.predictor.METHODS`.
    """

    predictor: BlockPredictor
    method: str


# Products are cut up by how many threads the library has, and then add up otherwise. Threads of ours take fixed shares.
@threadpool_limits.wrap(limits=1, user_api="blas")
def fit_predictor(
    fitted: Examples, held_out: Examples, params: PredictorParams, *, seed: int = 0, n_threads: int = 1
) -> FittedPredictor:
    """Fit the predictor of a block.

    Parameters
    ----------
    fitted, held_out : Examples
        Of `split_examples`; with magnitudes if these are to be predicted.
    params : PredictorParams
    seed : int
        Of the order in which rows are seen.
    n_threads : int
        The result does not depend on it.

    Returns
    -------
    FittedPredictor
        Of activity: the better of the regression and the logistic model, by precision at `JUDGED_RECALL` on the rows
        held out. Of magnitudes: the better of the logistic model, scaled, and a Poisson model, by what of ``h^2`` is
        lost when as many neurons are kept as fire. Where a neuron is one product with a ReLU, its chance to fire and
        its output grow together, and the logistic model tells both; where a gate decides, it does not.

    Notes
    -----
    Thresholds are set on the rows held out, with the matrices rounded to float16 as they are kept.
    """
    n_rows, n_neurons = len(fitted), fitted.block.n_neurons
    n_fires = sum((fitted.fires(some).sum(axis=0) for some in fitted.chunks()), np.zeros(n_neurons, np.int64))
    chance = np.clip(n_fires / n_rows, _RAREST, 1 - _RAREST)
    typical = np.sqrt(chance * (1 - chance))
    standard = Standard.of(fitted)
    rank = min(params.rank, fitted.x.shape[1])
    square = input_square(fitted, standard)
    start = reduced_rank_regression(fitted, standard, rank, fitted.fires, n_fires / n_rows, typical, square)
    constant = constant_direction(fitted, standard, square)
    del square
    odds = np.log(chance / (1 - chance)).astype(np.float32)
    train = partial(trained, examples=fitted, standard=standard, seed=seed, n_threads=n_threads)
    logistic = train(replace(start, bias=odds), targets=fitted.fires, residual=logistic_residual)
    if params.predicts == MAGNITUDE:
        candidates = {
            LOGISTIC: _scaled(_kept(logistic, standard), fitted),
            POISSON: _poisson(start, fitted, standard, train, n_fires),
        }
        losses = {method: lost_square(predictor, held_out) for method, predictor in candidates.items()}
    else:
        linear = LowRank(start.down, start.up * typical[:, None].astype(np.float32), chance.astype(np.float32))
        candidates = {LOGISTIC: _kept(logistic, standard), REGRESSION: _kept(linear, standard)}
        losses = {method: 1 - _judged_precision(predictor, held_out) for method, predictor in candidates.items()}
    method = min(losses, key=lambda name: losses[name])
    best = candidates[method]
    best = replace(best, threshold=thresholds(best, held_out, params.recalls), constant=constant)
    return FittedPredictor(best, method)


def _judged_precision(predictor: BlockPredictor, examples: Examples) -> float:
    return count_predictions(predictor, examples, thresholds(predictor, examples, [JUDGED_RECALL]))[0].precision


def _poisson(
    start: LowRank, examples: Examples, standard: Standard, train: partial[LowRank], n_fires: Int64Array
) -> BlockPredictor:
    """Return the predictor by a Poisson model of outputs in units of what is typical of a neuron."""
    squares = np.zeros(n_fires.size)
    totals = np.zeros(n_fires.size)
    for some in examples.chunks():
        outputs = examples.outputs(some)
        squares += (outputs**2).sum(axis=0, dtype=np.float64)
        totals += outputs.sum(axis=0, dtype=np.float64)
    unit = np.sqrt(squares / np.maximum(n_fires, 1))
    unit[unit == 0] = 1
    mean = np.maximum(totals / len(examples) / unit, _RAREST)
    inverse = (1 / unit).astype(np.float32)

    def targets(some: Int64Array) -> Float32Array | BoolArray:
        return examples.outputs(some) * inverse

    start = replace(start, bias=np.log(np.expm1(mean)).astype(np.float32))
    found = train(start, targets=targets, residual=poisson_residual)
    return replace(_kept(found, standard), scale=unit.astype(np.float32))


def _scaled(predictor: BlockPredictor, examples: Examples) -> BlockPredictor:
    """Return the predictor with the scale, by neuron, at which its magnitudes come nearest to the outputs."""
    products: Float64Array = np.zeros(predictor.n_neurons)
    squares: Float64Array = np.zeros(predictor.n_neurons)
    for some in examples.chunks():
        grown = softplus(predictor.scores(examples.inputs(some)))
        products += (grown * examples.outputs(some)).sum(axis=0, dtype=np.float64)
        squares += (grown**2).sum(axis=0, dtype=np.float64)
    return replace(predictor, scale=(products / np.maximum(squares, 1e-30)).astype(np.float32))


def _kept(found: LowRank, standard: Standard) -> BlockPredictor:
    """Return the predictor in the form in which it is kept: of raw inputs, in float16, without thresholds."""
    raw = found.of_raw_inputs(standard)
    # Rows of `down` and columns of `up` of equal size, so that both fit float16.
    sizes = np.abs(raw.up).max(axis=0), np.abs(raw.down).max(axis=1)
    balance = np.sqrt(np.maximum(sizes[0], 1e-30) / np.maximum(sizes[1], 1e-30))
    halves = [
        np.clip(array, -_LARGEST_HALF, _LARGEST_HALF).astype(np.float16)
        for array in (raw.down * balance[:, None], raw.up / balance)
    ]
    return BlockPredictor(halves[0], halves[1], raw.bias, np.empty(0, np.float32))
