"""Draw what a predictor names beside what fires: neurons by how often they fire, none twice for a token."""

from __future__ import annotations

from typing import Any

import numpy as np

from ripple_place.kernels.compiled import compiled
from ripple_place.kernels.synthetic import random_word


@compiled
def add_weight(tree: Any, item: int, weight: int) -> None:
    """Add to the weight of an item; in place.

    Parameters
    ----------
    tree : ndarray of shape (n_items + 1,), int64
        Fenwick tree: entry i has the sum of the weights of as many items before i as its lowest set bit says.
    item, weight : int

    References
    ----------
    .. [1] P. M. Fenwick, A new data structure for cumulative frequency tables, Software: Practice and Experience 24
       (1994), doi:10.1002/spe.4380240306.
    """
    place = item + 1
    while place < tree.size:
        tree[place] += weight
        place += place & -place


@compiled
def item_at(tree: Any, target: Any) -> int:
    """Return the item that has `target`, at least 0, among all weights laid end to end; see `add_weight`."""
    place, step = 0, 1
    while 2 * step < tree.size:
        step *= 2
    while step > 0:
        if place + step < tree.size and tree[place + step] <= target:
            place += step
            target -= tree[place]
        step //= 2
    return place


@compiled
def draw_more(active: Any, weight: Any, rate: float, key: Any, tree: Any, chosen: Any, named: Any) -> None:
    """Name what fires and, drawn by weight without replacement, `rate` neurons more for each; caller allocates.

    Rows get whole numbers of them such that every first part of the rows has its due, rounded down.

    Parameters
    ----------
    active : ndarray of shape (n_rows, n_bytes), uint8
        Neuron j of row t is bit ``j % 8`` of byte ``[t, j // 8]``.
    weight : ndarray of shape (n_neurons,), int64
        At least 1; the sum is below 2**63.
    rate : float
        At least 0.
    key : uint64
        Number k of row t is a hash of `key`, t and k.
    tree : ndarray of shape (n_neurons + 1,), int64
        Scratch: all 0.
    chosen : ndarray of shape (n_neurons,), int32
        Scratch.
    named : ndarray of the shape of `active`, uint8
        Written.
    """
    total = np.int64(0)
    for neuron in range(weight.size):
        add_weight(tree, neuron, weight[neuron])
        total += weight[neuron]
    n_firing_before = 0
    n_due_before: Any = 0
    for row in range(active.shape[0]):
        named[row] = active[row]
        left: Any = total
        n_chosen = 0
        for neuron in range(weight.size):
            if (active[row, neuron >> 3] >> (neuron & 7)) & 1:
                add_weight(tree, neuron, -weight[neuron])
                left -= weight[neuron]
                chosen[n_chosen] = neuron
                n_chosen += 1
        n_firing_before += n_chosen
        n_due = np.int64(np.floor(rate * n_firing_before))
        n_more = min(n_due - n_due_before, weight.size - n_chosen)
        n_due_before = n_due
        row_key = random_word(key, row)
        for number in range(n_more):
            neuron = item_at(tree, np.int64(random_word(row_key, number) >> 1) % left)
            add_weight(tree, neuron, -weight[neuron])
            left -= weight[neuron]
            named[row, neuron >> 3] |= np.uint8(1 << (neuron & 7))
            chosen[n_chosen] = neuron
            n_chosen += 1
        for index in range(n_chosen):
            add_weight(tree, chosen[index], weight[chosen[index]])
