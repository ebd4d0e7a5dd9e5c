"""What counts experts beside their own weights: the rows of routers, and biases that correct them.

If experts get other numbers, all of it has to follow. So a layer's experts can only be renumbered where the family
file names the router, and nothing else near the experts has an axis of that length.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.checkpoint.model.config_size import config_size
from ripple_place.checkpoint.model.expert_block import Routers
from ripple_place.checkpoint.model.expert_tensors import StoredTensor, slices_of
from ripple_place.checkpoint.model.patterns import fill, matches_any
from ripple_place.errors import PlacementError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from ripple_place.arrays import Int32Array
    from ripple_place.checkpoint.model.expert_block import ExpertBlock, ExpertModel
    from ripple_place.checkpoint.model.family import Family
    from ripple_place.checkpoint.model.shards import Checkpoint

_GROUPS_KEYS = ("n_group", "num_expert_group")
"""Where a config says how many groups a router first chooses among: DeepSeek V2 and V3, and what follows them."""
_EXPERT = "{expert}"


def find_routers(
    checkpoint: Checkpoint, family: Family, prefix: str, blocks: Mapping[str, ExpertBlock], packed: Collection[str]
) -> dict[str, Routers]:
    """Return what counts the experts of each layer, as far as the family says.

    Parameters
    ----------
    checkpoint : Checkpoint
    family : Family
    prefix : str
        What stands before the family's names.
    blocks : mapping of str to ExpertBlock
    packed : collection of str
        Tensors of the experts themselves.
    """
    if not family.routers:
        return {}
    stack = re.escape(prefix + family.routers[0].tensor.partition("{layer}")[0])
    regex = re.compile(rf"{stack}(0|[1-9][0-9]*)\.")
    near: dict[str, list[str]] = {}
    for name in checkpoint.shard_of:
        if name not in packed and (match := regex.match(name)) is not None:
            near.setdefault(match[1], []).append(name)
    found = {}
    for block_name, block in blocks.items():
        layer = block_name.rpartition(".")[2]
        found[block_name] = _routers_of(checkpoint, family, prefix, block, layer, near.get(layer, []))
    return found


def _routers_of(
    checkpoint: Checkpoint, family: Family, prefix: str, block: ExpertBlock, layer: str, names: list[str]
) -> Routers:
    """Return what counts the experts of one layer, among tensors of the layer that are none of theirs."""
    parts, modules, left = [], [], dict.fromkeys(names)
    mixtures = set()
    for pattern in family.routers:
        name = prefix + fill(pattern.tensor, {"layer": layer})
        if name not in left:
            continue
        extent = checkpoint.extent(name)
        axis = pattern.expert_axis
        n_slices = math.prod(extent.shape[: axis + 1])
        if (
            len(extent.shape) != len(pattern.axes) or extent.shape[axis] != block.n_neurons
            or not extent.length_bytes or extent.length_bytes % n_slices
        ):  # fmt: skip
            continue  # Left among those that nothing is known of.
        del left[name]
        file = checkpoint.file_of(name)
        stored = StoredTensor(name, extent.dtype, extent.shape, file, extent.offset_bytes, extent.length_bytes)
        parts.append(slices_of(checkpoint.path, "router", stored, block.n_neurons, axis))
        if len(pattern.axes) > 1 and "hidden" in pattern.axes:
            modules.append(f"{name.rpartition('.')[0]}.")
        head, _, tail = name.removeprefix(prefix).partition(f"{layer}.")
        mixtures.add(f"{prefix}{head}{layer}.{tail.partition('.')[0]}.")
    unknown = []
    for name in left:
        plain, shape = name.removeprefix(prefix), checkpoint.extent(name).shape
        is_known = any(matches_any(kind.module, plain) for kind in family.blocks if _EXPERT not in kind.name)
        # Family files call routers free, since no neuron is in them: beside one, that is no answer.
        is_known |= not name.startswith(tuple(mixtures)) and matches_any(family.free, plain)
        if name.startswith(tuple(modules)) or (block.n_neurons in shape and not is_known):
            unknown.append(name)
    return Routers(tuple(parts) if modules else (), tuple(unknown))


def check_numbering(model: ExpertModel, orders: Mapping[str, Int32Array]) -> None:
    """Raise unless experts can be numbered by their place on storage, in these orders.

    Parameters
    ----------
    model : ExpertModel
    orders : mapping of str to ndarray of int32
        ``order[slot]`` of every block: the expert whose number becomes `slot`.

    Raises
    ------
    UnsupportedError
        If the model is a GGUF file, a layer's router is unknown, or something else may count experts.
    PlacementError
        If the router chooses among groups of experts, and an order takes one apart.
    """
    if model.checkpoint is None:
        raise UnsupportedError(
            f"{model.path}: --permute-experts", found="a GGUF file", expected="a checkpoint directory",
            remedy="leave --permute-experts out: the pack has the experts in that order all the same; or permute the "
            "checkpoint that the file was converted from, and convert the output",
        )  # fmt: skip
    for name, order in orders.items():
        if np.array_equal(order, np.arange(order.size)):
            continue
        routers = model.routers.get(name, Routers(()))
        if not routers.parts or routers.unknown:
            raise UnsupportedError(
                f"{model.path}: {name}", expected="a router that the family file names, and nothing else that counts "
                "experts", found=f"tensor {routers.unknown[0]}, which may count experts" if routers.unknown
                else "no router that is known",
                remedy="leave --permute-experts out: the pack has the experts in that order all the same; or name the "
                "tensors under routers in a family file (docs/families.md), and give it with --family",
            )  # fmt: skip
        n_groups = groups_of(model, name)
        if groups_apart(order, n_groups):
            raise PlacementError(
                f"placement: {name}", found=f"an order that takes groups of experts apart, with {n_groups} groups",
                expected=f"every {order.size // n_groups} experts from the first on to stay together: the router "
                "chooses groups first",
                remedy="order by a --profile, which keeps groups together, or leave --permute-experts out",
            )  # fmt: skip


def groups_of(model: ExpertModel, block: str) -> int:
    """Return how many groups of experts the router of a layer chooses among first, 1 where it has none.

    Raises
    ------
    UnsupportedError
        If the experts do not divide into so many groups.
    """
    config = {} if model.checkpoint is None else model.checkpoint.config
    n_groups = config_size(config, _GROUPS_KEYS) or 1
    n_experts = model.blocks[block].n_neurons
    if n_experts % n_groups:
        raise UnsupportedError(
            f"{model.path}: {block}", found=f"{n_experts} experts in {n_groups} groups",
            expected="groups of equal size", remedy="download config.json again, or leave --permute-experts out",
        )  # fmt: skip
    return n_groups


def groups_apart(order: Int32Array, n_groups: int) -> bool:
    """Tell whether an order puts experts of several groups where one group has to be.

    >>> groups_apart(np.array([3, 2, 0, 1], np.int32), 2), groups_apart(np.array([3, 1, 2, 0], np.int32), 2)
    (False, True)
    """
    groups = order.reshape(n_groups, -1) // (order.size // n_groups)
    return bool((groups != groups[:, :1]).any())


def grouped_order(order: Int32Array, n_groups: int) -> Int32Array:
    """Return an order in which groups lie by their mean place in another one, and their experts as in that one.

    >>> grouped_order(np.array([3, 1, 2, 0], np.int32), 2).tolist()
    [3, 2, 1, 0]
    """
    group_of = order // (order.size // n_groups)
    slots = np.arange(order.size)
    # Sums of slots are whole numbers: groups are equally large. Ties go to the lower group.
    total = np.bincount(group_of, weights=slots, minlength=n_groups)
    rank = np.empty(n_groups, np.int64)
    rank[np.argsort(total, kind="stable")] = np.arange(n_groups)
    return order[np.lexsort((slots, rank[group_of]))]
