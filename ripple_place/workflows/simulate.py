"""Score layouts on a trace: what each would cost on a flash device."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import select_layers
from ripple_place.checkpoint.output.manifest import Manifest, read_manifest
from ripple_place.errors import PlacementError, UsageError
from ripple_place.flash.admission import Admission
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device
from ripple_place.flash.layout import BlockExtent, Layout
from ripple_place.flash.simulator import SimulationParams
from ripple_place.flash.simulator import simulate as simulate_layout
from ripple_place.flash.token_reads import busiest_block, reads_of_median_token
from ripple_place.graph.profile import read_profile
from ripple_place.ordering.frequency import frequency_order
from ripple_place.pages.report import Report, make_report
from ripple_place.placement import ModelPlacement, NeuronPlacement, check_bundle_bytes, read_placement
from ripple_place.placing.dram.choose import choose_dram, unused_dram_warnings
from ripple_place.placing.recorded_dram import PLACEMENT, RecordedDram
from ripple_place.trace.sources import read_sources
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.flash.device.conditions import ConditionedDevice
    from ripple_place.flash.results import LayoutResult
    from ripple_place.flash.token_reads import TokenReads
    from ripple_place.flash.token_time import ComputeParams
    from ripple_place.pages.report import SweepCurves
    from ripple_place.trace.activation_trace import ActivationTrace

ORIGINAL = "original"
SHORT_TRACE_TOKENS = 256


@dataclass(frozen=True)
class SimulateParams:
    """What to simulate.

    Parameters
    ----------
    device : str
        Name of a shipped device profile, or path of one.
    layers : str, optional
        Layers to simulate (``0-3,7``).
    bundle_bytes : int, optional
        Bytes of a neuron's weights in every block, packed; overrides what layouts know.
    dram_budget : float, int or str, optional
        DRAM for neurons: a share of each block's neurons (float), or bytes shared evenly by the blocks (int); split as
        recorded instead, if a layout was made for this very budget. ``placement``: what the layouts were made for.
    cache : str, optional
        Policy; default what the layouts were made for with ``placement``, else S3-FIFO where there is a budget and
        none where there is not.
    gap : int or str, optional
        Unwanted neurons to read through; None takes the device's break-even gap; ``adaptive`` or ``optimal`` lets a
        planner decide token by token.
    baseline : str, optional
        Layout that speedups are against; default the first.
    profile : Path, optional
        Profile whose firing counts decide what is pinned, and what `greedydual` expects; default those that the
        layouts record.
    conditions : ReadConditions
        Core, queue depth, heat and access mode of the reader; default those of the profile.
    compute : ComputeParams, optional
        What computing a layer costs, and how reading overlaps with it.
    n_threads : int
    admission : str
        Which misses may enter the cache (`ripple_place.flash.admission.Admission.parse`).
    reset_at_segments : bool
        Empty the cache where a segment of the trace begins.
    bound : bool
        Count the hits of Belady's replacement beside those of the cache; simulating takes about twice as long.
    seed : int
        Of what admission draws.

    Raises
    ------
    UsageError
        If a cache or an admission is named without a budget for it, or access collapse for a mapped file.
    """

    device: str = DEFAULT_DEVICE
    layers: str | None = None
    bundle_bytes: int | None = None
    dram_budget: float | int | str | None = None
    cache: str | None = None
    gap: int | str | None = None
    baseline: str | None = None
    profile: Path | None = None
    conditions: ReadConditions = field(default_factory=ReadConditions)
    compute: ComputeParams | None = None
    n_threads: int = 1
    admission: str = "all"
    reset_at_segments: bool = False
    bound: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        Admission.parse(self.admission)
        if isinstance(self.dram_budget, str) and self.dram_budget != PLACEMENT:
            raise UsageError(
                f"--dram-budget {self.dram_budget}", found="no budget",
                expected=f"a share, a size, or {PLACEMENT}", remedy="write 10% or 512MiB",
            )  # fmt: skip
        for option, is_set in (
            (f"--admission {self.admission}", self.admission != "all"),
            ("--reset-at-segments", self.reset_at_segments),
            ("--bound", self.bound),
        ):
            if is_set and (self.dram_budget is None or self.cache == "none"):
                raise UsageError(option, found="no DRAM cache", expected="one", remedy="add --dram-budget 10%")
        if self.cache not in (None, "none") and self.dram_budget is None:
            raise UsageError(
                f"--cache {self.cache}", found="no DRAM budget", expected="one", remedy="add --dram-budget 10%"
            )
        if self.conditions.access == "mmap" and self.gap is not None:
            raise UsageError(
                "--access mmap", found=f"access collapse {self.gap}",
                expected="none: the kernel decides what a page fault fetches", remedy="leave --collapse out",
            )  # fmt: skip
        check_bundle_bytes(self.bundle_bytes)


@dataclass(frozen=True)
class SimulateReport:
    """What `simulate` prints."""

    device: ConditionedDevice
    params: SimulationParams
    traces: tuple[str, ...]
    trace: ActivationTrace
    layouts: tuple[Layout, ...]
    results: tuple[LayoutResult, ...]
    baseline: LayoutResult
    warnings: tuple[str, ...]
    split_by: str | None = None

    @property
    def break_even_gap(self) -> float | None:
        """Lambda of the bundles; None if blocks have bundles of different sizes."""
        sizes = {block.extent.bundle_bytes for layout in self.layouts for block in layout.blocks.values()}
        return self.device.break_even_gap(sizes.pop()) if len(sizes) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``simulate --json``."""
        gaps = {block.gap for result in self.results for block in result.blocks.values()}
        return {
            "device": self.device.name,
            "traces": list(self.traces),
            "n_tokens": self.trace.n_tokens,
            "break_even_gap": self.break_even_gap,
            "gap": gaps.pop() if len(gaps) == 1 else None,
            "collapse": "mmap" if self.device.is_mapped else self.params.planner,
            "conditions": {**asdict(self.device.conditions), "span_bytes": self.device.span_bytes},
            "compute": None if self.params.compute is None else asdict(self.params.compute),
            "cache": self.params.cache,
            "capacity_neurons": dict(self.params.capacity_neurons),
            "dram_split_by": self.split_by,
            "admission": str(self.params.admission),
            "reset_at_segments": bool(self.params.reset_tokens),
            "layouts": [result.to_json(self.baseline) for result in self.results],
            "warnings": list(self.warnings),
        }

    @property
    def hot_cold(self) -> Layout | None:
        """The first layout with its neurons by descending frequency; None where frequencies are unknown."""
        blocks = {}
        for name, block in self.layouts[0].blocks.items():
            frequency = block.placement.frequency
            if frequency is None:
                return None
            placement = NeuronPlacement(frequency_order(frequency), frequency=frequency)
            blocks[name] = replace(block, placement=placement)
        return Layout("hot-cold", blocks)

    def token_reads(self) -> list[TokenReads]:
        """Return the reads of one token in each layout, as the report draws them."""
        block = busiest_block(self.results[0])
        return reads_of_median_token(block, self.trace.blocks[block], self.layouts, self.device, self.params)[1]

    def picture(self, command: str, sweep: SweepCurves | None = None) -> Report:
        """Return the report with pictures; `command` is shown as what made it."""
        return make_report(
            self.trace, self.layouts, self.results, self.device, self.params,
            traces=self.traces, command=command, baseline=self.baseline, warnings=self.warnings,
            hot_cold=self.hot_cold, sweep=sweep,
        )  # fmt: skip


