"""An order under search: for every boundary between two slots, how far the next active slot is on either side.

A token's reads cost ``lambda`` each plus one for every neuron read, gaps of up to g = floor(lambda) being read through.
That is ``lambda + 1`` for every active neuron, less what each shares with the active one before it:
``saving(d) = max(0, lambda + 1 - d)`` with d their distance in slots. So only neighbourhoods of g + 1 slots matter, and
what a move changes is what its *junctions*, the boundaries that it closes and opens, save. Sums are integers in units
of 1 / `SCALE` neurons: they do not depend on their order.

The boundary left of slot p has *position* p (``n_neurons``: right of all) and an *edge*, the name under which its rows
of distances are stored, so that they survive when other slots shift. A reversed stretch of the order keeps its edges:
they are marked as turned, left being right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ripple_place.kernels.byte_rows import insertion_saving, pair_saving, step_row
from ripple_place.kernels.compiled import compiled

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

SCALE = 256
"""Cost units per neuron: lambda is resolved to 1/256."""


class GapState(NamedTuple):
    """The order and what is known of it; the kernels change it in place.

    Attributes
    ----------
    order, slot_of : ndarray of shape (n_neurons,), int32
        The placement and its inverse.
    edge_at : ndarray of shape (n_neurons + 1,), int32
        Edge by position.
    is_turned : ndarray of shape (n_neurons + 1,), uint8
        By edge, whether its rows are the other way round.
    rows : ndarray of shape (2, n_neurons + 1, n_tokens), uint8
        By side, edge and token, the distance to the next active slot: 1 to `cap`, which stands for anything farther.
        `n_tokens` is a multiple of 64.
    saving : ndarray of shape (n_neurons + 1, 3), int64
        By edge, what the active slots on either side save, over the first tokens as `n_probe` has them, and over all.
    is_known : ndarray of shape (n_neurons + 1,), uint8
        By edge, whether `saving` is up to date.
    indptr : ndarray of shape (n_neurons + 1,), int64
    tokens : ndarray of shape (n_active,), int32
        Neuron i fires for ``tokens[indptr[i]:indptr[i + 1]]``, ascending.
    probe_ends : ndarray of shape (n_neurons,), int64
        Where in `tokens` those end that a first look takes in.
    cap : int
        g + 2, at most 254.
    fraction : int
        lambda - g in cost units.
    n_probe : tuple of int
        How many of the first tokens stand for all in a first and in a second look; multiples of 64.
    head, tail, is_active, left_here, right_here : ndarray of shape (n_tokens,), uint8
        Scratch; the first three are `cap`, `cap` and 0 between uses.
    """

    order: Any
    slot_of: Any
    edge_at: Any
    is_turned: Any
    rows: Any
    saving: Any
    is_known: Any
    indptr: Any
    tokens: Any
    probe_ends: Any
    cap: int
    fraction: int
    n_probe: tuple[int, int]
    head: Any
    tail: Any
    is_active: Any
    left_here: Any
    right_here: Any


@compiled
def left_row(state: GapState, position: int) -> Any:
    """Return the distances to the left at a position."""
    edge = state.edge_at[position]
    return state.rows[state.is_turned[edge], edge]


@compiled
def right_row(state: GapState, position: int) -> Any:
    """Return the distances to the right at a position."""
    edge = state.edge_at[position]
    return state.rows[1 - state.is_turned[edge], edge]


@compiled
def _step_over(state: GapState, source: Array, neuron: int, target: Array) -> None:
    """Write to `target` the distances one slot further on, over the slot of `neuron`; may be in place."""
    step_row(source, state.cap, target)
    for place in range(state.indptr[neuron], state.indptr[neuron + 1]):
        target[state.tokens[place]] = 1


@compiled
def refresh(state: GapState, first: int, last: int) -> None:
    """Bring all rows up to date after slots from position `first` to position `last` have changed."""
    n_neurons = state.order.size
    start, end = max(0, first - state.cap + 2), min(n_neurons, last + state.cap - 2)
    for position in range(max(0, first), end + 1):
        if position == 0:
            left_row(state, 0)[:] = state.cap
        else:
            neuron = state.order[position - 1]
            _step_over(state, left_row(state, position - 1), neuron, left_row(state, position))
    for position in range(min(n_neurons, last), start - 1, -1):
        if position == n_neurons:
            right_row(state, n_neurons)[:] = state.cap
        else:
            _step_over(state, right_row(state, position + 1), state.order[position], right_row(state, position))
    for position in range(start, end + 1):
        state.is_known[state.edge_at[position]] = 0


@compiled
def pair_units(state: GapState, left: Array, right: Array, start: int, end: int) -> int:
    """Return what the active slots on either side of a junction save, in cost units, over a range of tokens."""
    units = (SCALE - state.fraction) * pair_saving(left, right, start, end, state.cap)
    if state.fraction:
        units += state.fraction * pair_saving(left, right, start, end, state.cap + 1)
    return units


@compiled
def insertion_units(
    state: GapState, left: Array, right: Array, length: int, is_reversed: bool, start: int, end: int
) -> int:
    """Return what the junctions around the collected segment save between `left` and `right`, and those over it."""
    head, tail = (state.tail, state.head) if is_reversed else (state.head, state.tail)
    units = (SCALE - state.fraction) * insertion_saving(
        left, right, head, tail, state.is_active, start, end, state.cap, length
    )
    if state.fraction:
        units += state.fraction * insertion_saving(
            left, right, head, tail, state.is_active, start, end, state.cap + 1, length
        )
    return units


@compiled
def junction_saved(state: GapState, position: int) -> Any:
    """Return what the junction at a position saves, as `GapState.saving` has it."""
    edge = state.edge_at[position]
    saving = state.saving[edge]
    if state.is_known[edge] == 0:
        left, right = state.rows[0, edge], state.rows[1, edge]
        first, second = state.n_probe
        saving[0] = pair_units(state, left, right, 0, first)
        saving[1] = saving[0] + pair_units(state, left, right, first, second)
        saving[2] = saving[1] + pair_units(state, left, right, second, left.size)
        state.is_known[edge] = 1
    return saving


@compiled
def collect_segment(state: GapState, start: int, end: int) -> None:
    """Describe slots start to end - 1 in `head`, `tail` and `is_active`, which may hold a shorter such segment."""
    for slot in range(start, end):
        neuron = state.order[slot]
        for place in range(state.indptr[neuron], state.indptr[neuron + 1]):
            token = state.tokens[place]
            if state.is_active[token] == 0:
                state.is_active[token] = 255
                state.head[token] = min(state.cap, slot - start + 1)
            state.tail[token] = min(state.cap, end - slot)


@compiled
def clear_segment(state: GapState) -> None:
    """Forget the collected segment."""
    state.head[:] = state.cap
    state.tail[:] = state.cap
    state.is_active[:] = 0


@compiled
def rows_without(state: GapState, position: int, start: int, end: int, is_probe: bool) -> None:
    """Write the distances at a position as if slots start to end - 1 were gone to `left_here` and `right_here`.

    For the tokens of a first look, or for all others.
    """
    first, last = (0, state.n_probe[0]) if is_probe else (state.n_probe[0], state.left_here.size)
    left, right = state.left_here[first:last], state.right_here[first:last]
    if position < start:
        left[:] = left_row(state, position)[first:last]
        right[:] = right_row(state, end)[first:last]
        for slot in range(start - 1, position - 1, -1):
            step_row(right, state.cap, right)
            _mark(state, state.order[slot], is_probe, state.right_here)
    else:
        right[:] = right_row(state, position)[first:last]
        left[:] = left_row(state, start)[first:last]
        for slot in range(end, position):
            step_row(left, state.cap, left)
            _mark(state, state.order[slot], is_probe, state.left_here)


@compiled
def _mark(state: GapState, neuron: int, is_probe: bool, row: Array) -> None:
    """Write 1 where a neuron fires, for the tokens of a first look or for all others."""
    split = state.probe_ends[neuron]
    start, end = (state.indptr[neuron], split) if is_probe else (split, state.indptr[neuron + 1])
    for place in range(start, end):
        row[state.tokens[place]] = 1


@compiled
def move_segment(state: GapState, start: int, end: int, position: int, is_reversed: bool, scratch: Array) -> int:
    """Move slots start to end - 1 to a position outside of them; return the slot where they now start.

    Rows are left as they were: `refresh` them at both places. `scratch` : ndarray of shape (2, >= end - start), int32.
    """
    order, edge_at, length = state.order, state.edge_at, end - start
    for place in range(length):
        scratch[0, place] = order[end - 1 - place] if is_reversed else order[start + place]
        scratch[1, place] = edge_at[start + 1 + place]
    if position > end:
        new_start = position - length
        for slot in range(end, position):
            order[slot - length] = order[slot]
            state.slot_of[order[slot]] = slot - length
        for between in range(end + 1, position):
            edge_at[between - length] = edge_at[between]
        for place in range(length):
            edge_at[new_start + place] = scratch[1, place]
    else:
        new_start = position
        behind = edge_at[start]
        for slot in range(start - 1, position - 1, -1):
            order[slot + length] = order[slot]
            state.slot_of[order[slot]] = slot + length
        for between in range(start - 1, position, -1):
            edge_at[between + length] = edge_at[between]
        for place in range(length):
            edge_at[position + 1 + place] = scratch[1, place]
        edge_at[end] = behind
    for place in range(length):
        order[new_start + place] = scratch[0, place]
        state.slot_of[scratch[0, place]] = new_start + place
    return new_start


@compiled
def reverse_stretch(state: GapState, first: int, last: int) -> None:
    """Reverse the slots between two positions; rows at the two are left as they were: `refresh` them."""
    order, edge_at = state.order, state.edge_at
    low, high = first, last - 1
    while low < high:
        order[low], order[high] = order[high], order[low]
        state.slot_of[order[low]], state.slot_of[order[high]] = low, high
        low += 1
        high -= 1
    low, high = first + 1, last - 1
    while low <= high:
        edge_at[low], edge_at[high] = edge_at[high], edge_at[low]
        state.is_turned[edge_at[low]] ^= 1
        if low < high:
            state.is_turned[edge_at[high]] ^= 1
        low += 1
        high -= 1
