"""The JSON documents of all commands have the keys, types and values that those of an earlier version had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from click.testing import CliRunner

from ripple_place.cli.main import cli
from ripple_place.flash.storage.additivity import Additivity
from ripple_place.flash.storage.calibration_params import CalibrateParams
from ripple_place.flash.storage.calibration_report import CalibrateReport
from ripple_place.flash.storage.filesystem import FileSystem
from tests.formats.documents import differences
from tests.formats.kept import FORMATS, kept
from tests.formats.test_devices import calibrated, cells_at

if TYPE_CHECKING:
    from collections.abc import Callable

REORDER = "reorder formats/checkpoint --profile formats/profile.safetensors --out out --break-even-gap 2.5"
SIMULATE = "simulate formats/trace.safetensors formats/trace-magnitudes.safetensors --layout original"
SEARCHED = "reorder-searched.json"
COMMANDS = {
    "profile.json": "profile formats/trace.safetensors --out profile --neighbors 8 --bundle-bytes 4KiB",
    "profile-expert-model.json": "profile formats/trace-token-index.safetensors --out profile --break-even-gap 3",
    "reorder.json": f"{REORDER} --ordering greedy --seed 3",
    "reorder-dry-run.json": f"{REORDER} --ordering frequency --layers 1 --format bundled --stride page --dry-run",
    "reorder-path.json": "reorder --profile formats/profile.safetensors --out out --ordering path --effort 1",
    SEARCHED: f"{REORDER} --dram-budget 25% --cache pinned+lru --copies 2 --compare --effort 1",
    "simulate.json": f"{SIMULATE} --layout formats/output --sweep dram-budget=25% --transfer "
    "--compute-us-per-layer 50us --overlap cluster --device formats/device-table.toml",
    "simulate-cache.json": f"{SIMULATE} --bundle-bytes 6000 --device formats/device-linear.toml --dram-budget 25% "
    "--cache lru --admission linking:2,0.5 --bound --reset-at-segments --core big --queue-depth 1 --thermal warm",
    "simulate-mapped.json": f"{SIMULATE} --bundle-bytes 6000 --device formats/device-linear.toml --access mmap",
    "verify.json": "verify formats/checkpoint formats/output --restore restored",
}
"""Documents and the commands that print them, on golden files alone."""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Return a function that runs a command beside the golden files, and parses what it prints."""
    (tmp_path / "formats").symlink_to(FORMATS)
    monkeypatch.chdir(tmp_path)

    def run(command: str) -> Any:
        result = CliRunner().invoke(cli, [*command.split(), "--json", "--quiet"], catch_exceptions=False)
        assert result.exit_code == 0
        return json.loads(result.stdout)

    return run


def assert_held(name: str, found: Any, *, values: bool = True) -> None:
    """Compare a document with the golden one."""
    golden = kept(f"documents/{name}", json.dumps(found, indent=1).encode() + b"\n")
    assert differences(json.loads(golden.read_bytes()), found, values=values) == []


@pytest.mark.parametrize("name", COMMANDS)
def test_documents_of_commands(run: Callable[[str], Any], name: str) -> None:
    """Scripts that read a document go on working; of searches the results may improve, and so are not held."""
    assert_held(name, run(COMMANDS[name]), values=name != SEARCHED)


def test_the_document_of_calibrate() -> None:
    """The same, of given times: measured ones differ from run to run."""
    depths = (1, 2, 4, 8)
    measured_us = np.linspace(41, 44, 20)
    report = CalibrateReport(
        Path("storage"), Path("disk.toml"), FileSystem("ext4", "/dev/sda1"), CalibrateParams(n_repeats=3), 512,
        tuple(cell for depth in depths for cell in cells_at(depth)), tuple(cells_at(8)), calibrated(),
        Additivity(measured_us * 1.01, measured_us), ("a sentence",),
    )  # fmt: skip
    assert_held("calibrate.json", json.loads(json.dumps(report.to_json())))


def test_golden_files_stay_small() -> None:
    """All of them are cloned by everyone who clones the repository."""
    assert sum(path.stat().st_size for path in FORMATS.rglob("*") if path.is_file()) < 200_000


GOLDEN = {"n": 3, "us": 2.0, "blocks": {"layers.0": {"gap": None, "lengths": [1, 2]}}, "warnings": ["one"]}


@pytest.mark.parametrize(
    ("found", "of_values", "of_types"),
    [
        (GOLDEN, [], []),
        (GOLDEN | {"more": 1, "us": 2.0 + 1e-12, "warnings": ["two", "three"]}, [], []),
        (GOLDEN | {"us": 2.001}, ["/us: 2.001, not 2.0"], []),
        (GOLDEN | {"n": 4}, ["/n: 4, not 3"], []),
        (GOLDEN | {"n": 3.0}, ["/n: float, not int"], ["/n: float, not int"]),
        (GOLDEN | {"n": True}, ["/n: bool, not int"], ["/n: bool, not int"]),
        (GOLDEN | {"warnings": [3]}, ["/warnings/0: int, not str"], ["/warnings/0: int, not str"]),
        (GOLDEN | {"warnings": "one"}, ["/warnings: str, not list"], ["/warnings: str, not list"]),
        (GOLDEN | {"blocks": {}}, ["/blocks/layers.0: missing"], ["/blocks/layers.0: missing"]),
        (
            GOLDEN | {"blocks": {"layers.0": {"gap": 1, "lengths": [1]}}},
            ["/blocks/layers.0/gap: int, not NoneType", "/blocks/layers.0/lengths: 1 entries, not 2"],
            [],
        ),
        ({key: value for key, value in GOLDEN.items() if key != "us"}, ["/us: missing"], ["/us: missing"]),
    ],
)
def test_the_comparison_itself(found: Any, of_values: list[str], of_types: list[str]) -> None:
    """New keys pass; lost keys, other types and, where they are held, other values do not."""
    assert differences(GOLDEN, found) == of_values
    assert differences(GOLDEN, found, values=False) == of_types
