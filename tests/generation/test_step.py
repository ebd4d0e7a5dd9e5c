"""Ratios of a step."""

from __future__ import annotations

from ripple_place.generation.step import Step


def step(**counts: int | None) -> Step:
    """Return a step of one token."""
    costs = {"n_asked": 0, "n_hits": 0, "n_reads": 0, "n_requests": 0, "bytes_read": 0}
    return Step(5, 1, False, 0.1, 10.0, 1.0, 2.0, 3.0, **costs | counts)  # type: ignore[arg-type]


def test_ratios_are_of_what_was_counted() -> None:
    """Recall of what fires, precision of what was predicted, hits of what was asked for."""
    counted = step(n_asked=8, n_hits=2, n_true=5, n_predicted=8, n_both=4)
    assert (counted.recall, counted.precision, counted.hit_ratio) == (0.8, 0.5, 0.25)


def test_ratios_of_nothing_are_none() -> None:
    """Nothing asked for, nothing counted, nothing that fires."""
    assert (step().recall, step().precision, step().hit_ratio) == (None, None, None)
    empty = step(n_true=0, n_predicted=0, n_both=0)
    assert (empty.recall, empty.precision) == (None, None)
    assert step(n_true=4, n_predicted=0, n_both=0).recall == 0
