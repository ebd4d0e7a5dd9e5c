"""Placing parameters: refused when they are made, and resolved once the profile and the checkpoint are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device
from ripple_place.placing.params import PlacingParams

if TYPE_CHECKING:
    from pathlib import Path


def resolved(has_rows: bool = True, has_sizes: bool = True, **params: Any) -> PlacingParams:
    """Return resolved parameters."""
    return PlacingParams(**params).resolved(has_rows=has_rows, has_sizes=has_sizes)


@pytest.mark.parametrize(
    ("known", "ordering"),
    [
        ({}, "flash-time"),
        ({"has_sizes": False}, "greedy"),
        ({"has_sizes": False, "break_even_gap": 5.0}, "flash-time"),
        ({"has_rows": False}, "greedy"),
        ({"ordering": "frequency"}, "frequency"),
    ],
)
def test_auto(known: dict[str, Any], ordering: str) -> None:
    """Flash-time where reads have a price and there are rows to search on; what was named stays."""
    assert resolved(**known).ordering == ordering


@pytest.mark.parametrize(
    ("params", "refit"),
    [
        ({}, True),
        ({"refit": False}, False),
        ({"ordering": "greedy"}, False),
        ({"ordering": "greedy", "dram_budget": 0.1, "refit": True}, True),
        ({"has_rows": False, "refit": True}, False),
    ],
)
def test_refit(params: dict[str, Any], refit: bool) -> None:
    """By default where the ordering is searched; never where auto finds nothing to search."""
    assert resolved(**params).refit == refit


@pytest.mark.parametrize(
    ("params", "has_device"),
    [
        ({}, True),
        ({"ordering": "greedy"}, False),
        ({"ordering": "greedy", "compare": True}, True),
        ({"ordering": "greedy", "copies": 2}, True),
        ({"break_even_gap": 2.0}, False),
    ],
)
def test_the_device_is_the_default_where_one_is_needed(params: dict[str, Any], has_device: bool) -> None:
    """And is not recorded where none is."""
    device = resolved(**params).device_profile
    assert (device is not None) == has_device
    assert device is None or device.name == DEFAULT_DEVICE


def test_a_device_by_name_or_path(tmp_path: Path) -> None:
    """Loaded when the parameters are made."""
    assert PlacingParams(device="m1-max").device == load_device("m1-max")
    with pytest.raises(UsageError, match="no shipped profile by that name"):
        PlacingParams(device="m9")
    with pytest.raises(UsageError, match="no such file"):
        PlacingParams(device=tmp_path / "none.toml")


def test_a_budget_in_bytes_needs_sizes() -> None:
    """A share does not."""
    with pytest.raises(UsageError, match="--dram-budget 4096: found bytes, and nothing that says how long"):
        resolved(has_sizes=False, break_even_gap=1.0, dram_budget=4096)
    assert resolved(has_sizes=False, break_even_gap=1.0, dram_budget=0.1).dram_budget == 0.1


def test_threads() -> None:
    """All cores by default; none is no number of threads."""
    assert (resolved().n_threads or 0) >= 1
    assert resolved(n_threads=3).n_threads == 3
    with pytest.raises(UsageError, match="--threads: found 0; expected at least 1"):
        PlacingParams(n_threads=0)


@pytest.mark.parametrize(
    ("params", "asked_by"),
    [
        ({"ordering": "flash-time", "dram_budget": 0.1}, "--ordering flash-time"),
        ({"ordering": "greedy", "dram_budget": 0.1, "copies": 2}, "--dram-budget"),
        ({"ordering": "greedy", "copies": 2}, "--copies 2"),
        ({"ordering": "greedy", "compare": True}, "--compare"),
    ],
)
def test_what_asks_for_a_judgement(params: dict[str, Any], asked_by: str) -> None:
    """Named in the error where reads have no price."""
    asked = resolved(**params)
    assert asked.is_judged
    assert asked.asked_by == asked_by
    assert not resolved(ordering="greedy").is_judged
