"""Reads of experts: counts and times by hand on a line of 10 us a request and a page a microsecond."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.experts.reading import ORIGINAL, PACKED, ExpertLayout, ReadTotals, read_groups, split_sizes
from ripple_place.flash.device.conditions import ConditionedDevice, ReadConditions, under
from ripple_place.flash.device.files import load_device
from tests.flash.builders import LINEAR_SOURCES, linear_device

PAGE = 4096
LAYOUTS = {ORIGINAL: ExpertLayout.original(), PACKED: ExpertLayout.packed()}


def queued(queue_depth: int | None = None) -> ConditionedDevice:
    """Return the line, whose requests take twice as long alone, and 1.5 times at depth 2."""
    sources = LINEAR_SOURCES | {"queue_factor": "remembered: made up for tests"}
    device = replace(linear_device(), queue_depths=(1, 2, 4), queue_factor=(0.5, 2 / 3, 1.0), sources=sources)
    return under(device, ReadConditions(queue_depth=queue_depth))


def read(
    layout: ExpertLayout, device: ConditionedDevice, groups: list[list[int]], unit_bytes: int = 6 * PAGE,
    request_bytes: int | None = None,
) -> ReadTotals:  # fmt: skip
    """Read groups of slots."""
    flat = [slot for group in groups for slot in group]
    of = [at for at, group in enumerate(groups) for _ in group]
    return read_groups(
        layout, device, np.array(of, np.int64), np.array(flat, np.int64), np.full(len(flat), unit_bytes, np.int64),
        len(groups), request_bytes,
    )  # fmt: skip


def test_packed_by_hand() -> None:
    """One expert is one read of 6 pages, 16 us; neighbours are one read of 12; others apart; nothing is nothing."""
    totals = read(LAYOUTS[PACKED], under(linear_device()), [[3], [5, 4], [1, 7], []])
    assert totals.n_reads.tolist() == [1, 1, 2, 0]
    assert totals.n_requests.tolist() == [1, 1, 2, 0]
    assert totals.bytes_read.tolist() == [6 * PAGE, 12 * PAGE, 12 * PAGE, 0]
    assert totals.time_us.tolist() == [16.0, 22.0, 32.0, 0.0]


def test_original_by_hand() -> None:
    """Three pieces of 2 pages that begin within a page, of 3 pages each; neighbours are three reads of 5."""
    totals = read(LAYOUTS[ORIGINAL], under(linear_device()), [[3], [5, 4]])
    assert totals.n_reads.tolist() == [3, 3]
    assert totals.bytes_read.tolist() == [9 * PAGE, 15 * PAGE]
    assert totals.time_us.tolist() == [3 * 13.0, 3 * 15.0]


def test_long_reads_are_split() -> None:
    """At 16 pages by the device: 36 pages of an expert are requests of 16, 16 and 4. At 8 pages they are five."""
    device = under(linear_device())
    totals = read(LAYOUTS[PACKED], device, [[0]], 36 * PAGE)
    assert (totals.n_requests.tolist(), totals.time_us.tolist()) == ([3], [26 + 26 + 14])
    totals = read(LAYOUTS[PACKED], device, [[0]], 36 * PAGE, 8 * PAGE)
    assert (totals.n_reads.tolist(), totals.n_requests.tolist()) == ([1], [5])
    assert totals.time_us.tolist() == [4 * 18 + 14]


def test_few_requests_do_not_fill_the_queue() -> None:
    """A page takes 11 us, so that a lone request takes 11 more, two 5.5 more each, four none."""
    groups = [[0], [0, 2], [0, 2, 4, 6]]
    assert read(LAYOUTS[PACKED], queued(), groups).time_us.tolist() == pytest.approx([27, 2 * 21.5, 4 * 16])
    # At a depth of at most 2, four wait for each other.
    assert read(LAYOUTS[PACKED], queued(2), groups).time_us.tolist() == pytest.approx([27, 2 * 21.5, 4 * 21.5])
    # Split into three, a lone expert is read at a depth of 3, where a request takes 11 * (1 / (5 / 6) - 1) us more.
    split = read(LAYOUTS[PACKED], queued(), [[0]], request_bytes=2 * PAGE)
    assert split.time_us.tolist() == pytest.approx([3 * (12 + 2.2)])


def test_the_ceiling_is_of_a_group() -> None:
    """100,000 requests a second or a page a microsecond: two short reads take 20 us, two long ones 30."""
    sources = {name: LINEAR_SOURCES["page_bytes"] for name in ("page_bytes", "max_request_bytes", "max_iops")}
    device = replace(
        linear_device(), form="ceiling", overhead_us=None, max_iops=1e5,
        sources=sources | {"bandwidth_bytes_per_s": LINEAR_SOURCES["page_bytes"]},
    )  # fmt: skip
    assert read(LAYOUTS[PACKED], under(device), [[0, 2]]).time_us.tolist() == pytest.approx([20.0])
    assert read(LAYOUTS[PACKED], under(device), [[0, 2]], 15 * PAGE).time_us.tolist() == pytest.approx([30.0])


@given(
    st.lists(st.sets(st.integers(0, 15), max_size=6).map(sorted), max_size=6), st.integers(1, 200_000),
    st.sampled_from(["ufs4-oneplus15r", "nvme-phison-e27t", "m1-max"]), st.sampled_from([ORIGINAL, PACKED]),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_reads_hold_what_is_missed(groups: list[list[int]], unit_bytes: int, name: str, layout: str) -> None:
    """Bytes cover the experts with less than two pages a piece on top; each group stands for itself."""
    device = under(load_device(name))
    totals = read(LAYOUTS[layout], device, groups, unit_bytes)
    n_pieces = LAYOUTS[layout].n_pieces
    for at, group in enumerate(groups):
        needed = len(group) * unit_bytes
        assert needed <= totals.bytes_read[at] <= needed + len(group) * n_pieces * (2 * PAGE + 1)
        assert totals.n_reads[at] % n_pieces == 0
        assert totals.n_requests[at] >= totals.n_reads[at]
        alone = read(LAYOUTS[layout], device, [group], unit_bytes)
        assert alone.time_us[0] == pytest.approx(totals.time_us[at])


def test_sizes_to_split_at() -> None:
    """The largest request of the device and its halves, whole pages, down to 128 KiB."""
    assert [size >> 10 for size in split_sizes(under(load_device("ufs4-oneplus15r")))] == [
        8192, 4096, 2048, 1024, 512, 256, 128,
    ]  # fmt: skip
    sizes = split_sizes(under(load_device("nvme-phison-e27t")))
    assert all(size % PAGE == 0 for size in sizes)
    assert split_sizes(under(linear_device())) == [65536]
