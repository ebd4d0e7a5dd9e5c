"""Simulations of what was predicted: recorded with a trace, or read with the predictors of an output."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.checkpoint.names import PREDICTORS_FILE
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.errors import CheckpointError, TraceFormatError, UsageError
from ripple_place.pages.simulation_files import write_page
from ripple_place.placement import read_placement
from ripple_place.predict.files import predictors_content
from ripple_place.predict.predictor import BlockPredictor, ModelPredictor, PredictorNote
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.predictions import PredictedActivity, predictor_of_output
from ripple_place.scoring.score import score
from ripple_place.scoring.sweep import Sweep, sweep_simulation
from ripple_place.scoring.transfer import transfer_matrix
from tests.remedies.bench import output_at
from tests.trace_builders import pack, planted_clusters, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("layers.0", "layers.1")


@pytest.fixture
def dense() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return what fires, and what is predicted: most of it, and some more."""
    rng = np.random.default_rng(2)
    active = {name: planted_clusters(rng, n_clusters=3, cluster_size=8, n_rows=300)[0] for name in NAMES}
    predicted = {
        name: (bits & (rng.random(bits.shape) < 0.9)) | (rng.random(bits.shape) < 0.1) for name, bits in active.items()
    }
    return active, predicted


@pytest.fixture
def paths(dense: tuple[dict[str, np.ndarray], dict[str, np.ndarray]], tmp_path: Path) -> tuple[Path, Path]:
    """Return a trace with predictions, and one of these predictions as if they had fired."""
    active, predicted = dense
    tensors = {f"{name}.predicted": pack(bits) for name, bits in predicted.items()}
    told = write_stock_trace(tmp_path / "told", active, tensors=tensors, activity="relu>0", predicted_recall="0.95")
    return told, write_stock_trace(tmp_path / "fired", predicted, activity="relu>0")


def test_predictions_of_a_trace_are_served(
    dense: tuple[dict[str, np.ndarray], dict[str, np.ndarray]], paths: tuple[Path, Path], greedy: str
) -> None:
    """What is served is what would be if it had fired; `exact` says how often the predictions were right."""
    told, fired = paths
    plain = score([told], ["original", greedy], SimulateParams(activity="predicted")).to_json()
    assert (plain["activity"], plain["recall"], plain["predictor_bytes"]) == ("predicted", 0.95, None)
    same = score([fired], ["original", greedy]).to_json()
    assert (same["activity"], same["recall"]) == ("true", None)
    assert plain["layouts"] == same["layouts"]
    params = SimulateParams(activity="predicted", select=("exact",), bundle_bytes=4096)
    [exact] = score([told], ["original"], params).to_json()["layouts"]
    active, predicted = (np.concatenate([bits[name] for name in NAMES]) for bits in dense)
    n_hits = np.count_nonzero(active & predicted)
    assert exact["recall"] == exact["kept_share"] == pytest.approx(n_hits / np.count_nonzero(active))
    assert exact["precision"] == pytest.approx(n_hits / np.count_nonzero(predicted))
    assert exact["needs"] == "a predictor of which neurons fire"
    [true] = score([told], ["original"], SimulateParams(select=("exact",), bundle_bytes=4096)).to_json()["layouts"]
    assert true["recall"] is true["precision"] is None
    assert true["flash_time_us_per_token"] != exact["flash_time_us_per_token"]


def test_sweeps_and_transfer(paths: tuple[Path, Path], greedy: str) -> None:
    """Each simulation in them serves predictions, too."""
    told, fired = paths
    params = SimulateParams(activity="predicted")
    points = [
        sweep_simulation([path], [greedy], setting, Sweep.parse("collapse=off,2")).to_json()
        for path, setting in ((told, params), (fired, SimulateParams()))
    ]
    assert points[0] == points[1]
    matrices = [transfer_matrix([told], [greedy], params), transfer_matrix([fired], [greedy], SimulateParams())]
    assert matrices[0].to_json()["flash_time_us_per_token"] == matrices[1].to_json()["flash_time_us_per_token"]


