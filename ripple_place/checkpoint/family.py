"""Architecture families: data files that say which tensors of a checkpoint carry the neuron axis.

A family file (`families/*.toml`) holds

- `model_types`: values of `model_type` in config.json that it describes;
- `prefixes`: what may stand before the tensor names below; a checkpoint uses one of them;
- `n_layers_key`: config key of the number of layers, whose blocks must all be there;
- `free`: tensors outside of the FFN that do not carry the neuron axis, whatever their shape;
- `blocks`: one table per kind of FFN block, with its `name`, `n_neurons_keys` (config keys, the first that is present
  counts), `module` (all tensors of the FFN: each must be mentioned), `components` (in bundle order), `carriers`
  (optional tensors that are permuted too, but stay out of the bundle) and `free`.

In tensor names ``{layer}`` and ``{expert}`` stand for a number; in `module` and `free`, ``*`` stands for anything.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import is_block_name
from ripple_place.errors import CheckpointError, UnsupportedArchitectureError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_FAMILY_KEYS = {"model_types": list, "prefixes": list, "n_layers_key": str, "free": list, "blocks": list}
_BLOCK_KEYS = {
    "name": str, "n_neurons_keys": list, "module": list, "components": list, "carriers": list, "free": list,
}  # fmt: skip
_TENSOR_KEYS = {"role": str, "tensor": str, "axis": int}
_NUMBERS = {r"\{layer\}": r"(?P<layer>0|[1-9]\d*)", r"\{expert\}": r"(?P<expert>0|[1-9]\d*)"}


@dataclass(frozen=True)
class TensorPattern:
    """A tensor of an FFN that carries the neuron axis: its role, its name pattern, and which axis that is."""

    role: str
    tensor: str
    axis: int


@dataclass(frozen=True)
class BlockPattern:
    """One kind of FFN block; attributes as in the family file."""

    name: str
    n_neurons_keys: tuple[str, ...]
    module: tuple[str, ...]
    components: tuple[TensorPattern, ...]
    carriers: tuple[TensorPattern, ...]
    free: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """A family of architectures that name their FFN tensors alike; attributes as in the family file."""

    name: str
    model_types: tuple[str, ...]
    prefixes: tuple[str, ...]
    n_layers_key: str
    free: tuple[str, ...]
    blocks: tuple[BlockPattern, ...]

    @classmethod
    def parse(cls, name: str, text: str) -> Family:
        """Read a family file.

        Raises
        ------
        CheckpointError
            If it is no TOML, or a key is unknown, missing or of the wrong type.
        """
        where = f"family {name}"
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as cause:
            raise CheckpointError(where, found=str(cause), expected="TOML", remedy="correct the family file") from cause
        _check_keys(where, table, _FAMILY_KEYS)
        blocks = tuple(_parse_block(f"{where}: blocks[{i}]", block) for i, block in enumerate(table.pop("blocks")))
        return cls(
            name, tuple(table["model_types"]), tuple(table["prefixes"]), table["n_layers_key"], tuple(table["free"]),
            blocks,
        )  # fmt: skip


@lru_cache(maxsize=1)
def families() -> Mapping[str, Family]:
    """Return the families that ship with the package, by model type."""
    by_model_type: dict[str, Family] = {}
    for file in sorted(files("ripple_place.checkpoint").joinpath("families").iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".toml"):
            continue
        family = Family.parse(file.name.removesuffix(".toml"), file.read_text(encoding="utf-8"))
        for model_type in family.model_types:
            assert model_type not in by_model_type, f"{model_type} in two family files"
            by_model_type[model_type] = family
    return by_model_type


def family_of(where: object, config: Mapping[str, Any]) -> Family:
    """Return the family that describes a model with this config.

    Raises
    ------
    UnsupportedArchitectureError
        If none does.
    """
    model_type = config.get("model_type")
    family = families().get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise UnsupportedArchitectureError(
            f"{where}: model_type", found=repr(model_type), expected=f"one of {', '.join(sorted(families()))}",
            remedy="ask for this architecture, or add a family file that names its FFN tensors",
        )  # fmt: skip
    return family


@lru_cache(maxsize=4096)
def name_regex(pattern: str) -> re.Pattern[str]:
    """Return the regular expression of a tensor name pattern.

    >>> name_regex("layers.{layer}.fc*").fullmatch("layers.10.fc1.weight")["layer"]
    '10'
    """
    text = re.escape(pattern).replace(r"\*", ".*")
    for placeholder, number in _NUMBERS.items():
        text = text.replace(placeholder, number)
    return re.compile(text)


def matches_any(patterns: Iterable[str], name: str) -> bool:
    """Tell whether a tensor name follows one of some patterns."""
    return any(name_regex(pattern).fullmatch(name) for pattern in patterns)


def _check_keys(where: str, table: Any, keys: Mapping[str, type]) -> None:
    """Raise unless `table` has exactly the given keys, with values of the given types."""
    if not isinstance(table, dict) or set(table) != set(keys):
        found = sorted(set(table) ^ set(keys)) if isinstance(table, dict) else [repr(table)]
        raise CheckpointError(
            where, found=f"unknown or missing: {', '.join(found)}", expected=f"exactly {', '.join(keys)}",
            remedy="correct the family file",
        )  # fmt: skip
    for key, kind in keys.items():
        value = table[key]
        inner = dict if key in ("blocks", "components", "carriers") else str
        items = value if isinstance(value, list) else []
        if type(value) is not kind or not all(isinstance(item, inner) for item in items):
            raise CheckpointError(
                f"{where}: {key}", found=repr(value), expected=f"a {kind.__name__}", remedy="correct the family file"
            )


def _parse_block(where: str, table: dict[str, Any]) -> BlockPattern:
    _check_keys(where, table, _BLOCK_KEYS)
    parsed: dict[str, tuple[TensorPattern, ...]] = {}
    for key in ("components", "carriers"):
        for i, tensor in enumerate(table[key]):
            _check_keys(f"{where}: {key}[{i}]", tensor, _TENSOR_KEYS)
            if "*" in tensor["tensor"] or tensor["axis"] not in (0, 1):
                raise CheckpointError(
                    f"{where}: {key}[{i}]", found=f"{tensor['tensor']}, axis {tensor['axis']}",
                    expected="a name without *, and axis 0 or 1", remedy="correct the family file",
                )  # fmt: skip
        parsed[key] = tuple(TensorPattern(**tensor) for tensor in table[key])
    if not parsed["components"] or not is_block_name(table["name"].format(layer=0, expert=0)):
        raise CheckpointError(
            where, found=f"name {table['name']}, {len(parsed['components'])} components",
            expected="a block name such as layers.{layer}, and components", remedy="correct the family file",
        )  # fmt: skip
    return BlockPattern(
        table["name"], tuple(table["n_neurons_keys"]), tuple(table["module"]), parsed["components"],
        parsed["carriers"], tuple(table["free"]),
    )  # fmt: skip
