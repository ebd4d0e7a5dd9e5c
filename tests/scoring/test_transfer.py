"""The transfer matrix: each cell is the simulation that it says it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.score import score
from ripple_place.scoring.transfer import transfer_matrix
from tests.trace_builders import random_activity, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path


def test_the_transfer_matrix_scores_each_trace_by_itself(tmp_path: Path, trace_path: Path, greedy: str) -> None:
    """Rows are traces, columns layouts; each cell is that layout's score on that trace alone."""
    rng = np.random.default_rng(1)
    other = write_stock_trace(
        tmp_path / "other.trace.safetensors",
        {f"layers.{layer}": random_activity(rng, 40, 24, 0.2) for layer in range(2)},
    )
    matrix = transfer_matrix([trace_path, other], ["original", greedy], SimulateParams()).to_json()
    assert matrix["traces"] == [trace_path.name, other.name]
    assert matrix["layouts"] == matrix["labels"] == ["original", greedy]
    for row, path in enumerate((trace_path, other)):
        alone = score([path], ["original", greedy]).to_json()["layouts"]
        assert matrix["flash_time_us_per_token"][row] == [layout["flash_time_us_per_token"] for layout in alone]
        assert matrix["speedup"][row] == [layout["speedup"] for layout in alone]
