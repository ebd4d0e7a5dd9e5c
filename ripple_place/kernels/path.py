"""Build a Hamiltonian path edge by edge: Kruskal's algorithm with no neuron of degree above two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]


@compiled
def _find(root: Array, neuron: int) -> int:
    """Return the representative of a neuron's fragment, halving the way there."""
    while root[neuron] != neuron:
        root[neuron] = root[root[neuron]]
        neuron = root[neuron]
    return neuron


@compiled
def _link(i: int, j: int, degree: Array, root: Array, links: Array) -> bool:
    """Link two neurons if that leaves every neuron on a path, in place; tell whether it did."""
    if degree[i] == 2 or degree[j] == 2:
        return False
    root_i, root_j = _find(root, i), _find(root, j)
    if root_i == root_j:
        return False
    root[max(root_i, root_j)] = min(root_i, root_j)
    links[i, degree[i]] = j
    links[j, degree[j]] = i
    degree[i] += 1
    degree[j] += 1
    return True


@compiled
def link_edges(first: Array, second: Array, degree: Array, root: Array, links: Array) -> None:
    """Take the edges in the order given; keep each that leaves every neuron on a path, in place.

    Parameters
    ----------
    first, second : ndarray of shape (n_edges,), int32
    degree : ndarray of shape (n_neurons,), int8
        Links of each neuron so far.
    root : ndarray of shape (n_neurons,), int32
        Union-find parents of the fragments.
    links : ndarray of shape (n_neurons, 2), int32
        The linked neurons; -1 where there is none.
    """
    for edge in range(first.size):
        _link(first[edge], second[edge], degree, root, links)


@compiled
def link_keys(keys: Array, id_bits: int, degree: Array, root: Array, links: Array) -> None:
    """Do as `link_edges` with edges written as keys, whose lowest `id_bits` are the second neuron, the next the first.

    Parameters
    ----------
    keys : ndarray of shape (n_edges,), int64
    id_bits : int
    degree, root, links : ndarray
        As for `link_edges`.
    """
    low_bits = (1 << id_bits) - 1
    for key in keys:
        i, j = (key >> id_bits) & low_bits, key & low_bits
        if degree[i] < 2 and degree[j] < 2:
            _link(i, j, degree, root, links)


@compiled
def link_remaining(degree: Array, root: Array, links: Array) -> None:
    """Join what fragments remain as if all pairs of neurons came in ascending order, in place.

    This is where greedy matching ends: pairs that never fire together are all equally far, and ties go to the lowest
    ids. Arrays as for `link_edges`.

    Notes
    -----
    Neuron i looks for the lowest partner j > i that is open and in another fragment. Open neurons stand in one
    ascending list; the search starts right behind i and passes over at most the other end of i's own fragment and
    neurons that have closed since, which leave the list: O(n) in all.
    """
    n_neurons = degree.size
    behind = links[:, 0].copy()  # next open neuron, n_neurons at the end
    following = n_neurons
    for i in range(n_neurons - 1, -1, -1):
        behind[i] = following
        if degree[i] < 2:
            following = i
    i = following
    while i < n_neurons:
        previous = i
        j = behind[i]
        while degree[i] < 2 and j < n_neurons:
            if degree[j] == 2:
                behind[previous] = behind[j]
                j = behind[j]
                continue
            _link(i, j, degree, root, links)
            previous = j
            j = behind[j]
        i = behind[i]


@compiled
def walk_path(links: Array, start: int, order: Array) -> None:
    """Write the neurons of a path to `order`, from the end `start` on."""
    previous, neuron = -1, start
    for slot in range(order.size):
        order[slot] = neuron
        following = links[neuron, 0] if links[neuron, 0] != previous else links[neuron, 1]
        previous, neuron = neuron, following
