"""Architecture families: data files that say which tensors of a checkpoint carry the neuron axis.

`docs/families.md` describes every key of a family file (`families/*.toml`). In short: `model_types` and `prefixes` tell
when it applies and what stands before the tensor names; each of `blocks` is a kind of FFN block with the tensors that
make up its neurons (`components`), those that are permuted along (`carriers`), and the names of their axes.

In tensor names ``{layer}`` and ``{expert}`` stand for a number, ``{use}`` in carriers for any number; in `module` and
`free`, ``*`` stands for anything.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import is_block_name
from ripple_place.checkpoint.model.patterns import FIRST, PLACEHOLDERS, fill
from ripple_place.checkpoint.model.usual_names import usual_free, with_wrappers
from ripple_place.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping

AXES = ("expert", "expert_neuron", "hidden", "neuron", "neuron_halves", "neuron_pairs", "other")
"""Names of axes in a family file. ``expert_neuron``: the neurons of one expert after the other; ``neuron_halves``: all
gate neurons, then all up neurons; ``neuron_pairs``: gate and up neuron by turns; ``other``: of any size."""

_FAMILY_KEYS = {
    "model_types": list, "prefixes": list, "n_layers_keys": list, "hidden_keys": list, "free": list, "blocks": list,
}  # fmt: skip
_BLOCK_KEYS = {"name": str, "n_neurons_keys": list, "module": list, "components": list}
_OPTIONAL_BLOCK_KEYS = {"carriers": list, "free": list, "n_layers_keys": list, "hidden_keys": list}
_OPTIONAL_FAMILY_KEYS = {"routers": list}
_TENSOR_KEYS = {"role": str, "tensor": str, "axes": list}
_ROUTER_KEYS = {"tensor": str, "axes": list}
_NEVER_EMPTY = ("prefixes", "blocks")
_TABLES = ("blocks", "components", "carriers", "routers")
_ROLES = ({"gate", "up", "down"}, {"up", "down"}, {"gate_up", "down"})


@dataclass(frozen=True)
class TensorPattern:
    """A tensor of an FFN that carries the neuron axis: its role, its name pattern, and the names of its axes."""

    role: str
    tensor: str
    axes: tuple[str, ...]

    @property
    def neuron_axis(self) -> int:
        """Number of the neuron axis."""
        return next(axis for axis, name in enumerate(self.axes) if "neuron" in name)

    @property
    def n_parts(self) -> int:
        """2 where the neuron axis holds gate and up."""
        return 2 if self.axes[self.neuron_axis] in ("neuron_halves", "neuron_pairs") else 1

    @property
    def roles(self) -> tuple[str, ...]:
        """Role of each part."""
        return ("gate", "up") if self.n_parts == 2 else (self.role,)


@dataclass(frozen=True)
class RouterPattern:
    """A tensor that has something of every expert of a layer and belongs to none: its name, and its axes."""

    tensor: str
    axes: tuple[str, ...]

    @property
    def expert_axis(self) -> int:
        """Number of the axis that counts experts."""
        return self.axes.index("expert")


@dataclass(frozen=True)
class BlockPattern:
    """One kind of FFN block; attributes as in the family file."""

    name: str
    n_neurons_keys: tuple[str, ...]
    module: tuple[str, ...]
    components: tuple[TensorPattern, ...]
    carriers: tuple[TensorPattern, ...]
    free: tuple[str, ...]
    n_layers_keys: tuple[str, ...]
    hidden_keys: tuple[str, ...]


@dataclass(frozen=True)
class Family:
    """A family of architectures that name their FFN tensors alike.

    Attributes are as in the family file; `free` and `prefixes` also have the names that most models share.
    """

    name: str
    model_types: tuple[str, ...]
    prefixes: tuple[str, ...]
    n_layers_keys: tuple[str, ...]
    hidden_keys: tuple[str, ...]
    free: tuple[str, ...]
    blocks: tuple[BlockPattern, ...]
    routers: tuple[RouterPattern, ...] = ()

    @classmethod
    def parse(cls, name: str, text: str, where: str | None = None) -> Family:
        """Read the text of a family file; errors say that they are `where`.

        Raises
        ------
        CheckpointError
            If it is no TOML, a key is unknown, missing or of the wrong type, or a tensor's axes make no sense.
        """
        where = where or f"family {name}"
        try:
            table = tomllib.loads(text)
        except (ValueError, RecursionError) as cause:
            raise CheckpointError(where, found=str(cause), expected="TOML", remedy="correct the family file") from cause
        _check_keys(where, table, _FAMILY_KEYS, _OPTIONAL_FAMILY_KEYS)
        routers = tuple(
            _parse_router(f"{where}: routers[{i}]", router) for i, router in enumerate(table.pop("routers", []))
        )
        blocks = tuple(
            _parse_block(f"{where}: blocks[{i}]", block, table) for i, block in enumerate(table.pop("blocks"))
        )
        components = [component.tensor for block in blocks for component in block.components]
        table["free"] += usual_free(components)
        table["prefixes"] = with_wrappers(table["prefixes"])
        return cls(name, blocks=blocks, routers=routers, **{key: tuple(values) for key, values in table.items()})


def _check_keys(where: str, table: Any, keys: Mapping[str, type], optional: Mapping[str, type] | None = None) -> None:
    """Raise unless `table` has the given keys and no unknown ones, with values of the given types."""
    optional = optional or {}
    unfit = (set(table) ^ set(keys)) - set(optional) if isinstance(table, dict) else {repr(table)}
    if unfit:
        raise CheckpointError(
            where, found=f"unknown or missing: {', '.join(sorted(unfit))}",
            expected=", ".join(keys) + (f", and perhaps {', '.join(optional)}" if optional else ""),
            remedy="correct the family file",
        )  # fmt: skip
    for key, value in table.items():
        kind = keys.get(key) or optional[key]
        items = value if isinstance(value, list) else []
        if (
            type(value) is not kind
            or (key in _NEVER_EMPTY and not value)
            or not all(isinstance(item, dict if key in _TABLES else str) for item in items)
        ):
            raise CheckpointError(
                f"{where}: {key}", found=repr(value),
                expected=f"a {kind.__name__}{', not empty' if key in _NEVER_EMPTY else ''}",
                remedy="correct the family file",
            )  # fmt: skip


def _check_patterns(where: str, block: Mapping[str, Any], free: list[str]) -> None:
    """Raise if a placeholder stands twice in a pattern: one name would give two numbers."""
    for pattern in (*block["module"], *block.get("free", []), *free):
        if any(pattern.count(placeholder) > 1 for placeholder in PLACEHOLDERS):
            raise CheckpointError(
                where,
                found=pattern,
                expected=f"each of {', '.join(PLACEHOLDERS)} once",
                remedy="correct the family file",
            )


def _parse_block(where: str, table: dict[str, Any], of_file: Mapping[str, Any]) -> BlockPattern:
    _check_keys(where, table, _BLOCK_KEYS, _OPTIONAL_BLOCK_KEYS)
    _check_patterns(where, table, of_file["free"])
    name = table["name"]
    components, carriers = (
        tuple(_parse_tensor(f"{where}: {key}[{i}]", tensor, name) for i, tensor in enumerate(table.get(key, [])))
        for key in ("components", "carriers")
    )
    roles = [component.role for component in components]
    if (
        set(roles) not in _ROLES
        or len(set(roles)) < len(roles)
        or not is_block_name(fill(name, FIRST))
        or any((component.n_parts == 2) != (component.role == "gate_up") for component in components)
        or any("{use}" in component.tensor or "other" in component.axes for component in components)
    ):
        raise CheckpointError(
            where, found=f"name {name}, components {', '.join(roles)}",
            expected="a block name such as layers.{layer}, and components (gate,) up, down, or gate_up (two parts), "
            "down; {use} and the axis other in carriers only", remedy="correct the family file",
        )  # fmt: skip
    return BlockPattern(
        name, tuple(table["n_neurons_keys"]), tuple(table["module"]), components, carriers,
        tuple(table.get("free", [])), tuple(table.get("n_layers_keys", of_file["n_layers_keys"])),
        tuple(table.get("hidden_keys", of_file["hidden_keys"])),
    )  # fmt: skip


def _parse_tensor(where: str, table: dict[str, Any], block_name: str) -> TensorPattern:
    _check_keys(where, table, _TENSOR_KEYS)
    pattern = TensorPattern(table["role"], table["tensor"], tuple(table["axes"]))
    tensor, axes = pattern.tensor, pattern.axes
    of_expert = "{expert}" in tensor or any("expert" in axis for axis in axes)
    if (
        not set(fill(tensor, dict.fromkeys(("layer", "expert", "use"), 0))).isdisjoint("*{}")
        or any(tensor.count(placeholder) > 1 for placeholder in PLACEHOLDERS)
        or not set(axes) <= set(AXES)
        or sum("neuron" in axis for axis in axes) != 1
        or sum("expert" in axis for axis in axes) + ("{expert}" in tensor) > 1
        or any("expert" in axis for axis in axes[1:])
        or of_expert != ("{expert}" in block_name)
        or ("{layer}" in tensor) != ("{layer}" in block_name)
    ):
        raise CheckpointError(
            where, found=f"{tensor}, axes {', '.join(axes)}",
            expected=f"a name without *, with {{layer}} where the block's name has it; axes of {', '.join(AXES)}, one "
            "of them of neurons; and experts where the block's name has them, as the first axis or in the name",
            remedy="correct the family file",
        )  # fmt: skip
    return pattern


def _parse_router(where: str, table: dict[str, Any]) -> RouterPattern:
    _check_keys(where, table, _ROUTER_KEYS)
    pattern = RouterPattern(table["tensor"], tuple(table["axes"]))
    if (
        not set(fill(pattern.tensor, {"layer": 0})).isdisjoint("*{}")
        or pattern.tensor.count("{layer}") != 1
        or pattern.axes.count("expert") != 1
        or not {*pattern.axes} <= {"expert", "hidden", "other"}
    ):
        raise CheckpointError(
            where, found=f"{pattern.tensor}, axes {', '.join(pattern.axes)}",
            expected="a name with {layer} once and without *; axes expert, hidden and other, the first of them once",
            remedy="correct the family file",
        )  # fmt: skip
    return pattern
