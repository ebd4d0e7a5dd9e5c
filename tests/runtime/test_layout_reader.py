"""Layouts read for real: the bytes of the file, and the counts of the simulator, whatever the cache and the plan."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.errors import CheckpointError, UnsupportedError, UsageError
from ripple_place.flash.admission import Admission
from ripple_place.flash.simulation_params import SimulationParams
from ripple_place.flash.simulator import simulate
from ripple_place.runtime.layout_reader import LayoutReader, ReaderParams
from tests.flash.builders import linear_device
from tests.runtime.builders import bundles_by_index, layout_of_output, random_trace, slots_of_token, write_output

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.flash.device.profile import DeviceProfile

DEVICE = replace(linear_device(max_request_bytes=8192), overhead_us=0.2)
CAPACITIES = {"layers.0": 20, "layers.1": 7}


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an output without gates."""
    return write_output(tmp_path_factory.mktemp("out"))


def check_as_simulated(out: Path, params: SimulationParams, device: DeviceProfile = DEVICE, depth: int = 4) -> None:
    """Serve a trace for real; compare rows with the file, and counts with the simulator's."""
    layout = layout_of_output(out)
    trace = random_trace(layout)
    expected = simulate(trace, layout, device, params)
    bundles = {name: bundles_by_index(out, name) for name in trace.blocks}
    with LayoutReader.open(out, device, params, ReaderParams(depth=depth)) as reader:
        for token in range(trace.n_tokens):
            for name in trace.blocks:
                slots = slots_of_token(trace, layout, name, token)
                np.testing.assert_array_equal(reader.serve(name, slots), bundles[name][slots])
        counters = reader.counters
    for name, block in counters.blocks.items():
        simulated = expected.blocks[name]
        assert block.n_rows == trace.n_tokens
        assert block.n_asked == simulated.totals.n_active
        assert block.n_hits == simulated.totals.n_hits
        assert block.n_reads == simulated.totals.n_reads
        assert block.n_requests == simulated.totals.n_requests
        assert block.bytes_read == simulated.totals.bytes_read
        assert sum(block.predicted_us) == pytest.approx(simulated.totals.flash_time_us)
    assert counters.row_times().read_us.shape == (trace.n_tokens,)


@pytest.mark.parametrize(
    "cache", ["none", "lru", "fifo", "lfu", "s3fifo", "sieve", "greedydual", "pinned", "pinned+lru", "window:2"]
)
def test_as_simulated(out: Path, cache: str) -> None:
    """Each policy that can run without knowing the future."""
    check_as_simulated(out, SimulationParams(cache, CAPACITIES))


@pytest.mark.parametrize("gap", [0, 1, 5, "adaptive", None])
@pytest.mark.parametrize("depth", [1, 3, 64])
def test_plans_and_depths(out: Path, gap: int | str | None, depth: int) -> None:
    """Other gaps, and other numbers of reads in flight."""
    check_as_simulated(out, SimulationParams("lru", CAPACITIES, gap=gap), depth=depth)


def test_admission(out: Path) -> None:
    """Draws are those of the simulator."""
    check_as_simulated(out, SimulationParams("s3fifo", CAPACITIES, admission=Admission.parse("linking:3,0.5", 7)))


@pytest.mark.parametrize("cache", ["lru", "pinned", "lfu", "window:2"])
def test_one_pool(out: Path, cache: str) -> None:
    """One cache for all blocks."""
    check_as_simulated(out, SimulationParams(cache, pool_neurons=30))


@pytest.mark.parametrize("page_bytes", [4096, 16384])
def test_longer_pages(out: Path, page_bytes: int) -> None:
    """Pages that reach beyond the file's end are cut there."""
    check_as_simulated(out, SimulationParams(), linear_device(page_bytes, 16384))


@pytest.mark.parametrize("stride", ["packed", "page"])
def test_two_copies(tmp_path: Path, stride: str) -> None:
    """Neurons come from whichever copy the planner reads."""
    check_as_simulated(write_output(tmp_path, copies=2, stride=stride), SimulationParams("lru", CAPACITIES))


@pytest.mark.parametrize("options", [{}, {"gates": "apart"}, {"gates": "apart", "stride": "page"}])
def test_gated(tmp_path: Path, options: dict[str, str]) -> None:
    """Gates in the bundles, and apart; a row has the gate first either way."""
    check_as_simulated(write_output(tmp_path, gated=True, **options), SimulationParams("lru", CAPACITIES))


def test_rest_alone(tmp_path: Path) -> None:
    """Gates that are known already are not read."""
    out = write_output(tmp_path, gated=True, gates="apart")
    rest = bundles_by_index(out, "layers.1")[:, 400:]
    with LayoutReader.open(out, DEVICE, SimulationParams(), ReaderParams(parts="rest")) as reader:
        assert reader.row_bytes("layers.1") == 800
        np.testing.assert_array_equal(reader.serve("layers.1", np.array([0, 5, 95])), rest[[0, 5, 95]])


