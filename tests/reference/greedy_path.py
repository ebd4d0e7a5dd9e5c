"""Ripple's Algorithm 1 as published, mended: a heap over all pairs and a union-find."""

import heapq


def greedy_path(counts):
    """Return the order for a symmetric matrix of co-activation counts."""
    n = len(counts)
    heap = [(-counts[i][j], i, j) for i in range(n) for j in range(i + 1, n)]
    heapq.heapify(heap)
    parent = list(range(n))
    links = [[] for _ in range(n)]

    def find(i):
        while parent[i] != i:
            i = parent[i]
        return i

    while heap:
        _, i, j = heapq.heappop(heap)
        if len(links[i]) == 2 or len(links[j]) == 2 or find(i) == find(j):
            continue
        links[i].append(j)
        links[j].append(i)
        parent[find(i)] = find(j)
    order = [min(i for i in range(n) if len(links[i]) < 2)]
    previous = None
    while len(order) < n:
        following = [j for j in links[order[-1]] if j != previous]
        previous = order[-1]
        order.append(following[0])
    return order
