"""Linking-aligned admission: who is in a run, how often runs enter, and that draws depend on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.flash.admission import DEFAULT_CUTOFF, DEFAULT_PROBABILITY, Admission


def admitted(admission: Admission, rows: list[list[int]], *, first_row: int = 0, block: str = "layers.0") -> list[int]:
    """Return who is admitted; the neuron in slot s is 100 + s."""
    slots = np.array([slot for row in rows for slot in row], np.int32)
    written = np.full(slots.size, 9, np.uint8)
    admission.admit(block, slots, slots + 100, np.cumsum([0, *map(len, rows)]), first_row, written)
    return written.tolist()


def test_runs_by_hand() -> None:
    """With probability 0 and cut-off 3 only members of runs of three or more are refused; runs end with the token."""
    rows = [[0, 1, 3, 4, 5, 9], [10, 11], [], [12, 13, 14, 15]]
    assert admitted(Admission(3, 0.0), rows) == [1, 1, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0]
    assert admitted(Admission(1, 0.0), rows) == [0] * 12
    assert admitted(Admission(3, 1.0), rows) == [1] * 12
    assert admitted(Admission(), rows) == [1] * 12


def test_members_of_runs_enter_with_the_probability() -> None:
    """Of 40,000 members of runs a quarter enters, and neurons and tokens draw for themselves."""
    rows = [list(range(200))] * 200
    drawn = np.array(admitted(Admission(2, 0.25, seed=7), rows)).reshape(200, 200)
    assert drawn.mean() == pytest.approx(0.25, abs=0.01)
    assert drawn.mean(axis=0).std() == pytest.approx((0.25 * 0.75 / 200) ** 0.5, rel=0.3)
    assert drawn.mean(axis=1).std() == pytest.approx((0.25 * 0.75 / 200) ** 0.5, rel=0.3)


def test_draws_depend_on_seed_and_block_only() -> None:
    """Another seed and another block draw anew; the same ones draw the same, wherever a chunk begins."""
    rows = [list(range(50))] * 8
    admission = Admission(2, 0.5, seed=1)
    whole = admitted(admission, rows)
    assert admitted(admission, rows[:3]) + admitted(admission, rows[3:], first_row=3) == whole
    assert admitted(admission, rows, block="layers.1") != whole
    assert admitted(Admission(2, 0.5, seed=2), rows) != whole


@given(st.lists(st.lists(st.integers(0, 30), unique=True).map(sorted), max_size=6), st.integers(1, 5))
@settings(max_examples=50, deadline=None)
def test_neurons_outside_runs_always_enter(rows: list[list[int]], cutoff: int) -> None:
    """Whatever is drawn: a neuron whose run is shorter than the cut-off is admitted."""
    drawn = iter(admitted(Admission(cutoff, 0.5), rows))
    for row in rows:
        for slot in row:
            first = last = slot
            while first - 1 in row:
                first -= 1
            while last + 1 in row:
                last += 1
            assert next(drawn) in ((0, 1) if last - first + 1 >= cutoff else (1,))


def test_rules_are_parsed() -> None:
    """What is written comes back, and the defaults are the documented ones."""
    assert Admission.parse("all", 3) == Admission(seed=3)
    assert Admission.parse("linking", 3) == Admission(DEFAULT_CUTOFF, DEFAULT_PROBABILITY, 3)
    assert Admission.parse("linking:7,0") == Admission(7, 0.0)
    for text in ("all", "linking:2,0.5", "linking:12,1"):
        assert str(Admission.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("none", "admission none: found no such rule; expected all, linking, or linking:CUTOFF,PROBABILITY"),
        ("linking:", "no such rule"),
        ("linking:3", "no such rule"),
        ("linking:3,often", "no such rule"),
        ("linking:x,0.5", "no such rule"),
        ("linking:3,nan", "no such rule"),
        ("all:3,0.5", "no such rule"),
        ("linking:0,0.5", "cut-off 0, probability 0.5; expected a cut-off of at least 1"),
        ("linking:3,1.5", "probability 1.5; expected .* from 0 to 1"),
        ("linking:3,-0.5", "probability -0.5"),
    ],
)
def test_bad_rules(text: str, match: str) -> None:
    """A rule that means nothing is refused before anything is replayed."""
    with pytest.raises(UsageError, match=match):
        Admission.parse(text)