def test_the_rest_is_kept_without_its_gate(tmp_path: Path) -> None:
    """A cache keeps rows of the length that is read."""
    out = write_output(tmp_path, gated=True, gates="apart")
    params = SimulationParams(cache="lru", capacity_neurons={"layers.0": 20})
    expected = bundles_by_index(out, "layers.0")[3:9, 400:]
    with LayoutReader.open(out, DEVICE, params, ReaderParams(parts="rest")) as reader:
        for is_hit in (False, True):
            pending = reader.begin("layers.0", np.arange(3, 9))
            assert (pending.wait() == expected).all()
            assert (pending.is_hit == is_hit).all()
        assert reader.dram_bytes == 20 * 800


def test_given_memory(out: Path) -> None:
    """Rows go to the caller's memory; what does not fit is refused."""
    with LayoutReader.open(out, DEVICE, SimulationParams()) as reader:
        rows = np.empty((2, reader.row_bytes("layers.0")), np.uint8)
        assert reader.serve("layers.0", np.array([3, 4]), rows=rows) is rows
        np.testing.assert_array_equal(rows, bundles_by_index(out, "layers.0")[[3, 4]])
        with pytest.raises(UsageError, match="memory of uint8"):
            reader.serve("layers.0", np.array([3]), rows=rows)
        for slots in ([4, 3], [3, 3], [96], [-1]):
            with pytest.raises(UsageError, match="out of order"):
                reader.serve("layers.0", np.array(slots))
        with pytest.raises(UsageError, match="no such block"):
            reader.serve("layers.2", np.array([0]))


def test_a_mask(out: Path) -> None:
    """Slots may be told as one bit for each unit; a mask of another length is refused."""
    mask = np.zeros(96, bool)
    mask[[3, 50, 51]] = True
    with LayoutReader.open(out, DEVICE, SimulationParams()) as reader:
        np.testing.assert_array_equal(reader.serve("layers.1", mask), bundles_by_index(out, "layers.1")[mask])
        with pytest.raises(UsageError, match="out of order"):
            reader.serve("layers.1", mask[:-1])


def test_hits_come_first(out: Path) -> None:
    """Rows of units in DRAM are there before the others are read."""
    bundles = bundles_by_index(out, "layers.0")
    with LayoutReader.open(out, DEVICE, SimulationParams("lru", CAPACITIES)) as reader:
        reader.serve("layers.0", np.array([1, 2, 3]))
        pending = reader.begin("layers.0", np.array([0, 2, 3, 9]))
        assert pending.is_hit.tolist() == [False, True, True, False]
        np.testing.assert_array_equal(pending.rows[[1, 2]], bundles[[2, 3]])
        np.testing.assert_array_equal(pending.wait(), bundles[[0, 2, 3, 9]])