def simulate(
    traces: Sequence[Path], layouts: Sequence[str], params: SimulateParams | None = None, track: Track = no_track
) -> SimulateReport:
    """Replay a trace on each layout.

    Parameters
    ----------
    traces : sequence of Path
        See `ripple_place.trace.sources`.
    layouts : sequence of str
        Output directories of `reorder`, placement files, or ``original``; scored in this order.
    params : SimulateParams, optional
    track : Track
        Told of progress.

    Raises
    ------
    UsageError
        If a path, device, cache policy or baseline is unknown, or nothing says how long bundles are.
    TraceFormatError, PlacementError, CheckpointError, DeviceConfigError
        If a file is malformed, or a layout is of another model.
    OSError
        If a file cannot be read.
    """
    params = params or SimulateParams()
    device = under(load_device(params.device), params.conditions)
    trace = read_sources(traces)
    trace = trace.select(select_layers(trace.blocks, params.layers))
    resolved, recorded = _resolve(layouts, trace, params)
    # One range for all, that layouts with padding be not charged for it twice.
    device = replace(device, span_bytes=max(layout.span_bytes for layout in resolved))
    baseline = layouts.index(params.baseline) if params.baseline in layouts else 0
    if params.baseline is not None and params.baseline not in layouts:
        raise UsageError(
            f"--baseline {params.baseline}", found="no such layout", expected=f"one of {', '.join(layouts)}",
            remedy="name one of the layouts, as given with --layout",
        )  # fmt: skip
    cache, capacity, split_by = choose_dram(resolved[0], recorded, params.dram_budget, params.cache)
    simulation = SimulationParams(
        cache, capacity, params.gap, params.n_threads, params.compute,
        admission=Admission.parse(params.admission, params.seed),
        reset_tokens=tuple(trace.segment_starts.tolist()) if params.reset_at_segments else (),
        with_bound=params.bound,
    )  # fmt: skip
    results = tuple(simulate_layout(trace, layout, device, simulation) for layout in track(resolved, "simulating"))
    return SimulateReport(
        device, simulation, tuple(path.name for path in traces), trace, tuple(resolved), results, results[baseline],
        (*_warnings(trace, device), *unused_dram_warnings(recorded, params.dram_budget)), split_by,
    )  # fmt: skip


