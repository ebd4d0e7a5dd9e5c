"""Layouts by rules: how results are named, what speedups are against, and what rules do not go with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.pages.simulation_files import write_page, write_picture
from ripple_place.scoring.extras import SimulateExtras
from ripple_place.scoring.measure import MeasureParams
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.score import score
from ripple_place.scoring.selection_columns import selection_cells
from ripple_place.scoring.sweep import Sweep, sweep_simulation
from ripple_place.scoring.transfer import transfer_matrix
from tests.trace_builders import planted_clusters, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

RULES = ("threshold=0.5", "exact")


@pytest.fixture
def valued(tmp_path: Path) -> Path:
    """Return the path of a trace with magnitudes."""
    rng = np.random.default_rng(2)
    activity, tensors = {}, {}
    for name in ("layers.0", "layers.1"):
        active, _ = planted_clusters(rng, n_clusters=3, cluster_size=8, n_rows=300)
        row, neurons = np.nonzero(active)
        activity[name] = active
        tensors |= {
            f"{name}.magnitude.indptr": np.searchsorted(row, np.arange(301)).astype(np.int64),
            f"{name}.magnitude.indices": neurons.astype(np.int32),
            f"{name}.magnitude.values": rng.exponential(1, row.size).astype(np.float32),
        }
    return write_stock_trace(tmp_path / "valued", activity, tensors=tensors, activity="relu")


def test_results_are_named_by_layout_and_rule(valued: Path, greedy: str) -> None:
    """The name stays the layout's; without rules the label is the name."""
    document = score([valued], ["original", greedy], SimulateParams(select=RULES)).to_json()
    assert [row["name"] for row in document["layouts"]] == ["original"] * 2 + [greedy] * 2
    assert [row["label"] for row in document["layouts"]] == [
        f"{layout}, {rule}" for layout in ("original", greedy) for rule in RULES
    ]
    plain = score([valued], ["original", greedy]).to_json()
    assert [row["label"] for row in plain["layouts"]] == ["original", greedy]
    assert plain["baseline"] == "original"


def test_speedups_are_against_the_baseline_by_the_first_rule(valued: Path, greedy: str) -> None:
    """Which need not be exact; of blocks as well."""
    for baseline, place in ((None, 0), ("original", 0), (greedy, 2)):
        document = score([valued], ["original", greedy], SimulateParams(select=RULES, baseline=baseline)).to_json()
        rows = document["layouts"]
        assert document["baseline"] == rows[place]["label"]
        assert rows[place]["speedup"] == 1
        for row in rows:
            times = [part["flash_time_us_per_token"] for part in (rows[place], row)]
            assert row["speedup"] == pytest.approx(times[0] / times[1])
            for name, block in row["blocks"].items():
                times = [part["flash_time_us_per_token"] for part in (rows[place]["blocks"][name], block)]
                assert block["speedup"] == pytest.approx(times[0] / times[1])


def test_columns_without_values_are_left_out(valued: Path, greedy: str) -> None:
    """Loss is unknown without a model, and DRAM serves nothing without a budget."""
    rows = score([valued], ["original"], SimulateParams(select=RULES, bundle_bytes=4096)).to_json()["layouts"]
    headings, cells = selection_cells(rows)
    assert headings == ["layout", "rule", "flash time/token", "speedup", "reads", "kept", "needs"]
    assert [row[1] for row in cells] == list(RULES)
    timed = [{**row, "token_time_us_per_token": 5.0, "token_speedup": 1.5, "cache_hit_ratio": 0.5} for row in rows]
    headings, _ = selection_cells(timed)
    assert headings[3:8] == ["flash speedup", "token time", "token speedup", "reads", "DRAM hits"]


def test_a_sweep_and_the_transfer_matrix_have_a_column_a_result(valued: Path, greedy: str) -> None:
    """Each is the simulation that it says it is."""
    params = SimulateParams(select=RULES)
    labels = [f"{layout}, {rule}" for layout in ("original", greedy) for rule in RULES]
    (point,) = sweep_simulation([valued], ["original", greedy], params, Sweep.parse("collapse=2")).to_json()["points"]
    assert (
        point["layouts"]
        == score([valued], ["original", greedy], SimulateParams(select=RULES, gap=2)).to_json()["layouts"]
    )
    matrix = transfer_matrix([valued], ["original", greedy], params).to_json()
    assert matrix["labels"] == [row["label"] for row in point["layouts"]] == labels
    assert len(matrix["flash_time_us_per_token"][0]) == 4


@pytest.mark.parametrize(
    ("measure", "option"), [(MeasureParams(file="data"), "--measure"), (MeasureParams(fio="log"), "--emit-fio")]
)
def test_reads_of_rules_are_not_replayed(measure: MeasureParams, option: str) -> None:
    """What is replayed are the reads of all that fires: under a rule's name they would mislead."""
    with pytest.raises(UsageError, match=rf"--select exact: found {option}; .* Leave out --select, or {option}"):
        SimulateExtras(measure=measure).check(["t"], ["original"], SimulateParams(select=("exact",)))


def test_the_picture_is_that_of_the_simulation_without_rules(valued: Path, greedy: str, tmp_path: Path) -> None:
    """It is about layouts; the page has the rules as well."""
    plain = score([valued], ["original", greedy])
    by_rule = score([valued], ["original", greedy], SimulateParams(select=RULES))
    write_picture(tmp_path / "plain.svg", plain)
    write_picture(tmp_path / "rules.svg", by_rule)
    assert (tmp_path / "plain.svg").read_bytes() == (tmp_path / "rules.svg").read_bytes()
    write_page(tmp_path / "rules.html", by_rule, "c")
    page = (tmp_path / "rules.html").read_text()
    assert "Loss is unknown" in page
    assert page.count('<th scope="row">threshold=0.5</th>') == 2
