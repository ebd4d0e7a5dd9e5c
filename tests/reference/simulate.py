"""The simulator of one block on a dense activity matrix, written to be obvious."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.reference import read_plan

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np


def simulate_block(
    active: np.ndarray,
    order: list[int],
    hits_of: Callable[[list[int]], list[bool]],
    gap: int,
    bundle: int,
    stride: int,
    base: int,
    page: int,
    max_request: int,
    request_us: Callable[[int], float],
) -> dict[str, object]:
    """Return the counts of a block; `active[token, neuron]` says what fires, `hits_of` replays a stream of neurons."""
    slots_of_token = [[slot for slot in range(len(order)) if row[order[slot]]] for row in active]
    stream = [order[slot] for slots in slots_of_token for slot in slots]
    is_hit = iter(hits_of(stream))
    lengths: list[int] = []
    requests: list[int] = []
    token_us = []
    for slots in slots_of_token:
        missed = [slot for slot in slots if not next(is_hit)]
        token_requests: list[int] = []
        for first, last in read_plan.plan(missed, gap):
            lengths.append(last - first + 1)
            token_requests += read_plan.requests(first, last, bundle, stride, base, page, max_request)
        requests += token_requests
        token_us.append(sum(request_us(size) for size in token_requests))
    return {
        "n_active": len(stream),
        "n_hits": sum(hits_of(stream)),
        "n_reads": len(lengths),
        "n_neurons_read": sum(lengths),
        "n_requests": len(requests),
        "bytes_read": sum(requests),
        "read_lengths": sorted(lengths),
        "token_us": token_us,
    }
