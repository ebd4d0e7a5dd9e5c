"""Score layouts on a trace: what each would cost on a flash device."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import select_layers
from ripple_place.checkpoint.manifest import Manifest, read_manifest
from ripple_place.errors import PlacementError, UsageError
from ripple_place.flash.device_files import DEFAULT_DEVICE, load_device
from ripple_place.flash.layout import BlockExtent, Layout
from ripple_place.flash.report import Report, make_report
from ripple_place.flash.simulator import SimulationParams
from ripple_place.flash.simulator import simulate as simulate_layout
from ripple_place.graph.profile import read_profile
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement
from ripple_place.trace.sources import read_sources
from ripple_place.workflows.tracking import Track, no_track

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.flash.device import DeviceProfile
    from ripple_place.flash.results import LayoutResult
    from ripple_place.trace.activation_trace import ActivationTrace

ORIGINAL = "original"
DEFAULT_CACHE = "s3fifo"
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
    dram_budget : float or int, optional
        DRAM for neurons: a share of each block's neurons (float), or bytes shared evenly by the blocks (int).
    cache : str, optional
        Policy; default S3-FIFO where there is a budget, none where there is not.
    gap : int, optional
        Unwanted neurons to read through; None takes the device's break-even gap.
    baseline : str, optional
        Layout that speedups are against; default the first.
    profile : Path, optional
        Profile whose firing counts decide what `pinned` pins; default those that the layouts record.
    n_threads : int

    Raises
    ------
    UsageError
        If a cache is named without a budget for it.
    """

    device: str = DEFAULT_DEVICE
    layers: str | None = None
    bundle_bytes: int | None = None
    dram_budget: float | int | None = None
    cache: str | None = None
    gap: int | None = None
    baseline: str | None = None
    profile: Path | None = None
    n_threads: int = 1

    def __post_init__(self) -> None:
        if self.cache not in (None, "none") and self.dram_budget is None:
            raise UsageError(
                f"--cache {self.cache}", found="no DRAM budget", expected="one", remedy="add --dram-budget 10%"
            )
        if self.bundle_bytes is not None and self.bundle_bytes < 1:
            raise UsageError("--bundle-bytes", found="0", expected="at least 1", remedy="give a neuron's bytes")


@dataclass(frozen=True)
class SimulateReport:
    """What `simulate` prints."""

    device: DeviceProfile
    params: SimulationParams
    traces: tuple[str, ...]
    trace: ActivationTrace
    layouts: tuple[Layout, ...]
    results: tuple[LayoutResult, ...]
    baseline: LayoutResult
    warnings: tuple[str, ...]

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
            "cache": self.params.cache,
            "capacity_neurons": dict(self.params.capacity_neurons),
            "layouts": [result.to_json(self.baseline) for result in self.results],
            "warnings": list(self.warnings),
        }

    def picture(self, command: str) -> Report:
        """Return the report with pictures; `command` is shown as what made it."""
        return make_report(
            self.trace, self.layouts, self.results, self.device, self.params,
            traces=self.traces, command=command, baseline=self.baseline, warnings=self.warnings,
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
    device = load_device(params.device)
    trace = read_sources(traces)
    trace = trace.select(select_layers(trace.blocks, params.layers))
    resolved = _resolve(layouts, trace, params)
    baseline = layouts.index(params.baseline) if params.baseline in layouts else 0
    if params.baseline is not None and params.baseline not in layouts:
        raise UsageError(
            f"--baseline {params.baseline}", found="no such layout", expected=f"one of {', '.join(layouts)}",
            remedy="name one of the layouts, as given with --layout",
        )  # fmt: skip
    capacity = _capacity(resolved[0], params.dram_budget)
    cache = params.cache or (DEFAULT_CACHE if params.dram_budget is not None else "none")
    simulation = SimulationParams(cache, capacity, params.gap, params.n_threads)
    results = tuple(simulate_layout(trace, layout, device, simulation) for layout in track(resolved, "simulating"))
    return SimulateReport(
        device, simulation, tuple(path.name for path in traces), trace, tuple(resolved), results, results[baseline],
        _warnings(trace, device),
    )  # fmt: skip


def _resolve(names: Sequence[str], trace: ActivationTrace, params: SimulateParams) -> list[Layout]:
    """Return the layouts: orders, firing counts, and where the bundles lie."""
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
    return layouts


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


def _capacity(layout: Layout, dram_budget: float | int | None) -> dict[str, int]:
    """Return how many neurons of each block the DRAM budget holds."""
    if dram_budget is None:
        return {}
    if isinstance(dram_budget, float):
        return {name: int(dram_budget * block.n_neurons) for name, block in layout.blocks.items()}
    per_block_bytes = dram_budget // len(layout.blocks)
    return {
        name: min(block.n_neurons, per_block_bytes // block.extent.bundle_bytes)
        for name, block in layout.blocks.items()
    }


def _warnings(trace: ActivationTrace, device: DeviceProfile) -> tuple[str, ...]:
    """Say how the numbers may mislead."""
    warnings = [device.warning] if device.warning else []
    if trace.n_tokens < SHORT_TRACE_TOKENS:
        warnings.append(
            f"the trace has {trace.n_tokens} tokens; means and percentiles of so few say little of the model"
        )
    return tuple(warnings)
