"""What scenes start from: traces, profiles, placements and checkpoints, of two layers with 24 neurons."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.placement import ModelPlacement, NeuronPlacement, write_placement
from ripple_place.placing.params import PlacingParams
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import reorder
from tests.builders import opt_config, opt_tensors, write_checkpoint
from tests.torch_files import write_torch_file
from tests.trace_builders import planted_clusters, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

BLOCKS = ("layers.0", "layers.1")


def clusters(n_rows: int = 60, *, cluster_size: int = 8, names: tuple[str, ...] = BLOCKS) -> dict[str, np.ndarray]:
    """Return the activity of some blocks in which three clusters of neurons fire together."""
    rng = np.random.default_rng(0)
    return {name: planted_clusters(rng, n_clusters=3, cluster_size=cluster_size, n_rows=n_rows)[0] for name in names}


def trace_at(path: Path, **options: Any) -> Path:
    """Write a trace."""
    return write_stock_trace(path, clusters(**options), activity="relu")


def profile_at(path: Path, **options: Any) -> Path:
    """Write the profile of a trace."""
    profile(trace_at(path.with_name(f"{path.name}.trace"), **options), path, ProfileParams(verdict=None))
    return path


def counts_at(path: Path) -> Path:
    """Write a profile of firing counts alone."""
    folder = path.with_name(f"{path.name}.counts")
    folder.mkdir()
    for layer in range(2):
        write_torch_file(folder / f"activation_{layer}.pt", np.arange(24))
    profile(f"powerinfer:{folder}", path, ProfileParams(verdict=None))
    return path


def placement_at(path: Path, *, n_neurons: int = 24, names: tuple[str, ...] = BLOCKS, **metadata: str) -> Path:
    """Write a placement in which neurons lie backwards."""
    order = np.arange(n_neurons)[::-1]
    write_placement(path, ModelPlacement({name: NeuronPlacement(order) for name in names}, metadata))
    return path


def model_at(path: Path) -> Path:
    """Write a checkpoint of OPT's shape."""
    return write_checkpoint(path, opt_tensors(), opt_config())


def output_at(path: Path, **options: Any) -> Path:
    """Reorder a checkpoint, which lies beside its output."""
    source, learned = path.with_name("model"), path.with_name("model.profile")
    reorder(model_at(source), profile_at(learned), path, PlacingParams(ordering="frequency"), **options)
    return path
