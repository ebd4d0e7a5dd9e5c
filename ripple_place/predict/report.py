"""How good predictors are, block by block, over a range of recalls: what is missed, and what is read in vain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from threadpoolctl import threadpool_limits

from ripple_place.predict.judging import PredictionCount, count_predictions, thresholds
from ripple_place.trace.activation_trace import BlockTrace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ripple_place.arrays import Float32Array, UInt8Array
    from ripple_place.predict.examples import Examples
    from ripple_place.predict.fit import FittedPredictor
    from ripple_place.predict.predictor import BlockPredictor, PredictorNote

CURVE_RECALLS = (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)
"""Where the curve of recall against cost is drawn, besides the recalls that thresholds were set for."""


@dataclass(frozen=True)
class PredictionPoint:
    """What a predictor says at one threshold.

    Attributes
    ----------
    wanted_recall : float
    count : PredictionCount
    cost : float or None
        What reading the predicted neurons costs a row, in the order of the model and without DRAM; None where nobody
        said what reads cost.
    """

    wanted_recall: float
    count: PredictionCount
    cost: float | None = None


@dataclass(frozen=True)
class BlockPrediction:
    """How good the predictor of one block is.

    Attributes
    ----------
    method : str
        What fitted best.
    rank : int
    n_bytes : int
        DRAM that it takes.
    at_thresholds : tuple of PredictionPoint
        By recall of the predictors, at the thresholds that were set for them: on other text they reach another recall.
    curve : tuple of PredictionPoint
        By recall, at thresholds that reach it on the judged rows themselves.
    cost : float or None
        What reading the neurons that fire costs a row, as of `PredictionPoint`.
    share : float
        Of the tokens, those that reach the block.
    """

    method: str
    rank: int
    n_bytes: int
    at_thresholds: tuple[PredictionPoint, ...]
    curve: tuple[PredictionPoint, ...]
    cost: float | None
    share: float = 1.0

    def to_json(self) -> dict[str, Any]:
        """Return the entry of a block."""
        return {
            "method": self.method,
            "rank": self.rank,
            "bytes": self.n_bytes,
            "cost_per_token": _weighted(self.cost, self.share),
            "at_thresholds": [_point_to_json(point, self.share) for point in self.at_thresholds],
            "curve": [_point_to_json(point, self.share) for point in self.curve],
        }


@dataclass(frozen=True)
class PredictionReport:
    """How good predictors are, on text that they were not fitted on where there is enough of it.

    Attributes
    ----------
    note : PredictorNote
    n_rows : int
        Tokens that judge.
    blocks : mapping of str to BlockPrediction
        In model order.
    unit : str
        Of costs: ``us``, flash time in microseconds, or ``neurons``.
    unpredicted : tuple of str
        Blocks without a predictor.
    sets_thresholds : bool
        Thresholds were set on the tokens that judge, so that they reach their recall there.
    is_held_out : bool
        Predictors were not fitted on these tokens; of a text too short to hold any out, they were.
    """

    note: PredictorNote
    n_rows: int
    blocks: Mapping[str, BlockPrediction]
    unit: str
    unpredicted: tuple[str, ...] = ()
    sets_thresholds: bool = False
    is_held_out: bool = True

    @property
    def overall(self) -> BlockPrediction:
        """All blocks together: costs are sums a token, the rank is the largest."""
        blocks = [*self.blocks.values()]
        return BlockPrediction(
            "", max(block.rank for block in blocks), sum(block.n_bytes for block in blocks),
            _together([block.at_thresholds for block in blocks], [block.share for block in blocks]),
            _together([block.curve for block in blocks], [block.share for block in blocks]),
            _total(_weighted(block.cost, block.share) for block in blocks),
        )  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """Return the entry ``predictor`` of ``profile --json``."""
        return {
            "predicts": self.note.predicts,
            "recalls": list(self.note.recalls),
            "judged_tokens": self.n_rows,
            "sets_thresholds": self.sets_thresholds,
            "held_out": self.is_held_out,
            "cost_unit": self.unit,
            "overall": {key: value for key, value in self.overall.to_json().items() if key != "method"},
            "blocks": {name: block.to_json() for name, block in self.blocks.items()},
            "unpredicted": list(self.unpredicted),
        }


def judge_predictor(
    found: FittedPredictor, recalls: tuple[float, ...], examples: Examples, share: float, *,
    importance: Float32Array | None = None, cost_of: Callable[[BlockTrace], float] | None = None,
) -> BlockPrediction:  # fmt: skip
    """Judge the predictor of a block on some rows.

    Parameters
    ----------
    found : FittedPredictor
    recalls : tuple of float
        Of its thresholds.
    examples : Examples
        Not fitted on.
    share : float
        Of the tokens, those that reach the block.
    importance : ndarray of shape (n_neurons,), float32, optional
        Nats per squared output: with it and magnitudes, misses are weighed.
    cost_of : callable, optional
        What reading the active neurons of a block costs a row.

    Notes
    -----
    A few passes over the rows, whatever the number of thresholds; packed bits of the rows for each of them.
    """
    predictor = found.predictor

    def points(recalls: tuple[float, ...], at: Float32Array) -> tuple[PredictionPoint, ...]:
        counts = count_predictions(predictor, examples, at, importance)
        if cost_of is None:
            return tuple(map(PredictionPoint, recalls, counts))
        costs = [
            cost_of(BlockTrace(predictor.n_neurons, bits)) for bits in predicted_bits(predictor, examples, at)
        ]  # fmt: skip
        return tuple(map(PredictionPoint, recalls, counts, costs))

    on_curve = tuple(sorted({*CURVE_RECALLS, *recalls}))
    fires = np.asarray(examples.block.active)[examples.rows]
    return BlockPrediction(
        found.method, predictor.rank, predictor.n_bytes, points(recalls, predictor.threshold),
        points(on_curve, thresholds(predictor, examples, on_curve)),
        None if cost_of is None else cost_of(BlockTrace(predictor.n_neurons, fires)), share,
    )  # fmt: skip


@threadpool_limits.wrap(limits=1, user_api="blas")  # As predictors are fitted: see `ripple_place.predict.fit`.
def predicted_bits(predictor: BlockPredictor, examples: Examples, at: Float32Array) -> list[UInt8Array]:
    """Return which neurons are predicted to fire in rows, packed as `BlockTrace.active` is, for each threshold."""
    bits = [np.empty((len(examples), (predictor.n_neurons + 7) // 8), np.uint8) for _ in at]
    for some in examples.chunks():
        scores = predictor.scores(examples.inputs(some))
        for predicted, threshold in zip(bits, at, strict=True):
            predicted[some] = np.packbits(scores >= threshold, axis=1, bitorder="little")
    return bits


def _point_to_json(point: PredictionPoint, share: float) -> dict[str, Any]:
    return {
        "wanted_recall": point.wanted_recall, **point.count.to_json(), "cost_per_token": _weighted(point.cost, share)
    }  # fmt: skip


def _together(points: list[tuple[PredictionPoint, ...]], shares: list[float]) -> tuple[PredictionPoint, ...]:
    """Return the points of blocks, by recall, as one."""
    found = []
    for of_recall in zip(*points, strict=True):
        count = of_recall[0].count
        for point in of_recall[1:]:
            count += point.count
        cost = _total(_weighted(point.cost, share) for point, share in zip(of_recall, shares, strict=True))
        found.append(PredictionPoint(of_recall[0].wanted_recall, count, cost))
    return tuple(found)


def _weighted(cost: float | None, share: float) -> float | None:
    return None if cost is None else cost * share


def _total(costs: Iterable[float | None]) -> float | None:
    """Return the sum; None if a part of it is unknown."""
    known = [*costs]
    return None if any(cost is None for cost in known) else sum(cost for cost in known if cost is not None)
