"""Print reads per token of each ordering on held-out text, placed on the training trace.

    RIPPLE_PLACE_DATA=... python benchmarks/bench_reads.py [--model opt-relu]

4 KiB bundles, no DRAM cache, no access collapse; in the last two columns gaps of up to 5 neurons are read through.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.timing import data_folder
from ripple_place.workflows.profile import profile
from ripple_place.workflows.reorder import ReorderParams, reorder
from ripple_place.workflows.simulate import SimulateParams, simulate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="opt-relu")
    options = parser.parse_args()
    if (folder := data_folder()) is None:
        return
    train, test = (folder / f"traces/{options.model}.wikitext2-{part}.trace.safetensors" for part in ("train", "test"))
    with tempfile.TemporaryDirectory() as scratch:
        learned = Path(scratch) / "profile"
        profile([train], learned)
        layouts = ["original"]
        for ordering in ("frequency", "greedy"):
            reorder(None, learned, Path(scratch) / ordering, ReorderParams(ordering=ordering))
            layouts.append(str(Path(scratch) / ordering))
        exact, collapsed = (
            simulate([test], layouts, SimulateParams(bundle_bytes=4096, gap=gap)).results for gap in (0, 5)
        )
    print(
        f"{'block':10s} {'active':>9s} {'original':>9s} {'frequency':>9s} {'greedy':>9s}   greedy, gap 5: reads, neurons"
    )
    for name in exact[0].blocks:
        totals = [result.blocks[name].totals for result in exact]
        gap = collapsed[-1].blocks[name].totals
        n_tokens = exact[0].n_tokens
        reads = " ".join(f"{total.n_reads / n_tokens:9.2f}" for total in totals)
        print(
            f"{name:10s} {totals[0].n_active / n_tokens:9.2f} {reads}   {gap.n_reads / n_tokens:13.2f} "
            f"{gap.n_neurons_read / n_tokens:8.2f}"
        )


if __name__ == "__main__":
    main()
