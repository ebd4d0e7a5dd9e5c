"""Means and errors of losses, which need no model."""

import json
import math

import numpy as np
import pytest

from ripple_place.capture.loss_result import LossResult, clustered_error


def result(nll_exact, nll, clusters):
    """Return a result in which only likelihoods matter."""
    n = len(nll)
    return LossResult(np.array(nll_exact), np.array(nll), np.zeros(n), np.ones(n, bool), np.array(clusters))


def test_the_error_of_clusters_of_one_is_the_ordinary_one():
    """Standard deviation over the root of the number of values."""
    values = np.random.default_rng(0).normal(size=50)
    expected = values.std(ddof=1) / math.sqrt(50)
    assert clustered_error(values, np.arange(50)) == pytest.approx(expected)


def test_the_error_of_equal_clusters_is_that_of_their_means():
    """However alike values within a cluster are; the order of the clusters' numbers does not matter."""
    means = np.random.default_rng(1).normal(size=20)
    values, clusters = np.repeat(means, 7), np.repeat(np.arange(20)[::-1] * 3, 7)
    assert clustered_error(values, clusters) == pytest.approx(means.std(ddof=1) / math.sqrt(20))


def test_the_error_of_clusters_of_several_sizes():
    """By hand: the mean is 2, sums of residuals are -2 and 2, so sqrt(2 * 8) / 3."""
    assert clustered_error(np.array([1.0, 1.0, 4.0]), np.array([0, 0, 1])) == pytest.approx(4 / 3)


def test_one_cluster_has_no_error():
    """Nothing is known of how others would differ."""
    assert clustered_error(np.array([1.0, 2.0]), np.array([5, 5])) is None
    assert result([1.0, 1.0], [1.0, 2.0], [0, 0]).to_json()["nll_rise_se"] is None


def test_differences_are_paired():
    """A rise that is the same for every token is known exactly, however likelihoods vary."""
    exact = np.random.default_rng(2).normal(size=12).round(3)
    found = result(exact, exact + 0.5, np.arange(12) // 3)
    assert found.nll_rise == pytest.approx(0.5)
    assert found.nll_rise_se == pytest.approx(0, abs=1e-12)


def test_parts_of_a_text_are_joined_in_order():
    """Means weigh tokens, not parts."""
    joined = LossResult.joined([result([1.0], [2.0], [0]), result([1.0, 1.0], [1.0, 1.0], [1, 1])])
    assert (joined.n_scored, joined.nll_rise) == (3, pytest.approx(1 / 3))
    np.testing.assert_array_equal(joined.text_block, [0, 1, 1])


def test_a_perplexity_beyond_numbers_is_no_number_in_json():
    """JSON has no infinity."""
    document = result([1.0, 1.0], [800.0, 800.0], [0, 1]).to_json()
    assert document["perplexity"] is None
    assert document["perplexity_exact"] == pytest.approx(math.e)
    json.dumps(document, allow_nan=False)
