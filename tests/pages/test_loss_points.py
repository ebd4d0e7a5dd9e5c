"""Rules as points: which of them are one curve, and where nothing was dropped."""

from __future__ import annotations

import pytest

from ripple_place.pages.loss_points import LossPoint, family_and_value, loss_points
from ripple_place.select.registry import EXAMPLES, parse_rule


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("exact", ("exact", "")),
        ("exact,sees=output", ("exact,sees=output", "")),
        ("top-k=5%", ("top-k", "5%")),
        ("flash-aware=0.001", ("flash-aware", "0.001")),
        ("flash-aware,price=3e-06", ("flash-aware,price", "3e-6")),
        ("dip-ca=0.5,gamma=0.2", ("dip-ca,gamma=0.2", "0.5")),
    ],
)
def test_a_rule_is_a_kind_and_a_value(rule: str, expected: tuple[str, str]) -> None:
    """Wanted rises and prices are different kinds: one line through both would mean nothing."""
    assert family_and_value(rule) == expected


@pytest.mark.parametrize("rule", EXAMPLES)
def test_every_rule_has_a_kind(rule: str) -> None:
    """As it writes itself; options that it always writes are a part of the kind."""
    family, _ = family_and_value(str(parse_rule(rule)))
    assert family.partition(",")[0] == rule.partition("=")[0]


def test_points_of_rows() -> None:
    """The layout of a row follows from its place; what drops nothing costs nothing, known or not."""
    rows = [
        {"select": "exact", "kept_share": 1.0, "flash_time_us_per_token": 9.0, "loss": None, "se": None},
        {"select": "top-k=5%", "kept_share": 0.5, "flash_time_us_per_token": 5.0, "loss": 0.25, "se": 0.125},
        {"select": "exact", "kept_share": 1.0, "flash_time_us_per_token": 8.0, "loss": 0.0, "se": 0.0},
        {"select": "top-k=5%", "kept_share": 0.5, "flash_time_us_per_token": 4.0, "loss": None, "se": None},
    ]
    assert loss_points(rows, 2, "loss", "se") == [
        LossPoint(0, "exact", "", 9.0, 0.0, None, True),
        LossPoint(0, "top-k", "5%", 5.0, 0.25, 0.125, False),
        LossPoint(1, "exact", "", 8.0, 0.0, 0.0, True),
    ]
    assert [point.error for point in loss_points(rows, 2, "loss")] == [None, None, None]
