"""``ripple-place simulate`` with DRAM caches: what it prints, and what it refuses."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner, Result

from ripple_place.cli.main import cli, main
from ripple_place.flash.caches.registry import POLICY_NAMES
from ripple_place.placement import ModelPlacement, NeuronPlacement, write_placement
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
from ripple_place.trace.files import write_trace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with a trace of 60 tokens in three segments, and a placement with frequencies."""
    rng = np.random.default_rng(1)
    active = rng.random((2, 60, 80)) < rng.random(80) * 0.5
    blocks = {f"layers.{i}": BlockTrace(80, np.packbits(active[i], axis=1, bitorder="little")) for i in range(2)}
    write_trace(tmp_path / "t.trace.safetensors", ActivationTrace(blocks, 60, np.array([0, 20, 40])))
    placed = {name: NeuronPlacement(rng.permutation(80), frequency=active[i].sum(0)) for i, name in enumerate(blocks)}
    write_placement(tmp_path / "p.placement", ModelPlacement(placed, {"bundle_bytes": "4096"}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(options: str) -> Result:
    """Run the command on the folder's trace and layouts."""
    line = f"simulate t.trace.safetensors --layout p.placement --layout original {options}"
    return CliRunner().invoke(cli, shlex.split(line))


def document(options: str) -> dict:
    """Return the JSON document."""
    result = run(f"{options} --json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize("policy", [name.replace("K", "2") for name in POLICY_NAMES])
def test_every_policy_reports_its_hits_beside_the_bound(in_folder: Path, policy: str) -> None:
    """Each policy that help lists runs; ratios lie between nothing and, but for what is pinned, the best possible."""
    assert policy.split(":")[0] in "".join(run("--help").output.split())  # A name may be wrapped at its hyphens.
    bound = "" if policy == "none" else "--bound"
    result = document(f"--dram-budget 30% --cache {policy} {bound}")
    assert result["cache"] == policy
    assert result["admission"] == "all"
    assert result["reset_at_segments"] is False
    for layout in result["layouts"]:
        assert len(layout["cache_hit_ratio_by_tenth"]) == 10
        assert layout["cache_hit_ratio_bytes"] == layout["cache_hit_ratio"]
        if policy == "none":
            assert layout["cache_hit_ratio_belady"] is None
        elif not policy.startswith("pinned"):
            assert layout["cache_hit_ratio"] <= layout["cache_hit_ratio_belady"] < 1
        assert layout["blocks"]["layers.1"].keys() >= {
            "cache_hit_ratio_bytes", "cache_hit_ratio_belady", "cache_hit_ratio_by_tenth",
        }  # fmt: skip


def test_admission_and_resets_change_the_hits(in_folder: Path) -> None:
    """Each costs hits of an LRU here; the seed decides what linking draws; the header and the document say so."""
    plain = document("--dram-budget 30% --cache lru")["layouts"][0]["cache_hit_ratio"]
    linking = document("--dram-budget 30% --cache lru --admission linking:2,0.5")
    assert linking["admission"] == "linking:2,0.5"
    assert linking["layouts"][0]["cache_hit_ratio"] != plain
    again = document("--dram-budget 30% --cache lru --admission linking:2,0.5 --seed 1")
    assert again["layouts"][0]["cache_hit_ratio"] != linking["layouts"][0]["cache_hit_ratio"]
    reset = document("--dram-budget 30% --cache lru --reset-at-segments")
    assert reset["reset_at_segments"] is True
    assert reset["layouts"][0]["cache_hit_ratio"] < plain
    assert (
        "lru cache of 30.0% of the neurons, admission linking:2,0.5"
        in run("--dram-budget 30% --cache lru --admission linking:2,0.5").stdout
    )


def test_budgets_in_bytes_are_shared_evenly(in_folder: Path) -> None:
    """160 KiB are 20 bundles of 4 KiB in each of two blocks."""
    assert document("--dram-budget 160KiB --cache fifo")["capacity_neurons"] == {"layers.0": 20, "layers.1": 20}


def test_one_pool_of_all_blocks(in_folder: Path) -> None:
    """The header and the document say so; hits differ from those of two caches; a rule that drops nothing goes."""
    pooled, apart = (document(f"--dram-budget 30% --cache lru {option}") for option in ("--dram-pool", ""))
    assert (pooled["dram_pool"], pooled["pool_neurons"], apart["dram_pool"]) == (True, 48, False)
    assert pooled["layouts"][0]["cache_hit_ratio"] != apart["layouts"][0]["cache_hit_ratio"]
    header = run("--dram-budget 30% --cache lru --dram-pool").stdout.splitlines()[0]
    assert header.endswith("lru cache of 30.0% of the neurons, one pool")
    exact = document("--dram-budget 30% --cache lru --dram-pool --select exact")
    assert exact["layouts"][0]["cache_hit_ratio"] == pooled["layouts"][0]["cache_hit_ratio"]


def test_segments_run_together(in_folder: Path) -> None:
    """Two of the three segments of 20 tokens at once: 20 steps; times of steps stand in a table of their own."""
    batched, plain = document("--batch 2"), document("")
    assert (batched["batch"], batched["n_tokens"], batched["n_steps"]) == ([2], 40, 20)
    (steps,) = batched["layouts"][0]["steps"]
    assert (steps["batch"], steps["n_steps"]) == (2, 20)
    assert steps["flash_time_us_per_token"] == pytest.approx(batched["layouts"][0]["flash_time_us_per_token"])
    assert batched["layouts"][0]["active_per_token"] < plain["layouts"][0]["active_per_token"]
    text = run("--batch 1,2 --compute-us-per-layer 100us").stdout
    assert "60 tokens in 40 steps of 1, then 2 sequences" in text
    assert "flash time/step" in text
    assert "step time" in text
    assert "step time" not in run("--batch 2").stdout


def test_verbose_shows_the_warm_up(in_folder: Path) -> None:
    """Ten ratios for each layout, and the best possible ratio beside the hits."""
    result = run("--dram-budget 30% --cache sieve --bound -v")
    lines = [line for line in result.stdout.splitlines() if line.startswith("DRAM hits by tenth")]
    assert len(lines) == 2
    assert all(line.count("%") == 10 for line in lines)
    assert "best hits" in result.stdout
    assert "by tenth" not in run("--dram-budget 30% --cache sieve").stdout
    assert "best hits" not in run("--dram-budget 30% --cache sieve -v").stdout


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ("--cache sieve", "--cache sieve: found no DRAM budget"),
        ("--dram-budget 10% --cache arc", "cache arc: found no policy by that name"),
        ("--dram-budget 10% --cache window", "cache window: found no number of tokens"),
        ("--admission linking", "--admission linking: found no DRAM cache; expected one. Add --dram-budget 10%"),
        ("--dram-budget 10% --cache none --reset-at-segments", "--reset-at-segments: found no DRAM cache"),
        ("--bound", "--bound: found no DRAM cache"),
        ("--dram-budget 10% --admission some", "admission some: found no such rule"),
        ("--dram-pool", "--dram-pool: found no DRAM cache; expected one. Add --dram-budget 10%"),
        ("--dram-budget 10% --cache segmented", "cache segmented: found no plan of hot clusters"),
        ("--batch 4", "--batch 4: found a trace of 3 segments; expected at least 4"),
        ("--batch 2,2", "--batch 2,2: found stretch 1 of the trace: 1 segments; expected at least 2"),
        ("--batch two", "--batch two: found no batch size"),
        ("--batch 2 --emit-fio a.iolog", "--batch 2: found --emit-fio; expected one sequence"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(
    in_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, options: str, match: str
) -> None:
    """Exit code 2, and a message that says what to write."""
    monkeypatch.setattr(
        "sys.argv",
        ["ripple-place", "simulate", "t.trace.safetensors", "--layout", "p.placement", *shlex.split(options)],
    )
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert match in capsys.readouterr().err
