"""Gates first: by hand, against the plain twin, and where it must be what reading whole bundles is."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import PlacementError, UsageError
from ripple_place.flash.admission import Admission
from ripple_place.flash.block_tally import BlockTally, RowTokens
from ripple_place.flash.bundle_form import FORMS, BundleForm, int4_matrix_bytes
from ripple_place.flash.caches.registry import POLICIES
from ripple_place.flash.candidates import draw_candidates
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.gate_first import GateFirst
from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.flash.requests import list_requests
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.placement import NeuronPlacement
from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace
from tests.flash.builders import block_trace, linear_device, trace_of
from tests.reference import caches
from tests.reference import gates as reference

if TYPE_CHECKING:
    from ripple_place.flash.results import LayoutResult

SETTINGS = settings(max_examples=25, deadline=None)
GATE, BUNDLE = 8192, 24576


def form_of(name: str, n_neurons: int, gate: int = GATE, bundle: int = BUNDLE) -> BundleForm:
    """Return a form of packed bundles, or those of four bits on two pages."""
    if name == "gates-apart":
        return BundleForm.apart(gate, bundle - gate, bundle - gate, n_neurons)
    if name == "int4":
        return BundleForm.in_bundle(name, 2560, 7680, 8192)
    return BundleForm.in_bundle(name, gate, bundle, bundle)


def laid_out(form: BundleForm | None, order: list[int], bundle: int = BUNDLE) -> Layout:
    """Return a layout of one block."""
    stride = bundle if form is None else max(form.gate_stride_bytes, form.bundle_bytes)
    if form is not None:
        bundle = form.bundle_bytes
    extent = BlockExtent(bundle, stride)
    placement = NeuronPlacement(np.array(order), frequency=np.arange(len(order)))
    return Layout("tested", {"layers.0": BlockLayout(placement, extent, form)})


def served(active: np.ndarray, named: np.ndarray | None = None) -> ActivationTrace:
    """Return a trace of one block, with predictions if there are any."""
    block = block_trace(active)
    if named is not None:
        block = BlockTrace(block.n_neurons, block.active, None, None, block_trace(named).active)
    return trace_of({"layers.0": block}, len(active))


def run(
    trace: ActivationTrace, layout: Layout, mode: str | None = "predicted", cache: str = "none", capacity: int = 0,
    gap: int | None = 0,
) -> LayoutResult:  # fmt: skip
    """Simulate on the device of 10 us a request and 1 us a page."""
    params = SimulationParams(
        cache, {"layers.0": capacity}, gap, gate_first=None if mode is None else GateFirst(mode)
    )  # fmt: skip
    return simulate(trace, layout, linear_device(max_request_bytes=16384), params)


HAND = np.array([[1, 0, 0, 1], [0, 0, 1, 0]], bool)
"""What fires."""
NAMED = np.array([[1, 1, 0, 1], [1, 0, 0, 0]], bool)
"""What is predicted: 1 of token 0 and 0 of token 1 do not fire, 2 of token 1 fires and is not predicted."""


def test_four_neurons_by_hand_gates_in_bundles() -> None:
    """Gates of 0 to 1 in one read of 4 + 4 + 2 - 2 pages, of 3 in one of 2; then the 4 other pages of 0 and of 3."""
    result = run(served(HAND, NAMED), laid_out(form_of("gate-first", 4), [0, 1, 2, 3]))
    gate = result.gate
    assert gate is not None
    # Token 0: the read of slots 0 and 1 takes pages 0 to 7 (two requests of four), so that of 0 nothing is left.
    # Slot 3 begins with page 18: two pages, then its four others. Token 1 reads the gate of 0.
    assert result.token_us.tolist() == [14 + 14 + 12 + 14, 12]
    assert (gate.n_reads, gate.n_requests, gate.bytes_read) == (3, 4, 12 * 4096)
    assert gate.flash_time_us == 14 + 14 + 12 + 12
    assert (result.totals.n_reads, result.totals.n_requests, result.totals.bytes_read) == (4, 5, 16 * 4096)
    assert (gate.n_candidates, gate.n_fired, gate.n_unpredicted) == (4, 2, 1)
    assert (gate.n_looked_at, gate.n_rest, gate.rest_saved_share) == (4, 2, 0.5)
    assert result.to_json()["gate"]["unpredicted_per_token"] == 0.5
    assert result.totals.bytes_active == result.totals.bytes_requested == 4 * GATE + 2 * 2 * GATE


def test_four_neurons_by_hand_gates_apart() -> None:
    """Gates are 2 pages each, the rest 4 from page 8 on; the gates of 0 and 1 make a read of 4 pages."""
    result = run(served(HAND, NAMED), laid_out(form_of("gates-apart", 4), [0, 1, 2, 3]))
    assert result.gate is not None
    assert result.token_us.tolist() == [14 + 12 + 14 + 14, 12]
    assert result.totals.bytes_read == (4 + 2 + 4 + 4 + 2) * 4096
    assert result.gate.bytes_read == 8 * 4096


def test_int4_is_two_pages() -> None:
    """2.5 KB of gate on the first of 8 KB: one page each time, the second only of what fires (PowerInfer-2)."""
    assert 3 * int4_matrix_bytes(4096) == 7680
    result = run(served(HAND, NAMED), laid_out(form_of("int4", 4), [3, 1, 0, 2]), gap=None)
    # lambda is 4 slots here: the gates of slots 0 to 2 come in one read of 5 pages, slot 1's second page with them.
    assert result.token_us.tolist() == [14 + 11 + 11, 11]
    lone = run(served(HAND[1:], HAND[1:]), laid_out(form_of("int4", 4), [3, 1, 0, 2]))
    assert lone.token_us.tolist() == [11 + 11]
    assert (lone.totals.n_requests, lone.totals.bytes_read) == (2, 8192)


def test_all_gates_by_hand() -> None:
    """Eight pages of gates for every token, in two requests of four; then what fires, without misses or surplus."""
    layout = laid_out(form_of("gates-apart", 4), [0, 1, 2, 3])
    result = run(served(np.vstack([HAND, np.zeros((1, 4), bool)]), None), layout, "full-gate")
    assert result.token_us.tolist() == [28 + 14 + 14, 28 + 14, 28]
    assert result.gate is not None
    assert (result.gate.n_reads, result.gate.n_requests, result.gate.bytes_read) == (3, 6, 3 * 8 * 4096)
    assert (result.gate.n_unpredicted, result.gate.rest_saved_share) == (0, None)
    assert result.totals.bytes_active == 3 * 4 * GATE + 3 * 2 * GATE
    resident = run(served(HAND), layout, "resident")
    assert resident.token_us.tolist() == [28, 14]
    assert resident.gate is not None
    assert resident.gate.n_reads == resident.gate.flash_time_us == 0


def test_only_what_fires_enters_and_all_that_is_named_is_touched() -> None:
    """An LRU of two: 1 never enters; naming 0, which does not fire, keeps it, so that 3 leaves when 2 enters."""
    named = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], bool)
    active = named.copy()
    active[0, 1] = active[1, 0] = False
    result = run(served(active, named), laid_out(form_of("gates-apart", 4), [0, 1, 2, 3]), cache="lru", capacity=2)
    assert result.totals.n_hits == 2
    assert result.token_us[[1, 3]].tolist() == [0, 0]
    assert result.token_us[4] > 0


def counts(result: LayoutResult) -> tuple[object, ...]:
    """Return all that a simulation counts, as today's JSON has it."""
    document = result.to_json()
    document.pop("gate")
    for block in document["blocks"].values():
        block.pop("gate")
    return document, result.token_us.tolist()


