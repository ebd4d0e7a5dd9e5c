"""Compute rates of device profiles: shipped, read back, and every way to write them wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from ripple_place.errors import DeviceConfigError
from ripple_place.flash.device.compute import ComputeRates
from ripple_place.flash.device.files import load_device, read_device
from ripple_place.flash.device.writer import write_device
from tests.flash.builders import LINEAR_SOURCES, linear_device

if TYPE_CHECKING:
    from pathlib import Path

RATES = {
    "dram_bytes_per_s": 60e9, "npu_bytes_per_s": 50e9, "cpu_bytes_per_s": 40e9, "cpu_sparse_bytes_per_s": 5e9,
    "compute_threads": 4,
}  # fmt: skip


def test_rates_survive_a_round_trip(tmp_path: Path) -> None:
    """All of them, and some of them; the number of threads stays an integer."""
    for keys in (list(RATES), ["npu_bytes_per_s"]):
        rates = {key: RATES[key] for key in keys}
        device = replace(linear_device(), **rates, sources=LINEAR_SOURCES | dict.fromkeys(keys, "made up"))
        write_device(tmp_path / "device.toml", device)
        read = read_device(tmp_path / "device.toml")
        assert read == device
        assert read.compute_rates == ComputeRates(**rates)


def test_a_profile_without_rates_has_none() -> None:
    """No rate is made up."""
    assert linear_device().compute_rates == ComputeRates()
    assert linear_device().compute_rates.sparse_thread_bytes_per_s is None


def test_both_views_of_the_phone_compute_alike() -> None:
    """It is one phone, whoever reads its flash: 59.6, 56 and 43.9 GB/s (arXiv 2406.06282)."""
    rates = load_device("ufs4-oneplus12-powerinfer2").compute_rates
    assert (rates.dram_bytes_per_s, rates.npu_bytes_per_s, rates.cpu_bytes_per_s) == (59.6e9, 56e9, 43.9e9)
    assert rates == load_device("ufs4-oneplus12-neuralink").compute_rates
    assert rates.sparse_thread_bytes_per_s == 5.3e9 / 4


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"npu_bytes_per_s": 56.0}, r"npu_bytes_per_s = 56\.0 is no rate \(1000000 to 1e\+14\)"),
        ({"dram_bytes_per_s": "fast"}, "dram_bytes_per_s = 'fast' is no rate"),
        ({"compute_threads": 2.5}, r"compute_threads = 2\.5 is no count \(1 to 1024\)"),
        ({"compute_threads": 0}, "compute_threads = 0 is no count"),
        ({"cpu_sparse_bytes_per_s": 5e9}, "cpu_sparse_bytes_per_s without the compute_threads that it is of"),
        ({"cpu_bytes_per_s": 5e9}, "expected a sentence for each of .*cpu_bytes_per_s"),
    ],
)
def test_bad_rates(changes: dict[str, object], match: str) -> None:
    """Each rule has a profile that breaks it."""
    with pytest.raises(DeviceConfigError, match=match):
        replace(linear_device(), **changes)  # type: ignore[arg-type]
