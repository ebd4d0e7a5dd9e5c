"""The figures that DIP's authors report, with their quirks."""

from __future__ import annotations

import math

import pytest

from ripple_place.flash.byte_model.reported import reported_mlp_density, reported_perplexity


def test_density() -> None:
    """A third of the sum over up, gate and down, mean over layers; a linear without a mask counts as 0."""
    assert reported_mlp_density([{"up": 0.4, "gate": 0.4, "down": 0.25}]) == pytest.approx(0.35)
    assert reported_mlp_density([{"down": 0.3}, {"down": 0.6}]) == pytest.approx(0.15)
    assert reported_mlp_density([{"up": 0.3, "gate": 0.3, "down": 0.3}], predictor_share=0.06) == pytest.approx(0.32)


def test_perplexity() -> None:
    """Clipped at 1000, which stands for no number too."""
    assert [reported_perplexity(value) for value in (9.5, 1000.0, 1e9, math.inf, math.nan)] == [9.5] + [1000.0] * 4
