"""Layouts on storage that fails, interrupts, or knows no direct reads; and a process that may open no more files."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numba
import numpy as np
import pytest

from ripple_place.flash.simulation_params import SimulationParams
from ripple_place.runtime.layout_reader import LayoutReader
from tests.failing_call import next_descriptor
from tests.flash.builders import linear_device
from tests.runtime.builders import bundles_by_index, write_output

ROOT = Path(__file__).parents[2]
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
READ_ROWS = """
import sys, numpy as np
from ripple_place.flash.simulation_params import SimulationParams
from ripple_place.runtime.layout_reader import LayoutReader, ReaderParams
from tests.flash.builders import linear_device
reader = LayoutReader.open(sys.argv[1], linear_device(), SimulationParams(), ReaderParams(4, check="header"))
with reader:
    print(reader.is_direct)
    for first in range(0, 90, 30):
        rows = reader.serve("layers.1", np.arange(first, first + 30, 3))
        print(first, rows.tobytes().hex())
"""


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an output without gates."""
    return write_output(tmp_path_factory.mktemp("out"))


def read_rows(out: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Read three rows of an output in a process of its own."""
    return subprocess.run(
        [sys.executable, "-c", READ_ROWS, out], env={**os.environ, **environment}, cwd=ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def expected_lines(out: Path) -> list[str]:
    """Return what is printed of rows that were read."""
    bundles = bundles_by_index(out, "layers.1")
    return [f"{first} {bundles[first : first + 30 : 3].tobytes().hex()}" for first in range(0, 90, 30)]


@needs_compiler
@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="ctypes finds the library's own function")
def test_one_read_fails(out: Path, bad_storage: str) -> None:
    """The rows before it are there; of its own nothing is returned, and the error says where."""
    done = read_rows(out)
    assert done.stdout.splitlines()[1:] == expected_lines(out)
    block = LayoutReader.open(out, linear_device(), SimulationParams()).layout.blocks["layers.1"].extent
    offset = (block.base_offset_bytes + 60 * block.stride_bytes) // 4096 * 4096
    done = read_rows(out, LD_PRELOAD=bad_storage, FAILS_AT=str(offset))
    assert done.returncode == 1
    assert "OSError: [Errno 5]" in done.stderr
    assert str(out / "ripple_place/bundled.safetensors") in done.stderr
    said = done.stdout.splitlines()[1:]
    assert said == expected_lines(out)[: len(said)]
    assert len(said) < 3


@needs_compiler
@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="Python repeats interrupted reads by itself")
def test_interrupted_reads(out: Path, bad_storage: str) -> None:
    """Signals that interrupt a read are no failure."""
    done = read_rows(out, LD_PRELOAD=bad_storage, INTERRUPTED="1")
    assert done.stdout.splitlines()[1:] == expected_lines(out), done.stderr


def test_no_more_files(out: Path) -> None:
    """A full table of open files is an error that names the file; nothing stays open, and a later attempt works."""
    with LayoutReader.open(out, linear_device(), SimulationParams()) as reader:
        reader.serve("layers.0", np.array([0]))
    before, (soft, hard) = os.listdir("/proc/self/fd"), resource.getrlimit(resource.RLIMIT_NOFILE)
    refused = []
    for n_more in range(3):
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_descriptor() + n_more, hard))
        try:
            LayoutReader.open(out, linear_device(), SimulationParams()).close()
        except OSError as error:
            refused.append(error)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert refused
    assert all(error.errno == errno.EMFILE and error.filename is not None for error in refused)
    with LayoutReader.open(out, linear_device(), SimulationParams()) as reader:
        reader.serve("layers.0", np.array([0]))
    assert len(os.listdir("/proc/self/fd")) == len(before)
