"""Named tiny cases."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from tests.bad_storage import build_bad_storage
from tests.builders import llama_config, llama_tensors, opt_config, opt_tensors, write_checkpoint
from tests.flash.builders import block_trace, linear_device, trace_of
from tests.trace_builders import planted_clusters, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.trace.activation_trace import ActivationTrace


# Whether a test is the first to call a kernel, which the command line tells, depends on what ran before.
logging.getLogger("ripple_place.kernels").setLevel(logging.WARNING)


@pytest.fixture
def pico_opt(tmp_path: Path) -> Path:
    """Return a checkpoint of OPT's shape: two layers of 24 neurons, hidden 8, biases, one file.

    As in real OPT models its vocabulary is as long as its FFN is wide.
    """
    return write_checkpoint(tmp_path / "pico-opt", opt_tensors(vocab=24), opt_config())


@pytest.fixture
def pico_llama(tmp_path: Path) -> Path:
    """Return a checkpoint of Llama's shape in three shards, with up, gate and down of a layer in different ones."""
    shards = {
        f"model.layers.{layer}.mlp.{name}_proj.weight": f"model-0000{part}-of-00003.safetensors"
        for layer in range(2)
        for name, part in (("gate", 1), ("up", 2), ("down", 3))
    }
    return write_checkpoint(tmp_path / "pico-llama", llama_tensors(), llama_config(), shards=shards)


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
    profile(trace_path, tmp_path / "pico.profile", ProfileParams(verdict=None))
    return tmp_path / "pico.profile"


@pytest.fixture(scope="session")
def bad_storage(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return a library that stands between a process and storage."""
    return build_bad_storage(tmp_path_factory.mktemp("storage"))


@pytest.fixture
def device() -> DeviceProfile:
    """Return the linear device with pages of 4 KiB and requests of at most 64 KiB."""
    return linear_device()


@pytest.fixture
def four_neurons() -> ActivationTrace:
    """Return three tokens over four neurons: {0, 2}, nothing, {0, 1, 3}."""
    return trace_of({"layers.0": block_trace(np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]]))}, 3)
