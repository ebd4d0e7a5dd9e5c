"""A trace and a profile of the pico OPT model (two layers of 24 neurons)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.workflows.profile import profile
from tests.trace_builders import planted_clusters, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def trace_path(tmp_path: Path) -> Path:
    """Return a trace of 300 tokens in which three clusters of neurons fire in each layer."""
    rng = np.random.default_rng(0)
    blocks = {
        f"layers.{layer}": planted_clusters(rng, n_clusters=3, cluster_size=8, n_rows=300)[0] for layer in range(2)
    }
    return write_stock_trace(tmp_path / "pico.trace.safetensors", blocks, activity="relu>0", model="pico")


@pytest.fixture
def profile_path(tmp_path: Path, trace_path: Path) -> Path:
    """Return the profile of that trace."""
    profile([trace_path], tmp_path / "pico.profile")
    return tmp_path / "pico.profile"
