"""Firing counts without activations, as some tools keep them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ripple_place.blocks import NEURON

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import Int32Array, Int64Array


@dataclass(frozen=True, eq=False)
class PairCounts:
    """How often pairs of units fired together; pairs that are not listed were not kept.

    Attributes
    ----------
    pairs : ndarray of shape (n_pairs, 2), int32
        Unit ids, first < second, each pair once.
    counts : ndarray of shape (n_pairs,), int32
        At least 1.
    """

    pairs: Int32Array
    counts: Int32Array


@dataclass(frozen=True, eq=False)
class FiringCounts:
    """How often each neuron fired.

    Attributes
    ----------
    blocks : mapping of str to ndarray of shape (n_neurons,), int64
        In model order.
    n_tokens : int or None
        Tokens counted on, where known.
    pairs : mapping of str to PairCounts
        By block; empty where nothing says which neurons fire together.
    unit : str
        What a block is made of, one of `ripple_place.blocks.UNITS`.
    model : str or None
        Where known.
    """

    blocks: Mapping[str, Int64Array]
    n_tokens: int | None
    pairs: Mapping[str, PairCounts] = field(default_factory=dict)
    unit: str = NEURON
    model: str | None = None
