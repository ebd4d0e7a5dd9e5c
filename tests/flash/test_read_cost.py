"""What reads cost: one value, by lambda or by a device, and what of it a placement records."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.read_cost import ReadCost, ReadCosts
from tests.flash.builders import linear_device


def test_by_lambda() -> None:
    """Lambda for a read and one for each neuron; gaps of up to floor(lambda), one of exactly lambda included."""
    cost = ReadCost.by_line(4.9, 4096)
    assert (cost.gap, cost.unit, cost.is_time, cost.bundle_bytes) == (4, "neurons", False, 4096)
    assert ReadCost.by_line(5.0).gap == 5
    assert cost.run_cost(3).tolist() == pytest.approx([0, 5.9, 6.9, 7.9])


def test_on_a_device() -> None:
    """Its own times: on a line of 10 us and a microsecond a bundle, lambda is 10 and times are 10 + length."""
    cost = ReadCost.on_device(linear_device(max_request_bytes=2**20), 4096)
    assert (cost.break_even_gap, cost.gap, cost.unit) == (10.0, 10, "us")
    np.testing.assert_allclose(cost.run_cost(4), [0, 11, 12, 13, 14])
    assert ReadCost.on_device(linear_device(), 4096, gap=2).gap == 2
    line = cost.as_line()
    assert (line.break_even_gap, line.device, line.unit) == (10.0, cost.device, "neurons")
    assert line.run_cost(2).tolist() == [0, 11, 12]


@pytest.mark.parametrize("break_even_gap", [-1.0, math.inf, math.nan])
def test_lambda_is_a_number(break_even_gap: float) -> None:
    """Refused in the words of the option."""
    with pytest.raises(UsageError, match=r"--break-even-gap: found .*; expected a number from 0 to 1e\+09"):
        ReadCost.by_line(break_even_gap)


def test_times_need_a_device_and_a_size() -> None:
    """There is nothing to take them from otherwise."""
    with pytest.raises(UsageError, match="found no device, or no bundle size"):
        ReadCost(1.0, 1, unit="us")


def test_costs_of_a_model() -> None:
    """By block: a device with sizes, else lambda, else nothing; units and records follow."""
    device = linear_device()
    timed = ReadCosts(device, None, {"layers.0": 4096, "layers.1": 4096})
    assert timed.of_block("layers.1") == ReadCost.on_device(device, 4096)
    assert timed.of_block("layers.2") is None
    assert (timed.unit, timed.one_size) == ("us", 4096)
    assert timed.to_metadata() == {
        "bundle_bytes": "4096", "device": "linear", "break_even_gap": "10.0", "gap": "10",
    }  # fmt: skip
    by_line = ReadCosts(None, 2.5, {"layers.0": 4096, "layers.1": 512})
    assert by_line.of_block("layers.1") == ReadCost.by_line(2.5, 512)
    assert (by_line.unit, by_line.one_size) == ("neurons", None)
    sizes = {"bundle_bytes_by_block": '{"layers.0": 4096, "layers.1": 512}'}
    assert by_line.to_metadata() == sizes | {"break_even_gap": "2.5", "gap": "2"}
    unknown = ReadCosts(device)
    assert unknown.of_block("layers.0") is None
    assert (unknown.unit, unknown.to_metadata()) == ("neurons", {"device": "linear"})
