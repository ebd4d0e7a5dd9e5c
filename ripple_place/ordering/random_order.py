"""A random order: what checkpoint order would be worth without its natural locality."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.ordering.activity import Ordered

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array
    from ripple_place.ordering.activity import Activity, OrderingParams


def random_order(n_neurons: int, rng: np.random.Generator) -> Int32Array:
    """Return a random order."""
    return rng.permutation(n_neurons).astype(np.int32)


def make(activity: Activity, params: OrderingParams) -> Ordered:
    """Return a random order of the block, drawn from the seed."""
    return Ordered(random_order(activity.n_neurons, params.rng()))
