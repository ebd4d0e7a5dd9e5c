"""What raw bytes say of their type: float32 and float64 read as float16 show, and true float16 numbers do not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.trace import float_bytes
from ripple_place.trace.float_bytes import has_narrower, wider_type

if TYPE_CHECKING:
    from collections.abc import Callable


def relu(rng: np.random.Generator, n: int) -> np.ndarray:
    """Return one output in three that is not zero."""
    return np.maximum(rng.standard_normal(n) - 0.43, 0)


KINDS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "relu": relu,
    "sparse": lambda rng, n: np.where(rng.random(n) < 0.02, rng.standard_normal(n), 0),
    "squared": lambda rng, n: relu(rng, n) ** 2,
    "small": lambda rng, n: 1e-3 * relu(rng, n),
    "large": lambda rng, n: 1e3 * relu(rng, n),
    "dense": lambda rng, n: rng.standard_normal(n),
    "silu": lambda rng, n: (x := rng.standard_normal(n)) / (1 + np.exp(-x)) * rng.standard_normal(n),
    "narrow": lambda rng, n: rng.uniform(1, 2, n),
    "ones": lambda rng, n: (rng.random(n) < 0.3).astype(float),
}
"""Outputs of neurons, and odd ones."""


def as_bfloat16(values: np.ndarray) -> np.ndarray:
    """Return float32 numbers without the last 16 bits of the mantissa."""
    return (values.astype("<f4").view(np.uint32) & 0xFFFF0000).view("<f4")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1000, 100_003])
@pytest.mark.parametrize("rounded", ["", "float16", "bfloat16"])
def test_wider_numbers(kind: str, n: int, rounded: str) -> None:
    """Also those that were rounded before they were written wide, whose last bits are zero."""
    values = KINDS[kind](np.random.default_rng(0), n)
    values = {"": values, "float16": values.astype(np.float16), "bfloat16": as_bfloat16(values)}[rounded]
    assert wider_type(values.astype("<f4").view("<f2")) == "float32"
    if kind != "ones" and not rounded:
        assert wider_type(values.astype("<f8").view("<f2")) == "float64"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [9, 40, 1000, 100_003])
@pytest.mark.parametrize("seed", range(5))
def test_float16_numbers(kind: str, n: int, seed: int) -> None:
    """No file of true outputs is refused."""
    assert wider_type(KINDS[kind](np.random.default_rng(seed), n).astype("<f2")) is None


@pytest.mark.parametrize("kind", ["relu", "sparse", "ones"])
def test_narrower_numbers(kind: str) -> None:
    """Two float16, one of them zero, make a float32 that no neuron puts out; float32 outputs have none."""
    values = KINDS[kind](np.random.default_rng(0), 100_000)
    assert has_narrower(values.astype("<f2").view("<f4"))
    assert has_narrower(values.astype("<f4").view("<f8"))
    assert not has_narrower(values.astype("<f4"))


def test_long_files_are_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stretches of whole numbers, from the whole file: its first half may be zeros."""
    monkeypatch.setattr(float_bytes, "_WINDOWS", 7)
    monkeypatch.setattr(float_bytes, "_WINDOW", 64)
    values = relu(np.random.default_rng(0), 50_001).astype("<f4")
    values[:25_000] = 0
    assert wider_type(values.view("<f2")) == "float32"
    assert wider_type(values.astype("<f2")) is None


def test_nothing_to_judge() -> None:
    """Empty, silent, or too few numbers."""
    for n in (0, 1, 100):
        assert wider_type(np.zeros(n, "<f2")) is None
    assert wider_type(np.array([1.7, 2.3, 0.1], "<f4").view("<f2")) is None
    assert not has_narrower(np.zeros(3, "<f4"))
