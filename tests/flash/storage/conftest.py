"""A small file to read."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.flash.storage.direct_file import DirectFile

if TYPE_CHECKING:
    from collections.abc import Iterator

DATA_BYTES = 1 << 20


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what reads past the page cache where there is no Linux."""
    if not sys.platform.startswith("linux"):
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="direct reads need Linux"))


@pytest.fixture
def data_path(tmp_path: Path) -> Path:
    """Return a file of 1 MiB of random bytes."""
    path = tmp_path / "data"
    path.write_bytes(np.random.default_rng(0).bytes(DATA_BYTES))
    return path


@pytest.fixture
def data(data_path: Path) -> Iterator[DirectFile]:
    """Return that file, opened for direct reads."""
    with DirectFile.open(data_path) as file:
        yield file
