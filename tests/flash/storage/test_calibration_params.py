"""How to measure: what is refused, and how long the scratch file is."""

from __future__ import annotations

import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.storage.calibration_params import CalibrateParams


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"max_request_bytes": 5000}, "--max-size 5000"),
        ({"max_request_bytes": 0}, "--max-size 0"),
        ({"max_depth": 0}, "--max-depth 0"),
        ({"max_depth": 257}, "--max-depth 257"),
        ({"scratch_bytes": 65536, "max_request_bytes": 65536}, "--size 65536"),
    ],
)
def test_numbers_out_of_range(params: dict[str, int], says: str) -> None:
    """Sizes that are no pages, and a scratch file of hardly a read."""
    with pytest.raises(UsageError, match=says):
        CalibrateParams(**params)


def test_the_scratch_file_has_whole_mebibytes() -> None:
    """A size in between is rounded up."""
    assert CalibrateParams(scratch_bytes=(2 << 20) + 1, max_request_bytes=4096).file_bytes == 3 << 20
    assert CalibrateParams(scratch_bytes=2 << 20, max_request_bytes=4096).file_bytes == 2 << 20
