"""Linking edges to paths, the obvious way: fragments are lists of neurons."""


def fragment_of(fragments, neuron):
    """Return the fragment that a neuron is in."""
    return next(fragment for fragment in fragments if neuron in fragment)


def link(fragments, i, j):
    """Join two fragments at the neurons i and j if both are ends of different ones."""
    a, b = fragment_of(fragments, i), fragment_of(fragments, j)
    if a is b or i not in (a[0], a[-1]) or j not in (b[0], b[-1]):
        return
    if a[-1] != i:
        a.reverse()
    if b[0] != j:
        b.reverse()
    a.extend(b)
    fragments[:] = [fragment for fragment in fragments if fragment is not b]


def link_edges(n_neurons, edges):
    """Return the fragments after taking the edges in the order given."""
    fragments = [[i] for i in range(n_neurons)]
    for i, j in edges:
        link(fragments, i, j)
    return fragments


def link_remaining(fragments, n_neurons):
    """Join what is left by taking all pairs in ascending order."""
    for i in range(n_neurons):
        for j in range(i + 1, n_neurons):
            link(fragments, i, j)


def as_order(fragment):
    """Return a whole path from its lower end on."""
    return fragment if fragment[0] <= fragment[-1] else fragment[::-1]
