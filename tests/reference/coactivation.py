"""Counting who fires with whom, the obvious way: each token is a set of neurons."""


def frequency(tokens, n_neurons):
    """Return how many tokens each neuron fires for."""
    return [sum(i in token for token in tokens) for i in range(n_neurons)]


def counts(tokens, n_neurons):
    """Return the matrix of tokens for which both neurons fire; its diagonal is the frequency."""
    matrix = [[0] * n_neurons for _ in range(n_neurons)]
    for token in tokens:
        for i in token:
            for j in token:
                matrix[i][j] += 1
    return matrix


def top_neighbors(matrix, k):
    """Return, for each neuron, the k that fire most often with it; of equal counts the lowest."""
    tops = []
    for i, row in enumerate(matrix):
        others = [j for j in range(len(row)) if j != i and row[j] > 0]
        tops.append(sorted(others, key=lambda j: (-row[j], j))[:k])
    return tops


def neighbor_graph(matrix, k):
    """Return {(i, j): count}: j among i's best k neighbours, or i among j's."""
    edges = {}
    for i, top in enumerate(top_neighbors(matrix, k)):
        for j in top:
            edges[i, j] = edges[j, i] = matrix[i][j]
    return edges
