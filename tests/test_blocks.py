"""Block names: their grammar, their order as numbers, and selections of layers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.blocks import (
    block_sort_key,
    ffn_of,
    format_ranges,
    input_block_of,
    is_block_name,
    is_input_block,
    layer_of,
    select_layers,
    sorted_blocks,
    unit_problem,
)
from ripple_place.errors import UsageError


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("layers.0", True),
        ("layers.10", True),
        ("layers.3.experts.7", True),
        ("layers.3.shared_expert", True),
        ("encoder.layers.3", True),
        ("decoder.layers.3.experts.0", True),
        ("layers.3.input", True),
        ("layers.3.experts.7.input", True),
        ("layers.3.input.input", False),
        ("input", False),
        ("", False),
        ("layers", False),
        ("layers.", False),
        ("layers.-1", False),
        ("layers.03", False),
        ("layers.3.experts.07", False),
        ("layers.٣", False),
        ("layers.3 ", False),
        ("layers.3\n", False),
        ("layers.3.experts", False),
        ("layers.3.shared_expert.1", False),
        ("model.layers.3", False),
        ("layers." + "9" * 5000, False),
    ],
)
def test_grammar(name: str, is_one: bool) -> None:
    """One name a block: with leading zeros or other digits, two names would mean the same layer."""
    assert is_block_name(name) == is_one


def test_layers_are_numbers() -> None:
    """Layer 10 comes after layer 9, experts by number within their layer, the shared one last; stacks apart."""
    names = [
        "layers.2", "layers.9.input", "layers.9", "layers.9.experts.2", "layers.9.experts.10", "layers.10",
        "layers.10.shared_expert",
    ]  # fmt: skip
    assert sorted_blocks(reversed(names)) == names
    assert sorted_blocks(["encoder.layers.0", "decoder.layers.1"]) == ["decoder.layers.1", "encoder.layers.0"]


@pytest.mark.parametrize(
    ("name", "layer"), [("layers.12", 12), ("decoder.layers.7.experts.3", 7), ("layers.3.shared_expert", 3)]
)
def test_layer_of(name: str, layer: int) -> None:
    """The layer, not the expert."""
    assert layer_of(name) == layer


def test_the_two_blocks_of_an_ffn() -> None:
    """The input columns come first and belong to the FFN whose down columns the other block holds."""
    assert input_block_of("layers.3") == "layers.3.input"
    assert is_input_block("layers.3.input")
    assert not is_input_block("layers.3")
    assert ffn_of("layers.3.input") == ffn_of("layers.3") == "layers.3"
    assert layer_of("layers.3.input") == 3


@pytest.mark.parametrize(
    ("unit", "names", "problem"),
    [
        ("neuron", ["layers.0"], None),
        ("column", ["layers.0.input", "layers.0"], None),
        ("column", ["layers.0"], None),
        ("row", ["layers.0"], "unit 'row'"),
        ("neuron", ["layers.0", "layers.1.input"], "layers.1.input among blocks of neurons"),
    ],
)
def test_units(unit: str, names: list[str], problem: str | None) -> None:
    """Input blocks stand only among columns."""
    assert unit_problem(unit, names) == problem


def test_a_name_outside_the_grammar_has_no_order() -> None:
    """Callers check names where they come in; past that, a wrong one is a bug."""
    with pytest.raises(ValueError, match="'layer3' is not a block name such as"):
        block_sort_key("layer3")


BLOCKS = ["layers.10", "layers.2", "layers.1.experts.0", "layers.1", "encoder.layers.2"]


@pytest.mark.parametrize(
    ("selection", "names"),
    [
        (None, ["layers.1", "layers.1.experts.0", "layers.2", "layers.10", "encoder.layers.2"]),
        ("1", ["layers.1", "layers.1.experts.0"]),
        ("10,2", ["layers.2", "layers.10", "encoder.layers.2"]),
        (" 1 - 2 ,1", ["layers.1", "layers.1.experts.0", "layers.2", "encoder.layers.2"]),
    ],
)
def test_selections(selection: str | None, names: list[str]) -> None:
    """In model order whatever the order of the selection; a layer brings its experts, and both stacks."""
    assert select_layers(BLOCKS, selection) == names


@pytest.mark.parametrize(
    ("selection", "match"),
    [
        ("", "--layers : found ''; expected layer numbers and ranges such as 0-3,7"),
        ("1,", "found ''"),
        ("2-1", "found '2-1'"),
        ("-1", "found '-1'"),
        ("one", "found 'one'"),
        ("1-2-3", "found '1-2-3'"),
        ("0-99999999999", "found '0-99999999999'"),
        ("1-3", "--layers 1-3: found layers 3; expected layers 1-2,10. Name layers that exist"),
        ("0-2", "found layers 0; expected layers 1-2,10"),
    ],
)
def test_bad_selections(selection: str, match: str) -> None:
    """The message names the part that is wrong, and what there is; a range of billions must not be counted out."""
    with pytest.raises(UsageError, match=match):
        select_layers(BLOCKS, selection)


@given(st.sets(st.integers(0, 40), min_size=1))
@settings(deadline=None)
def test_ranges_select_what_they_were_written_from(layers: set[int]) -> None:
    """`format_ranges` and `select_layers` are inverse."""
    names = [f"layers.{layer}" for layer in layers]
    assert select_layers(names, format_ranges(layers)) == sorted_blocks(names)
