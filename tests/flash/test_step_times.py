"""Steps of several sequences: what a token of each takes."""

from __future__ import annotations

import numpy as np
import pytest

from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.flash.token_time import ComputeParams
from tests.flash.builders import block_trace, layout_of, linear_device, trace_of


def test_a_token_takes_its_share_of_a_step() -> None:
    """By hand: one neuron of 4 KiB takes 11 us, two in one read 12, none nothing; 5 us of computing in each step.

    Step 0 has two sequences and reads two neurons, step 1 two and one neuron, step 2 one sequence and two neurons.
    """
    block = block_trace(np.array([[1, 1], [1, 0], [1, 1]]))
    trace, layout, device = trace_of({"layers.0": block}, 3), layout_of({"layers.0": [0, 1]}), linear_device()
    params = SimulationParams(batch_of_step=np.array([2, 2, 1], np.int32), compute=ComputeParams(5.0))
    result = simulate(trace, layout, device, params)
    assert result.n_tokens == 5
    assert result.token_us.tolist() == [6.0, 6.0, 5.5, 5.5, 12.0]
    assert result.blocks["layers.0"].percentiles_us == pytest.approx(np.percentile(result.token_us, (50, 90, 99)))
    assert result.token_time is not None
    assert result.token_time.token_us.tolist() == [8.5, 8.5, 8.0, 8.0, 17.0]
    assert result.token_time.compute_us_per_token == 3.0
    document = result.to_json()
    assert document["flash_time_us_per_token"] == 35 / 5
    assert document["active_per_token"] == 1
    assert document["steps"] == [
        {
            "batch": 2, "n_steps": 2, "flash_time_us_per_step": 11.5, "step_time_us_per_step": 16.5,
            "flash_time_us_per_token": 5.75,
        },
        {
            "batch": 1, "n_steps": 1, "flash_time_us_per_step": 12.0, "step_time_us_per_step": 17.0,
            "flash_time_us_per_token": 12.0,
        },
    ]  # fmt: skip
    assert "steps" not in simulate(trace, layout, device).to_json()


def test_batches_of_one_change_nothing() -> None:
    """But for the times of steps, which are then those of tokens."""
    rng = np.random.default_rng(0)
    trace = trace_of({"layers.0": block_trace(rng.random((20, 30)) < 0.3)}, 20)
    layout, device = layout_of({"layers.0": rng.permutation(30).tolist()}), linear_device()
    ones = SimulationParams("lru", {"layers.0": 9}, batch_of_step=np.ones(20, np.int32), compute=ComputeParams(7.0))
    plain = SimulationParams("lru", {"layers.0": 9}, compute=ComputeParams(7.0))
    document = simulate(trace, layout, device, ones).to_json()
    (steps,) = document.pop("steps")
    assert steps["flash_time_us_per_step"] == pytest.approx(document["flash_time_us_per_token"])
    assert document == simulate(trace, layout, device, plain).to_json()
