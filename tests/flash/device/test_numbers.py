"""The numbers of a profile beside its form's: checked on their own, and which of them need a source."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ripple_place.errors import DeviceConfigError
from ripple_place.flash.device.numbers import ConditionNumbers, SizeNumbers

if TYPE_CHECKING:
    from ripple_place.flash.device.part import ProfilePart

RANGE = ConditionNumbers(range_bytes=(2**20,), range_factor=(2.0,))


@pytest.mark.parametrize(
    ("part", "names"),
    [
        (SizeNumbers(4096, 65536), {"page_bytes", "max_request_bytes"}),
        (SizeNumbers(4096, 65536, 131072), {"page_bytes", "max_request_bytes", "read_ahead_bytes"}),
        (ConditionNumbers(), set()),
        (RANGE, {"range_factor"}),
        (ConditionNumbers(cores=("big",), core_factor=(1.0,)), {"core_factor"}),
        (ConditionNumbers(queue_depths=(1,), queue_factor=(1.0,)), {"queue_factor"}),
        (ConditionNumbers(warm_bandwidth_factor=0.5), {"warm_bandwidth_factor"}),
    ],
)
def test_what_needs_a_source(part: ProfilePart, names: set[str]) -> None:
    """What is set, but pairs have one source, under the name of the factor."""
    assert part.sourced == names


def test_a_part_takes_its_own_numbers() -> None:
    """Those of other parts are left alone, and problems are told without an exception."""
    numbers = vars(ConditionNumbers()) | {"range_bytes": (2**20,), "range_factor": (2.0,), "page_bytes": "none of mine"}
    assert ConditionNumbers.from_numbers(numbers) == RANGE
    assert ConditionNumbers.problems_in(numbers) == []
    wrong = numbers | {"range_factor": (), "warm_bandwidth_factor": 2.0}
    assert ConditionNumbers.problems_in(wrong) == [
        "1 range_bytes and 0 range_factor; warm_bandwidth_factor = 2.0 is no share (0.001 to 1)"
    ]


@pytest.mark.parametrize(
    ("sizes", "found"),
    [
        ((0, 65536), "page_bytes = 0 is no size"),
        ((4096.0, 65536), "page_bytes = 4096.0 is no size"),
        ((True, 65536), "page_bytes = True is no size"),
        # Without a page there is nothing to measure the others by.
        ((-1, 5, 5), "page_bytes = -1 is no size"),
        ((4096, 5000, 0), "max_request_bytes = 5000 is no .* page_bytes .*; read_ahead_bytes = 0 is no .* page_bytes"),
        ((4096, None), "max_request_bytes = None is no multiple of page_bytes"),
    ],
)
def test_bad_sizes(sizes: tuple[int, ...], found: str) -> None:
    """Sizes are whole pages."""
    with pytest.raises(
        DeviceConfigError, match=f"SizeNumbers: found {found}.*; expected page_bytes, max_request_bytes"
    ):
        SizeNumbers(*sizes)