@SETTINGS
@given(
    st.integers(0, 2**32 - 1), st.sampled_from([*POLICIES, "window:2"]), st.sampled_from([None, 0, 3]),
    st.sampled_from([3000, 6912, BUNDLE]), st.booleans(),
)  # fmt: skip
def test_whole_bundles_of_what_fires_are_todays_numbers(
    seed: int, cache: str, gap: int | None, bundle: int, is_drawn: bool
) -> None:
    """Form ``whole`` with one candidate per neuron that fires costs, to the last bit, what reading it does."""
    rng = np.random.default_rng(seed)
    trace, order = served(rng.random((9, 40)) < 0.3), rng.permutation(40).tolist()
    params = SimulationParams(cache, {"layers.0": 9}, gap, admission=Admission.parse("linking", seed), with_bound=True)
    device = linear_device()
    plain = simulate(trace, laid_out(None, order, bundle), device, params)
    if is_drawn:
        trace = draw_candidates(trace, 1.0, seed)
    params = replace(params, gate_first=GateFirst("predicted"))
    form = form_of("whole", 40, bundle // 3, bundle)
    assert counts(simulate(trace, laid_out(form, order, bundle), device, params)) == counts(plain)


@SETTINGS
@given(
    st.integers(0, 2**32 - 1), st.sampled_from(["gate-first", "gates-apart", "int4"]), st.integers(0, 3),
    st.integers(0, 12), st.sampled_from([(8192, 24576), (1000, 3000), (2304, 6912), (5000, 5100)]),
)  # fmt: skip
def test_two_phases_equal_their_twin(seed: int, name: str, gap: int, capacity: int, sizes: tuple[int, int]) -> None:
    """Every count and time of both phases, on random activity, predictions, order, sizes, gap and LRU capacity."""
    rng = np.random.default_rng(seed)
    active, named = rng.random((6, 23)) < rng.random(), rng.random((6, 23)) < rng.random()
    order, form = rng.permutation(23).tolist(), form_of(name, 23, *sizes)
    result = run(served(active, named), laid_out(form, order), "predicted", "lru", capacity, gap)
    expected = reference.simulate_block(
        active, named, order, form, gap, lambda stream, fires: caches.lru(stream, capacity, fires)
    )
    gate, totals = result.gate, result.totals
    assert gate is not None
    assert [gate.n_reads, gate.n_requests, gate.bytes_read] == expected["gate"]
    both = zip(expected["gate"], expected["rest"], strict=True)
    assert [totals.n_reads, totals.n_requests, totals.bytes_read] == [sum(phases) for phases in both]
    assert result.token_us.tolist() == pytest.approx(expected["token_us"])
    assert gate.flash_time_us == pytest.approx(sum(expected["gate_us"]))
    assert (gate.n_looked_at, gate.n_rest) == (expected["n_looked_at"], expected["n_rest"])
    assert gate.n_unpredicted == (active & ~named).sum()
    assert totals.flash_time_linear_us == pytest.approx(totals.flash_time_us)
    assert int(totals.read_length_counts.sum()) == totals.n_reads


@SETTINGS
@given(st.integers(0, 2**32 - 1), st.floats(1, 4), st.integers(1, 70))
def test_drawn_candidates_equal_their_twin(seed: int, over_predict: float, n_neurons: int) -> None:
    """All that fires is named, and as many more as are due, each once; the same for the same seed."""
    rng = np.random.default_rng(seed)
    active = rng.random((12, n_neurons)) < rng.random()
    trace = served(active)
    drawn = draw_candidates(trace, over_predict, 7).blocks["layers.0"].predicted
    named = np.unpackbits(np.asarray(drawn), axis=1, count=n_neurons, bitorder="little").astype(bool)
    weight = (active.sum(axis=0) + 1).tolist()
    key = (7 * 0x100000001 ^ zlib.crc32(b"layers.0")) % 2**64
    assert (named == reference.draw_more(active, weight, over_predict - 1, key)).all()
    assert (named >= active).all()
    assert named.sum() <= int(active.sum() * over_predict + 1e-9)
    again = draw_candidates(trace, over_predict, 7).blocks["layers.0"].predicted
    assert np.array_equal(np.asarray(drawn), np.asarray(again))


def test_frequent_neurons_are_drawn_more_often() -> None:
    """A neuron that fires in half of the tokens is named in vain far more often than one that never does."""
    rng = np.random.default_rng(0)
    active = np.zeros((400, 40), bool)
    active[:, :20] = rng.random((400, 20)) < 0.5
    drawn = draw_candidates(served(active), 1.25, 0).blocks["layers.0"].predicted
    named = np.unpackbits(np.asarray(drawn), axis=1, count=40, bitorder="little").astype(bool)
    in_vain = (named & ~active).sum(axis=0)
    assert in_vain.sum() == active.sum() // 4
    assert in_vain[:20].sum() > 20 * in_vain[20:].sum()


def test_bundles_apart_are_read_from_both_places_without_gates_first() -> None:
    """A file with gates apart costs the same whether all that is named fires, or nobody looks at gates first."""
    rng = np.random.default_rng(3)
    trace = served(rng.random((9, 40)) < 0.3)
    layout = laid_out(form_of("gates-apart", 40), list(range(40)))
    plain, first = run(trace, layout, None, "lru", 7), run(trace, layout, "predicted", "lru", 7)
    assert plain.gate is None
    assert counts(plain) == counts(first)


@pytest.mark.parametrize("planner", ["adaptive", "optimal"])
@pytest.mark.parametrize("name", FORMS)
def test_other_planners(planner: str, name: str) -> None:
    """Each phase has its own planner; what is optimal for apart regions is never slower than a fixed gap."""
    rng = np.random.default_rng(4)
    trace = served(rng.random((9, 40)) < 0.3)
    layout = laid_out(form_of(name, 40), list(range(40)))
    params = SimulationParams(gap=planner, gate_first=GateFirst("predicted"))
    result = simulate(trace, layout, linear_device(), params)
    if name in ("whole", "gates-apart") and planner == "optimal":
        fixed = simulate(trace, layout, linear_device(), replace(params, gap=None))
        assert result.totals.flash_time_us <= fixed.totals.flash_time_us
    assert result.totals.n_reads > 0


def test_gaps_are_those_of_what_is_read() -> None:
    """Break-even is 40 KiB: ten gates of 4 KiB that lie apart; in bundles of 48 KiB, not even neighbours merge."""
    active = np.array([[1, 0, 0, 1]], bool)
    apart = run(served(active), laid_out(form_of("gates-apart", 4, 4096, 12288), [0, 1, 2, 3]), gap=None)
    assert apart.token_us.tolist() == [10 + 4 + 20 + 4 * 2]
    wide = form_of("gate-first", 4, 4096, 49152)
    result = run(served(np.array([[1, 1, 0, 0]], bool)), laid_out(wide, [0, 1, 2, 3]), gap=None)
    assert result.gate is not None
    assert (result.gate.n_reads, result.gate.bytes_read) == (2, 8192)
    assert result.blocks["layers.0"].gap is None


def test_threads_and_chunks_do_not_show() -> None:
    """A block of many rows gives the same on its own and beside others."""
    rng = np.random.default_rng(5)
    active = rng.random((3000, 200)) < 0.1
    trace = draw_candidates(trace_of({f"layers.{i}": block_trace(active) for i in range(3)}, 3000), 1.5, 0)
    block = laid_out(form_of("gates-apart", 200), list(range(200))).blocks["layers.0"]
    layout = Layout("tested", dict.fromkeys(trace.blocks, block))
    params = SimulationParams("lru", dict.fromkeys(trace.blocks, 50), gate_first=GateFirst("predicted"))
    one, three = (simulate(trace, layout, linear_device(), replace(params, n_threads=n)) for n in (1, 3))
    assert counts(one) == counts(three)
    assert one.gate == three.gate


def test_the_time_of_gates_is_known_row_by_row() -> None:
    """A tally keeps what of each row's time its gates took; nothing where they are not read first."""
    block, layout = served(HAND, NAMED).blocks["layers.0"], laid_out(form_of("gates-apart", 4), [0, 1, 2, 3])
    for mode, gate_us in ((GateFirst("predicted"), [14 + 12, 12]), (GateFirst("resident"), [0, 0]), (None, None)):
        params, device = SimulationParams(gap=0, gate_first=mode), linear_device(max_request_bytes=16384)
        placed = layout.blocks["layers.0"]
        reader = params.reader_of("layers.0", placed, device)
        tally = BlockTally(placed, device, reader, RowTokens(2, None, 2), 0)
        for chunk in params.replay("layers.0", block, placed, device):
            tally.add(chunk)
        assert (None if tally.row_gate_us is None else tally.row_gate_us.tolist()) == gate_us


def test_what_cannot_be_read_in_two_phases() -> None:
    """Two copies, mapped files, and all gates of a form in which they do not lie together; lists of requests."""
    device, trace = linear_device(), served(HAND)
    layout = laid_out(form_of("gate-first", 4), [0, 1, 2, 3])
    params = SimulationParams(gate_first=GateFirst("predicted"))
    twice = NeuronPlacement(np.arange(4), order_2=np.arange(4)[::-1].copy())
    copies = Layout("x", {"layers.0": replace(layout.blocks["layers.0"], placement=twice)})
    with pytest.raises(UsageError, match="two copies"):
        simulate(trace, copies, device, params)
    sources = {**device.sources, "read_ahead_bytes": "remembered: made up for tests"}
    mapped = under(replace(device, read_ahead_bytes=16384, sources=sources), ReadConditions(access="mmap"))
    with pytest.raises(UsageError, match="mmap"):
        simulate(trace, layout, mapped, params)
    with pytest.raises(UsageError, match="Add --bundle-form gates-apart"):
        simulate(trace, layout, device, SimulationParams(gate_first=GateFirst("full-gate")))
    with pytest.raises(UsageError, match="without --gates apart"):
        list_requests(trace, layout, device, params, np.arange(2))
    apart = laid_out(form_of("gates-apart", 4), [0, 1, 2, 3])
    with pytest.raises(UsageError, match="without --gates apart"):
        list_requests(trace, apart, device, SimulationParams(), np.arange(2))


@pytest.mark.parametrize("text", ["", "gates", "predicted,", "predicted,over=2", "predicted,over-predict=0.5",
                                  "predicted,over-predict=nan", "full-gate,over-predict=2"])  # fmt: skip
def test_modes_that_are_none(text: str) -> None:
    """Each is refused; those that are one are written as they are read."""
    with pytest.raises(UsageError):
        GateFirst.parse(text)
    for good in ("predicted", "full-gate", "resident", "predicted,over-predict=1.25"):
        assert str(GateFirst.parse(good)) == good


def test_forms_that_are_none() -> None:
    """A gate as long as the bundle leaves nothing; a rest must not begin in the gate."""
    with pytest.raises(PlacementError):
        BundleForm.in_bundle("whole", 4096, 4096, 4096)
    with pytest.raises(PlacementError):
        BundleForm("gates-apart", 4096, 4096, 4096, 4096, 100)
