"""Reads of storage, written to be obvious: one after the other."""

from __future__ import annotations

import os


def serve(descriptor: int, requests: list[tuple[int, int]]) -> list[bytes]:
    """Return what each (offset, length) holds; less than length at the end of the file."""
    return [os.pread(descriptor, length, offset) for offset, length in requests]


def most_in_flight(spans: list[tuple[int, int]]) -> int:
    """Return how many of the (start, end) spans hold at the same time, at most."""
    return max(sum(start <= moment < end for start, end in spans) for moment, _ in spans)
