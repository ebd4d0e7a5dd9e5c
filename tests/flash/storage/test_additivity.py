"""Whether times add up: by hand, and measured on a real file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.flash.storage.additivity import Additivity, draw_mixes, measure_additivity
from tests.flash.storage.builders import profile_of

if TYPE_CHECKING:
    from ripple_place.flash.storage.direct_file import DirectFile


def test_additivity_by_hand() -> None:
    """Measured 1, 2, 3 and predicted 1, 2, 4: residual 1 of a variance of 2."""
    additivity = Additivity(np.array([1, 2, 4.0]), np.array([1, 2, 3.0]))
    assert (additivity.r_squared, additivity.median_error) == (0.5, 0)


def test_mixtures_range_from_single_pages_to_long_reads() -> None:
    """Shares add up to one, fall with size, and differ between mixtures."""
    mixes = draw_mixes(profile_of({4096: 10.0, 262144: 100.0}), np.random.default_rng(0))
    pages = np.arange(1, 65)
    means = [float(share @ pages) for share in mixes]
    assert [share.sum() for share in mixes] == pytest.approx([1] * len(mixes))
    assert all((np.diff(share) < 0).all() for share in mixes)
    assert min(means) < 2
    assert max(means) > 8


def test_additivity_is_measured_on_the_file(data: DirectFile) -> None:
    """Predictions are the table's means over what was drawn; measured times are times."""
    profile = profile_of({4096: 10.0, 16384: 16.0})
    found = measure_additivity(
        data, profile, 2, n_repeats=1, mix_us=1.0, rng=np.random.default_rng(0), track=lambda items, what: items
    )
    assert ((found.predicted_us >= 10) & (found.predicted_us <= 16)).all()
    assert (found.measured_us > 0).all()
