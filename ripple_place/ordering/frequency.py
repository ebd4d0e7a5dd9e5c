"""Hot-cold order: the neurons that fire most often first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.ordering.activity import Ordered

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array, Int64Array
    from ripple_place.ordering.activity import Activity, OrderingParams


def frequency_order(frequency: Int64Array) -> Int32Array:
    """Return hot-cold order: descending firing count, ties by lowest neuron.

    References
    ----------
    .. [1] Neuralink-S in arXiv:2410.19274v3, section 6.1; arXiv:2511.18692, section 4.
    """
    return np.argsort(-frequency, kind="stable").astype(np.int32)


def make(activity: Activity, params: OrderingParams) -> Ordered:
    """Return hot-cold order by the block's firing counts."""
    return Ordered(frequency_order(activity.frequency))
