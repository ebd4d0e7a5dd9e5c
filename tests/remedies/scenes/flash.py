"""Devices, caches, planners, the simulator, and storage that is measured."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest.mock import patch

import numpy as np

import ripple_place
from ripple_place.flash.admission import Admission
from ripple_place.flash.caches.registry import find_policy
from ripple_place.flash.caches.segments import HotSegments
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import list_devices, load_device, read_device
from ripple_place.flash.layout import BlockExtent, Layout
from ripple_place.flash.pipeline.params import PipelineParams
from ripple_place.flash.pipeline.text import parse_pipeline
from ripple_place.flash.planners.adaptive import AdaptiveParams
from ripple_place.flash.planners.registry import find_planner
from ripple_place.flash.read_cost import ReadCost, check_break_even_gap
from ripple_place.flash.requests import RequestList, list_requests
from ripple_place.flash.simulator import SimulationParams, check_layout, simulate
from ripple_place.flash.storage.calibration_params import CalibrateParams
from ripple_place.flash.storage.direct_file import DirectFile
from ripple_place.flash.storage.fio import fio_paths
from ripple_place.flash.storage.measurement import sample_requests, wrap_offsets
from ripple_place.flash.storage.queue_reader import QueueReader
from ripple_place.flash.storage.scratch import scratch_file
from ripple_place.flash.token_time import ComputeParams
from ripple_place.placement import ModelPlacement, NeuronPlacement
from tests.flash.builders import block_trace, layout_of, linear_device, trace_of
from tests.golden_files import GOLDEN
from tests.remedies.bench import placement_at, profile_at, trace_at
from tests.remedies.cases import case, instead, run

if TYPE_CHECKING:
    from tests.remedies.cases import Attempts

DEVICES = Path(ripple_place.__file__).parent / "flash" / "devices"
NEURALINK, CORES, DEPTHS = "ufs4-oneplus12-neuralink", "ufs4-oneplus12-powerinfer2", "desktop-nvme"

# Caches.

instead(
    "flash/admission.py:Admission.__post_init__", "", "a probability of 2: of 0.2",
    lambda: Admission(4, 2.0), lambda: Admission(4, 0.2),
)  # fmt: skip
instead(
    "flash/admission.py:Admission.parse", "", "a rule that is not known: one that is",
    lambda: Admission.parse("some"), lambda: Admission.parse("linking:4,0.25"),
)  # fmt: skip
instead(
    "flash/caches/registry.py:find_policy", "window:4", "a window of no length: of 4 tokens",
    lambda: find_policy("window"), lambda: find_policy("window:4"),
)  # fmt: skip
instead(
    "flash/caches/registry.py:find_policy", "name one of them", "a policy that is not known: one that is",
    lambda: find_policy("arc"), lambda: find_policy("s3fifo"),
)  # fmt: skip
instead(
    "flash/caches/registry.py:find_policy", "needs no plan", "a segmented cache by name: another one, or a plan",
    lambda: find_policy("segmented"), lambda: find_policy("pinned+lru"),
    lambda: SimulationParams("segmented", pool_neurons=3, segments=hot_plan()),
)  # fmt: skip
instead(
    "flash/caches/segments.py:HotSegments.__post_init__", "", "a plan that says nothing of batch sizes: one by slots",
    lambda: HotSegments({"layers.0": 2}, np.zeros(2, np.int32), {}), lambda: hot_plan(),
)  # fmt: skip
instead(
    "flash/caches/segments.py:HotSegments.check_blocks", "", "a plan of another model: the plan's own blocks",
    lambda: hot_plan().check_blocks({"layers.1": 2}), lambda: hot_plan().check_blocks({"layers.0": 2}),
)  # fmt: skip
instead(
    "flash/pool.py:check_one_size", "", "one pool of bundles of two sizes: a cache for each block",
    lambda: pooled(SimulationParams("lru", pool_neurons=2)), lambda: pooled(SimulationParams("lru")),
)  # fmt: skip


def hot_plan() -> HotSegments:
    """Return a plan for a block of two neurons, one of which is hot."""
    return HotSegments.by_slots({"layers.0": NeuronPlacement.original(2)}, {1: {"layers.0": 1}}, cluster_rows=1)


def pooled(params: SimulationParams) -> None:
    """Simulate two blocks whose bundles differ in size."""
    names = ("layers.0", "layers.1")
    trace = trace_of({name: block_trace(np.ones((3, 2))) for name in names}, 3)
    parts = [layout_of({name: [0, 1]}, size).blocks[name] for name, size in zip(names, (4096, 2048), strict=True)]
    simulate(trace, Layout("two sizes", dict(zip(names, parts, strict=True))), linear_device(), params)


def scored(trace: Path, *options: object) -> None:
    """Simulate a trace of neurons of 4 KiB."""
    run("simulate", trace, "--bundle-bytes", "4KiB", *options)


@case("flash/caches/pinned.py:pinned_set", "another cache policy")
def pinned_without_frequencies(folder: Path) -> Attempts:
    """A pinned cache that does not know what is hot: a profile, a placement that does, or another cache."""
    trace, foreign, learned = trace_at(folder / "t"), placement_at(folder / "foreign"), profile_at(folder / "profile")
    placed, budget = folder / "placed", ("--dram-budget", "10%")
    run("reorder", "--profile", learned, "--out", placed, "--ordering", "frequency")
    yield lambda: scored(trace, "--layout", foreign, *budget, "--cache", "pinned")
    yield lambda: scored(trace, "--layout", foreign, *budget, "--cache", "pinned", "--profile", learned)
    yield lambda: scored(trace, "--layout", placed, *budget, "--cache", "pinned")
    yield lambda: scored(trace, "--layout", foreign, *budget, "--cache", "lru")


@case("flash/caches/pinned.py:pinned_set", "raise the DRAM budget")
def more_pinned_than_fit(folder: Path) -> Attempts:
    """More neurons pinned than the budget holds: the budget that they were pinned for."""
    trace, learned, placed = trace_at(folder / "t"), profile_at(folder / "profile"), folder / "placed"
    options = ("--dram-budget", "50%", "--cache", "pinned", "--break-even-gap", 5, "--effort", 0)
    run("reorder", "--profile", learned, "--out", placed, *options)
    yield lambda: scored(trace, "--layout", placed, "--dram-budget", "10%", "--cache", "pinned")
    yield lambda: scored(trace, "--layout", placed, "--dram-budget", "50%", "--cache", "pinned")
    yield lambda: scored(trace, "--layout", placed, "--dram-budget", "placement", "--cache", "pinned")


# Devices.

instead(
    "flash/device/checks.py:refuse", "", "a page of a negative size: of 4 KiB",
    lambda: linear_device(page_bytes=-4096), lambda: linear_device(page_bytes=4096),
)  # fmt: skip
instead(
    "flash/device/checks.py:check_sources", "", "a number without a source: with one",
    lambda: replace(linear_device(), sources={}), linear_device,
)  # fmt: skip
instead(
    "flash/device/files.py:load_device", "name one of them", "a device that does not ship: one that does",
    lambda: load_device("pixel"), lambda: load_device(list_devices()[0]),
)  # fmt: skip


def corrected(words: str, story: str, old: str, new: str) -> None:
    """List a case of a device file in which some text has become another."""

    @case("flash/device/files.py:read_device", words, f"{story}: the file is corrected")
    def scene(folder: Path) -> Attempts:
        sound = (DEVICES / f"{CORES}.toml").read_text()
        path = folder / "device.toml"
        path.write_text(sound.replace(old, new, 1))
        yield lambda: read_device(path)
        path.write_text(sound)


corrected("TOML in UTF-8", "no TOML", "=", ":")
corrected("and those of its form", "a key that is not known", "page_bytes", "page_size")


@case("flash/device/files.py:load_device", "give the path")
def device_file_is_missing(folder: Path) -> Attempts:
    """A path with a slip: the right one, or a device that ships."""
    path = folder / "device.toml"
    yield lambda: load_device(str(path))
    yield lambda: load_device(NEURALINK)
    shutil.copy(DEVICES / f"{CORES}.toml", path)
    yield lambda: load_device(str(path))


def on(device: str, **conditions: object) -> None:
    """Look at a device under some conditions."""
    under(load_device(device), ReadConditions(**conditions))


_UNDER, _KNOWN = "flash/device/conditions.py:under", "flash/device/conditions.py:_check_known"
instead(
    _UNDER, "leave it out", "a queue depth where none is known: none, or a device that has some",
    lambda: on(NEURALINK, queue_depth=4), lambda: on(NEURALINK), lambda: on(DEPTHS, queue_depth=4),
)  # fmt: skip
instead(
    _KNOWN, "name one", "a core that is not known: one that is", lambda: on(CORES, core="huge"),
    lambda: on(CORES, core="big"),
)  # fmt: skip
instead(
    _KNOWN, "leave {} out", "a core where none is known: none, or a device that has some",
    lambda: on(NEURALINK, core="big"), lambda: on(NEURALINK), lambda: on(CORES, core="big"),
)  # fmt: skip
instead(
    _KNOWN, "name one", "warm, where cold alone is known: cold, or a device that has both",
    lambda: on(DEPTHS, thermal="warm"), lambda: on(DEPTHS, thermal="cold"), lambda: on(NEURALINK, thermal="warm"),
)  # fmt: skip


instead(
    _UNDER, "leave --queue-depth", "four reads in flight that wait for each other: one, or four that do not",
    lambda: on(DEPTHS, access="sync", queue_depth=4), lambda: on(DEPTHS, access="sync"),
    lambda: on(DEPTHS, queue_depth=4),
)  # fmt: skip


@case(_UNDER, "give a depth")
def depth_below_the_known(folder: Path) -> Attempts:
    """A queue depth below those that the profile knows: one that it knows."""
    device = load_device(DEPTHS)
    device = replace(device, queue_depths=(4, device.queue_depths[-1]))
    yield lambda: under(device, ReadConditions(queue_depth=2))
    yield lambda: under(device, ReadConditions(queue_depth=4))


# Layouts and planners.

PLACEMENT = ModelPlacement({"layers.0": NeuronPlacement([1, 0])})
TWICE = ModelPlacement({"layers.0": NeuronPlacement([1, 0], order_2=[0, 1])})
TRACE = trace_of({"layers.0": block_trace(np.array([[1, 0], [1, 1]]))}, 2)
LINEAR = linear_device()
instead(
    "flash/layout.py:BlockExtent.__post_init__", "", "bundles that overlap: written apart",
    lambda: BlockExtent(4096, 1024), lambda: BlockExtent(4096, 4096),
)  # fmt: skip
instead(
    "flash/layout.py:Layout.from_placement", "", "bundles of unknown size: of 4 KiB",
    lambda: Layout.from_placement("a", PLACEMENT), lambda: Layout.from_placement("a", PLACEMENT, 4096),
)  # fmt: skip
instead(
    "flash/layout.py:Layout.from_extents", "", "an index without a block: with it",
    lambda: Layout.from_extents("a", PLACEMENT, {}),
    lambda: Layout.from_extents("a", PLACEMENT, {"layers.0": BlockExtent.packed(4096)}),
)  # fmt: skip
instead(
    "flash/planners/adaptive.py:AdaptiveParams.__post_init__", "", "a period of no token: of 16",
    lambda: AdaptiveParams(period_tokens=0), lambda: AdaptiveParams(period_tokens=16),
)  # fmt: skip
instead(
    "flash/planners/registry.py:find_planner", "", "a planner that is not known: one that is",
    lambda: find_planner("greedy"), lambda: find_planner("optimal"),
)  # fmt: skip


CEILING = str(GOLDEN / "formats" / "device-ceiling.toml")


def planned(
    gap: object, *, device: str = NEURALINK, placement: ModelPlacement = PLACEMENT, access: str = "direct"
) -> None:
    """Make the planner of a block."""
    layout = Layout.from_placement("a", placement, 4096)
    conditioned = under(load_device(device), ReadConditions(access=access))
    SimulationParams(gap=gap).reader_of("layers.0", layout.blocks["layers.0"], conditioned)


_TWO = "flash/planners/two_copies.py:TwoCopyPlanner.__init__"
instead(
    "flash/planners/optimal.py:OptimalPlanner.__init__", "", "least times where times do not add up: by the device's "
    "gap, or on another device",
    lambda: planned("optimal", device=CEILING), lambda: planned(None, device=CEILING), lambda: planned("optimal"),
)  # fmt: skip
instead(
    _TWO, "", "an adaptive gap over two copies: over one, or the device's gap",
    lambda: planned("adaptive", placement=TWICE), lambda: planned("adaptive"), lambda: planned(None, placement=TWICE),
)  # fmt: skip
instead(
    _TWO, "", "page faults in two copies: in one, or by request",
    lambda: planned(None, placement=TWICE, access="mmap"), lambda: planned(None, access="mmap"),
    lambda: planned(None, placement=TWICE),
)  # fmt: skip
_COST = "flash/read_cost.py"
instead(
    f"{_COST}:ReadCost.__post_init__", "", "times without a device: with it, or a gap alone",
    lambda: ReadCost(5.0, 5, unit="us"), lambda: ReadCost(5.0, 5, LINEAR, 4096, "us"), lambda: ReadCost.by_line(5.0),
)  # fmt: skip
instead(
    f"{_COST}:check_break_even_gap", "", "a negative break-even gap: of 5 neurons",
    lambda: check_break_even_gap(-1), lambda: check_break_even_gap(5.0),
)  # fmt: skip


def listed(access: str) -> None:
    """List the requests of a token."""
    device = under(load_device(NEURALINK), ReadConditions(access=access))
    list_requests(TRACE, Layout.from_placement("a", PLACEMENT, 4096), device, SimulationParams(), np.array([0]))


instead(
    "flash/requests.py:list_requests", "measure with --access direct", "page faults to measure: direct reads",
    lambda: listed("mmap"), lambda: listed("direct"),
)  # fmt: skip
instead(
    "flash/simulation_params.py:SimulationParams.__post_init__", "", "a gap below 0: of 0",
    lambda: SimulationParams(gap=-1), lambda: SimulationParams(gap=0),
)  # fmt: skip
instead(
    "flash/simulator.py:check_layout", "", "a layout of another model: of the trace's",
    lambda: check_layout(TRACE, layout_of({"layers.0": [0, 1, 2]})),
    lambda: check_layout(TRACE, layout_of({"layers.0": [0, 1]})),
)  # fmt: skip
instead(
    "flash/token_time.py:ComputeParams.__post_init__", "name one of them", "an overlap that is not known: one that is",
    lambda: ComputeParams(800.0, "magic"), lambda: ComputeParams(800.0, "layer"),
)  # fmt: skip
instead(
    "flash/token_time.py:ComputeParams.__post_init__", "correct the number", "a negative time: a positive one",
    lambda: ComputeParams(-1.0), lambda: ComputeParams(800.0),
)  # fmt: skip
instead(
    "flash/token_time.py:ComputeParams.__post_init__", "add --overlap", "a pipeline beside another overlap: alone",
    lambda: ComputeParams(5.0, "serial", pipeline=PipelineParams()), lambda: ComputeParams(5.0, "serial"),
    lambda: ComputeParams(5.0, "pipeline", pipeline=PipelineParams()),
)  # fmt: skip
instead(
    "flash/token_time.py:ComputeParams.__post_init__", "correct one of", "more attention than there is time: less",
    lambda: ComputeParams(5.0, "pipeline", pipeline=PipelineParams(attention_us=6.0)),
    lambda: ComputeParams(5.0, "pipeline", pipeline=PipelineParams(attention_us=4.0)),
)  # fmt: skip
_PIPELINE = "flash/pipeline/params.py:PipelineParams"
instead(
    f"{_PIPELINE}.__post_init__", "name one of them", "barriers that are not known: some that are",
    lambda: PipelineParams(barriers="all"), lambda: PipelineParams(barriers="matrix"),
)  # fmt: skip
instead(
    f"{_PIPELINE}.__post_init__", "correct the number", "no thread: four",
    lambda: PipelineParams(n_threads=0), lambda: PipelineParams(n_threads=4),
)  # fmt: skip
instead(
    f"{_PIPELINE}.on", "", "a device without rates: the rate given, or a device that has it",
    lambda: PipelineParams().on(load_device(DEPTHS)),
    lambda: parse_pipeline("rate=1.3GB/s").on(load_device(DEPTHS)),
    lambda: PipelineParams().on(load_device(NEURALINK)),
)  # fmt: skip
instead(
    "flash/pipeline/text.py:parse_pipeline", "", "a key without a value: keys with values",
    lambda: parse_pipeline("threads"), lambda: parse_pipeline("threads=4,barriers=none,attention=430us"),
)  # fmt: skip

# Storage.

_CALIBRATE, _DIRECT = (
    "flash/storage/calibration_params.py:CalibrateParams",
    "flash/storage/direct_file.py:DirectFile.open",
)
instead(
    f"{_CALIBRATE}.__post_init__", "correct the size", "reads of 5000 bytes at most: of 512 KiB",
    lambda: CalibrateParams(max_request_bytes=5000), lambda: CalibrateParams(max_request_bytes=512 << 10),
)  # fmt: skip
instead(
    f"{_CALIBRATE}.__post_init__", "smaller --max-size", "a scratch file shorter than four reads: longer, or shorter "
    "reads",
    lambda: CalibrateParams(scratch_bytes=1 << 20), lambda: CalibrateParams(scratch_bytes=1 << 24),
    lambda: CalibrateParams(scratch_bytes=1 << 20, max_request_bytes=4096),
)  # fmt: skip


def opened(path: Path) -> None:
    """Open a file past the page cache, and close it."""
    with DirectFile.open(path):
        pass


@case(_DIRECT, "measure on Linux")
def measured_elsewhere(folder: Path) -> Attempts:
    """Another system than Linux: on Linux."""
    path = data_at(folder / "data")
    with patch.object(sys, "platform", "darwin"):
        yield lambda: opened(path)
    yield lambda: opened(path)


@case(_DIRECT, "correct the path")
def nothing_to_measure(folder: Path) -> Attempts:
    """A file to measure that is not there: the right path."""
    yield lambda: opened(folder / "date")
    yield lambda: opened(data_at(folder / "data"))


@case(_DIRECT, "name a larger file")
def too_short_to_measure(folder: Path) -> Attempts:
    """An empty file: a larger one."""
    (folder / "empty").touch()
    yield lambda: opened(folder / "empty")
    yield lambda: opened(data_at(folder / "data"))


def data_at(path: Path, n_bytes: int = 1 << 18) -> Path:
    """Write a file to read."""
    path.write_bytes(os.urandom(n_bytes))
    return path


instead(
    "flash/storage/fio.py:fio_paths", "name it {}", "a log named as the job: named as the remedy says",
    lambda: fio_paths(Path("out/reads.fio"), 1), lambda: fio_paths(Path("out/reads.iolog"), 1),
)  # fmt: skip
instead(
    "flash/storage/fio.py:fio_paths", "name it {}", "a log without a name: named as the remedy says",
    lambda: fio_paths(Path(""), 1), lambda: fio_paths(Path("reads.iolog"), 1),
)  # fmt: skip


instead(
    "flash/storage/fio.py:fio_paths", "name it reads.iolog", "a log whose name a job cannot hold: another name",
    lambda: fio_paths(Path("a;b.iolog"), 1), lambda: fio_paths(Path("reads.iolog"), 1),
)  # fmt: skip


def sampled(active: np.ndarray, capacity: int) -> None:
    """List the requests of a sample of tokens."""
    params = SimulationParams("pinned", {"layers.0": capacity})
    placed = ModelPlacement({"layers.0": NeuronPlacement([1, 0], frequency=[2, 1])})
    layout = Layout.from_placement("a", placed, 4096)
    sample_requests(trace_of({"layers.0": block_trace(active)}, 2), [layout], LINEAR, params, 2)


_SAMPLE, FIRES = "flash/storage/measurement.py:sample_requests", np.array([[1, 0], [1, 1]])
instead(
    _SAMPLE, "lower --dram-budget", "DRAM holds every neuron: less DRAM", lambda: sampled(FIRES, 2),
    lambda: sampled(FIRES, 1),
)  # fmt: skip
instead(
    _SAMPLE, "neurons fire", "a trace in which nothing fires: one in which something does",
    lambda: sampled(0 * FIRES, 0), lambda: sampled(FIRES, 0),
)  # fmt: skip


def wrapped(folder: Path, n_bytes: int, length_bytes: int, *, page_bytes: int = 512) -> None:
    """Fit a request into a file on storage with some page."""
    requests = RequestList("a", np.array([0]), np.array([1 << 20]), np.array([length_bytes]), np.array([0, 1]), 1.0)
    with DirectFile.open(data_at(folder / "data", n_bytes)) as file:
        wrap_offsets(requests, replace(file, alignment_bytes=page_bytes))


@case("flash/storage/measurement.py:wrap_offsets", "calibrate")
def pages_too_small_to_measure(folder: Path) -> Attempts:
    """Requests of smaller pages than the storage takes: of its own pages."""
    yield lambda: wrapped(folder, 1 << 16, 512, page_bytes=4096)
    yield lambda: wrapped(folder, 1 << 16, 4096, page_bytes=4096)


@case("flash/storage/measurement.py:wrap_offsets", "name a larger file")
def shorter_than_a_read(folder: Path) -> Attempts:
    """A file that is shorter than two reads: a larger one."""
    yield lambda: wrapped(folder, 1 << 16, 1 << 16)
    yield lambda: wrapped(folder, 1 << 17, 1 << 16)


def queued(path: Path, *, depth: int = 1, at: int = 0, cut: bool = False) -> None:
    """Read a page of a file, which may be cut short meanwhile."""
    with DirectFile.open(path) as file, QueueReader(file, depth, 4096) as reader:
        if cut:
            os.truncate(path, 0)
        reader.read([at], [4096])


@case("flash/storage/queue_reader.py:QueueReader.__init__")
def no_reads_in_flight(folder: Path) -> Attempts:
    """A queue depth of 0: of 1."""
    path = data_at(folder / "data")
    yield lambda: queued(path, depth=0)
    yield lambda: queued(path, depth=1)


@case("flash/storage/queue_reader.py:QueueReader._check")
def reads_past_the_end(folder: Path) -> Attempts:
    """A read past the end: inside the file."""
    path = data_at(folder / "data")
    yield lambda: queued(path, at=1 << 20)
    yield lambda: queued(path, at=4096)


@case("flash/storage/queue_reader.py:QueueReader._explain")
def file_cut_while_measured(folder: Path) -> Attempts:
    """A file that is cut short while it is measured: it is left alone."""
    yield lambda: queued(data_at(folder / "data"), cut=True)
    yield lambda: queued(data_at(folder / "data"))


def scratched(folder: Path, n_bytes: int = 65536) -> None:
    """Make a scratch file."""
    with scratch_file(folder, n_bytes, np.random.default_rng(0), lambda n: None):
        pass


_SCRATCH = "flash/storage/scratch.py:scratch_file"


@case(_SCRATCH, "correct the path")
def storage_that_is_not_there(folder: Path) -> Attempts:
    """A directory with a slip: the right one."""
    yield lambda: scratched(folder / "new")
    yield lambda: scratched(folder)


@case(_SCRATCH, "correct the size")
def scratch_file_of_an_odd_size(folder: Path) -> Attempts:
    """A scratch file of 1000 bytes: of 64 KiB."""
    yield lambda: scratched(folder, 1000)
    yield lambda: scratched(folder, 65536)


@case(_SCRATCH, "make room")
def no_room_for_the_scratch_file(folder: Path) -> Attempts:
    """Less room than the scratch file takes: a smaller one, or more room."""
    with patch.object(shutil, "disk_usage", lambda path: SimpleNamespace(free=(64 << 20) + 65536)):
        yield lambda: scratched(folder, 1 << 17)
        yield lambda: scratched(folder, 65536)
    yield lambda: scratched(folder, 1 << 17)
