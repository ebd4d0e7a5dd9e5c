"""Assumptions: what the numbers of a simulation rest on, said for each way of reading."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.device.files import load_device
from ripple_place.flash.simulator import SimulationParams
from ripple_place.flash.token_time import ComputeParams
from ripple_place.pages.assumptions import assumptions

if TYPE_CHECKING:
    from ripple_place.pages.report import Report


def test_with_a_cache_and_a_fixed_gap(report: Report) -> None:
    """Latency, gap and cache in numbers, and each number's source."""
    said = assumptions(report)
    assert said[0].startswith("Device linear: latency in linear form, read ")
    assert said[0].endswith("; the times of a token's requests add up.")
    assert said[1:3] == [
        "Flash time is reading alone.",
        "Reads are rounded out to pages of 4 KiB and split at 64 KiB; reads of different blocks never merge.",
    ]
    assert "Gaps of up to 1 unwanted neurons are read through." in said
    assert "DRAM cache: lru, 320 KiB in all, empty at first." in said
    assert "overhead_us: remembered: made up for tests." in said


def test_without_a_cache_but_with_computing(report: Report) -> None:
    """No DRAM is claimed, and what reading overlaps with is said."""
    said = assumptions(replace(report, params=SimulationParams(compute=ComputeParams(200.0, "layer"))))
    assert "DRAM cache: none." in said
    assert (
        "A layer takes 200 us to compute; reading overlaps with it as in the mode layer. Flash time is reading alone."
        in said
    )


def test_the_pipeline_is_described(report: Report) -> None:
    """Threads, clusters and barriers instead of the time of a layer."""
    said = assumptions(replace(report, params=SimulationParams(compute=ComputeParams(0.0, "pipeline"))))
    assert (
        "A layer is computed by 4 threads in clusters, 4 of neurons in DRAM and 4 of neurons that one I/O thread reads "
        "meanwhile; barriers: none. Flash time is reading alone."
    ) in said


def test_gaps_that_a_planner_decides(report: Report) -> None:
    """There is no gap to name: the planner is."""
    result = report.results[0]
    blocks = {name: replace(block, gap=None) for name, block in result.blocks.items()}
    planned = replace(report, results=[replace(result, blocks=blocks)], params=SimulationParams(gap="optimal"))
    assert "Which gaps are read through is decided token by token: optimal planner." in assumptions(planned)


def test_a_mapped_file(report: Report) -> None:
    """No gap is read through: the kernel decides."""
    device = under(load_device("ufs4-oneplus12-neuralink"), ReadConditions(access="mmap"))
    said = assumptions(replace(report, device=device))
    assert "The file is memory-mapped: each page fault fetches what the kernel reads ahead." in said
    assert not any(sentence.startswith("Gaps") for sentence in said)


def test_a_ceiling_does_not_add_up(report: Report) -> None:
    """All requests of a token count together."""
    device = replace(
        report.device, form="ceiling", overhead_us=None, max_iops=1e5,
        sources={key: text for key, text in report.device.sources.items() if key != "overhead_us"}
        | {"max_iops": "remembered: made up for tests"},
    )  # fmt: skip
    said = assumptions(replace(report, device=device))
    assert said[0].endswith("; of requests over IOPS and bytes over bandwidth, the larger counts.")
