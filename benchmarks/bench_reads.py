"""Print reads per token of each ordering on held-out text, placed on the training trace.

    RIPPLE_PLACE_DATA=... python benchmarks/bench_reads.py [--model opt-relu]

4 KiB bundles, no DRAM cache, no access collapse; the last two columns are reads and neurons read of the greedy order
where gaps of up to 5 neurons are read through.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks.timing import data_folder
from ripple_place.placing.params import PlacingParams
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import reorder
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
        profile(train, learned, ProfileParams(verdict=None))
        layouts = ["original"]
        for ordering in ("frequency", "greedy"):
            reorder(None, learned, Path(scratch) / ordering, PlacingParams(ordering=ordering))
            layouts.append(str(Path(scratch) / ordering))
        exact, collapsed = (
            simulate([test], layouts, SimulateParams(bundle_bytes=4096, gap=gap)).results for gap in (0, 5)
        )
    columns = ["active", "original", "frequency", "greedy", "gap 5", "neurons"]
    print(f"{'block':10s} " + " ".join(f"{column:>9s}" for column in columns))
    for name in exact[0].blocks:
        totals = [result.blocks[name].totals for result in exact]
        gap = collapsed[-1].blocks[name].totals
        values = [totals[0].n_active, *(total.n_reads for total in totals), gap.n_reads, gap.n_neurons_read]
        print(f"{name:10s} " + " ".join(f"{value / exact[0].n_tokens:9.2f}" for value in values))


if __name__ == "__main__":
    main()
