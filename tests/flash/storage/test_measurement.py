"""Replaying requests on a file: where they go when it is short, how times become scores, and which doubts are told."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.requests import RequestList
from ripple_place.flash.storage.measurement import (
    Measurement,
    choose_tokens,
    measure,
    measurement_warnings,
    wrap_offsets,
)
from tests.flash.builders import linear_device

if TYPE_CHECKING:
    from ripple_place.flash.results import LayoutResult
    from ripple_place.flash.storage.direct_file import DirectFile


def requests(
    offsets: list[int], lengths: list[int], *, layout: str = "tested", n_tokens: int = 1, predicted_us: float = 1.0
) -> RequestList:
    """Return requests in pages of 4 KiB, each its own batch."""
    return RequestList(
        layout, np.arange(n_tokens), 4096 * np.array(offsets), 4096 * np.array(lengths), np.arange(len(offsets) + 1),
        predicted_us,
    )  # fmt: skip


def test_requests_inside_the_file_stay_where_they_are(data: DirectFile) -> None:
    """The last page is inside; 1 MiB has 256."""
    inside = requests([0, 255], [1, 1])
    assert wrap_offsets(inside, data).tolist() == inside.offset_bytes.tolist()


def test_requests_past_the_end_wrap_around(data: DirectFile) -> None:
    """Of reads of up to 3 pages in 256, offsets count modulo 252: the largest multiple of 3 with room for one more."""
    wrapped = wrap_offsets(requests([0, 251, 252, 300, 600], [3, 1, 3, 2, 1]), data)
    assert (wrapped // 4096).tolist() == [0, 251, 0, 48, 96]
    assert (wrapped + 3 * 4096 <= data.size_bytes).all()


def test_requests_that_are_not_aligned_are_refused(data: DirectFile) -> None:
    """A profile with pages that the storage does not accept."""
    odd = replace(requests([0], [1]), offset_bytes=np.array([100]))
    with pytest.raises(UsageError, match="multiple of what O_DIRECT accepts"):
        wrap_offsets(odd, data)


def test_layouts_take_turns(data: DirectFile) -> None:
    """Each list is replayed once to warm up and once a repeat, filled and waiting; results stay with their list."""
    lists = [requests([0, 5, 9], [1, 2, 1], layout="a"), requests([7], [4], layout="b", n_tokens=2)]
    turns: list[int] = []
    found = measure(data, lists, 2, 3, lambda items, what: (turns.append(turn) or turn for turn in items))
    assert turns == list(range(2 * (3 + 1)))
    assert [each.requests.layout for each in found] == ["a", "b"]
    for each in found:
        assert each.full_us.shape == each.waiting_us.shape == (3,)
        assert (each.full_us > 0).all()
        assert (each.waiting_us > 0).all()


def test_scores_by_hand() -> None:
    """Predicted 30 us for 2 tokens, measured 10, 20 and 12 us a token; the baseline took 20, 20 and 36."""
    tested = Measurement(requests([0], [1], n_tokens=2, predicted_us=30.0), 8, np.array([10, 20, 12.0]), np.ones(3))
    baseline = Measurement(requests([0], [1], n_tokens=2, predicted_us=60.0), 8, np.array([20, 20, 36.0]), np.ones(3))
    scores = tested.to_json(baseline)
    assert (scores["predicted_us_per_token"], scores["flash_time_us_per_token"], scores["error"]) == (15, 12, 0.25)
    assert (scores["predicted_speedup"], scores["speedup"], scores["speedup_range"]) == (2, 2, [1, 3])
    assert scores["flash_time_us_range"] == [10, 20]
    assert tested.spread == (16 - 11) / 12


class _Result:
    """As much of a simulation as the choice of tokens looks at."""

    def __init__(self, us_per_token: float, n_tokens: int = 10_000) -> None:
        self.n_tokens = n_tokens
        self.totals = type("Totals", (), {"flash_time_us": us_per_token * n_tokens})


@pytest.mark.parametrize(
    ("us_per_token", "n_tokens"), [([1000.0, 5000.0], 100), ([1.0], 1024), ([1e9], 8), ([0.0], 1024)]
)
def test_tokens_are_half_a_second_of_the_slowest_layout(us_per_token: list[float], n_tokens: int) -> None:
    """Within bounds: enough to mean something, few enough to wait for."""
    results: list[LayoutResult] = [_Result(us) for us in us_per_token]  # type: ignore[misc]
    assert choose_tokens(results) == n_tokens


def test_quiet_repeats_and_a_fitting_device_are_not_warned_of(data: DirectFile) -> None:
    """And each doubt has its own sentence."""
    fine = Measurement(requests([0], [1], predicted_us=20.0), 8, np.array([20, 20.5, 21]), np.ones(3))
    assert measurement_warnings([fine], data, linear_device()) == []
    noisy = replace(fine, full_us=np.array([10, 20, 40.0]))
    foreign = replace(fine, full_us=np.array([2, 2, 2.0]))
    short = replace(fine, requests=requests([1000], [1], predicted_us=20.0))
    for doubtful, says in ((noisy, "repeats disagree"), (foreign, "calibrate"), (short, "wrapped around")):
        (warning,) = measurement_warnings([fine, doubtful], data, linear_device())
        assert says in warning
