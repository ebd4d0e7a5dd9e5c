"""What dropping neurons costs: how much worse a model predicts a text, token by token, against its own exact run."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.arrays import BoolArray, Float64Array, Int64Array


@dataclass(frozen=True, eq=False)
class LossResult:
    """Losses of the tokens that were predicted, in the order of the text.

    Attributes
    ----------
    token_nll_exact, token_nll : ndarray of shape (n_scored,), float64
        Negative log-likelihood of the token that follows, without and with the choosers, in nats.
    token_kl : ndarray of shape (n_scored,), float64
        Kullback-Leibler divergence of the lossy distribution over the vocabulary from the exact one,
        sum of p_exact * log(p_exact / p_lossy), in nats.
    agrees : ndarray of shape (n_scored,), bool
        Whether both runs think the same token the likeliest.
    text_block : ndarray of shape (n_scored,), int64
        Window of the text in which the token lies.
    """

    token_nll_exact: Float64Array
    token_nll: Float64Array
    token_kl: Float64Array
    agrees: BoolArray
    text_block: Int64Array

    @classmethod
    def joined(cls, parts: Sequence[LossResult]) -> LossResult:
        """Return the tokens of several parts of a text as one result."""
        names = [entry.name for entry in fields(cls)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})

    @property
    def n_scored(self) -> int:
        """Tokens that were predicted."""
        return self.token_nll.size

    @property
    def nll_exact(self) -> float:
        """Mean negative log-likelihood of the exact run, in nats a token."""
        return float(self.token_nll_exact.mean())

    @property
    def nll(self) -> float:
        """Mean negative log-likelihood with the choosers, in nats a token."""
        return float(self.token_nll.mean())

    @property
    def nll_rise(self) -> float:
        """Mean of the differences, token by token, in nats; below zero where dropping neurons happens to help."""
        return float((self.token_nll - self.token_nll_exact).mean())

    @property
    def nll_rise_se(self) -> float | None:
        """Standard error of `nll_rise` (see `clustered_error`)."""
        return clustered_error(self.token_nll - self.token_nll_exact, self.text_block)

    @property
    def kl(self) -> float:
        """Mean Kullback-Leibler divergence, in nats a token."""
        return float(self.token_kl.mean())

    @property
    def kl_se(self) -> float | None:
        """Standard error of `kl` (see `clustered_error`)."""
        return clustered_error(self.token_kl, self.text_block)

    @property
    def agreement(self) -> float:
        """Share of the tokens at which both runs think the same token the likeliest."""
        return float(self.agrees.mean())

    @property
    def perplexity_exact(self) -> float:
        """Exponential of `nll_exact`."""
        return _exp(self.nll_exact)

    @property
    def perplexity(self) -> float:
        """Exponential of `nll`; infinite where that is no number."""
        return _exp(self.nll)

    def to_json(self) -> dict[str, Any]:
        """Return the means and their errors; null where unknown."""
        values = {
            "nll": self.nll, "nll_exact": self.nll_exact, "nll_rise": self.nll_rise, "nll_rise_se": self.nll_rise_se,
            "kl": self.kl, "kl_se": self.kl_se, "perplexity": self.perplexity,
            "perplexity_exact": self.perplexity_exact, "agreement": self.agreement, "n_scored": self.n_scored,
        }  # fmt: skip
        return {key: value if value is not None and math.isfinite(value) else None for key, value in values.items()}


def clustered_error(values: Float64Array, clusters: Int64Array) -> float | None:
    """Return the standard error of a mean over values that are alike within clusters.

    Parameters
    ----------
    values : ndarray of shape (n,), float64
    clusters : ndarray of shape (n,), int64
        Cluster of each value; not negative.

    Returns
    -------
    float or None
        None for a single cluster, which says nothing of how clusters differ.

    Notes
    -----
    With S_c the sum of the values of cluster c less the mean of all, and C clusters of n values together, the variance
    of the mean is C / (C - 1) * sum of S_c^2 / n^2: clusters are independent, and whatever correlation there is within
    them is in S_c [1]_.

    References
    ----------
    .. [1] A. C. Cameron, D. L. Miller. A Practitioner's Guide to Cluster-Robust Inference. Journal of Human Resources
       50 (2015). DOI 10.3368/jhr.50.2.317.

    >>> clustered_error(np.array([1.0, 1.0, 3.0, 3.0]), np.array([0, 0, 1, 1]))
    1.0
    """
    _, index = np.unique(clusters, return_inverse=True)
    sums = np.bincount(index, weights=values - values.mean())
    if sums.size < 2:
        return None
    return float(np.sqrt(sums.size / (sums.size - 1) * (sums**2).sum()) / values.size)


def _exp(nats: float) -> float:
    try:
        return math.exp(nats)
    except OverflowError:
        return math.inf
