"""The accesses of a pool of blocks, in the order in which a model makes them, written to be obvious."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np


class Row(NamedTuple):
    """One token's accesses to one block."""

    token: int
    block: str
    neurons: list[int]
    """Of the pool, in slot order."""


def rows_of_pool(blocks: dict[str, tuple[np.ndarray, list[int], list[int]]]) -> list[Row]:
    """Return the rows; each block has its dense activity, the token of each of its rows, and its order."""
    rows, first = [], 0
    for name, (active, tokens, order) in blocks.items():
        for token, row in zip(tokens, active, strict=True):
            rows.append(Row(token, name, [first + neuron for neuron in order if row[neuron]]))
        first += len(order)
    names = list(blocks)
    return sorted(rows, key=lambda row: (row.token, names.index(row.block)))


def by_block(rows: list[Row], hits: list[bool]) -> dict[str, list[bool]]:
    """Return the hits of each block, row after row, from those of all rows in their order."""
    found: dict[str, list[bool]] = {}
    stream = iter(hits)
    for row in rows:
        found.setdefault(row.block, []).extend(next(stream) for _ in row.neurons)
    return found


def ends_of(rows: list[Row]) -> list[bool]:
    """Return which rows are the last of their tokens."""
    return [at + 1 == len(rows) or rows[at + 1].token != row.token for at, row in enumerate(rows)]
