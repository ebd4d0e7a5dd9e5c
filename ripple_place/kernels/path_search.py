"""Chained Lin-Kernighan search for a short tour, on an array.

The tour visits the neurons 0..n-1 and one more node, n, which fires for no token: cut there, it is a path. An edge's
length is ``penalty[i] + penalty[j] - scale * f(i, j)``; every tour visits every node once, so penalties change no
comparison of tours, but they decide which edges look long: those of the Held-Karp bound make every edge of a good tour
about equally short.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ripple_place.kernels.bits import popcount
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

BREADTH = np.array([3, 2, 1, 1, 1, 1, 1, 1, 1, 1])
"""Continuations tried at each depth of a chain. Under penalties that make good edges alike, deeper or broader chains
cost many times more and find little more than the next perturbation does."""
MAX_DEPTH = BREADTH.size
MAX_BREADTH = int(BREADTH.max())
JOURNAL_SIZE = 1 << 14
"""Flips that one perturbation may lead to; only so many can be taken back."""


class Tour(NamedTuple):
    """The tour; the kernels change it in place.

    Attributes
    ----------
    nodes, slot_of : ndarray of shape (n_neurons + 1,), int32
        At least four nodes: ``nodes[slot] -> node`` and its inverse.
    journal : ndarray of shape (JOURNAL_SIZE, 2), int32
        Scratch: flips that were made, as the slots of their ends. How many there are is passed along as `n_flips`.
    """

    nodes: Any
    slot_of: Any
    journal: Any


class Edges(NamedTuple):
    """The edges that a tour may have, and what they are long.

    Attributes
    ----------
    candidates : ndarray of shape (n_neurons + 1, n_candidates), int32
        Nodes to which each may be linked; -1 behind the last.
    counts : ndarray of shape (>= n_neurons, >= n_neurons), int32
        Symmetric co-firing counts; of size 0: counted from `bits` as they are needed.
    bits : ndarray of shape (>= n_neurons, n_words), uint64
    penalty : ndarray of shape (n_neurons + 1,), int64
        0 for the last node.
    scale : int
    """

    candidates: Any
    counts: Any
    bits: Any
    penalty: Any
    scale: int


class Search(NamedTuple):
    """Scratch of the search for chains.

    Attributes
    ----------
    found : ndarray of shape (MAX_DEPTH, MAX_BREADTH, 3), int64
        Continuations by depth, as `_find_continuations` leaves them.
    n_found, n_tried : ndarray of shape (MAX_DEPTH,), int64
        How many there are by depth, and how many of them have been tried.
    chain : ndarray of shape (2 * MAX_DEPTH + 2,), int64
        The nodes whose edges the last chain exchanged.
    queue : ndarray of shape (n_neurons + 1,), int64
        Nodes that wait to be improved from, in a ring.
    is_queued : ndarray of shape (n_neurons + 1,), uint8
        Says who waits; all 0 in the end.
    """

    found: Any
    n_found: Any
    n_tried: Any
    chain: Any
    queue: Any
    is_queued: Any


@compiled
def _allocate(queue: Array, is_queued: Array) -> Search:
    """Return the scratch around a queue."""
    found = np.empty((MAX_DEPTH, MAX_BREADTH, 3), np.int64)
    n_found, n_tried = np.empty(MAX_DEPTH, np.int64), np.empty(MAX_DEPTH, np.int64)
    return Search(found, n_found, n_tried, np.empty(2 * MAX_DEPTH + 2, np.int64), queue, is_queued)


@compiled
def _next(nodes: Array, slot: int) -> Any:
    """Return the node behind a slot."""
    return nodes[slot + 1 if slot + 1 < nodes.size else 0]


@compiled
def _previous(nodes: Array, slot: int) -> Any:
    """Return the node before a slot."""
    return nodes[slot - 1 if slot else nodes.size - 1]


@compiled
def _length(i: int, j: int, counts: Array, bits: Array, penalty: Array, scale: int) -> Any:
    """Return the length of an edge; pairs are looked up, or counted where there is no table of them."""
    n_neurons = penalty.size - 1
    together = np.int64(0)
    if i < n_neurons and j < n_neurons:
        if counts.size:
            together = np.int64(counts[i, j])
        else:
            for word in range(bits.shape[1]):
                together += popcount(bits[i, word] & bits[j, word])
    return penalty[i] + penalty[j] - scale * together


@compiled
def _reverse(nodes: Array, slot_of: Array, start: int, end: int) -> None:
    """Reverse the stretch from one slot to another, both included, going round the end if need be, in place."""
    size = nodes.size
    length = end - start + 1
    if length <= 0:
        length += size
    for _ in range(length // 2):
        first, last = nodes[start], nodes[end]
        nodes[start], nodes[end] = last, first
        slot_of[last], slot_of[first] = start, end
        start = start + 1 if start + 1 < size else 0
        end = end - 1 if end else size - 1


@compiled
def _flip(nodes: Array, slot_of: Array, start: int, end: int, journal: Array, n_flips: int) -> None:
    """Reverse a stretch or, where that is shorter, the rest of the tour, which gives the same tour; write it down."""
    size = nodes.size
    length = end - start + 1
    if length <= 0:
        length += size
    if 2 * length > size:
        start, end = (end + 1 if end + 1 < size else 0), (start - 1 if start else size - 1)
    _reverse(nodes, slot_of, start, end)
    journal[n_flips, 0], journal[n_flips, 1] = start, end


@compiled
def _take_back(nodes: Array, slot_of: Array, journal: Array, n_flips: int, n_kept: int) -> None:
    """Undo the last flips until so many are left."""
    for flip in range(n_flips - 1, n_kept - 1, -1):
        _reverse(nodes, slot_of, journal[flip, 0], journal[flip, 1])


@compiled
def _find_continuations(
    base: int, end: int, gain: Any, best_gain: Any, n_wanted: int, tour: Tour, edges: Edges, found: Array
) -> int:
    """Find the best ways to go on with a chain: new edges at its open end, and the old ones that they displace.

    Parameters
    ----------
    base, end : int
        Neighbours in the tour, whose edge is as good as removed.
    gain : int
        What was removed less what was added so far.
    best_gain : int
        A continuation must leave more than that before it removes its edge.
    n_wanted : int
    tour : Tour
    edges : Edges
    found : ndarray of shape (>= n_wanted, 3), int64
        Written, best first: gain after the removal, node to which `end` is linked, node that is its open end then.

    Returns
    -------
    int
        How many were found.
    """
    nodes, slot_of, _ = tour
    candidates, counts, bits, penalty, scale = edges
    is_forward = _next(nodes, slot_of[base]) == end
    n_found = 0
    for k in range(candidates.shape[1]):
        node = candidates[end, k]
        if node < 0:
            break
        rest = gain - _length(end, node, counts, bits, penalty, scale)
        if rest <= best_gain:
            continue
        before = _previous(nodes, slot_of[node]) if is_forward else _next(nodes, slot_of[node])
        if node == base or before == end:
            continue
        value = rest + _length(before, node, counts, bits, penalty, scale)
        if n_found < n_wanted:
            n_found += 1
        elif value <= found[n_wanted - 1, 0]:
            continue
        place = n_found - 1
        while place > 0 and found[place - 1, 0] < value:
            found[place] = found[place - 1]
            place -= 1
        found[place, 0], found[place, 1], found[place, 2] = value, node, before
    return n_found


@compiled
def _improve(base: int, tour: Tour, edges: Edges, search: Search, n_flips: int) -> tuple[Any, int, int]:
    """Apply the first chain of flips from a node that shortens the tour, in place.

    Parameters
    ----------
    base : int
    tour : Tour
        Its journal is written from `n_flips` on, of which `MAX_DEPTH` must be free.
    edges : Edges
    search : Search
        `chain` is written.
    n_flips : int
        Flips in the journal.

    Returns
    -------
    int, int, int
        Gain, flips in the journal, nodes in the chain; nothing changed if the gain is 0.
    """
    nodes, slot_of, journal = tour
    _, counts, bits, penalty, scale = edges
    found, n_found, n_tried, chain = search.found, search.n_found, search.n_tried, search.chain
    n_before = n_flips
    for side in range(2):
        end = _next(nodes, slot_of[base]) if side == 0 else _previous(nodes, slot_of[base])
        chain[0], chain[1] = base, end
        gain = _length(base, end, counts, bits, penalty, scale)
        best_gain, best_depth = np.int64(0), 0
        depth = 0
        is_new = True
        while depth >= 0:
            end = chain[2 * depth + 1]
            if is_new and depth < MAX_DEPTH:
                n_found[depth] = _find_continuations(
                    base, end, gain, best_gain, BREADTH[depth], tour, edges, found[depth]
                )
                n_tried[depth] = 0
            if depth < MAX_DEPTH and n_tried[depth] < n_found[depth]:
                gain = found[depth, n_tried[depth], 0]
                node, before = found[depth, n_tried[depth], 1], found[depth, n_tried[depth], 2]
                n_tried[depth] += 1
                if _next(nodes, slot_of[base]) == end:
                    _flip(nodes, slot_of, slot_of[end], slot_of[before], journal, n_flips)
                else:
                    _flip(nodes, slot_of, slot_of[before], slot_of[end], journal, n_flips)
                n_flips += 1
                depth += 1
                chain[2 * depth], chain[2 * depth + 1] = node, before
                closed = gain - _length(base, before, counts, bits, penalty, scale)
                if closed > best_gain:
                    best_gain, best_depth = closed, depth
                is_new = True
            elif best_gain > 0:
                _take_back(nodes, slot_of, journal, n_flips, n_before + best_depth)
                return best_gain, n_before + best_depth, 2 * best_depth + 2
            else:
                depth -= 1
                if depth >= 0:
                    n_flips -= 1
                    _take_back(nodes, slot_of, journal, n_flips + 1, n_flips)
                is_new = False
    return np.int64(0), n_before, 0


@compiled
def _settle(n_queued: int, tour: Tour, edges: Edges, search: Search, n_flips: int, is_final: bool) -> tuple[Any, int]:
    """Improve from every queued node, and from those that an improvement touched, until none is left, in place.

    Parameters
    ----------
    n_queued : int
        Nodes at the start of the queue.
    tour, edges, search, n_flips
        As for `_improve`.
    is_final : bool
        Nothing will be taken back: the journal starts anew after each improvement.

    Returns
    -------
    int, int
        Gain, flips in the journal.
    """
    queue, is_queued, chain, journal_size = search.queue, search.is_queued, search.chain, tour.journal.shape[0]
    total = np.int64(0)
    head = 0
    while n_queued > 0:
        node = queue[head]
        head = head + 1 if head + 1 < queue.size else 0
        n_queued -= 1
        is_queued[node] = 0
        while n_flips <= journal_size - MAX_DEPTH:
            gain, n_flips, n_chain = _improve(node, tour, edges, search, n_flips)
            if gain == 0:
                break
            total += gain
            if is_final:
                n_flips = 0
            for k in range(n_chain):
                touched = chain[k]
                if touched != node and not is_queued[touched]:
                    is_queued[touched] = 1
                    place = head + n_queued
                    queue[place if place < queue.size else place - queue.size] = touched
                    n_queued += 1
    return total, n_flips


@compiled
def settle_all(tour: Tour, edges: Edges) -> Any:
    """Shorten a tour until no chain from any node does, in place; return the gain.

    Parameters
    ----------
    tour : Tour
        Changed.
    edges : Edges

    Notes
    -----
    Lin-Kernighan chains [1]_ of up to `MAX_DEPTH` flips, with backtracking (`BREADTH`) and a queue of nodes whose
    surroundings have changed.

    References
    ----------
    .. [1] D. Applegate, W. Cook, A. Rohe, Chained Lin-Kernighan for large traveling salesman problems, INFORMS
       Journal on Computing 15 (2003) 82-92, doi:10.1287/ijoc.15.1.82.15157.
    """
    size = tour.nodes.size
    search = _allocate(tour.nodes.astype(np.int64), np.ones(size, np.uint8))
    total, _ = _settle(size, tour, edges, search, 0, True)
    return total


@compiled
def _kick(start: int, a: int, b: int, c: int, tour: Tour) -> None:
    """Let the first and the last of three stretches in a row change places (a double bridge), in place: four flips."""
    nodes, slot_of, journal = tour
    size = nodes.size
    last = (start + a + b + c - 1) % size
    middle, behind = (start + c) % size, (start + c + b) % size
    journal[0, 0], journal[0, 1] = start, last
    journal[1, 0], journal[1, 1] = start, (start + c - 1) % size
    journal[2, 0], journal[2, 1] = middle, (start + c + b - 1) % size
    journal[3, 0], journal[3, 1] = behind, last
    for flip in range(4):
        _reverse(nodes, slot_of, journal[flip, 0], journal[flip, 1])


@compiled
def perturb(draws: Array, tour: Tour, edges: Edges) -> Any:
    """Disturb a settled tour in one place after another, settle it, and keep what is no longer; return the gain.

    Parameters
    ----------
    draws : ndarray of shape (n_kicks, 4), int64
        First slot and lengths of three stretches in a row, together shorter than the tour; the first and the last
        change places, which no chain of flips does.
    tour : Tour
        Changed.
    edges : Edges
    """
    nodes, size = tour.nodes, tour.nodes.size
    _, counts, bits, penalty, scale = edges
    queue, is_queued = np.empty(size, np.int64), np.zeros(size, np.uint8)
    search = _allocate(queue, is_queued)
    total = np.int64(0)
    for kick in range(draws.shape[0]):
        start, a, b, c = draws[kick]
        n_queued = 0
        gain = np.int64(0)
        for cut in (start, (start + a) % size, (start + a + b) % size, (start + a + b + c) % size):
            gain += _length(_previous(nodes, cut), nodes[cut], counts, bits, penalty, scale)
            for node in (_previous(nodes, cut), nodes[cut]):
                if not is_queued[node]:
                    is_queued[node] = 1
                    queue[n_queued] = node
                    n_queued += 1
        _kick(start, a, b, c, tour)
        for cut in (start, (start + c) % size, (start + c + b) % size, (start + a + b + c) % size):
            gain -= _length(_previous(nodes, cut), nodes[cut], counts, bits, penalty, scale)
        settled, n_flips = _settle(n_queued, tour, edges, search, 4, False)
        gain += settled
        if gain < 0:
            _take_back(nodes, tour.slot_of, tour.journal, n_flips, 0)
        else:
            total += gain
    return total
