"""The reader of a layout: every block of an output, served from storage behind a DRAM cache.

For each row, as the simulator counts it: the units that are asked for go through the cache in slot order, reads are
planned on the misses, rounded out to pages, split, and issued through a bounded queue. What the simulator predicts for
the same rows is added up beside what was measured.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.errors import UnsupportedError, UsageError
from ripple_place.flash.caches.registry import find_policy
from ripple_place.flash.layout import Layout
from ripple_place.flash.pool import Pool, check_one_size
from ripple_place.flash.read_cost import ReadCost
from ripple_place.runtime.block_parts import PARTS, WHOLE, parts_of_block
from ripple_place.runtime.block_server import BlockServer, CacheSite
from ripple_place.runtime.bundled_file import CHECKS, FULL, BundledFile
from ripple_place.runtime.counters import ReaderCounters
from ripple_place.runtime.kept_rows import KeptRows
from ripple_place.runtime.output_layout import read_output_layout
from ripple_place.runtime.read_queue import ReadQueue
from ripple_place.tracking import Track, no_track

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping
    from types import TracebackType

    from ripple_place.arrays import AnyArray, UInt8Array
    from ripple_place.flash.caches.cache import Cache
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.flash.layout import BlockLayout
    from ripple_place.flash.simulation_params import SimulationParams
    from ripple_place.runtime.block_server import PendingRows

DEFAULT_DEPTH = 8


@dataclass(frozen=True)
class ReaderParams:
    """How a layout is read.

    Parameters
    ----------
    depth : int
        Reads in flight.
    check : {"full", "header"}
        What of the file is compared with the manifest before anything is read from it.
    parts : {"whole", "rest"}
        What a row holds: all of a unit, or all but its gate, which then must lie apart.

    Raises
    ------
    UsageError
        If a word is none of these.
    """

    depth: int = DEFAULT_DEPTH
    check: str = FULL
    parts: str = WHOLE

    def __post_init__(self) -> None:
        for option, value, known in (("--check", self.check, CHECKS), ("parts", self.parts, PARTS)):
            if value not in known:
                raise UsageError(
                    f"{option} {value}", found="no such word", expected=f"one of {', '.join(known)}",
                    remedy="write one of them",
                )  # fmt: skip


class LayoutReader:
    """Reads the units of an output of `reorder`; a context manager that closes file and threads.

    Safe for several threads: each row is served as a whole, and rows of one cache one after the other.

    Parameters
    ----------
    file : BundledFile
    layout : Layout
        Of the blocks that are served.
    device : DeviceProfile
        Says how reads are planned, rounded and split, and what the simulator charges.
    simulation : SimulationParams
        Cache, capacities, gap and admission.
    params : ReaderParams

    Raises
    ------
    UsageError
        If the cache, the planner or the device cannot serve for real.

    Attributes
    ----------
    layout : Layout
    device : DeviceProfile
    simulation : SimulationParams
    counters : ReaderCounters
    is_direct : bool
        Whether reads bypass the page cache.
    """

    def __init__(
        self, file: BundledFile, layout: Layout, device: DeviceProfile, simulation: SimulationParams,
        params: ReaderParams,
    ) -> None:  # fmt: skip
        _check_servable(simulation)
        _check_page(file, device)
        self.layout, self.is_direct, self.file = layout, file.is_direct, file
        self.device, self.simulation = device, simulation
        self._queue = ReadQueue(file, params.depth)
        self._servers: dict[str, BlockServer] = {}
        row_bytes = {name: _row_bytes(block, params.parts) for name, block in layout.blocks.items()}
        sites = _pool_site(layout, device, simulation, row_bytes) or {
            name: (_site(name, block, device, simulation, row_bytes[name]), 0) for name, block in layout.blocks.items()
        }
        last = [*layout.blocks][-1:]
        for name, block in layout.blocks.items():
            site, first_unit = sites[name]
            parts = parts_of_block(name, block, device, simulation, params.parts)
            is_last = simulation.pool_neurons is None or [name] == last
            self._servers[name] = BlockServer(
                name, block, site, first_unit, parts, self._queue, file, simulation.admission,
                device.max_request_bytes, is_last=is_last,
            )  # fmt: skip
        self.counters = ReaderCounters({name: server.counters for name, server in self._servers.items()})
        self._queue.start()
        self._load_pinned()

    @classmethod
    def open(
        cls, out: str | os.PathLike[str], device: DeviceProfile, simulation: SimulationParams,
        params: ReaderParams | None = None, track: Track = no_track,
    ) -> LayoutReader:  # fmt: skip
        """Open an output of `reorder` that has a bundled file.

        Parameters
        ----------
        out : path-like
        device : DeviceProfile
        simulation : SimulationParams
        params : ReaderParams, optional
        track : Track
            Receives progress of the check.

        Raises
        ------
        UsageError, UnsupportedError, CheckpointError, PlacementError, OSError
            As `BundledFile.open`, `read_output_layout`, and as for the class.
        """
        params = params or ReaderParams()
        manifest = read_manifest(out)
        file = BundledFile.open(manifest, params.check, track)
        try:
            output = read_output_layout(str(out), manifest)
            layout = Layout.from_extents(str(out), output.placement, output.extents, output.forms)
            return cls(file, layout, device, simulation, params)
        except BaseException:
            file.close()
            raise

    def __enter__(self) -> LayoutReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads and close the file."""
        self._queue.close()
        self.file.close()

    @property
    def dram_bytes(self) -> int:
        """Memory that the bundles in DRAM take."""
        sites = {id(server.site): server.site for server in self._servers.values()}
        return sum(site.kept.n_bytes for site in sites.values())

    def row_bytes(self, block: str) -> int:
        """Return the bytes of a row of a block."""
        return self._servers[block].row_bytes

    def serve(
        self, block: str, slots: AnyArray, is_hit: AnyArray | None = None, rows: UInt8Array | None = None
    ) -> UInt8Array:
        """Return the bundles in some slots of a block; see `begin`."""
        return self.begin(block, slots, is_hit, rows).wait()

    def begin(
        self, block: str, slots: AnyArray, is_hit: AnyArray | None = None, rows: UInt8Array | None = None
    ) -> PendingRows:
        """Start reading the bundles in some slots of a block; a thread waits for it before it begins another.

        Parameters
        ----------
        block : str
        slots : ndarray of shape (n,), int32, or of shape (n_units,), bool
            Ascending, none twice; or which are wanted.
        is_hit : ndarray of shape (n,), uint8, optional
            What the block's cache said, where it was asked elsewhere (`use_cache`).
        rows : ndarray of shape (n, row_bytes), uint8, optional
            Memory to write to.

        Returns
        -------
        PendingRows
            Row i of `rows` is the bundle in ``slots[i]``.

        Raises
        ------
        UsageError
            If there is no such block, or no such slots.
        OSError, CheckpointError
            On waiting, if storage refuses, or the file was changed. Nothing is returned then.
        """
        if block not in self._servers:
            raise UsageError(
                f"{self.layout.name}: {block}", found="no such block", expected=f"one of {', '.join(self._servers)}",
                remedy="ask for a block of this layout",
            )  # fmt: skip
        return self._servers[block].begin(slots, is_hit, rows)

    def use_cache(self, block: str, policy: str, cache: Cache, capacity: int) -> None:
        """Keep the bytes of what another cache of a block holds, whose hits are told with each row.

        Parameters
        ----------
        block : str
            Of a reader whose blocks have caches of their own.
        policy : str
        cache : Cache
            Of the block's units; as it was made.
        capacity : int
        """
        server = self._servers[block]
        kept = KeptRows(policy, cache, server.layout.n_neurons, capacity, server.row_bytes)
        server.site = CacheSite(cache, kept, threading.Lock())
        self._load_pinned([block])

    def reset(self) -> None:
        """Empty all caches, but for what they never evict."""
        for site in {id(server.site): server.site for server in self._servers.values()}.values():
            with site.lock:
                site.cache.reset()

    def _load_pinned(self, blocks: list[str] | None = None) -> None:
        """Read what caches hold before the first row."""
        for name in self._servers if blocks is None else blocks:
            server = self._servers[name]
            held = server.site.kept.held(server.units)
            self.counters.bytes_loaded += server.load(held)


