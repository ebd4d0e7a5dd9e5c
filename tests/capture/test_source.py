"""A model as a source: what a profile that is continued says of its thresholds. tests/torch records real models."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.capture.source import fitted_thresholds
from ripple_place.errors import TraceFormatError
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "3", '{"layers.0": "x"}', '{"layers.0": NaN}', '{"layers.0": 1' + "0" * 400 + "}"]
)
def test_thresholds_that_are_none(text: str) -> None:
    """A profile is continued by what its metadata say: that must be numbers."""
    block = BlockTrace(8, np.ones((3, 1), np.uint8))
    trace = ActivationTrace({"layers.0": block}, 3, np.zeros(1, np.int64), None, {"thresholds": text})
    with pytest.raises(TraceFormatError, match=r"p: thresholds: found .*expected a number for each block"):
        fitted_thresholds("p", trace)


def test_thresholds() -> None:
    """None where nothing was fitted."""
    block = BlockTrace(8, np.ones((3, 1), np.uint8))
    for metadata, expected in (({}, None), ({"thresholds": '{"layers.0": 0.5}'}, {"layers.0": 0.5})):
        trace = ActivationTrace({"layers.0": block}, 3, np.zeros(1, np.int64), None, metadata)
        assert fitted_thresholds("p", trace) == expected
