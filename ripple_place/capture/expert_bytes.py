"""The bytes of an expert by layer, from the headers of a checkpoint."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ripple_place.capture.tensor_names import TensorNames
from ripple_place.checkpoint.model.quantised import logical_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ripple_place.capture.routed_sites import RoutedSite
    from ripple_place.tensorfile import TensorFile


def expert_bytes(model: Any, sites: Sequence[RoutedSite], shards: Sequence[TensorFile]) -> dict[str, int]:
    """Return the bytes of an expert by block: all that its weights, biases and scales take in the checkpoint.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A skeleton will do.
    sites : sequence of RoutedSite
    shards : sequence of TensorFile
        Empty where the weights are in a format whose headers cannot be read.

    Returns
    -------
    dict of str to int
        The mean of the layer's experts, rounded down; without layers of which no tensor was found.

    Notes
    -----
    Whatever lies on disk under a name that transformers loads into a layer's module of experts is theirs, in any dtype,
    fused or apart.
    """
    extents = {name: extent for shard in shards for name, extent in shard.tensors.items()}
    targets = TensorNames(model).translate({logical_name(name) for name in extents}) if extents else {}
    owner = {path: site.block for site in sites for path in site.weights}
    total: Counter[str] = Counter()
    for name, extent in extents.items():
        target = targets[logical_name(name)][0]
        block = next((owner[path] for path in _above(target) if path in owner), None)
        if block is not None:
            total[block] += extent.length_bytes
    n_experts = {site.block: site.n_neurons for site in sites}
    return {site.block: total[site.block] // n_experts[site.block] for site in sites if total[site.block]}


def _above(name: str) -> list[str]:
    """Return the names of the modules that a tensor lies in.

    >>> _above("model.layers.0.weight")
    ['model', 'model.layers', 'model.layers.0']
    """
    parts = name.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]
