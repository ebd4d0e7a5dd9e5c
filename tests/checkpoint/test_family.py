"""Family files: those that ship are sound, and mistakes in one are named."""

from __future__ import annotations

import pytest

from ripple_place.checkpoint.family import Family, families, family_of, matches_any
from ripple_place.errors import CheckpointError, UnsupportedArchitectureError, UnsupportedError

BLOCK = """
[[blocks]]
name = "layers.{layer}"
n_neurons_keys = ["n"]
module = []
components = [{ role = "up", tensor = "layers.{layer}.up", axis = 0 }]
carriers = []
free = []
"""
HEAD = 'model_types = ["x"]\nprefixes = [""]\nn_layers_key = "l"\nfree = []\n'


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
                name = pattern.tensor.format(layer=3, expert=1)
                assert matches_any(kind.module, name)
                assert not matches_any(kind.free + family.free, name)


@pytest.mark.parametrize("config", [{}, {"model_type": "mamba"}, {"model_type": ["opt"]}])
def test_unknown_model_type(config: dict[str, object]) -> None:
    """The message lists what is known; the class makes the exit code that of unsupported input."""
    with pytest.raises(UnsupportedArchitectureError, match=r"expected one of .*llama.*opt") as caught:
        family_of("config.json", config)
    assert isinstance(caught.value, UnsupportedError)


def test_numbers_have_no_leading_zeros() -> None:
    """Else layers.01 and layers.1 would be the same block."""
    assert not matches_any(["layers.{layer}.up"], "layers.01.up")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model_types = ", "expected TOML"),
        (HEAD + 'colour = "red"\n' + BLOCK, "unknown or missing: colour"),
        (HEAD, "unknown or missing: blocks"),
        (HEAD.replace('"l"', "3") + BLOCK, "n_layers_key: found 3; expected a str"),
        (HEAD + BLOCK.replace("axis = 0", "axis = 2"), "axis 2; expected a name without"),
        (HEAD + BLOCK.replace("axis = 0", "axes = 0"), "unknown or missing: axes, axis"),
        (HEAD + BLOCK.replace("{layer}.up", "*.up"), "expected a name without"),
        (HEAD + BLOCK.replace('name = "layers.{layer}"', 'name = "l{layer}"'), "expected a block name"),
        (HEAD + BLOCK.replace("free = []", "free = [1]"), r"free: found \[1\]"),
    ],
)
def test_malformed_family(text: str, message: str) -> None:
    """A key that is misspelt must not be ignored: a forgotten carrier is a wrong model."""
    with pytest.raises(CheckpointError, match=message):
        Family.parse("x", text)
    assert Family.parse("x", HEAD + BLOCK).blocks[0].name == "layers.{layer}"
