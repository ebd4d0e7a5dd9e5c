"""What cannot be simulated is refused when the parameters are made."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.scoring.params import SimulateParams


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"cache": "lru"}, "--cache lru: found no DRAM budget; expected one. Add --dram-budget 10%"),
        (
            {"dram_budget": 20.0},
            r"dram_budget: found 20.0; expected a share from 0.0 to 1.0 \(float\), or bytes \(int\)",
        ),
        ({"dram_budget": np.float32(0.5)}, r"dram_budget: found .*0\.5"),
        ({"dram_budget": -1}, "dram_budget: found -1"),
        ({"dram_budget": float("nan")}, "dram_budget: found nan"),
        ({"dram_budget": "20"}, "--dram-budget 20: found no budget"),
        ({"dram_pool": True}, "--dram-pool: found no DRAM cache; expected one. Add --dram-budget 10%"),
        (
            {"dram_pool": True, "dram_budget": 0.1, "select": ("threshold=1",)},
            r"--select threshold=1: found one DRAM pool \(--dram-pool\); expected a cache for each block",
        ),
        ({"batch": ()}, "--batch : found no batch size"),
        ({"batch": (4, 0)}, "--batch 4,0: found no batch size"),
        ({"batch": (4, 2), "select": ("exact",)}, "--batch 4,2 --select exact: found a rule"),
        ({"bundle_bytes": 0}, "--bundle-bytes: found 0; expected 1 to"),
        ({"bundle_bytes": 2**60}, "--bundle-bytes: found 1152921504606846976"),
    ],
)
def test_params_that_are_refused(params: dict[str, Any], match: str) -> None:
    """When they are made, before anything is read."""
    with pytest.raises(UsageError, match=match):
        SimulateParams(**params)
