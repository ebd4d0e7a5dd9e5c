"""DRAM budgets: what is one, and what says neither share nor bytes."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.placing.budget import check_budget


@pytest.mark.parametrize("budget", [0, 0.0, 1, 0.5, 1.0, np.float64(0.25), 2**40])
def test_budgets(budget: float | int) -> None:
    """A float is a share and an int is bytes."""
    check_budget(budget)


@pytest.mark.parametrize(
    "budget", [1.01, 20.0, -0.1, float("nan"), float("inf"), -1, True, np.float32(0.5), np.int64(4096), "10%"]
)
def test_what_is_no_budget(budget: float) -> None:
    """20.0 may mean 20 % or 20 bytes; numpy's float32 is no float, and was taken for bytes."""
    with pytest.raises(
        UsageError, match=r"dram_budget: found .*; expected a share from 0.0 to 1.0 \(float\), or bytes"
    ):
        check_budget(budget)
