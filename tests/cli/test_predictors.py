"""Predictors on the command line: what `reorder`, `verify` and `profile` say of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.checkpoint.names import PREDICTORS_FILE
from ripple_place.units import format_bytes
from tests.predict.builders import add_predictor, predictor_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]


def test_reorder_and_verify(run: Run, profile: str, pico_opt: Path) -> None:
    """A line of the summary, a key of the document, and a check of the proof."""
    add_predictor(Path(profile))
    written = ("reorder", pico_opt, "--profile", profile, "--ordering", "frequency")
    planned = run(*written, "--out", "out", "--dry-run").stdout
    assert "Would write the profile's predictors beside it: " in planned
    document = json.loads(run(*written, "--out", "out", "--json").stdout)
    size_bytes = (Path("out") / PREDICTORS_FILE).stat().st_size
    assert document["bytes_of_predictors"] == size_bytes
    line = f"Wrote the profile's predictors beside it: {format_bytes(size_bytes)}\n"
    assert line in run(*written, "--out", "other").stdout
    proof = run("verify", pico_opt, "out", "--profile", profile).stdout
    assert "2 predictors equal the profile's, in the new order" in proof
    assert "equal the profile's" not in run("verify", pico_opt, "out").stdout


def test_others_than_the_profiles(run: Run, profile: str, pico_opt: Path) -> None:
    """Exit code 4, as for weights; 2 if there is nothing to compare."""
    add_predictor(Path(profile))
    assert run("reorder", pico_opt, "--profile", profile, "--ordering", "frequency", "--out", "out").code == 0
    add_predictor(Path(profile), predictor_of(seed=3))
    other = run("verify", pico_opt, "out", "--profile", profile)
    assert other.code == 4
    assert "found other predictors" in other.stderr
    assert run("verify", "out", "--profile", profile, "--restore", "back").code == 2


def test_nothing_to_export(run: Run, profile: str) -> None:
    """Whether or not torch is there."""
    refused = run("profile", profile, "--out", "p", "--powerinfer", "predictors")
    assert refused.code in (2, 3)
    assert not Path("p").exists()
