"""Experts out of the tensors that hold them: one tensor for all experts of a layer, or tensors of each expert's own."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from ripple_place.checkpoint.model.expert_block import ExpertBlock, ExpertPart, Runs
from ripple_place.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class StoredTensor(NamedTuple):
    """A tensor in a file of weights, its slowest axis first.

    `name` has ``{expert}`` in place of the number where it belongs to one expert.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset_bytes: int
    length_bytes: int


@dataclass(frozen=True)
class Role:
    """What a tensor is to an expert.

    Attributes
    ----------
    name : str
        As of `ripple_place.checkpoint.model.expert_block.ExpertPart`.
    place : int
        Number of its projection in bundle order; what belongs to none comes last.
    """

    name: str
    place: int


def block_of_shared(
    name: str, where: object, n_experts: int, tensors: Sequence[tuple[Role, StoredTensor]], *, in_rows: bool = False
) -> tuple[ExpertBlock, list[str]]:
    """Return the block of a layer whose experts share their tensors, and the names of tensors that are of no expert.

    Parameters
    ----------
    name : str
        Of the block.
    where : object
        The model, for messages.
    n_experts : int
    tensors : sequence of (Role, StoredTensor)
        A tensor has a slice for each expert along the first axis of that length, or the only other one. A tensor
        without such an axis is of no expert.
    in_rows : bool
        Whether the first axis has several rows for each expert, the experts' one after the other.

    Raises
    ------
    UnsupportedError
        If an expert's slice is no whole number of bytes.

    Notes
    -----
    A slice along another axis than the first is gathered from as many runs as stand before that axis.
    """
    parts, rest = [], []
    for role, tensor in tensors:
        axis = _expert_axis(tensor.shape, n_experts, in_rows=in_rows)
        if axis is None:
            rest.append(tensor.name)
            continue
        parts.append((role, slices_of(where, role.name, tensor, n_experts, axis)))
    return ExpertBlock(name, n_experts, _in_order(parts)), rest


def slices_of(where: object, role: str, tensor: StoredTensor, n_experts: int, axis: int) -> ExpertPart:
    """Return the slices that experts have of a tensor along one of its axes.

    Parameters
    ----------
    where : object
        The model, for messages.
    role : str
    tensor : StoredTensor
    n_experts : int
        The axis is as long, or as many times as long as each expert has rows.
    axis : int

    Raises
    ------
    UnsupportedError
        If an expert's slice is no whole number of bytes.
    """
    n_before = math.prod(tensor.shape[:axis])
    run_bytes, n_over = divmod(tensor.length_bytes, n_before * n_experts)
    if n_over or not run_bytes:
        raise layout_error(where, f"tensor {tensor.name}, {tensor.length_bytes} bytes for {n_experts} experts")
    n_of_axis = tensor.shape[axis] // n_experts
    shape = (*tensor.shape[:axis], *((n_of_axis,) if n_of_axis > 1 else ()), *tensor.shape[axis + 1 :])
    experts = tuple(
        Runs(tensor.file, tensor.offset_bytes + expert * run_bytes, run_bytes, n_before, n_experts * run_bytes)
        for expert in range(n_experts)
    )
    return ExpertPart(role, tensor.name, tensor.dtype, shape, experts)


def block_of_own(
    name: str, where: object, experts: Mapping[int, Mapping[str, tuple[Role, StoredTensor]]]
) -> ExpertBlock:  # fmt: skip
    """Return the block of a layer whose experts have tensors of their own.

    Parameters
    ----------
    name, where
        As of `block_of_shared`.
    experts : mapping of int to mapping of str to (Role, StoredTensor)
        The tensors of each expert by their name, which has ``{expert}`` in place of the number.

    Raises
    ------
    UnsupportedError
        If experts are missing, or differ in tensors, dtypes or shapes.
    """
    numbers = sorted(experts)
    if numbers != list(range(len(numbers))):
        missing = min(set(range(len(numbers))) - set(numbers))
        raise layout_error(where, f"experts up to {numbers[-1]} in {name}, and no expert {missing}")
    first = experts[0]
    for number in numbers:
        for tensor in sorted(first.keys() | experts[number].keys()):
            alike = [of.get(tensor, (None, None))[1] for of in (first, experts[number])]
            if alike[0] is None or alike[1] is None or alike[0][1:3] != alike[1][1:3]:
                raise layout_error(where, f"expert {number} of {name} with another {tensor} than expert 0, or without")
    parts = []
    for tensor, (role, stored) in first.items():
        if stored.length_bytes == 0:
            raise layout_error(where, f"an empty tensor {tensor} in {name}")
        places = [experts[number][tensor][1] for number in numbers]
        runs = tuple(Runs(each.file, each.offset_bytes, each.length_bytes) for each in places)
        parts.append((role, ExpertPart(role.name, tensor, stored.dtype, stored.shape, runs)))
    return ExpertBlock(name, len(numbers), _in_order(parts))


def role_of(name: str, stems: Sequence[tuple[str, str]], weight: str = ".weight") -> Role | None:
    """Return the role of a tensor by the projection whose name it begins with; None where it begins with none.

    Parameters
    ----------
    name : str
    stems : sequence of (str, str)
        Role and name of each projection, without what tensors add to it, in bundle order.
    weight : str
        What the name of a weight adds, beside nothing.

    >>> stems = [("gate", "gate_proj"), ("up", "up_proj")]
    >>> [role_of(name, stems).name for name in ("up_proj.weight", "gate_proj.weight_scale", "gate_proj_bias")]
    ['up', 'gate.weight_scale', 'gate.bias']
    """
    fitting = [
        (len(stem), place)
        for place, (_, stem) in enumerate(stems)
        if name == stem or name.startswith((f"{stem}.", f"{stem}_"))
    ]
    if not fitting:
        return None
    place = max(fitting)[1]
    role, stem = stems[place]
    rest = name.removeprefix(stem)
    return Role(role if rest in ("", weight) else f"{role}.{rest[1:]}", place)


def layout_error(where: object, found: str) -> UnsupportedError:
    """Return the error for experts that are stored so that they cannot be laid side by side."""
    return UnsupportedError(
        where, found=found, expected="experts 0 to n - 1 in each layer, all with the same tensors in whole bytes",
        remedy="give a checkpoint that has all experts in one precision; load this one with transformers and save it "
        "again with save_pretrained, or download it again",
    )  # fmt: skip


def _expert_axis(shape: tuple[int, ...], n_experts: int, *, in_rows: bool) -> int | None:
    """Return the axis that counts experts; None if there is none."""
    if shape and (shape[0] == n_experts or (in_rows and shape[0] and shape[0] % n_experts == 0)):
        return 0
    fitting = [axis for axis, size in enumerate(shape) if size == n_experts]
    return fitting[0] if len(fitting) == 1 else None


def _in_order(parts: Sequence[tuple[Role, ExpertPart]]) -> tuple[ExpertPart, ...]:
    """Return parts by projection, the longest of each first: weights before scales and biases."""
    return tuple(part for _, part in sorted(parts, key=lambda p: (p[0].place, -p[1].length_bytes, p[1].tensor)))