def test_the_page_says_so(paths: tuple[Path, Path], greedy: str, tmp_path: Path) -> None:
    """Among the assumptions; no perfect predictor is assumed."""
    scores = score([paths[0]], [greedy], SimulateParams(activity="predicted", select=("exact",)))
    write_page(tmp_path / "page.html", scores, "c")
    page = (tmp_path / "page.html").read_text()
    assert "What is read is what predictors said when the trace was recorded, at a recall of 0.95." in page
    assert "What is predicted and does not fire is read as well" in page
    assert "Nothing is charged for deciding" not in page
    charged = PredictedActivity(0.99, 4096).sentences
    assert charged == (
        "What is read is chosen by what predictors say, at a recall of 0.99. They take 4 KiB of DRAM beside that for "
        "neurons."
    )


def test_a_trace_without_predictions(paths: tuple[Path, Path], greedy: str) -> None:
    """There is nothing to serve."""
    with pytest.raises(TraceFormatError, match=r"layers\.0: found no predictions"):
        score([paths[1]], [greedy], SimulateParams(activity="predicted"))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"activity": "guessed"}, "--activity: found 'guessed'; expected true or predicted"),
        ({"activity": "true", "recall": 0.99}, "--recall 0.99: found what fires, which no predictor says"),
        ({"recall": 0.99}, "--recall 0.99: found traces, whose predictions were recorded at one recall"),
        ({"select": ("exact",), "magnitude_noise": 1.0}, "--magnitude-noise 1: found --activity predicted"),
        ({"select": ("exact,sees=output",)}, "exact,sees=output: found a rule that reads weights"),
        ({"select": ("exact", "top-k=5")}, "--select top-k=5: found traces, which say which neurons were predicted"),
    ],
)
def test_what_does_not_go_with_predictions(options: dict[str, object], match: str) -> None:
    """Refused before a file is read."""
    with pytest.raises(UsageError, match=match):
        SimulateParams(**{"activity": "predicted", **options})  # type: ignore[arg-type]


def predictors(rng: np.random.Generator, n_neurons: int, names: tuple[str, ...] = NAMES) -> ModelPredictor:
    """Return random predictors of some blocks."""
    blocks = {
        name: BlockPredictor(
            rng.standard_normal((3, 4)).astype(np.float16), rng.standard_normal((n_neurons, 3)).astype(np.float16),
            rng.standard_normal(n_neurons).astype(np.float32), np.zeros(1, np.float32),
        )
        for name in names
    }  # fmt: skip
    return ModelPredictor(blocks, PredictorNote("activity", (0.9,), 10, dict.fromkeys(names, "logistic")))


def test_predictors_of_an_output_are_put_back(tmp_path: Path) -> None:
    """In the output they lie as its neurons do; scores are of neurons as the source names them."""
    output = output_at(tmp_path / "out")
    placement = read_placement(read_manifest(output).placement_path)
    n_neurons = {name: block.n_neurons for name, block in placement.blocks.items()}
    assert any((block.order != np.arange(block.n_neurons)).any() for block in placement.blocks.values())
    found = predictors(np.random.default_rng(3), *{*n_neurons.values()}, tuple(n_neurons))
    orders = {name: block.order for name, block in placement.blocks.items()}
    (output / PREDICTORS_FILE).write_bytes(predictors_content(found.in_orders(orders)))
    again = predictor_of_output(output)
    x = np.random.default_rng(4).standard_normal((5, 4)).astype(np.float32)
    for name, block in found.blocks.items():
        np.testing.assert_array_equal(again.blocks[name].scores(x), block.scores(x))
    (output / PREDICTORS_FILE).write_bytes(predictors_content(predictors(np.random.default_rng(3), 5)))
    with pytest.raises(CheckpointError, match=r"layers\.0: found a predictor of 5 neurons; expected \d+, as in the"):
        predictor_of_output(output)