def _check_servable(simulation: SimulationParams) -> None:
    """Refuse what only a simulation knows."""
    wanted = {
        "gates that are read first": simulation.gate_first is not None,
        "batches": simulation.batch_of_step is not None,
        "neurons that are read ahead": bool(simulation.read_ahead_neurons),
        "a plan's hot segments": simulation.segments is not None,
    }
    for what, is_wanted in wanted.items():
        if is_wanted:
            raise UnsupportedError(
                "reading for real", found=what, expected="units that are asked for one row at a time",
                remedy="simulate it (ripple-place simulate), or leave it out",
            )  # fmt: skip


def _check_page(file: BundledFile, device: DeviceProfile) -> None:
    """Refuse a device whose pages are no reads that this storage serves."""
    if device.page_bytes % file.alignment_bytes:
        raise UsageError(
            file.path, found=f"storage that reads multiples of {file.alignment_bytes} bytes",
            expected=f"pages of {device.page_bytes}, as device {device.name} has",
            remedy="make a profile of this storage with `ripple-place calibrate`",
        )  # fmt: skip


def _row_bytes(block: BlockLayout, parts: str) -> int:
    """Return the bytes of a row: of what is read of a unit."""
    left_out = 0 if block.form is None or parts == WHOLE else block.form.gate_bytes
    return block.extent.bundle_bytes - left_out


def _site(
    name: str, block: BlockLayout, device: DeviceProfile, simulation: SimulationParams, row_bytes: int
) -> CacheSite:
    """Return a block's own cache."""
    capacity, bundle_bytes = simulation.capacity_neurons.get(name, 0), block.extent.bundle_bytes
    reads = ReadCost.on_device(device, bundle_bytes, simulation.gap_of(name, block, device))
    cache = find_policy(simulation.cache)(capacity, block.placement, reads)
    kept = KeptRows(simulation.cache, cache, block.n_neurons, capacity, row_bytes)
    return CacheSite(cache, kept, threading.Lock())


def _pool_site(
    layout: Layout, device: DeviceProfile, simulation: SimulationParams, row_bytes: Mapping[str, int]
) -> dict[str, tuple[CacheSite, int]] | None:
    """Return one cache for all blocks, and the first unit of each; None where each has its own."""
    if simulation.pool_neurons is None:
        return None
    sizes = {name: block.extent.bundle_bytes for name, block in layout.blocks.items()}
    gaps = {name: simulation.gap_of(name, block, device) for name, block in layout.blocks.items()}
    check_one_size(layout.name, sizes, gaps)
    pool = Pool.of_blocks({name: block.placement for name, block in layout.blocks.items()})
    first = next(iter(sizes))
    reads = ReadCost.on_device(device, sizes[first], gaps[first])
    cache = find_policy(simulation.cache)(simulation.pool_neurons, pool.placement, reads)
    kept = KeptRows(simulation.cache, cache, pool.placement.n_neurons, simulation.pool_neurons, row_bytes[first])
    site = CacheSite(cache, kept, threading.Lock())
    return {name: (site, pool.first_neuron[name]) for name in layout.blocks}
