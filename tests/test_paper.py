"""The published figures in benchmarks/paper: what lies in the repository is whole, and Table 2 is met."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import fit_neuralink_table2 as table2
from benchmarks.paper import dip, neuralink_table2, small_checks
from benchmarks.paper.figures import Figure, write_json, write_table

FOLDER = Path(__file__).parents[1] / "benchmarks/paper"
RESULTS = json.loads((FOLDER / "results.json").read_text())
BY_ID = {entry["id"]: entry for entry in RESULTS}
PERCENTS = table2.NON_ACTIVATED_PERCENT.tolist()


def test_results_are_whole() -> None:
    """Every entry has all keys, an id of its own, and a deviation that follows from its numbers."""
    assert len(BY_ID) == len(RESULTS) > 50
    for entry in RESULTS:
        assert list(entry) == [
            "id", "source", "published", "simulated", "unit", "deviation", "kind", "explanation",
        ]  # fmt: skip
        assert entry["kind"] in ("prediction", "consistency")
        assert entry["deviation"] == pytest.approx(entry["simulated"] / entry["published"] - 1, abs=1e-6)
        assert all(entry[key].strip() for key in ("id", "source", "unit", "explanation"))
        assert entry["explanation"].endswith(".")


def test_the_table_shows_every_result() -> None:
    """The Markdown page and the JSON are of one run."""
    page = (FOLDER / "results.md").read_text()
    for entry in RESULTS:
        row = next(line for line in page.splitlines() if line.startswith(f"| `{entry['id']}` |"))
        assert f"| {entry['kind']} |" in row
        assert entry["explanation"] in page
        if abs(entry["deviation"]) >= 0.001:
            assert f"| {entry['deviation']:+.1%} |" in row


def test_every_published_family_is_there() -> None:
    """Table 2 under both devices, LLM in a Flash, PowerInfer-2, DIP, arithmetic, and the ladder of both models."""
    expected = {f"neuralink-table2-{part}{percent}" for percent in PERCENTS for part in ("", "shipped-")}
    expected |= {"llm-in-a-flash-8kib", "llm-in-a-flash-16kib", "powerinfer2-two-phase", "dip-opt-350m-first-call"}
    expected |= {f"dip-{golden}" for golden in (*dip.BELADY_GOLDENS, *dip.COUNTED_GOLDENS)}
    expected |= {f"dip-dense-streaming-{model}" for model in dip.DENSE_TOKENS_PER_S}
    for model in ("opt-6.7b", "llama-2-7b"):
        expected |= {f"neuralink-read-length-{model}-{order}" for order in ("checkpoint", "frequency", "greedy")}
        expected |= {f"neuralink-vs-llmflash-{model}", f"independent-read-length-{model}"}
    assert expected <= BY_ID.keys()


def test_table_2_judged_points() -> None:
    """What five points predict of the other five, from the fit itself: within 8 %, 4 % on average.

    And the recorded simulation, in which masks are drawn instead of expected, agrees with the formula.
    """
    _, modelled_ms = table2.fit(np.isin(PERCENTS, table2.FIT_PERCENT))
    judged = []
    for percent, measured_ms, ms in zip(PERCENTS, table2.MEASURED_MS, modelled_ms, strict=True):
        entry = BY_ID[f"neuralink-table2-{percent}"]
        assert entry["published"] == measured_ms
        assert entry["simulated"] == pytest.approx(ms, rel=0.01)
        assert entry["kind"] == ("consistency" if percent in table2.FIT_PERCENT else "prediction")
        if percent not in table2.FIT_PERCENT:
            judged.append((abs(ms / measured_ms - 1), abs(entry["deviation"])))
    assert len(judged) == 5
    for deviations in zip(*judged, strict=True):
        assert max(deviations) < 0.08
        assert np.mean(deviations) < 0.04


def test_table_2_is_simulated_afresh() -> None:
    """One point through the simulator now gives what the results record."""
    device = neuralink_table2.five_point_device()
    assert neuralink_table2.simulated_ms(device, 90) == pytest.approx(
        BY_ID["neuralink-table2-90"]["simulated"], rel=1e-5
    )


@pytest.mark.parametrize("figures", [dip.figures, small_checks.powerinfer2])
def test_small_checks_are_computed_afresh(figures) -> None:
    """The cheap figures, run now, are the recorded ones."""
    for figure in figures():
        assert figure.to_json() == BY_ID[figure.id]


def test_dip_s_golden_cases_are_met() -> None:
    """Every item of every golden case, and every derived figure to the digits that are given."""
    for figure in dip.figures():
        if figure.unit.startswith("items"):
            assert figure.simulated == figure.published == 5
        else:
            assert figure.simulated == pytest.approx(figure.published, rel=2e-3)


def test_figures_are_written_as_documented(tmp_path: Path) -> None:
    """The deviation in the file is that of the rounded number beside it."""
    figure = Figure("an-id", "a paper", 3.0, 3.1234567, "ms", "prediction", "Because.")
    write_json(tmp_path / "results.json", [figure])
    write_table(tmp_path / "results.md", {"Title": ("Of something.", [figure])})
    (entry,) = json.loads((tmp_path / "results.json").read_text())
    assert (entry["simulated"], entry["deviation"]) == (3.12346, 0.041153)
    assert "| `an-id` | a paper | 3 | 3.123 | ms | +4.1% | prediction |" in (tmp_path / "results.md").read_text()
    with pytest.raises(AssertionError):
        write_json(tmp_path / "results.json", [figure, figure])
