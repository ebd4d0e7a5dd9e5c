"""The requests that are measured are those that the simulator charges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import DEFAULT_DEVICE, load_device
from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.flash.requests import block_bases, list_requests, sample_tokens
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.placement import NeuronPlacement
from tests.flash.builders import block_trace, layout_of, linear_device, trace_of
from tests.reference import read_plan

if TYPE_CHECKING:
    from ripple_place.flash.device.profile import DeviceProfile
    from ripple_place.trace.activation_trace import ActivationTrace

SETTINGS = settings(max_examples=25, deadline=None)


def test_requests_by_hand(four_neurons: ActivationTrace, device: DeviceProfile) -> None:
    """Order 3 1 0 2 of 4 KiB bundles: token 0 wants slots 2 and 3, token 1 nothing, token 2 slots 0, 1 and 2."""
    layout = layout_of({"layers.0": [3, 1, 0, 2]})
    requests = list_requests(four_neurons, layout, device, SimulationParams(gap=0), np.arange(3))
    assert requests.offset_bytes.tolist() == [8192, 0]
    assert requests.length_bytes.tolist() == [8192, 12288]
    assert requests.batch_starts.tolist() == [0, 1, 2]
    assert requests.predicted_us == 10 + 2 + 10 + 3
    assert (requests.n_requests, requests.end_bytes) == (2, 16384)


@SETTINGS
@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.sampled_from([1000, 4096, 6912, 40000]), st.integers(0, 2))
def test_all_tokens_together_are_the_simulation(seed: int, gap: int, bundle_bytes: int, budget: int) -> None:
    """Requests, bytes and time of a whole trace, with a cache and routed blocks, equal the simulator's totals."""
    rng = np.random.default_rng(seed)
    n_tokens, n_neurons = 7, 30
    routed = np.flatnonzero(rng.random(n_tokens) < 0.6).tolist()
    trace = trace_of(
        {
            "layers.0": block_trace(rng.random((n_tokens, n_neurons)) < 0.3),
            "layers.1.experts.0": block_trace(rng.random((len(routed), n_neurons)) < 0.5, routed),
        },
        n_tokens,
    )
    layout = layout_of({name: rng.permutation(n_neurons).tolist() for name in trace.blocks}, bundle_bytes)
    device = linear_device()
    params = SimulationParams("lru", dict.fromkeys(trace.blocks, 5 * budget), gap)
    requests = list_requests(trace, layout, device, params, np.arange(n_tokens))
    totals = simulate(trace, layout, device, params).totals
    assert requests.n_requests == totals.n_requests
    assert requests.length_bytes.sum() == totals.bytes_read
    assert requests.predicted_us == pytest.approx(totals.flash_time_us)
    assert (np.diff(requests.batch_starts) > 0).all()


@SETTINGS
@given(st.integers(0, 2**32 - 1), st.sampled_from([1000, 4096, 6912, 200_000]))
def test_requests_cover_the_bundles(seed: int, bundle_bytes: int) -> None:
    """Against the plain planner: the same lengths in the same order, and each read's pages one after the other."""
    rng = np.random.default_rng(seed)
    active = rng.random((1, 20)) < 0.4
    order = rng.permutation(20)
    trace = trace_of({"layers.0": block_trace(active)}, 1)
    device = linear_device()
    requests = list_requests(
        trace, layout_of({"layers.0": order.tolist()}, bundle_bytes), device, SimulationParams(gap=1), np.array([0])
    )
    reads = read_plan.plan(np.flatnonzero(active[0][order]).tolist(), 1)
    spans = [
        (page_bytes * 4096, length)
        for first, last in reads
        for page_bytes, length in _spans(first, last, bundle_bytes, device)
    ]
    assert list(zip(requests.offset_bytes.tolist(), requests.length_bytes.tolist(), strict=True)) == spans


def _spans(first: int, last: int, bundle_bytes: int, device: DeviceProfile) -> list[tuple[int, int]]:
    """Return (first page, bytes) of each request of a read, by the reference."""
    page = read_plan.pages(first, last, bundle_bytes, bundle_bytes, 0, device.page_bytes)[0]
    spans = []
    for length in read_plan.requests(
        first, last, bundle_bytes, bundle_bytes, 0, device.page_bytes, device.max_request_bytes
    ):
        spans.append((page, length))
        page += length // device.page_bytes
    return spans


def test_a_sampled_token_finds_the_cache_as_the_trace_left_it(device: DeviceProfile) -> None:
    """The second of two equal tokens misses nothing once the first has filled the cache."""
    trace = trace_of({"layers.0": block_trace(np.array([[1, 0, 1], [1, 0, 1], [0, 1, 0]]))}, 3)
    layout = layout_of({"layers.0": [0, 1, 2]})
    params = SimulationParams("lru", {"layers.0": 2}, 0)
    assert list_requests(trace, layout, device, params, np.array([1])).n_requests == 0
    assert list_requests(trace, layout, device, params, np.array([2])).offset_bytes.tolist() == [4096]


def test_tokens_are_spread_over_the_trace() -> None:
    """Always the same, ascending, different; all of them where more are wanted than there are."""
    assert sample_tokens(10, 3).tolist() == [1, 5, 8]
    assert sample_tokens(5, 5).tolist() == [0, 1, 2, 3, 4]
    assert sample_tokens(2, 9).tolist() == [0, 1]


def test_blocks_lie_where_the_file_has_them() -> None:
    """Extents that do not overlap stay; those that do are laid out in model order, from page to page."""
    apart = {"layers.0": BlockExtent(1000, 1024, 8192), "layers.1": BlockExtent(1000, 1024, 0)}
    assert block_bases(apart, dict.fromkeys(apart, 8 * 1024), 4096) == {"layers.0": 8192, "layers.1": 0}
    assert block_bases(apart, dict.fromkeys(apart, 9 * 1024), 4096) == {"layers.0": 0, "layers.1": 12288}
    shifted = {"layers.0": BlockExtent(100, 100, 100), "layers.1": BlockExtent(100, 100, 100)}
    assert block_bases(shifted, dict.fromkeys(shifted, 200), 512) == {"layers.0": 100, "layers.1": 4196}


def test_blocks_that_are_moved_keep_their_place_in_the_page(device: DeviceProfile) -> None:
    """A bundle that straddles two pages does so wherever its block is laid: the charged pages are the read ones."""
    placement = NeuronPlacement(np.arange(4))
    extent = BlockExtent(1000, 1000, 3500)
    layout = Layout("moved", {name: BlockLayout(placement, extent) for name in ("layers.0", "layers.1")})
    trace = trace_of(dict.fromkeys(layout.blocks, block_trace(np.array([[1, 0, 0, 0]]))), 1)
    requests = list_requests(trace, layout, device, SimulationParams(gap=0), np.array([0]))
    assert requests.offset_bytes.tolist() == [0, 8192]
    assert requests.length_bytes.tolist() == [8192, 8192]


def test_mapped_files_have_no_requests(four_neurons: ActivationTrace) -> None:
    """The kernel decides what a page fault fetches; there is nothing to replay."""
    device = under(load_device(DEFAULT_DEVICE), ReadConditions(access="mmap"))
    with pytest.raises(UsageError, match="--access mmap"):
        list_requests(four_neurons, layout_of({"layers.0": [0, 1, 2, 3]}), device, SimulationParams(), np.arange(3))
