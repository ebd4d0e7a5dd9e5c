"""Quantised activations: why weights that are permuted exactly move logits, and which scales mind the order.

A small model in numpy, of integer weights times a power of two, so that nothing but the order of sums and the rounding
of activations can make a difference. docs/families.md quotes the figures.

    python -m tests.checkpoint.model.test_activation_scales
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    Quantise = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
    Layers = list[tuple[np.ndarray, np.ndarray, np.ndarray]]

HIDDEN, N_NEURONS, N_LAYERS, N_TOKENS, GROUP = 128, 512, 4, 256, 32


def int8(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return integers and a scale for each row."""
    scale = np.abs(x).max(axis=-1, keepdims=True) / np.float32(127)
    return np.rint(x / scale), scale


def e4m3(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return FP8's values, of three bits behind the point, and a scale for each row."""
    scale = np.abs(x).max(axis=-1, keepdims=True) / np.float32(448)
    value = (x / scale).astype("f4")
    step = np.exp2((np.maximum(np.frexp(value)[1], -5) - 4).astype("f4"))
    return np.rint(value / step) * step, scale


def int8_by_group(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return integers and a scale for each 32 of a row."""
    integers, scale = int8(x.reshape(len(x), -1, GROUP))
    return integers.reshape(x.shape), scale.repeat(GROUP, axis=-1).reshape(x.shape)


def multiply(x: np.ndarray, weight: np.ndarray, quantise: Quantise | None, is_exact: bool) -> np.ndarray:
    """Return a product of quantised inputs: summed exactly, as integers are, or as float32 numbers."""
    if quantise is None:
        return x @ weight
    value, scale = quantise(x)
    if is_exact:
        # Scales by group come before the sum; float64 holds every product and sum of these.
        of_row = scale.shape[-1] == 1
        summed = (value.astype("f8") * (1 if of_row else scale)) @ weight.astype("f8")
        return (summed.astype("f4") * (scale if of_row else 1)).astype("f4")
    return (value * scale).astype("f4") @ weight


def run(layers: Layers, x: np.ndarray, quantise: Quantise | None, is_exact: bool) -> np.ndarray:
    """Return what layers of normalised, gated FFNs make of `x`."""
    for gate, up, down in layers:
        normed = x / np.sqrt((x * x).mean(axis=-1, keepdims=True))
        gated = multiply(normed, gate, quantise, is_exact)
        active = gated / (1 + np.exp(-gated)) * multiply(normed, up, quantise, is_exact)
        x = x + multiply(active.astype("f4"), down, quantise, is_exact)
    return x


def difference(quantise: Quantise | None, *, is_exact: bool, granule: int = 1) -> float:
    """Return how far results move, as a share of the largest, if neurons move in granules."""
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return (np.rint(rng.standard_normal(shape) * 40).clip(-127, 127) * 2.0**-9).astype("f4")

    layers = [
        (weights(HIDDEN, N_NEURONS), weights(HIDDEN, N_NEURONS), weights(N_NEURONS, HIDDEN)) for _ in range(N_LAYERS)
    ]
    orders = [(rng.permutation(N_NEURONS // granule)[:, None] * granule + np.arange(granule)).ravel() for _ in layers]
    moved = [
        (gate[:, order], up[:, order], down[order])
        for (gate, up, down), order in zip(layers, orders, strict=True)
    ]  # fmt: skip
    x = rng.standard_normal((N_TOKENS, HIDDEN)).astype("f4")
    before, after = run(layers, x, quantise, is_exact), run(moved, x, quantise, is_exact)
    return float(np.abs(after - before).max() / np.abs(before).max())


@pytest.mark.parametrize("quantise", [int8, e4m3])
def test_scales_by_token_do_not_mind_the_order(quantise: Quantise) -> None:
    """The largest of a token is the largest in any order: with exact sums, not a bit changes."""
    assert difference(quantise, is_exact=True) == 0


@pytest.mark.parametrize(("quantise", "least", "most"), [(None, 1e-8, 1e-5), (int8, 1e-4, 1e-1), (e4m3, 1e-6, 1e-2)])
def test_rounding_amplifies_the_order_of_sums(quantise: Quantise | None, least: float, most: float) -> None:
    """A sum that differs in its last bit moves an activation to the next of 8-bit's few values, now and then."""
    assert least < difference(quantise, is_exact=False) < most


def test_scales_by_group_mind_the_order() -> None:
    """Other neighbours have another scale, which no rounding of sums explains; groups that move whole keep theirs."""
    assert difference(int8_by_group, is_exact=True) > 1e-3
    assert difference(int8_by_group, is_exact=True, granule=GROUP) == 0


if __name__ == "__main__":
    for name, quantise, is_exact, granule in (
        ("float32", None, False, 1), ("int8, exact sums", int8, True, 1), ("int8, float32 sums", int8, False, 1),
        ("fp8, exact sums", e4m3, True, 1), ("fp8, float32 sums", e4m3, False, 1),
        ("int8 in groups of 32, exact sums", int8_by_group, True, 1),
        ("the same, groups whole", int8_by_group, True, GROUP),
    ):  # fmt: skip
        print(f"{name}: {difference(quantise, is_exact=is_exact, granule=granule):.1e}")
