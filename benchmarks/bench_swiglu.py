"""The whole way of a SwiGLU model: profile, reorder, verify, simulate, each timed.

    .venv-torch/bin/python -m benchmarks.bench_swiglu --model qwen2.5-coder-0.5b --text train.txt --held-out test.txt

The model is a checkpoint directory (of Qwen2.5-Coder-0.5B-Instruct in the figures of README.md); profiled is the one
text, judged on the other. Prints what each command prints, with its wall clock and processor time and its peak memory.
Needs torch and transformers; says so and ends where the model is absent.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ripple_place.trace.files import read_trace


def timed(*arguments: object) -> None:
    """Run a command of ripple-place, show what it prints, and print what it took."""
    print(f"\n$ ripple-place {' '.join(map(str, arguments))}", flush=True)
    start_s = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "ripple_place", *map(str, arguments)])
    _, status, usage = os.wait4(process.pid, 0)
    if code := os.waitstatus_to_exitcode(status):
        sys.exit(f"it ended with {code}")
    print(
        f"[{time.perf_counter() - start_s:.0f} s, {usage.ru_utime + usage.ru_stime:.0f} s of processor time, "
        f"{usage.ru_maxrss / 2**20:.1f} GiB at most]",
        flush=True,
    )


def main() -> None:
    """Run the four commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--held-out", type=Path, required=True)
    parser.add_argument("--tokens", type=int, default=2048)
    options = parser.parse_args()
    if not (options.model / "config.json").is_file():
        print(f"{options.model}: no model there, so that nothing is measured")
        return
    with tempfile.TemporaryDirectory(dir=options.model.parent) as folder:
        work = Path(folder)
        size = ("--max-tokens", options.tokens)
        timed("profile", options.model, "--text", options.text, *size, "--out", work / "train.profile")
        timed("reorder", options.model, "--profile", work / "train.profile", "--out", work / "flash")
        timed("verify", options.model, work / "flash")
        rule = read_trace(work / "train.profile").metadata["activity"]
        timed(
            "profile", options.model, "--text", options.held_out, *size, "--active", rule, "--no-verdict",
            "--out", work / "test.profile",
        )  # fmt: skip
        timed(
            "simulate",
            work / "test.profile",
            "--layout",
            "original",
            "--layout",
            work / "flash",
            "--dram-budget",
            "10%",
        )


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
