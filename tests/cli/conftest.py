"""Runs the command line as the console script does, in this process."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

import numba
import numpy as np
import pytest

from ripple_place.cli.main import main
from tests.trace_builders import planted_clusters, write_stock_trace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[..., Outcome]]:
    """Return a function that runs ``ripple-place`` with some arguments, in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    before = numba.get_num_threads()

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["ripple-place", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main()
        return Outcome(exit_.value.code, *capsys.readouterr())  # type: ignore[arg-type]

    yield run
    numba.set_num_threads(before)


@pytest.fixture
def trace(tmp_path: Path) -> str:
    """Return a trace of 300 tokens of the pico OPT model (two layers of 24 neurons), in the working directory."""
    rng = np.random.default_rng(0)
    blocks = {
        f"layers.{layer}": planted_clusters(rng, n_clusters=3, cluster_size=8, n_rows=300)[0] for layer in range(2)
    }
    return write_stock_trace(tmp_path / "pico.trace.safetensors", blocks).name


@pytest.fixture
def profile(run: Callable[..., Outcome], trace: str) -> str:
    """Return the profile of that trace."""
    assert run("profile", trace, "--out", "pico.profile").code == 0
    return "pico.profile"
