"""Family files: those that ship are sound, and mistakes in one are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from ripple_place.checkpoint.model import family as family_module
from ripple_place.checkpoint.model.family import Family
from ripple_place.checkpoint.model.known_families import families
from ripple_place.checkpoint.model.patterns import fill, matches_any
from ripple_place.errors import CheckpointError

BLOCK = """
[[blocks]]
name = "layers.{layer}"
n_neurons_keys = ["n"]
module = []
components = [
  { role = "up", tensor = "layers.{layer}.up", axes = ["neuron", "hidden"] },
  { role = "down", tensor = "layers.{layer}.down", axes = ["hidden", "neuron"] },
]
"""
HEAD = 'model_types = ["x"]\nprefixes = [""]\nn_layers_keys = ["l"]\nhidden_keys = ["h"]\nfree = []\n'


def test_shipped_families() -> None:
    """Each file that ships parses, and the bundle order is gate, up, down."""
    assert families()["opt"].name == "opt"
    assert families()["qwen3"] is families()["llama"]
    assert [component.role for component in families()["llama"].blocks[0].components] == ["gate", "up", "down"]


def test_component_and_carrier_names_lie_in_the_module() -> None:
    """What is mapped must be part of the FFN module, and no family may call it free as well."""
    for family in families().values():
        for kind in family.blocks:
            for pattern in kind.components + kind.carriers:
                name = fill(pattern.tensor, {"layer": 3, "expert": 1, "use": 2})
                assert matches_any(kind.module, name)
                assert not matches_any(kind.free + family.free, name)


def test_axes_of_a_pattern() -> None:
    """The neuron axis and its parts, as the rewriter asks for them."""
    fused = families()["gpt_oss"].blocks[0].components[0]
    assert (fused.neuron_axis, fused.n_parts, fused.roles) == (2, 2, ("gate", "up"))
    down = families()["llama"].blocks[0].components[2]
    assert (down.neuron_axis, down.n_parts, down.roles) == (1, 1, ("down",))


def test_the_documentation_names_every_key() -> None:
    """Whoever adds a family reads docs/families.md: every key and every axis must be there."""
    text = (Path(__file__).parents[3] / "docs" / "families.md").read_text()
    keys = {*family_module._FAMILY_KEYS, *family_module._BLOCK_KEYS, *family_module._OPTIONAL_BLOCK_KEYS}
    for name in keys | set(family_module._TENSOR_KEYS) | set(family_module.AXES):
        assert f"`{name}`" in text
    for model_type in families():
        assert f"`{model_type}`" in text


def test_numbers_have_no_leading_zeros() -> None:
    """Else layers.01 and layers.1 would be the same block."""
    assert not matches_any(["layers.{layer}.up"], "layers.01.up")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_types = ", "expected TOML"),
        (HEAD + 'colour = "red"\n' + BLOCK, "unknown or missing: colour"),
        (HEAD, "unknown or missing: blocks"),
        (HEAD.replace('["l"]', "3") + BLOCK, "n_layers_keys: found 3; expected a list"),
        (HEAD + BLOCK.replace('["neuron", "hidden"]', '["neuron", "width"]'), "axes neuron, width; expected a name"),
        (HEAD + BLOCK.replace('["neuron", "hidden"]', '["neuron", "neuron"]'), "axes neuron, neuron; expected"),
        (HEAD + BLOCK.replace('["neuron", "hidden"]', '["hidden", "hidden"]'), "axes hidden, hidden; expected"),
        (HEAD + BLOCK.replace('["neuron", "hidden"]', '["expert", "neuron", "hidden"]'), "experts where the block"),
        (HEAD + BLOCK.replace('["neuron", "hidden"]', '["neuron_halves", "hidden"]'), r"or gate_up \(two parts\)"),
        (HEAD + BLOCK.replace("axes =", "axis ="), "unknown or missing: axes, axis"),
        (HEAD + BLOCK.replace('"up"', '"down"'), "components down, down; expected"),
        (HEAD + BLOCK.replace("{layer}.up", "*.up"), "expected a name without"),
        (HEAD + BLOCK.replace('name = "layers.{layer}"', 'name = "l{layer}"'), "expected a block name"),
        (HEAD + BLOCK.replace("{layer}.up", "{i}.up"), "{i}.up, axes neuron, hidden; expected a name without"),
        (HEAD + BLOCK.replace("{layer}.up", "{layer}.{layer}.up"), "expected a name without"),
        (HEAD + BLOCK.replace("layers.{layer}.up", "0.up"), "with {layer} where the block's name has it"),
        (HEAD + BLOCK.replace("{layer}.up", "{layer}.{use}.up"), "{use} and the axis other in carriers only"),
        (HEAD + BLOCK.replace('["hidden", "neuron"]', '["other", "neuron"]'), "the axis other in carriers only"),
        (HEAD + BLOCK.replace("module = []", 'module = ["{layer}.{layer}"]'), "expected each of {layer}, .* once"),
        (HEAD.replace("free = []", 'free = ["{use}.{use}"]') + BLOCK, "found {use}.{use}; expected each of"),
        (HEAD.replace('[""]', "[]") + BLOCK, r"prefixes: found \[\]; expected a list, not empty"),
        (HEAD + "blocks = []\n", r"blocks: found \[\]; expected a list, not empty"),
        (HEAD + BLOCK + "free = [1]\n", r"free: found \[1\]"),
        (HEAD + BLOCK + "fre = []\n", r"missing: fre; expected .*, and perhaps carriers, free, n_layers_keys"),
    ],
)
def test_malformed_family(text: str, message: str) -> None:
    """A key that is misspelt must not be ignored: a forgotten carrier is a wrong model."""
    with pytest.raises(CheckpointError, match=message):
        Family.parse("x", text)
    assert Family.parse("x", HEAD + BLOCK).blocks[0].name == "layers.{layer}"
