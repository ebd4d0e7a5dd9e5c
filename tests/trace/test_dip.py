"""DIP's split of a density, and the largest entries that are kept, against twins that are written to be obvious."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.flash.byte_model.reported import reported_mlp_density
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.trace.dip import KeepLargest, kth_largest, split_density
from tests.reference import dip

SPLITS = {
    0.3: (0.3694, 0.1612), 0.4: (0.4751, 0.2498), 0.5: (0.5744, 0.3512), 0.6: (0.6680, 0.4640), 0.7: (0.7566, 0.5867),
    0.8: (0.8409, 0.7181), 0.9: (0.9216, 0.8568),
}  # fmt: skip
"""By the authors' released code."""


@pytest.mark.parametrize("keep", SPLITS)
def test_the_split_of_the_released_code(keep: float) -> None:
    """To four digits; the relation of .5 is the one that the paper names, .574 and .351."""
    assert split_density(keep) == pytest.approx(SPLITS[keep], abs=5e-5)


@given(st.floats(0.002, 0.999))
def test_the_mean_is_the_density(keep: float) -> None:
    """Over up, gate and down; both shares grow with it."""
    keep_in, keep_down = split_density(keep)
    assert (keep_in, keep_down) == pytest.approx(dip.split(keep))
    assert 0 <= keep_down <= keep_in <= 1
    assert reported_mlp_density([{"up": keep_in, "gate": keep_in, "down": keep_down}]) == pytest.approx(keep)
    denser = split_density(keep + 1e-3)
    assert denser[0] > keep_in
    assert denser[1] > keep_down


@pytest.mark.parametrize("keep", [1e-6, 1e-4, 0.999999, 1.0])
def test_the_ends_of_the_split(keep: float) -> None:
    """Shares stay shares where the fit leaves its range; all is all."""
    assert all(0 <= share <= 1 for share in split_density(keep))
    assert split_density(1.0) == (1.0, 1.0)


@given(st.floats(1e-6, 1.0))
def test_without_a_gate(keep: float) -> None:
    """The split was fitted for gated FFNs: others keep the same share of both."""
    assert split_density(keep, is_gated=False) == (keep, keep)


values = st.sampled_from([-2.0, -0.5, -0.25, -0.0, 0.0, 0.25, 0.5, 1.0, 1.5])
matrices = st.integers(1, 12).flatmap(
    lambda width: st.lists(st.lists(values, min_size=width, max_size=width), min_size=1, max_size=5)
)


@given(matrices, st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1)))
def test_the_largest_against_the_twin(rows: list[list[float]], keep: float) -> None:
    """Exactly as many as asked for, of equal sizes the first, and no zeros."""
    active = KeepLargest(keep).active(np.array(rows, np.float32))
    assert active.dtype == bool
    assert active.tolist() == [dip.keep_largest(row, keep) for row in rows]
    k = int(keep * len(rows[0]))
    assert active.sum(axis=1).tolist() == [min(k, sum(value != 0 for value in row)) for row in rows]


def test_counts_are_rounded_down() -> None:
    """As the authors do, also where a product of floats falls short of a whole number."""
    assert [KeepLargest(keep).n_kept(100) for keep in (0.0, 0.0099, 0.01, 0.29, 0.574, 1.0)] == [0, 0, 1, 28, 57, 100]
    assert KeepLargest(0.574).n_kept(4096) == 2351


def test_the_kth_largest_of_each_row() -> None:
    """One column, for rows of any number of dimensions."""
    sizes = np.array([[[3.0, 1.0, 2.0], [5.0, 5.0, 4.0]]])
    assert kth_largest(sizes, 2).tolist() == [[[2.0], [5.0]]]
    assert kth_largest(sizes, 3).tolist() == [[[1.0], [4.0]]]


# The activity rules that keep them.


@pytest.mark.parametrize(
    ("rule", "block", "is_gated", "keep"),
    [
        ("dip=0.5", "layers.3.input", True, split_density(0.5)[0]),
        ("dip=50%", "layers.3", True, split_density(0.5)[1]),
        ("dip=0.5", "layers.3.input", False, 0.5),
        ("dip=0.5", "layers.3", False, 0.5),
        ("dip=1", "layers.3", True, 1.0),
        ("dip,drop=70%", "layers.3.input", True, split_density(0.3)[0]),
        ("glu-pruning=0.3", "layers.3.input", True, 1.0),
        ("glu-pruning=30%", "layers.3", True, 0.3),
        ("glu-pruning=0.3", "layers.3", False, 0.3),
    ],
)
def test_rules_of_blocks(rule: str, block: str, is_gated: bool, keep: float) -> None:
    """Inputs and down columns keep shares of their own."""
    found = ActivityRule.parse(rule).of_block(block, is_gated=is_gated)
    assert isinstance(found, KeepLargest)
    assert found.keep == pytest.approx(keep)


@pytest.mark.parametrize("rule", ["relu", "threshold=0.5", "top-k=3", "teal=50%"])
def test_other_rules_are_the_same_in_both(rule: str) -> None:
    """They know one amount."""
    parsed = ActivityRule.parse(rule)
    assert parsed.of_block("layers.3.input") is parsed.of_block("layers.3", is_gated=False) is parsed
    parsed.check_unit("neuron")
    parsed.check_unit("column")


@pytest.mark.parametrize(("rule", "unit", "other"), [("cats=70%", "column", "neuron"), ("dip=0.5", "neuron", "column"),
                                                     ("glu-pruning=0.5", "neuron", "column")])  # fmt: skip
def test_rules_of_one_unit(rule: str, unit: str, other: str) -> None:
    """CATS looks at the gate, which comes after the inputs; DIP has nothing to say of whole neurons."""
    ActivityRule.parse(rule).check_unit(other)
    match = f"--active {rule}: found a rule of {other}s, and {unit}s; expected --unit {other}"
    with pytest.raises(UsageError, match=match):
        ActivityRule.parse(rule).check_unit(unit)


@pytest.mark.parametrize("text", ["dip", "dip=0", "dip=1.5", "dip=0%", "dip=101%", "glu-pruning=2", "dip=0.5,keep=50%"])
def test_what_is_no_density(text: str) -> None:
    """Above nothing, and at most all."""
    with pytest.raises(UsageError, match=r"--active: found .*dip=0\.5"):
        ActivityRule.parse(text)
