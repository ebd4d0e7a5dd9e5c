"""What cannot be simulated is refused when the parameters are made."""

from __future__ import annotations

from typing import Any

import pytest

from ripple_place.errors import UsageError
from ripple_place.scoring.params import SimulateParams


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"cache": "lru"}, "--cache lru: found no DRAM budget; expected one. Add --dram-budget 10%"),
        ({"bundle_bytes": 0}, "--bundle-bytes: found 0; expected 1 to"),
        ({"bundle_bytes": 2**60}, "--bundle-bytes: found 1152921504606846976"),
    ],
)
def test_params_that_are_refused(params: dict[str, Any], match: str) -> None:
    """When they are made, before anything is read."""
    with pytest.raises(UsageError, match=match):
        SimulateParams(**params)
