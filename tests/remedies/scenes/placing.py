"""Profiles, orderings, and the placing of neurons."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save_file

from ripple_place.flash.read_cost import ReadCost
from ripple_place.graph.importance import ImportanceNote, ModelImportance
from ripple_place.graph.neuron_bits import NeuronBits
from ripple_place.graph.profile import read_profile, write_profile
from ripple_place.ordering import flash_time, frequency, greedy_path, path_search
from ripple_place.ordering.activity import Activity, OrderingParams
from ripple_place.ordering.flash_time import FlashTimeParams
from ripple_place.ordering.path_bound import PairTable, path_bound
from ripple_place.ordering.path_search import PathParams
from ripple_place.ordering.registry import find_ordering
from ripple_place.placement import read_placement
from ripple_place.placing.budget import check_budget
from ripple_place.placing.params import PlacingParams
from ripple_place.placing.recorded_dram import RecordedDram
from ripple_place.tensorfile import TensorFile
from ripple_place.trace.split_block import SplitBlock
from tests.builders import llama_config, llama_tensors, write_checkpoint
from tests.checkpoint.model.test_quantised import N, write_quantised
from tests.remedies.bench import clusters, counts_at, model_at, placement_at, profile_at, trace_at
from tests.remedies.cases import case, instead, run
from tests.trace_builders import block_of, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

    from tests.remedies.cases import Attempts


# Profiles.

_PROFILE, _RECOUNT = "graph/profile.py", "graph/recount.py:check_counts"


@case(f"{_PROFILE}:read_profile")
def trace_as_profile(folder: Path) -> Attempts:
    """A trace given as a profile: it is profiled first."""
    trace = trace_at(folder / "trace")
    yield lambda: read_profile(trace)
    run("profile", trace, "--out", folder / "profile", "--no-verdict")
    yield lambda: read_profile(folder / "profile")


def changed(where: str, words: str, story: str, tensor: str, value: int) -> None:
    """List a case of a profile in which a tensor has another first value."""

    @case(where, words, f"{story}: the profile is made again")
    def scene(folder: Path) -> Attempts:
        path = profile_at(folder / "profile")
        tensors, metadata = load_file(path), TensorFile.open(path).metadata
        counts = tensors[f"layers.0.{tensor}"]
        counts[0] = value
        if tensor == "graph.counts":  # The same pair, the other way round.
            row = int(tensors["layers.0.graph.indices"][0])
            first, last = tensors["layers.0.graph.indptr"][row : row + 2]
            counts[first + int(np.flatnonzero(tensors["layers.0.graph.indices"][first:last] == 0)[0])] = value
        save_file(tensors, path, dict(metadata))
        yield lambda: read_profile(path)
        path.unlink()
        run("profile", folder / "profile.trace", "--out", path, "--no-verdict")


changed(f"{_PROFILE}:_read_block", "", "a count below 0", "frequency", -1)


@case("graph/importance.py:_error", "", "importance that is no cost: it is measured again")
def importance_below_zero(folder: Path) -> Attempts:
    """Somebody edited it."""

    def written(value: float) -> Path:
        values = {name: np.full(block.n_neurons, value, np.float32) for name, block in counted.blocks.items()}
        write_profile(path, counted.with_importance(ModelImportance(values, {}, ImportanceNote(60, 0))))
        return path

    path = profile_at(folder / "profile")
    counted = read_profile(path)
    yield lambda: read_profile(written(-1))
    yield lambda: read_profile(written(1))


changed(_RECOUNT, "neuron {}, which fires", "a count that the bits do not bear out", "frequency", 59)
changed(_RECOUNT, "which fire together", "a pair that the bits do not bear out", "graph.counts", 1)

# Orderings.

BLOCK = block_of(clusters()["layers.0"])
ROWS, COUNTS = Activity.of_rows(SplitBlock(BLOCK, 40)), Activity(np.array([2, 1]))
TABLE = PairTable.of_bits(NeuronBits.of_block(BLOCK))
COST = ReadCost.by_line(5.0)
instead(
    "ordering/registry.py:find_ordering", "", "an ordering that is not known: one that is",
    lambda: find_ordering("tsp"), lambda: find_ordering("path"),
)  # fmt: skip
instead(
    "ordering/path_search.py:PathParams.__post_init__", "", "an effort below 0: of 0",
    lambda: PathParams(effort=-1), lambda: PathParams(effort=0),
)  # fmt: skip
instead(
    "ordering/flash_time.py:FlashTimeParams.__post_init__", "", "an effort below 0: of 0",
    lambda: FlashTimeParams(COST, effort=-1), lambda: FlashTimeParams(COST, effort=0),
)  # fmt: skip
instead(
    "ordering/path_bound.py:path_bound", "", "a bound of no steps: of as many as by default",
    lambda: path_bound(TABLE, 0, 0), lambda: path_bound(TABLE, 0, PathParams().n_steps),
)  # fmt: skip
instead(
    "ordering/flash_time.py:make", "", "a search without activations: with them, or the greedy path",
    lambda: flash_time.make(COUNTS, OrderingParams(cost=COST)),
    lambda: flash_time.make(ROWS, OrderingParams(cost=COST)), lambda: greedy_path.make(ROWS, OrderingParams()),
)  # fmt: skip
instead(
    "ordering/flash_time.py:make", "", "a search that does not know what a read costs: with a cost, or the greedy path",
    lambda: flash_time.make(ROWS, OrderingParams()),
    lambda: flash_time.make(ROWS, OrderingParams(cost=COST)), lambda: greedy_path.make(ROWS, OrderingParams()),
)  # fmt: skip


def ordered_otherwise(where: str, story: str, bad: str, *good: str) -> None:
    """List a case of orders that a profile of counts alone does not allow: made from a trace, or otherwise."""

    @case(where, "", story)
    def scene(folder: Path) -> Attempts:
        counts, learned = counts_at(folder / "counts"), profile_at(folder / "profile")
        yield lambda: place(counts, bad)
        yield lambda: place(learned, bad)
        for options in good:
            yield partial(place, counts, options)


def place(learned: Path, options: str) -> None:
    """Write a placement with some options, in the place of an earlier one."""
    run(
        "reorder",
        "--profile",
        learned,
        "--out",
        learned.with_name("placement"),
        "--force",
        "--effort",
        0,
        *options.split(),
    )


ordered_otherwise(
    "ordering/greedy_path.py:make", "counts alone, by the greedy path: by frequency, or from a trace",
    "--ordering greedy", "--ordering frequency",
)  # fmt: skip
ordered_otherwise(
    "ordering/greedy_path.py:make", "counts alone, without --ordering: by frequency, or from a trace", "",
    "--ordering frequency",
)  # fmt: skip
ordered_otherwise(
    "placing/job.py:Job.trace", "counts alone, by the path of fewest reads: by frequency, or from a trace",
    "--ordering path", "--ordering frequency",
)  # fmt: skip
instead(
    "ordering/path_search.py:make", "", "counts alone, by the path of fewest reads: by frequency, or from a trace",
    lambda: path_search.make(COUNTS, OrderingParams()), lambda: frequency.make(COUNTS, OrderingParams()),
    lambda: path_search.make(ROWS, OrderingParams()),
)  # fmt: skip
ordered_otherwise(
    "placing/job.py:Job.trace", "counts alone, by flash time: by frequency, or from a trace",
    "--ordering flash-time --break-even-gap 5", "--ordering frequency",
)  # fmt: skip
ordered_otherwise(
    "placing/job.py:Job.trace", "counts alone, for a DRAM budget: without one, or from a trace",
    "--ordering frequency --break-even-gap 5 --dram-budget 10%", "--ordering frequency",
)  # fmt: skip

# Placing.


def placed_otherwise(where: str, words: str, story: str, bad: str, *good: str) -> None:
    """List a case of options of reorder, without a checkpoint, that are refused, and of those to give instead."""

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        learned = profile_at(folder / "profile")
        for options in (bad, *good):
            yield partial(place, learned, options)


_COST = "placing/job.py:Job.cost_of"
placed_otherwise(
    _COST, "", "flash time without a device: a bundle size, a gap, or another order", "--ordering flash-time",
    "--ordering flash-time --bundle-bytes 4KiB --device ufs4-oneplus12-neuralink",
    "--ordering flash-time --bundle-bytes 4KiB", "--ordering flash-time --break-even-gap 5", "--ordering frequency",
)  # fmt: skip
placed_otherwise(
    _COST, "", "a DRAM budget without a device: a bundle size, a break-even gap, or no budget",
    "--ordering greedy --dram-budget 10%", "--ordering greedy --dram-budget 10% --bundle-bytes 4KiB",
    "--ordering greedy --dram-budget 10% --break-even-gap 5", "--ordering greedy",
)  # fmt: skip
placed_otherwise(
    _COST, "", "two copies without a device: a bundle size, a break-even gap, or one copy",
    "--ordering greedy --copies 2", "--ordering greedy --copies 2 --bundle-bytes 4KiB", "--ordering greedy",
)  # fmt: skip
placed_otherwise(
    _COST, "", "a comparison without a device: a break-even gap, or none", "--ordering greedy --compare",
    "--ordering greedy --compare --break-even-gap 5", "--ordering greedy",
)  # fmt: skip
_PARAMS, _DRAM = "placing/params.py:PlacingParams.__post_init__", "placing/params.py:PlacingParams._check_dram"
placed_otherwise(_PARAMS, "multiple of 8", "granules of 5 neurons: of 32", "--granule 5", "--granule 32")
placed_otherwise(
    _PARAMS, "both; at most one", "a device and a break-even gap: one of them",
    "--device ufs4-oneplus12-neuralink --break-even-gap 5", "--device ufs4-oneplus12-neuralink", "--break-even-gap 5",
)  # fmt: skip
instead(
    _PARAMS, "give one of them", "three copies: two",
    lambda: PlacingParams(copies=3), lambda: PlacingParams(copies=1), lambda: PlacingParams(copies=2),
)  # fmt: skip
instead(
    _PARAMS, "leave it out", "no threads: left out",
    lambda: PlacingParams(n_threads=0), lambda: PlacingParams(),
)  # fmt: skip
placed_otherwise(
    _DRAM, "leave --refit out", "a second fit of an order that sees all tokens: of flash time, or none",
    "--ordering greedy --refit", "--ordering flash-time --refit --break-even-gap 5", "--ordering greedy",
)  # fmt: skip
placed_otherwise(
    _DRAM, "leave --cache out", "a cache of no size: with a budget, or without the cache",
    "--cache lru --break-even-gap 5", "--cache lru --break-even-gap 5 --dram-budget 10%", "--break-even-gap 5",
)  # fmt: skip
placed_otherwise(
    _DRAM, "leave both out", "a budget that no cache uses: with one that does, or neither",
    "--cache none --break-even-gap 5 --dram-budget 10%", "--cache s3fifo --break-even-gap 5 --dram-budget 10%",
    "--break-even-gap 5",
)  # fmt: skip
placed_otherwise(
    "placing/params.py:PlacingParams.resolved", "", "a budget in bytes, neurons of unknown size: with it, or a share",
    "--dram-budget 8KiB --break-even-gap 5", "--dram-budget 8KiB --bundle-bytes 1KiB",
    "--dram-budget 10% --break-even-gap 5",
)  # fmt: skip
placed_otherwise(
    "placing/granules.py:check_granules", "", "granules and a DRAM budget: one of them",
    "--granule 8 --dram-budget 10% --break-even-gap 5", "--granule 8 --break-even-gap 5",
    "--dram-budget 10% --break-even-gap 5",
)  # fmt: skip
instead(
    "placing/budget.py:check_budget", "", "20 as a share: 0.2, or bytes",
    lambda: check_budget(20.0), lambda: check_budget(0.2), lambda: check_budget(20 * 2**20),
)  # fmt: skip


@case("placing/recorded_dram.py:RecordedDram.of")
def budget_without_its_policy(folder: Path) -> Attempts:
    """A placement that records a DRAM budget and no policy: it is made again."""
    path = placement_at(folder / "placement", capacity_neurons='{"layers.0": 2}')
    yield lambda: RecordedDram.of("", read_placement(path))
    place(profile_at(folder / "profile"), "--break-even-gap 5 --dram-budget 10%")
    yield lambda: RecordedDram.of("", read_placement(path))


@case("placing/checks.py:check_profile_fits")
def profile_of_another_model(folder: Path) -> Attempts:
    """A profile of a model of other widths: this one is profiled."""
    model = model_at(folder / "model")
    other, own = profile_at(folder / "other", cluster_size=7), profile_at(folder / "own")
    yield lambda: run("reorder", model, "--profile", other, "--out", folder / "out")
    yield lambda: run("reorder", model, "--profile", own, "--out", folder / "out")


@case("placing/checks.py:check_granule")
def neurons_that_share_scales(folder: Path) -> Attempts:
    """Quantised neurons that share scales, ordered one by one: in granules, or before they are quantised."""
    quantised = write_quantised(folder / "quantised", "gptq in order")
    plain = write_checkpoint(
        folder / "plain", llama_tensors(n_layers=1, n_neurons=N), llama_config(n_layers=1, n_neurons=N)
    )
    learned = folder / "profile"
    write_stock_trace(folder / "trace", {"layers.0": np.eye(N, dtype=bool)})
    run("profile", folder / "trace", "--out", learned, "--no-verdict")
    options = ("--profile", learned, "--format", "drop-in", "--ordering", "greedy", "--out")
    yield lambda: run("reorder", quantised, *options, folder / "a")
    yield lambda: run("reorder", quantised, *options, folder / "b", "--granule", 32)
    yield lambda: run("reorder", plain, *options, folder / "c")
