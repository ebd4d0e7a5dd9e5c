"""The stages of a calibration, on a small file: which sizes and depths each of them times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.flash.storage import stages
from ripple_place.flash.storage.calibration_params import CalibrateParams
from ripple_place.flash.storage.stages import DEPTHS, look_for_caches, survey_depths, time_mixtures, time_sizes
from ripple_place.tracking import no_track
from tests.flash.storage.builders import profile_of

if TYPE_CHECKING:
    from ripple_place.flash.storage.direct_file import DirectFile

TINY = {"scratch_bytes": 1 << 20, "n_repeats": 2, "max_request_bytes": 16384, "time_us": 1.0}


@pytest.mark.parametrize(("depth", "depths"), [(None, DEPTHS[:6]), (1, (1,)), (4, (1, 2, 4)), (6, (1, 2, 4, 6))])
def test_the_survey_goes_up_to_the_depth_that_is_asked_for(
    data: DirectFile, depth: int | None, depths: tuple[int, ...]
) -> None:
    """All sizes at each of its depths; the depth itself is among them, also where it is no power of two."""
    cells = survey_depths(data, CalibrateParams(depth=depth, **TINY), np.random.default_rng(0), no_track)
    assert {(cell.size_bytes, cell.depth) for cell in cells} == {
        (size, each) for size in (4096, 8192, 12288, 16384) for each in depths
    }


def test_the_survey_goes_as_deep_as_is_asked_for(data: DirectFile) -> None:
    """Up to 64 where the device may take that long to saturate; a shallower one has no more."""
    for max_depth, depths in ((64, DEPTHS[:7]), (2, (1, 2))):
        cells = survey_depths(data, CalibrateParams(max_depth=max_depth, **TINY), np.random.default_rng(0), no_track)
        assert {cell.depth for cell in cells} == set(depths)


def test_the_table_is_timed_at_one_depth(data: DirectFile) -> None:
    """In ascending sizes, as the table has them."""
    cells = time_sizes(data, 3, CalibrateParams(**TINY), np.random.default_rng(0), no_track)
    assert [(cell.size_bytes, cell.depth) for cell in cells] == [(size, 3) for size in (4096, 8192, 12288, 16384)]
    assert all(cell.repeats_us.size == 2 for cell in cells)


def test_mixtures_and_caches(data: DirectFile) -> None:
    """Twenty mixtures, and a list of sentences."""
    params, rng = CalibrateParams(**TINY), np.random.default_rng(0)
    additivity = time_mixtures(data, profile_of({4096: 10.0, 16384: 16.0}), 2, params, rng, no_track)
    assert additivity.measured_us.size == 20
    assert all(isinstance(warning, str) for warning in look_for_caches(data, rng))


def test_the_stages_share_the_time() -> None:
    """All of it, and no more."""
    assert pytest.approx(1) == stages.SURVEY_SHARE + stages.TABLE_SHARE + stages.MIX_SHARE
