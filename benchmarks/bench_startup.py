"""Measure how long ``ripple-place --help`` takes; to reach: 0.3 s.

python benchmarks/bench_startup.py
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.timing import interleaved_seconds


def main() -> None:
    def run(*arguments: str) -> None:
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)

    seconds = interleaved_seconds(
        {
            "python -c pass": lambda: run("-c", "pass"),
            "ripple-place --help": lambda: run("-m", "ripple_place", "--help"),
        },
        9,
    )
    for name, value in seconds.items():
        print(f"{name:20s} {value:.3f} s")


if __name__ == "__main__":
    main()
