"""What a trace was made of: digests of its sources, by which a profile shows what was added to it already."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.tensorfile import as_bytes

if TYPE_CHECKING:
    from ripple_place.trace.activation_trace import ActivationTrace

_CHUNK_ROWS = 1024


def trace_digest(trace: ActivationTrace) -> str:
    """Return the SHA-256 of a trace's bits, and of the tokens that its rows belong to, as hexadecimal digits.

    The same recording gives the same digest, whatever kind of file it is in: names, token ids, segments and magnitudes
    do not count. Bits in a file are read in pieces.
    """
    digest = hashlib.sha256()
    for name, block in trace.blocks.items():
        digest.update(f"{name} {block.n_neurons} {block.n_rows} {block.token_index is None}\n".encode())
        for first in range(0, block.n_rows, _CHUNK_ROWS):
            digest.update(as_bytes(np.ascontiguousarray(block.active[first : first + _CHUNK_ROWS])))
        if block.token_index is not None:
            digest.update(as_bytes(block.token_index.astype("<i4")))
    return digest.hexdigest()


def origins(trace: ActivationTrace) -> tuple[str, ...]:
    """Return the digests of the sources that a trace was made of; of one that does not say, its own."""
    return trace.sources or (trace_digest(trace),)
