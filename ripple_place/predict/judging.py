"""What a predictor is worth on rows that it was not fitted on: thresholds, precision, and what misses cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.arrays import Float32Array
    from ripple_place.predict.examples import Examples
    from ripple_place.predict.predictor import BlockPredictor

NEVER = float(np.finfo(np.float32).max)
"""The threshold of a block of which nothing fired: nothing reaches it."""


@dataclass(frozen=True)
class PredictionCount:
    """What a predictor said of some rows, and what was true.

    Attributes
    ----------
    n_rows, n_neurons : int
    n_active : int
        Neurons that fire, over all rows.
    n_predicted : int
    n_hits : int
        Neurons that fire and were predicted.
    missed_nats : float or None
        What dropping the missed ones costs, summed over the rows: ``c_i h_i^2``; None where importance or magnitudes
        are unknown.
    """

    n_rows: int
    n_neurons: int
    n_active: int
    n_predicted: int
    n_hits: int
    missed_nats: float | None = None

    def __add__(self, other: PredictionCount) -> PredictionCount:
        """Return both together; the shares of blocks of different sizes are those of their neurons."""
        nats = None if self.missed_nats is None or other.missed_nats is None else self.missed_nats + other.missed_nats
        return PredictionCount(
            max(self.n_rows, other.n_rows), self.n_neurons + other.n_neurons, self.n_active + other.n_active,
            self.n_predicted + other.n_predicted, self.n_hits + other.n_hits, nats,
        )  # fmt: skip

    @property
    def recall(self) -> float:
        """Share of what fires that is predicted; 1 where nothing fires."""
        return self.n_hits / self.n_active if self.n_active else 1.0

    @property
    def precision(self) -> float:
        """Share of what is predicted that fires; 1 where nothing is predicted."""
        return self.n_hits / self.n_predicted if self.n_predicted else 1.0

    @property
    def over_predicted(self) -> float:
        """Neurons that are predicted and do not fire, for each one that fires."""
        return (self.n_predicted - self.n_hits) / self.n_active if self.n_active else 0.0

    def to_json(self) -> dict[str, Any]:
        """Return shares, and the cost of misses in nats a row."""
        nats = None if self.missed_nats is None else self.missed_nats / max(1, self.n_rows)
        return {
            "recall": self.recall,
            "precision": self.precision,
            "over_predicted": self.over_predicted,
            "missed_nats_per_token": nats,
        }


def thresholds(predictor: BlockPredictor, examples: Examples, recalls: Sequence[float]) -> Float32Array:
    """Return the highest thresholds that leave at most ``1 - recall`` of what fires below them.

    Parameters
    ----------
    predictor : BlockPredictor
    examples : Examples
        Held out.
    recalls : sequence of float

    Returns
    -------
    ndarray of shape (n_recalls,), float32
        `NEVER` where nothing fires.
    """
    found = [predictor.scores(examples.inputs(some))[examples.fires(some)] for some in examples.chunks()]
    scores = np.sort(np.concatenate(found)) if found else np.empty(0, np.float32)
    if not scores.size:
        return np.full(len(recalls), NEVER, np.float32)
    # A little more than the product, so that 0.99 of 100 leaves one below.
    n_below = [min(int((1 - recall) * scores.size + 1e-9), scores.size - 1) for recall in recalls]
    return scores[n_below]


def count_predictions(
    predictor: BlockPredictor, examples: Examples, at: Float32Array, importance: Float32Array | None = None
) -> list[PredictionCount]:
    """Return what a predictor says of rows, for each of some thresholds.

    Parameters
    ----------
    predictor : BlockPredictor
    examples : Examples
    at : ndarray of shape (n_thresholds,), float32
    importance : ndarray of shape (n_neurons,), float32, optional
        Nats per squared output; misses are weighed where magnitudes are known, too.
    """
    n_active, n_predicted, n_hits = 0, np.zeros(at.size, np.int64), np.zeros(at.size, np.int64)
    weight = importance if examples.block.magnitudes is not None else None
    nats = np.zeros(at.size)
    for some in examples.chunks():
        scores, fires = predictor.scores(examples.inputs(some)), examples.fires(some)
        of_active = scores[fires]
        n_active += of_active.size
        worth = None if weight is None else (examples.outputs(some) ** 2 * weight)[fires]
        for place, threshold in enumerate(at):
            n_predicted[place] += np.count_nonzero(scores >= threshold)
            is_hit = of_active >= threshold
            n_hits[place] += np.count_nonzero(is_hit)
            if worth is not None:
                nats[place] += worth[~is_hit].sum(dtype=np.float64)
    return [
        PredictionCount(
            len(examples), predictor.n_neurons, n_active, int(n_predicted[place]), int(n_hits[place]),
            None if weight is None else float(nats[place]),
        )
        for place in range(at.size)
    ]  # fmt: skip


def lost_square(predictor: BlockPredictor, examples: Examples) -> float:
    """Return the share of ``h^2`` that is lost if as many neurons are kept as fire, the largest predicted ones.

    Parameters
    ----------
    predictor : BlockPredictor
        Of magnitudes.
    examples : Examples
        With magnitudes.
    """
    predicted, squares = [], []
    n_active = 0
    for some in examples.chunks():
        predicted.append(predictor.magnitudes(predictor.scores(examples.inputs(some))).ravel())
        squares.append(examples.outputs(some).ravel() ** 2)
        n_active += int(np.count_nonzero(examples.fires(some)))
    size, square = np.concatenate(predicted), np.concatenate(squares)
    if not n_active:
        return 0.0
    kept = np.argpartition(size, size.size - n_active)[size.size - n_active :]
    return 1 - float(square[kept].sum(dtype=np.float64) / square.sum(dtype=np.float64))
