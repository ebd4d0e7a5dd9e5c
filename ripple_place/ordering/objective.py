"""What an order is judged by before any device is known: the expected number of reads of a token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ripple_place.arrays import Int32Array
    from ripple_place.graph.neuron_bits import NeuronBits


def reads_per_token(bits: NeuronBits, order: Int32Array) -> float:
    """Return the expected reads of a token without cache and access collapse; exact on the trace.

    ``sum_i f(i) - sum_k f(order[k], order[k+1])`` over the rows of the trace: each active neuron starts a read unless
    the one before it is active too. This is the Hamiltonian-path objective of arXiv:2410.19274 (section 4.2) with
    counts in place of probabilities. Costs O(n_neurons x n_rows / 64).
    """
    together = bits.pair_counts(np.ascontiguousarray(order[:-1]), np.ascontiguousarray(order[1:]))
    return float(bits.frequency().sum() - together.sum()) / max(1, bits.n_rows)