def _resolve(
    names: Sequence[str], trace: ActivationTrace, params: SimulateParams
) -> tuple[list[Layout], dict[str, RecordedDram]]:
    """Return the layouts (orders, firing counts, where the bundles lie), and the DRAM that some were made for."""
    if len(set(names)) < len(names):
        raise UsageError("--layout", found="a layout twice", expected="each once", remedy="leave one out")
    placements: dict[str, ModelPlacement] = {}
    extents: dict[str, Mapping[str, BlockExtent]] = {}
    for name in names:
        placements[name], extents[name] = _read_layout(name, trace)
        _check_blocks(name, placements[name], trace)
    frequencies = _frequencies(trace, placements.values(), params.profile)
    # Checkpoint order, and placements that do not say, have bundles like the first layout that does.
    known = next((extent for extent in extents.values() if extent), {})
    layouts = []
    for name in names:
        if params.bundle_bytes is not None:
            extents[name] = dict.fromkeys(trace.blocks, BlockExtent.packed(params.bundle_bytes))
        elif not extents[name]:
            extents[name] = known
        if not extents[name]:
            raise UsageError(
                f"--layout {name}", found="nothing that says how long a neuron's weights are",
                expected="a bundle size", remedy="add --bundle-bytes (for instance 2 x hidden size x bytes per weight)",
            )  # fmt: skip
        blocks = {
            block: replace(placements[name].blocks[block], frequency=frequencies.get(block)) for block in trace.blocks
        }
        layouts.append(Layout.from_extents(name, ModelPlacement(blocks), extents[name]))
    recorded = {name: RecordedDram.of(name, placement) for name, placement in placements.items()}
    return layouts, {name: dram for name, dram in recorded.items() if dram is not None}


def _read_layout(name: str, trace: ActivationTrace) -> tuple[ModelPlacement, Mapping[str, BlockExtent]]:
    """Return what is known of a layout: its placement, and the extents of its blocks (empty if unknown)."""
    if name == ORIGINAL:
        return ModelPlacement({b: NeuronPlacement.original(t.n_neurons) for b, t in trace.blocks.items()}), {}
    path = Path(name)
    if not path.exists():
        raise UsageError(
            f"--layout {name}", found="nothing there", expected=f"an output of `reorder`, or {ORIGINAL}",
            remedy="correct the path",
        )  # fmt: skip
    if path.is_dir():
        manifest = read_manifest(path)
        placement = read_placement(manifest.placement_path)
        blocks = {
            block: placement.blocks[block] if entry.placed else NeuronPlacement.original(entry.n_neurons)
            for block, entry in manifest.blocks.items()
        }
        return ModelPlacement(blocks, placement.metadata), _extents(manifest)
    placement = read_placement(path)
    if placement.blocks.keys().isdisjoint(trace.blocks):
        raise PlacementError(
            f"--layout {name}", found="none of the trace's blocks", expected=f"some of {', '.join(trace.blocks)}",
            remedy="give a layout and a trace of the same model",
        )  # fmt: skip
    # Blocks that were not reordered stay as they are.
    blocks = {b: NeuronPlacement.original(t.n_neurons) for b, t in trace.blocks.items()} | dict(placement.blocks)
    extent = None if placement.bundle_bytes is None else BlockExtent.packed(placement.bundle_bytes)
    return ModelPlacement(blocks, placement.metadata), {} if extent is None else dict.fromkeys(blocks, extent)


def _extents(manifest: Manifest) -> dict[str, BlockExtent]:
    return {
        name: BlockExtent(block.bundle_bytes, block.stride_bytes, block.offset_bytes or 0)
        for name, block in manifest.blocks.items()
    }


def _check_blocks(name: str, placement: ModelPlacement, trace: ActivationTrace) -> None:
    """Check that a layout is of the trace's model."""
    for block, activations in trace.blocks.items():
        n_placed = placement.blocks[block].n_neurons if block in placement.blocks else 0
        if n_placed != activations.n_neurons:
            raise PlacementError(
                f"--layout {name}: {block}", found=f"{n_placed} neurons" if n_placed else "no such block",
                expected=f"{activations.n_neurons} neurons, as in the trace",
                remedy="give a layout and a trace of the same model",
            )  # fmt: skip


def _frequencies(
    trace: ActivationTrace, placements: Sequence[ModelPlacement] | Any, profile: Path | None
) -> dict[str, Any]:
    """Return firing counts by block: the profile's, else the first that a layout records.

    One set for all layouts, so that they are compared with the same neurons in DRAM.
    """
    if profile is not None:
        if not profile.exists():
            raise UsageError(
                f"--profile {profile}", found="nothing there", expected="a profile", remedy="correct the path"
            )
        return {name: block.frequency for name, block in read_profile(profile).blocks.items()}
    frequencies: dict[str, Any] = {}
    for placement in placements:
        for name, block in placement.blocks.items():
            if block.frequency is not None and name in trace.blocks:
                frequencies.setdefault(name, block.frequency)
    return frequencies


def _warnings(trace: ActivationTrace, device: ConditionedDevice) -> tuple[str, ...]:
    """Say how the numbers may mislead."""
    warnings = [*([device.warning] if device.warning else []), *device.condition_warnings]
    if trace.n_tokens < SHORT_TRACE_TOKENS:
        warnings.append(
            f"the trace has {trace.n_tokens} tokens; means and percentiles of so few say little of the model"
        )
    return tuple(warnings)
