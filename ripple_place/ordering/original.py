"""Checkpoint order: what every other ordering has to beat."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.ordering.activity import Ordered

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array
    from ripple_place.ordering.activity import Activity, OrderingParams


def original_order(n_neurons: int) -> Int32Array:
    """Return checkpoint order."""
    return np.arange(n_neurons, dtype=np.int32)


def make(activity: Activity, params: OrderingParams) -> Ordered:
    """Return checkpoint order."""
    return Ordered(original_order(activity.n_neurons))
