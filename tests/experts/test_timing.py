"""The time of a token by hand."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.experts.timing import TokenTiming

MISSED, AHEAD = np.array([[10.0, 1.0, 5.0], [0.0, 0.0, 0.0]]), np.array([[0.0, 7.0, 3.0], [0.0, 9.0, 0.0]])


@pytest.mark.parametrize(
    ("timing", "expected"),
    [
        # 10 + 4, then 3 that are left of reading ahead, 1 and 4, then 5 and 4; the second waits for 5 of reading ahead.
        (TokenTiming(4.0), [14 + 8 + 9, 12 + 5]),
        (TokenTiming(0.0), [10 + 8 + 8, 9]),
        # The first is read alone, then 4 hides 1, 5 takes longer than 4, then 4.
        (TokenTiming(4.0, "layer"), [10 + 4 + 5 + 4, 12]),
    ],
)
def test_tokens_by_hand(timing: TokenTiming, expected: list[float]) -> None:
    """Three layers of two tokens."""
    assert timing.token_us(MISSED, AHEAD).tolist() == expected