def test_many_threads(out: Path) -> None:
    """Threads that ask for the same blocks at once all get what they asked for; nothing is counted twice."""
    bundles = {name: bundles_by_index(out, name) for name in CAPACITIES}
    wrong: list[object] = []

    def ask(reader: LayoutReader, seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(60):
            name = f"layers.{rng.integers(2)}"
            slots = np.flatnonzero(rng.random(96) < 0.2).astype(np.int32)
            if not np.array_equal(reader.serve(name, slots), bundles[name][slots]):
                wrong.append((seed, name))

    with LayoutReader.open(out, DEVICE, SimulationParams("lru", CAPACITIES)) as reader:
        threads = [threading.Thread(target=ask, args=(reader, seed)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert sum(block.n_rows for block in reader.counters.blocks.values()) == 6 * 60


def test_reset(out: Path) -> None:
    """Emptied caches hold nothing but what they pin."""
    slots = np.arange(5, dtype=np.int32)
    with LayoutReader.open(out, DEVICE, SimulationParams("lru", CAPACITIES)) as reader:
        reader.serve("layers.0", slots)
        reader.reset()
        reader.serve("layers.0", slots)
        assert reader.counters.blocks["layers.0"].n_hits == 0
        np.testing.assert_array_equal(reader.serve("layers.0", slots), bundles_by_index(out, "layers.0")[:5])
        assert reader.counters.blocks["layers.0"].n_hits == 5


def test_pinned_is_loaded(out: Path) -> None:
    """What a cache pins is read before the first row, and counted apart."""
    with LayoutReader.open(out, DEVICE, SimulationParams("pinned", CAPACITIES)) as reader:
        assert reader.counters.bytes_loaded == 27 * 800
        assert reader.dram_bytes == 27 * 800
        assert reader.counters.total("n_reads") == 0
        assert reader.counters.hit_ratio is None


def test_what_cannot_run(out: Path, tmp_path: Path) -> None:
    """Policies that know the future, parts that do not lie apart, words that mean nothing."""
    with pytest.raises(UsageError, match="knows what will be asked"):
        LayoutReader.open(out, DEVICE, SimulationParams("belady", CAPACITIES))
    with pytest.raises(UsageError, match="gates apart"):
        LayoutReader.open(out, DEVICE, SimulationParams(), ReaderParams(parts="rest"))
    with pytest.raises(UsageError, match="one of header, full"):
        ReaderParams(check="none")
    with pytest.raises(UsageError, match="1 to 1024"):
        LayoutReader.open(out, DEVICE, SimulationParams(), ReaderParams(depth=0))
    with pytest.raises(UnsupportedError, match="batches"):
        LayoutReader.open(out, DEVICE, SimulationParams(batch_of_step=np.ones(3, np.int32)))
    drop_in = write_output(tmp_path, formats=("drop-in",))
    with pytest.raises(UnsupportedError, match="without a bundled file"):
        LayoutReader.open(drop_in, DEVICE, SimulationParams())


def damaged(path: Path, at: int) -> None:
    """Flip a bit."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_damage_is_found(tmp_path: Path) -> None:
    """A flipped bit, a truncated file, another one in its place, none: each is an error before a row is served."""
    out = write_output(tmp_path)
    path = out / "ripple_place/bundled.safetensors"
    whole = path.read_bytes()
    damaged(path, len(whole) - 1)
    with pytest.raises(CheckpointError, match="hash"):
        LayoutReader.open(out, DEVICE, SimulationParams())
    with LayoutReader.open(out, DEVICE, SimulationParams(), ReaderParams(check="header")):
        pass  # Which was asked not to look.
    path.write_bytes(whole[:-1])
    with pytest.raises(CheckpointError, match="as the manifest says"):
        LayoutReader.open(out, DEVICE, SimulationParams())
    path.write_bytes(whole.replace(b"stride_bytes", b"strife_bytes", 1))
    with pytest.raises(CheckpointError, match="index"):
        LayoutReader.open(out, DEVICE, SimulationParams(), ReaderParams(check="header"))
    path.unlink()
    with pytest.raises(UsageError, match="no such file"):
        LayoutReader.open(out, DEVICE, SimulationParams())


@pytest.mark.parametrize("how", ["cut", "written"])
def test_changes_while_it_is_read(tmp_path: Path, how: str) -> None:
    """A file that is cut short or written to between two rows."""
    out = write_output(tmp_path)
    path = out / "ripple_place/bundled.safetensors"
    with LayoutReader.open(out, DEVICE, SimulationParams("lru", CAPACITIES)) as reader:
        reader.serve("layers.0", np.array([1]))
        if how == "cut":
            with path.open("r+b") as file:
                file.truncate(8192)
        else:
            damaged(path, path.stat().st_size // 2)
        with pytest.raises((OSError, CheckpointError), match=r"cut short|written to|another length"):
            reader.serve("layers.0", np.array([90]))
        with pytest.raises((OSError, CheckpointError)):
            reader.serve("layers.0", np.array([1]))


def test_removed_while_it_is_read(tmp_path: Path) -> None:
    """The file that was opened stays readable, whatever happens to its name."""
    out = write_output(tmp_path)
    bundles = bundles_by_index(out, "layers.1")
    with LayoutReader.open(out, DEVICE, SimulationParams()) as reader:
        (out / "ripple_place/bundled.safetensors").unlink()
        np.testing.assert_array_equal(reader.serve("layers.1", np.array([7, 8])), bundles[[7, 8]])


def test_no_descriptors(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads and file are given back, however often a layout is opened."""
    before = threading.active_count()
    for _ in range(3):
        with LayoutReader.open(out, DEVICE, SimulationParams()) as reader:
            reader.serve("layers.0", np.array([0, 50]))
            assert threading.active_count() > before
    assert threading.active_count() == before


@pytest.mark.parametrize("is_reading", [False, True])
def test_readers_that_are_forgotten(out: Path, is_reading: bool) -> None:
    """Threads end with a reader that nobody closed, even in the middle of a row."""
    gc.collect()
    before = threading.active_count()
    for _ in range(20):
        reader = LayoutReader.open(out, DEVICE, SimulationParams(), ReaderParams(check="header"))
        pending = reader.begin("layers.0", np.arange(0, 90, 2))
        if not is_reading:
            pending.wait()
        reader.file.close()  # Which a name of the system's own keeps open otherwise.
        del reader, pending
        gc.collect()
        assert threading.active_count() == before
