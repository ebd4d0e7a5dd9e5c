"""The layout of a plan: hot neurons first, the most frequent before others, then the cold ones as they are placed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.placement import ModelPlacement
from ripple_place.systems.plan import METADATA_KEY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import BoolArray, Int32Array, Int64Array
    from ripple_place.systems.plan import NeuronPlan


def hot_neurons(frequency: Mapping[str, Int64Array], plan: NeuronPlan) -> dict[str, Int32Array]:
    """Return by block the neurons that are hot at the largest batch size, the most frequent first.

    Parameters
    ----------
    frequency : mapping of str to ndarray of shape (n_neurons,), int64
        Firing counts by block. Of equal counts the lower neuron comes first.
    plan : NeuronPlan
    """
    most = plan.n_hot(plan.batch_sizes[-1])
    return {
        name: np.argsort(-frequency[name], kind="stable")[: most[name]].astype(np.int32) for name in plan.blocks
    }  # fmt: skip


def are_hot(hot: Mapping[str, Int32Array], plan: NeuronPlan) -> dict[str, BoolArray]:
    """Return by block which neurons are hot, as flags of shape (n_neurons,)."""
    flags = {name: np.zeros(block.n_neurons, bool) for name, block in plan.blocks.items()}
    for name, neurons in hot.items():
        flags[name][neurons] = True
    return flags


def hot_first(cold: ModelPlacement, hot: Mapping[str, Int32Array], plan: NeuronPlan) -> ModelPlacement:
    """Return a placement whose hot neurons lie first and in sequence, with the plan in its metadata.

    Parameters
    ----------
    cold : ModelPlacement
        Orders the cold neurons; where it has hot ones does not matter.
    hot : mapping of str to ndarray of int32
        By block, the most frequent first (`hot_neurons`).
    plan : NeuronPlan

    Notes
    -----
    The hot neurons of a small batch are the first of those of a larger one: whatever the batch, they are one stretch.
    Pinned are those that are resident at the smallest batch size.
    """
    blocks = {}
    for name, block in cold.blocks.items():
        n_resident = plan.blocks[name].hot[plan.batch_sizes[0]].n_resident
        order = np.concatenate([hot[name], block.order[~np.isin(block.order, hot[name])]])
        blocks[name] = replace(block, order=order, pinned=np.sort(hot[name][:n_resident]), order_2=None)
    return ModelPlacement(blocks, {**cold.metadata, METADATA_KEY: json.dumps(plan.to_json())})
