"""Conditions of a reader, and the forms of a device: by hand, and every way to ask for what is not known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import DeviceConfigError, UsageError
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import DEFAULT_DEVICE, list_devices, load_device
from ripple_place.flash.device.profile import DeviceProfile, LatencyLine
from tests.flash.builders import LINEAR_SOURCES, linear_device

MADE_UP = "remembered: made up for tests"
CONDITION_SOURCES = dict.fromkeys(
    ("range_factor", "core_factor", "queue_factor", "warm_bandwidth_factor", "read_ahead_bytes"), MADE_UP
)
SYNC_SOURCES = {"sync_latency_us": MADE_UP}


def rich_device() -> DeviceProfile:
    """Return the linear device (a page takes 11 us) with a number for every condition."""
    return replace(
        linear_device(),
        range_bytes=(2**20, 2**30),
        range_factor=(2.0, 0.5),
        cores=("big", "little"),
        core_factor=(1.0, 0.5),
        queue_depths=(1, 5),
        queue_factor=(0.25, 1.0),
        warm_bandwidth_factor=0.5,
        read_ahead_bytes=131072,
        sources=LINEAR_SOURCES | CONDITION_SOURCES,
    )


def ceiling_device() -> DeviceProfile:
    """Return a device of 100,000 requests a second or 4096 bytes a microsecond: ten pages take as long as a request."""
    return replace(
        linear_device(), form="ceiling", overhead_us=None, max_iops=100_000,
        sources=dict.fromkeys(("page_bytes", "max_request_bytes", "max_iops", "bandwidth_bytes_per_s"), MADE_UP),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("conditions", "span_bytes", "extra_us"),
    [
        (ReadConditions(), None, 0.0),
        (ReadConditions(core="big"), None, 0.0),
        # Half the throughput of a page: 11 us more, on each request.
        (ReadConditions(core="little"), None, 11.0),
        (ReadConditions(queue_depth=1), None, 33.0),
        # Halfway between depth 1 and 5 the factor is 0.625.
        (ReadConditions(queue_depth=3), None, 11 * (1 / 0.625 - 1)),
        (ReadConditions(queue_depth=64), None, 0.0),
        # Twice the throughput in 1 MiB and less, half in 1 GiB and more; halfway in the logarithm, 1.25.
        (ReadConditions(), 2**12, -5.5),
        (ReadConditions(), 2**40, 11.0),
        (ReadConditions(), 2**25, 11 * (1 / 1.25 - 1)),
        (ReadConditions(core="little", queue_depth=1), 2**30, 55.0),
    ],
)
def test_extra_time_is_that_of_a_page_for_every_length(
    conditions: ReadConditions, span_bytes: int | None, extra_us: float
) -> None:
    """Range, core and queue depth cost each request the same, so that they fade as requests grow longer."""
    device = under(rich_device(), conditions, span_bytes)
    assert device.extra_us == pytest.approx(extra_us)
    assert device.request_us([4096, 65536]).tolist() == pytest.approx([11 + extra_us, 26 + extra_us])
    assert device.line(4096) == LatencyLine(pytest.approx(10 + extra_us), 4096e6)


def test_depth_has_another_effect_on_large_requests() -> None:
    """A page takes 11 us and 33 us more at depth 1; 16 pages 26 us and, at a fifth, 104 us more; 8.5 pages between."""
    sources = LINEAR_SOURCES | CONDITION_SOURCES | {"large_queue_factor": MADE_UP}
    profile = replace(rich_device(), large_queue_bytes=65536, large_queue_factor=(0.2, 1.0), sources=sources)
    device = under(profile, ReadConditions(queue_depth=1))
    sizes = [4096, 34816, 65536, 2 * 65536]
    assert device.request_us(sizes).tolist() == pytest.approx([11 + 33, 18.5 + 68.5, 26 + 104, 42 + 104])
    assert device.own_line() is None
    assert under(profile, ReadConditions(core="little", queue_depth=1)).request_us([65536]).tolist() == pytest.approx(
        [26 + 104 + 11]
    )
    for conditions in (ReadConditions(), ReadConditions(queue_depth=5)):
        assert under(profile, conditions).request_us(sizes).tolist() == pytest.approx([11, 18.5, 26, 42])


def test_heat_lowers_the_ceiling_of_long_requests() -> None:
    """Cold, 64 KiB take 26 us; at half that bandwidth nothing is faster than 3.25 us a page: 4 pages keep their 14."""
    device = under(rich_device(), ReadConditions(thermal="warm"))
    assert device.request_us([4096, 4 * 4096, 5 * 4096, 65536]).tolist() == [11.0, 14.0, 16.25, 52.0]
    assert device.own_line() is None
    line = device.line(4096)
    assert 0 < line.overhead_us < 10
    assert line.bandwidth_bytes_per_s < 4096e6


def test_a_small_range_does_not_make_a_negative_overhead() -> None:
    """A page of 1 us, of which the range saves half a microsecond and the overhead has a tenth: no line, a fit."""
    device = under(replace(rich_device(), overhead_us=0.1), span_bytes=1)
    assert device.own_line() is None
    assert device.request_us([4096]).tolist() == pytest.approx([0.55])
    assert device.line(4096).overhead_us == 0.0


def test_iops_ceiling_bounds_every_request() -> None:
    """At most 50,000 requests a second: none takes less than 20 us, whatever its length or the range."""
    sources = LINEAR_SOURCES | {"max_iops": MADE_UP}
    device = replace(linear_device(), max_iops=50_000, sources=sources)
    assert device.request_us([4096, 40960, 65536]).tolist() == [20.0, 20.0, 26.0]
    assert device.own_line() is None
    assert device.ceiling().iops == pytest.approx(50_000)
    fast = replace(rich_device(), max_iops=50_000, sources=sources | CONDITION_SOURCES)
    assert under(fast, span_bytes=1).request_us([4096]).tolist() == [20.0]


def test_ceiling_form_by_hand() -> None:
    """A request alone takes the larger of the two; so do many together, which is less than their sum."""
    device = ceiling_device()
    assert device.request_us([4096, 40960, 65536]).tolist() == [10.0, 10.0, 16.0]
    ceiling = device.ceiling()
    assert (ceiling.iops, ceiling.bandwidth_bytes_per_s) == pytest.approx((100_000, 4096e6))
    # Two requests of a page and one of 16 pages: 30 us of operations against 18 of bytes; apart, 10 + 10 + 16.
    assert float(ceiling.time_us(3, 18 * 4096)) == pytest.approx(30.0)
    slow = under(
        replace(device, cores=("little",), core_factor=(0.5,), sources={**device.sources, "core_factor": MADE_UP}),
        ReadConditions(core="little"),
    )
    assert slow.request_us([4096, 65536, 40 * 4096]).tolist() == [20.0, 20.0, 40.0]


def test_ceiling_of_other_forms_is_read_off_their_ends() -> None:
    """One page gives the requests a second, the longest request the bytes a second: 11 us, and 64 KiB in 26."""
    ceiling = linear_device().ceiling()
    assert ceiling.iops == pytest.approx(1e6 / 11)
    assert ceiling.bandwidth_bytes_per_s == pytest.approx(65536e6 / 26)


def test_powerinfer_2_reads_pages_as_its_paper_says() -> None:
    """4 KiB random in 128 MiB: 1076.10, 1007.95 and 761.87 MB/s by core; 850 in 512 MiB; 3.5 GB/s at 512 KiB."""
    profile = load_device("ufs4-oneplus12-powerinfer2")
    for core, paper_mb_per_s in (("big", 1076.10), ("mid", 1007.95), ("little", 761.87)):
        device = under(profile, ReadConditions(core=core), 2**27)
        assert 4096 / float(device.request_us(4096)) == pytest.approx(paper_mb_per_s, rel=0.001)
    wide = under(profile, span_bytes=2**29)
    assert 4096 / float(wide.request_us(4096)) == pytest.approx(850, rel=0.001)
    # The effect of the range fades: 21 % of a page's time, under 1 % of 512 KiB's.
    narrow = under(profile, span_bytes=2**27)
    assert float(narrow.request_us(2**19)) == pytest.approx(float(wide.request_us(2**19)), rel=0.01)


def test_mapped_reads_default_to_one_in_flight() -> None:
    """A thread waits for its fault: where the profile knows depths, the first of them."""
    device = under(rich_device(), ReadConditions(access="mmap"))
    assert (device.is_mapped, device.conditions.queue_depth) == (True, 1)
    assert under(rich_device(), ReadConditions(access="mmap", queue_depth=5)).conditions.queue_depth == 5
    assert not rich_device().is_mapped
    assert device.describe() == "by page faults of a mapped file, at queue depth 1, on a cold device"


def lone_reader(**changes: object) -> DeviceProfile:
    """Return the device of every condition, which also knows lone reads: 40 us a page, 4 us a page beyond."""
    return replace(
        rich_device(), sync_size_bytes=(4096, 16384), sync_latency_us=(40.0, 52.0),
        sources=LINEAR_SOURCES | CONDITION_SOURCES | SYNC_SOURCES, **changes,
    )  # fmt: skip


def test_synchronous_reads_have_their_own_times() -> None:
    """40 us a page and 4 us for each further one, in any range; a slow core takes its 11 us more."""
    device = under(lone_reader(), ReadConditions(access="sync"), span_bytes=2**40)
    assert (device.is_sync, device.is_mapped, device.conditions.queue_depth) == (True, False, 1)
    assert device.request_us([4096, 8192, 16384, 65536]).tolist() == [40.0, 44.0, 52.0, 100.0]
    line = device.line(4096)
    assert (line.overhead_us, line.bandwidth_bytes_per_s) == pytest.approx((36.0, 4096e6 / 4))
    assert device.break_even_gap(4096) == pytest.approx(9.0)
    assert under(lone_reader(), ReadConditions(access="sync", queue_depth=1)) == replace(device, span_bytes=None)
    slow = under(lone_reader(), ReadConditions(core="little", access="sync"))
    assert slow.request_us([4096, 16384]).tolist() == [51.0, 63.0]
    assert device.describe() == "by one synchronous thread, at queue depth 1, on a cold device"
    # Without being asked for, nothing of it shows.
    assert under(lone_reader()).request_us([4096]).tolist() == under(rich_device()).request_us([4096]).tolist()


def test_lone_reads_of_a_profile_that_knows_depth_one() -> None:
    """A quarter of the throughput at depth 1: a page takes 44 us, and every longer request 33 us more than queued."""
    device = under(rich_device(), ReadConditions(access="sync"))
    assert device.request_us([4096, 65536]).tolist() == [44.0, 59.0]
    deeper = replace(rich_device(), queue_depths=(4, 8))
    with pytest.raises(UsageError, match="--access sync: found device linear knows direct, mmap"):
        under(deeper, ReadConditions(access="sync"))


def test_lone_reads_add_up_whatever_the_form() -> None:
    """A read that waits for the one before does not hide under its bytes."""
    waits = replace(
        ceiling_device(), sync_size_bytes=(4096,), sync_latency_us=(40.0,),
        sources={**ceiling_device().sources, **SYNC_SOURCES},
    )  # fmt: skip
    assert not under(waits).times_add_up
    device = under(waits, ReadConditions(access="sync"))
    assert device.times_add_up
    assert not device.charged_ceiling().is_own_form
    assert device.request_us([4096, 8192]).tolist() == [40.0, 80.0]


def test_heat_bounds_lone_reads_by_the_warm_bandwidth() -> None:
    """Warm, nothing is faster than 3.25 us a page (see above): lone reads of 16 pages are slower than that anyway."""
    device = under(lone_reader(), ReadConditions(thermal="warm", access="sync"))
    assert device.request_us([4096, 65536]).tolist() == [40.0, 100.0]
    fast = replace(lone_reader(), sync_latency_us=(40.0, 40.3))
    assert under(fast, ReadConditions(thermal="warm", access="sync")).request_us([65536]).tolist() == [52.0]


@pytest.mark.parametrize("name", ["ufs4-oneplus12-powerinfer2", "ufs4-oneplus12-neuralink", "desktop-nvme"])
def test_no_lone_read_is_faster_than_one_of_many(name: str) -> None:
    """A full queue hides latency, it does not add any."""
    profile = load_device(name)
    sizes = np.arange(1, profile.max_request_bytes // 4096 + 1) * 4096
    assert (under(profile, ReadConditions(access="sync")).request_us(sizes) >= profile.request_us(sizes)).all()


def test_the_first_steps_of_the_ladder() -> None:
    """One 8 KiB bundle takes as long as one 4 KiB read, within 3 %, and three reads about 2.92 times as long."""
    device = under(load_device("ufs4-oneplus12-powerinfer2"), ReadConditions(access="sync"))
    page_us, bundle_us = device.request_us([4096, 8192]).tolist()
    assert 32 <= page_us <= 53
    assert 3 * page_us / bundle_us == pytest.approx(2.92, rel=0.03)


def test_warnings_say_where_the_profile_ends() -> None:
    """A range beyond the largest known, and faults at an unknown depth."""
    assert under(rich_device(), span_bytes=2**30).condition_warnings == ()
    assert "spread over 2 GiB, more than the 1 GiB" in under(rich_device(), span_bytes=2**31).condition_warnings[0]
    mapped = under(load_device(DEFAULT_DEVICE), ReadConditions(access="mmap"))
    assert "waits for each of its page faults" in mapped.condition_warnings[0]


@given(
    st.sampled_from(list_devices()),
    st.sampled_from([None, 2**20, 2**28, 2**40]),
    st.sampled_from(["cold", "warm"]),
    st.sampled_from(["direct", "mmap", "sync"]),
)
@settings(max_examples=40, deadline=None)
def test_shipped_profiles_stay_sound_under_conditions(name: str, span: int | None, thermal: str, access: str) -> None:
    """Whatever they know, times are positive and do not fall with size, and warm is never faster than cold."""
    profile = load_device(name)
    can_wait = profile.sync_form is not None or profile.queue_depths
    is_known = {"mmap": profile.read_ahead_bytes, "sync": can_wait}.get(access)
    access = access if is_known else "direct"
    known = ReadConditions(
        profile.cores[-1] if profile.cores else None,
        1 if profile.queue_depths else None,
        thermal if profile.warm_bandwidth_factor else "cold",
        access,
    )
    device = under(profile, known, span)
    table_us = device.request_table_us()
    assert table_us[1] > 0
    assert (np.diff(table_us) >= 0).all()
    assert (table_us >= under(profile, replace(known, thermal="cold"), span).request_table_us()).all()
    assert device.line(4096).overhead_us >= 0


@pytest.mark.parametrize(
    ("conditions", "match"),
    [
        (ReadConditions(core="mid"), "--core mid: found device linear knows big, little; expected one of big, little"),
        (ReadConditions(thermal="hot"), "--thermal hot: found device linear knows cold, warm"),
        (ReadConditions(access="uring"), "--access uring: found device linear knows direct, mmap, sync"),
        (ReadConditions(access="sync", queue_depth=5), "--access sync --queue-depth 5: found reads that wait"),
    ],
)
def test_unknown_values_of_known_conditions(conditions: ReadConditions, match: str) -> None:
    """The message lists what the profile knows."""
    with pytest.raises(UsageError, match=match):
        under(rich_device(), conditions)


@pytest.mark.parametrize(
    ("conditions", "match"),
    [
        (ReadConditions(core="big"), "--core big: found device linear knows none; expected no --core"),
        (ReadConditions(queue_depth=4), "--queue-depth 4: found device linear knows no queue depths"),
        (ReadConditions(thermal="warm"), "--thermal warm: found device linear knows cold"),
        (ReadConditions(access="mmap"), "--access mmap: found device linear knows direct"),
        (ReadConditions(access="sync"), "--access sync: found device linear knows direct"),
    ],
)
def test_conditions_that_a_profile_has_no_numbers_for(conditions: ReadConditions, match: str) -> None:
    """No number is made up for a device that has none."""
    with pytest.raises(UsageError, match=match):
        under(linear_device(), conditions)


def test_a_depth_below_the_first_known() -> None:
    """Reaching below the first measured depth would be a guess."""
    device = replace(rich_device(), queue_depths=(4, 8))
    with pytest.raises(UsageError, match="knows depths from 4 on; expected at least 4"):
        under(device, ReadConditions(queue_depth=3))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"range_factor": (1.0,)}, "2 range_bytes and 1 range_factor"),
        ({"range_bytes": (2**30, 2**20)}, "range_bytes do not ascend"),
        ({"range_factor": (1.0, 2.0)}, "range_factor rise with the range"),
        ({"range_factor": (1.0, 0.0)}, "range_factor are not positive"),
        ({"cores": ("big", "big")}, "cores are not different names"),
        ({"cores": ("big", 7)}, "cores are not different names"),
        ({"core_factor": (1.0, 1.5)}, "core_factor are not positive or above 1"),
        ({"queue_depths": (0, 4)}, "queue_depths do not ascend"),
        ({"queue_factor": (1.0, 0.5)}, "queue_factor fall with the depth; queue_factor does not end with 1"),
        ({"queue_factor": (0.5, 0.9)}, "queue_factor does not end with 1"),
        ({"large_queue_bytes": 2**20}, "2 queue_depths and 0 large_queue_factor"),
        ({"large_queue_factor": (0.5, 1.0)}, "large_queue_bytes = None is no size"),
        ({"large_queue_bytes": 2**20, "large_queue_factor": (0.5, 0.9)}, "large_queue_factor does not end with 1"),
        ({"warm_bandwidth_factor": 1.2}, r"warm_bandwidth_factor = 1\.2 is no share"),
        ({"read_ahead_bytes": 5000}, "read_ahead_bytes = 5000 is no multiple of page_bytes"),
        ({"max_iops": 0}, "max_iops = 0 is no rate"),
        ({"sync_size_bytes": (4096,)}, "1 sync_size_bytes and 0 sync_latency_us"),
        ({"sync_size_bytes": (8192, 4096), "sync_latency_us": (1.0, 2.0)}, "sync_size_bytes do not ascend"),
        ({"sync_size_bytes": (4096, 8192), "sync_latency_us": (2.0, 2.0)}, "sync_latency_us .* do not rise at the end"),
        ({"sync_size_bytes": (4096,), "sync_latency_us": (2.0,)}, "a sentence for each of .*sync_latency_us"),
        ({"sources": LINEAR_SOURCES}, "expected a sentence for each of .*core_factor.*warm_bandwidth_factor"),
    ],
)
def test_bad_conditions(changes: dict[str, object], match: str) -> None:
    """Each rule has a profile that breaks it."""
    with pytest.raises(DeviceConfigError, match=match):
        replace(rich_device(), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"max_iops": None}, "max_iops = None is no rate"),
        ({"overhead_us": 1.0}, "overhead_us belongs to the linear form"),
        ({"bandwidth_bytes_per_s": None}, "bandwidth_bytes_per_s = None is no rate"),
        ({"size_bytes": (4096,)}, "size_bytes and latency_us belong to the table form"),
    ],
)
def test_bad_ceilings(changes: dict[str, object], match: str) -> None:
    """The ceiling form has two numbers, no more and no less."""
    with pytest.raises(DeviceConfigError, match=match):
        replace(ceiling_device(), **changes)  # type: ignore[arg-type]
