"""What the benchmarks share: interleaved timing, and where the real data lies."""

from __future__ import annotations

import os
import statistics
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def interleaved_seconds(functions: dict[str, Callable[[], object]], n_repeats: int) -> dict[str, float]:
    """Return the median seconds of each function; they take turns, after one turn each that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(n_repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if repeat:
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def data_folder() -> Path | None:
    """Return the folder of real models and traces, or None after saying that it is not set."""
    folder = os.environ.get("RIPPLE_PLACE_DATA")
    if folder is None:
        print("RIPPLE_PLACE_DATA is unset: no real traces measured")
    return None if folder is None else Path(folder)
