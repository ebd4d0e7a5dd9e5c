"""What may be asked for when text is generated."""

from __future__ import annotations

from typing import Any

import pytest

from ripple_place.errors import UsageError
from ripple_place.generation.params import ACTIVITIES, DTYPES, GenerationParams
from ripple_place.select.registry import parse_rule

RULE = parse_rule("top-k=20%")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"max_tokens": 0}, "--max-tokens: found 0"),
        ({"prefill_rows": 0}, "--prefill-rows: found 0"),
        ({"activity": "guessed"}, "--activity guessed"),
        ({"sees": "gate"}, "sees gate"),
        ({"dtype": "float64"}, "--dtype float64"),
        ({"activity": "rule"}, "found no rule"),
        ({"rule": RULE}, "found --select top-k=20%"),
        ({"check_recall": True}, "no predictors at work"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], match: str) -> None:
    """By the option that is wrong."""
    with pytest.raises(UsageError, match=match):
        GenerationParams(**options)


def test_what_fits_is_taken() -> None:
    """Every activity, and every dtype."""
    for activity in ACTIVITIES:
        GenerationParams(activity=activity, rule=RULE if activity == "rule" else None)
    for dtype in DTYPES:
        GenerationParams(dtype=dtype)
    GenerationParams(activity="predicted", check_recall=True)
