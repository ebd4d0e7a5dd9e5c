"""The shortest Hamiltonian path by dynamic programming over subsets, and the best spanning tree by Kruskal."""


def most_kept(counts):
    """Return the largest sum of counts of neighbours that any order of a few neurons has (Held and Karp, 1962)."""
    n = len(counts)
    if n == 0:
        return 0
    best = {(1 << i, i): 0 for i in range(n)}
    for _ in range(n - 1):
        longer = {}
        for (seen, last), kept in best.items():
            for j in range(n):
                if not seen >> j & 1:
                    key = seen | 1 << j, j
                    longer[key] = max(longer.get(key, 0), kept + counts[last][j])
        best = longer
    return max(best.values())


def spanning_tree(weights):
    """Return the weight of the maximum spanning tree of a complete graph."""
    n = len(weights)
    fragment = list(range(n))
    total = 0
    for weight, i, j in sorted(((weights[a][b], a, b) for a in range(n) for b in range(a)), reverse=True):
        if fragment[i] != fragment[j]:
            total += weight
            old = fragment[i]
            fragment = [fragment[j] if k == old else k for k in fragment]
    return total
