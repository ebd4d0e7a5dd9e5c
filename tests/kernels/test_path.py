"""The kernels that build a path, against fragments kept as plain lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.kernels import path as kernels
from tests.reference import path as reference

State = tuple[np.ndarray, np.ndarray, np.ndarray]


def empty_state(n_neurons: int) -> State:
    """Return degree, root and links of neurons that are not linked yet."""
    return np.zeros(n_neurons, np.int8), np.arange(n_neurons, dtype=np.int32), np.full((n_neurons, 2), -1, np.int32)


def fragments_of(state: State) -> set[tuple[int, ...]]:
    """Return the fragments that links describe, each from its lower end on; check that they are consistent."""
    degree, _, links = state
    for i, pair in enumerate(links.tolist()):
        assert [j >= 0 for j in pair] == [degree[i] > 0, degree[i] > 1]
        assert all(i in links[j].tolist() for j in pair if j >= 0)
    fragments = set()
    for end in np.flatnonzero(degree < 2).tolist():
        fragment, previous = [end], -1
        while following := [j for j in links[fragment[-1]].tolist() if j >= 0 and j != previous]:
            previous = fragment[-1]
            fragment.append(following[0])
        fragments.add(tuple(reference.as_order(fragment)))
    assert sorted(i for fragment in fragments for i in fragment) == list(range(degree.size))
    return fragments


def expected(fragments: list[list[int]]) -> set[tuple[int, ...]]:
    """Return the twin's fragments in the same form."""
    return {tuple(reference.as_order(fragment)) for fragment in fragments}


edges_of_small_graphs = st.integers(1, 12).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.tuples(st.integers(0, n - 1), st.integers(0, n - 1)), max_size=40))
)


@given(edges_of_small_graphs)
@settings(max_examples=100, deadline=None)
def test_link_edges_then_the_rest(case: tuple[int, list[tuple[int, int]]]) -> None:
    """Any edges in any order, loops and repeats included, and then all that is left: equal at both stages."""
    n_neurons, edges = case
    state = empty_state(n_neurons)
    first, second = np.array(edges, np.int32).reshape(-1, 2).T
    kernels.link_edges(np.ascontiguousarray(first), np.ascontiguousarray(second), *state)
    fragments = reference.link_edges(n_neurons, edges)
    assert fragments_of(state) == expected(fragments)

    kernels.link_remaining(*state)
    reference.link_remaining(fragments, n_neurons)
    assert fragments_of(state) == expected(fragments)
    assert len(fragments) == 1
    order = np.empty(n_neurons, np.int32)
    kernels.walk_path(state[2], int(np.flatnonzero(state[0] < 2)[0]), order)
    assert order.tolist() == reference.as_order(fragments[0])


@pytest.mark.parametrize(
    ("n_neurons", "order"), [(1, [0]), (2, [0, 1]), (3, [1, 0, 2]), (4, [2, 0, 1, 3]), (6, [4, 2, 0, 1, 3, 5])]
)
def test_nothing_to_link(n_neurons: int, order: list[int]) -> None:
    """By hand: where all pairs are equal, 0-1 comes first, then 0-2, then 1-3, and so on at either end."""
    state = empty_state(n_neurons)
    kernels.link_remaining(*state)
    assert fragments_of(state) == {tuple(order)}


@given(edges_of_small_graphs)
@settings(max_examples=50, deadline=None)
def test_link_keys(case: tuple[int, list[tuple[int, int]]]) -> None:
    """Edges written as keys, whatever stands above the ids, are linked as the same edges in two arrays are."""
    n_neurons, edges = case
    keys = np.array([place << 8 | i << 4 | j for place, (i, j) in enumerate(edges)], np.int64)
    state = empty_state(n_neurons)
    kernels.link_keys(keys, 4, *state)
    assert fragments_of(state) == expected(reference.link_edges(n_neurons, edges))
