"""Figures as the authors of DIP report them, quirks included (arXiv 2412.01380, its authors' released code)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LINEARS = ("up", "gate", "down")
MAX_PERPLEXITY = 1000.0


def reported_mlp_density(layers: Sequence[Mapping[str, float]], predictor_share: float = 0.0) -> float:
    """Return the reported density of an MLP: a third of the sum over up, gate and down, averaged over layers.

    Parameters
    ----------
    layers : sequence of mapping of str to float
        Of each layer, the mean share of columns or rows that a mask keeps, by linear: some of `LINEARS`.
    predictor_share : float
        Values of a layer's predictor over those of one linear, which count as if they were used.

    Notes
    -----
    A linear without a mask counts as density 0, although all of it is used, and the sum is divided by 3 where there is
    no gate too: the number compares methods only where they mask the same linears.

    >>> reported_mlp_density([{"down": 0.5}])  # GLU pruning; up and gate are dense
    0.16666666666666666
    """
    sums = [sum(layer.get(linear, 0.0) for linear in LINEARS) + predictor_share for layer in layers]
    return sum(sums) / len(LINEARS) / len(sums)


def reported_perplexity(perplexity: float) -> float:
    """Return a perplexity as it is reported: above 1000, or no number, it is 1000."""
    return MAX_PERPLEXITY if math.isnan(perplexity) else min(perplexity, MAX_PERPLEXITY)
