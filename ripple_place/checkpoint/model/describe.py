"""One FFN block of a checkpoint, as its family describes it: shapes checked, every tensor cut into experts' parts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from ripple_place.checkpoint.model.config_size import config_size
from ripple_place.checkpoint.model.ffn_block import FfnBlock
from ripple_place.checkpoint.model.neuron_tensor import Component, NeuronTensor
from ripple_place.checkpoint.model.patterns import fill, matching
from ripple_place.checkpoint.model.prefix import names_error
from ripple_place.checkpoint.model.quantisation_config import REORDER_FIRST
from ripple_place.errors import CheckpointError, UnsupportedArchitectureError
from ripple_place.hub import download_command
from ripple_place.printable import listed
from ripple_place.tensorfile import DTYPE_BITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.checkpoint.model.family import BlockPattern, TensorPattern
    from ripple_place.checkpoint.model.quantised import Scheme
    from ripple_place.checkpoint.model.shards import Checkpoint
    from ripple_place.checkpoint.model.stored_tensors import Field
    from ripple_place.tensorfile import TensorExtent

_PACKED_DTYPES = ("U8", "I32", "U32")
"""Of quantised weights, those whose items hold several integers, if not along the neuron axis then across it."""
_ORDINALS = {1: "a vector", 2: "a matrix", 3: "a matrix for each expert"}


class _Stored(NamedTuple):
    """A stored tensor, what it belongs to in the family file, and how it is quantised, if it is."""

    pattern: TensorPattern
    extent: TensorExtent
    field: Field | None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.extent.shape if self.field is None else self.field.shape

    @property
    def neuron_axis(self) -> int | None:
        return self.pattern.neuron_axis if self.field is None else self.field.neuron_axis


class _Sizes(NamedTuple):
    """What all tensors of a block must agree on.

    `n_experts` is None where experts have tensors of their own, `key` the config's that says how many neurons there
    are, None where the weights do.
    """

    n_neurons: int
    hidden: int
    n_experts: int | None
    key: str | None = None


def describe_blocks(
    checkpoint: Checkpoint, scheme: Scheme, prefix: str, kind: BlockPattern, numbers: Mapping[str, str]
) -> list[FfnBlock]:
    """Describe the block of one layer (and expert), or those of all experts that share its tensors.

    Raises
    ------
    CheckpointError
        If a component is missing, or shapes do not fit each other or the config.
    UnsupportedArchitectureError
        If a neuron's weights are no whole bytes, or are quantised so that they cannot be moved exactly.
    """
    present = _find_tensors(checkpoint, scheme, prefix, kind, numbers)
    for stored in present:
        _check_form(checkpoint, stored)
    sizes = _agreed_sizes(checkpoint, kind, present[0], int(numbers.get("layer", 0)))
    for stored in present:
        _check_shape(checkpoint, stored, sizes)
    blocks = []
    for expert in range(sizes.n_experts or 1):
        of_expert = dict(numbers) if sizes.n_experts is None else {**numbers, "expert": str(expert)}
        tensors, components, weight_bytes = [], [], 0
        for stored in present:
            if stored.neuron_axis is None:
                continue
            # The inputs of down are the neurons: groups of inputs are groups of neurons.
            is_down = stored.pattern.role == "down"
            groups = tuple(size for size in scheme.kept_groups if is_down and size < sizes.n_neurons)
            tensor = _part(checkpoint, stored, sizes, expert, groups)
            tensors.append(tensor)
            if stored.pattern not in kind.components or not (stored.field is None or stored.field.is_weight):
                continue
            weight_bytes += -(-tensor.length_bytes // sizes.n_neurons)
            roles = stored.pattern.roles if stored.field is None or _has_whole_neurons(tensor) else ()
            components += [Component(role, tensor, part) for part, role in enumerate(roles)]
        if len({component.role for component in components}) < sum(len(part.roles) for part in kind.components):
            components = []
        blocks.append(FfnBlock(
            fill(kind.name, of_expert), sizes.n_neurons, sizes.hidden, tuple(components), tuple(tensors),
            tuple(stored.extent.name for stored in present if stored.neuron_axis is None), weight_bytes,
        ))  # fmt: skip
    return blocks


def _find_tensors(
    checkpoint: Checkpoint, scheme: Scheme, prefix: str, kind: BlockPattern, numbers: Mapping[str, str]
) -> list[_Stored]:
    """Return the stored tensors of a block, those of the first component first, its weights before its scales."""
    present: list[_Stored] = []
    for pattern in kind.components:
        name = prefix + fill(pattern.tensor, numbers)
        fields = scheme.fields(name, outputs=pattern.role != "down")
        if fields:
            present += [_Stored(pattern, checkpoint.extent(field.name), field) for field in fields]
        elif name in checkpoint.shard_of:
            present.append(_Stored(pattern, checkpoint.extent(name), None))
        else:
            raise _missing_error(checkpoint, kind, numbers, name)
    for pattern in kind.carriers:
        name = prefix + fill(pattern.tensor, numbers)
        names = [match[0] for match in matching(name, checkpoint.shard_of)] if "{use}" in name else [name]
        present += [_Stored(pattern, checkpoint.extent(name), None) for name in names if name in checkpoint.shard_of]
    return present


def _missing_error(
    checkpoint: Checkpoint, kind: BlockPattern, numbers: Mapping[str, str], name: str
) -> CheckpointError:
    """Return the error for an FFN of which one component is missing and another is there."""
    module = name.removesuffix(".weight").rpartition(".")[0] + "."
    held = sorted(tensor for tensor in checkpoint.shard_of if tensor.startswith(module) and tensor != name)
    where = f"{checkpoint.path}: {fill(kind.name, {'expert': '*', **numbers})}"
    expected = f"all of {', '.join(pattern.role for pattern in kind.components)}"
    if shard := checkpoint.unstored.get(name):
        again = download_command(checkpoint.path, [shard, str(checkpoint.index_name)], force=True)
        return CheckpointError(
            where, found=f"no tensor {name} in {shard}, where the index has it", expected=expected,
            remedy=f"download both again, of one revision: {again}",
        )  # fmt: skip
    return names_error(
        where, held, found=f"no tensor {name}" + (f", only {listed(held)}" if held else ""), expected=expected,
        remedy="give a copy of the model that has it; if the model has none, give a family file that names its "
        "tensors (docs/families.md) with --family",
    )  # fmt: skip


def _check_form(checkpoint: Checkpoint, stored: _Stored) -> None:
    """Raise unless a tensor has as many axes as expected, none of them empty, and whole bytes."""
    pattern, extent = stored.pattern, stored.extent
    if stored.neuron_axis is None:
        return
    n_axes = len(pattern.axes) if stored.field is None else stored.neuron_axis + 1
    if 0 in extent.shape or (len(extent.shape) != n_axes if stored.field is None else len(stored.shape) < n_axes):
        raise _shape_error(checkpoint, extent, f"{_ORDINALS[len(pattern.axes)]}, not empty")
    if DTYPE_BITS[extent.dtype] % 8:
        raise UnsupportedArchitectureError(
            f"{checkpoint.path}: tensor {extent.name}", found=extent.dtype, expected="a dtype of whole bytes",
            remedy=REORDER_FIRST,
        )  # fmt: skip


def _agreed_sizes(checkpoint: Checkpoint, kind: BlockPattern, first: _Stored, layer: int) -> _Sizes:
    """Return the sizes by the config, or where it does not say, by the first component."""
    pattern, field = first.pattern, first.field
    configured = config_size(checkpoint.config, kind.n_neurons_keys, layer)
    hidden = config_size(checkpoint.config, kind.hidden_keys)
    if hidden is None:
        if field is not None and (field.packing is not None or first.extent.dtype in _PACKED_DTYPES):
            raise _config_error(checkpoint, "no width of the hidden state", " or ".join(kind.hidden_keys))
        hidden = first.shape[pattern.axes.index("hidden")]
    n_experts = first.shape[0] if pattern.axes[0] == "expert" else None
    assert first.neuron_axis is not None, "weights have neurons"
    n_places = first.shape[first.neuron_axis]
    if pattern.axes[0] == "expert_neuron":
        if not configured or n_places % configured:
            keys = f"{' or '.join(kind.n_neurons_keys)}, a divisor of {n_places}"
            raise _config_error(checkpoint, f"{configured} neurons an expert", keys)
        n_experts = n_places // configured
    if field is not None and field.packing is not None:
        n_places = n_places * DTYPE_BITS[first.extent.dtype] // field.packing.bits
    if configured is None:
        return _Sizes(n_places // pattern.n_parts, hidden, n_experts)
    key = next(key for key in kind.n_neurons_keys if config_size(checkpoint.config, [key], layer) is not None)
    return _Sizes(configured, hidden, n_experts, key)


def _check_shape(checkpoint: Checkpoint, stored: _Stored, sizes: _Sizes) -> None:
    if stored.field is not None:
        _check_quantised_shape(checkpoint, stored, stored.field, sizes)
        return
    pattern, extent = stored.pattern, stored.extent
    expected = {
        "expert": (sizes.n_experts or 0, "experts"),
        "expert_neuron": ((sizes.n_experts or 0) * sizes.n_neurons, "neurons of all experts"),
        "hidden": (sizes.hidden, ""),
        "neuron": (sizes.n_neurons, "neurons"),
        "neuron_halves": (2 * sizes.n_neurons, "gate and up neurons"),
        "neuron_pairs": (2 * sizes.n_neurons, "gate and up neurons"),
    }
    # Neurons first: of all that may be wrong, they tell most.
    for axis in sorted(range(len(pattern.axes)), key=lambda axis: axis != pattern.neuron_axis):
        if pattern.axes[axis] == "other":
            continue
        size, what = expected[pattern.axes[axis]]
        if extent.shape[axis] != size:
            length = f"{size} {what} along axis {axis}".replace("  ", " ")
            raise _shape_error(checkpoint, extent, length, sizes.key if axis == pattern.neuron_axis else None)


def _check_quantised_shape(checkpoint: Checkpoint, stored: _Stored, field: Field, sizes: _Sizes) -> None:
    """Raise unless the neuron axis of a quantised tensor has a place for each neuron, or each granule or word."""
    if field.neuron_axis is None:
        return
    pattern, n_neurons = stored.pattern, sizes.n_neurons
    n_items, n_over = divmod(n_neurons, field.granule)
    if field.packing is not None:
        n_items, n_over = divmod(n_neurons * field.packing.bits, DTYPE_BITS[stored.extent.dtype])
    in_pairs = pattern.axes[pattern.neuron_axis] == "neuron_pairs"
    if (n_over and (field.packing is not None or pattern.n_parts == 2)) or (
        in_pairs and (field.granule > 1 or field.packing is not None)
    ):
        raise UnsupportedArchitectureError(
            f"{checkpoint.path}: tensor {stored.extent.name}", found=f"{n_neurons} neurons in words or groups",
            expected="words and groups that hold the neurons of one projection and block", remedy=REORDER_FIRST,
        )  # fmt: skip
    size = pattern.n_parts * (n_items + bool(n_over))
    if field.shape[field.neuron_axis] != size:
        raise _shape_error(checkpoint, stored.extent, f"{size} for {n_neurons} neurons along axis {field.neuron_axis}")


def _part(
    checkpoint: Checkpoint, stored: _Stored, sizes: _Sizes, expert: int, kept_groups: tuple[int, ...]
) -> NeuronTensor:
    """Return the part of a tensor that belongs to one expert; all of it where there is none."""
    pattern, extent, axis = stored.pattern, stored.extent, stored.neuron_axis
    assert axis is not None
    first = 1 if pattern.axes[0] == "expert" else 0
    is_weight = stored.field is None or stored.field.is_weight
    role = pattern.role if is_weight else f"{pattern.role}.{extent.name.rpartition('.')[2]}"
    begin_bytes = expert * (extent.length_bytes // (sizes.n_experts or 1))
    return NeuronTensor(
        extent.name, role, checkpoint.shard_of[extent.name], extent.dtype,
        n_before=math.prod(stored.shape[first:axis]), n_neurons=sizes.n_neurons,
        n_after=math.prod(stored.shape[axis + 1 :]), begin_bytes=begin_bytes,
        n_parts=pattern.n_parts, interleaved=pattern.axes[pattern.neuron_axis] == "neuron_pairs",
        granule=1 if stored.field is None else stored.field.granule,
        packing=None if stored.field is None else stored.field.packing, kept_groups=kept_groups,
    )  # fmt: skip


def _has_whole_neurons(tensor: NeuronTensor) -> bool:
    """Tell whether each neuron's weights are items of their own, so that they can be put into a bundle."""
    return tensor.packing is None and tensor.granule == 1 and tensor.dtype not in _PACKED_DTYPES


def _config_error(checkpoint: Checkpoint, found: str, expected: str) -> CheckpointError:
    return CheckpointError(
        f"{checkpoint.path}/config.json", found=found, expected=expected,
        remedy="make sure that config.json and the weights belong to the same model",
    )  # fmt: skip


def _shape_error(
    checkpoint: Checkpoint, extent: TensorExtent, expected: str, width_key: str | None = None
) -> CheckpointError:
    """Return the error for a tensor whose shape does not fit; `width_key` is the config's for the number of neurons."""
    return CheckpointError(
        f"{checkpoint.path}: tensor {extent.name}", found=f"shape {list(extent.shape)}", expected=expected,
        remedy="make sure that config.json and the weights belong to the same model"
        if width_key is None or "*" in width_key
        else f"give config.json a list in {width_key}, one number for each layer, if layers differ in width; otherwise "
        "make sure that config.json and the weights belong to the same model",
    )  # fmt: skip
