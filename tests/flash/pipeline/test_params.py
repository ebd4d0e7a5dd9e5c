"""Parameters of the pipeline: how they are written, what a device adds, and every way to get them wrong."""

from __future__ import annotations

from dataclasses import fields

import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.device.files import load_device
from ripple_place.flash.pipeline.params import PipelineParams
from ripple_place.flash.pipeline.text import KEYS, parse_pipeline
from tests.flash.builders import linear_device


def test_every_field_can_be_written() -> None:
    """And is what was written."""
    written = (
        "threads=2,resident=3,missed=5,barriers=matrix,attention=0.43ms,prefetch=100us,npu=7,npu-bytes=1KiB,"
        "npu-neurons=50,predict=20us,rate=1.3GB/s,gate=0.5,gate-read=100%"
    )
    assert parse_pipeline(written) == PipelineParams(
        n_threads=2, n_resident_clusters=3, n_missed_clusters=5, barriers="matrix", attention_us=430.0,
        prefetch_us=100.0, npu_us=7.0, npu_bytes=1024, npu_neurons=50, predict_us=20.0, thread_bytes_per_s=1.3e9,
        gate_share=0.5, gate_read_share=1.0,
    )  # fmt: skip
    assert {field for field, _ in KEYS.values()} == {field.name for field in fields(PipelineParams)}


def test_a_device_adds_its_rates() -> None:
    """5.3 GB/s by four threads, and 56 MB at 56 GB/s; what was given stays."""
    device = load_device("ufs4-oneplus12-powerinfer2")
    params = PipelineParams(npu_bytes=56_000_000).on(device)
    assert (params.thread_bytes_per_s, params.npu_us) == (1.325e9, pytest.approx(1000.0))
    assert params.neuron_us(7680) == pytest.approx(5.796, rel=1e-3)
    given = PipelineParams(thread_bytes_per_s=1e9, npu_us=3.0, npu_bytes=5)
    assert given.on(device) == given.on(linear_device()) == given


@pytest.mark.parametrize(
    ("params", "match"),
    [
        (PipelineParams(), "device linear has no cpu_sparse_bytes_per_s; expected a rate .* Add rate=1.3GB/s to"),
        (PipelineParams(npu_bytes=1), "no cpu_sparse_bytes_per_s and no npu_bytes_per_s.* Add rate=1.3GB/s,npu=400us"),
        (PipelineParams(npu_bytes=1, thread_bytes_per_s=1e9), "has no npu_bytes_per_s; .* Add npu=400us to"),
    ],
)
def test_devices_without_rates(params: PipelineParams, match: str) -> None:
    """No rate is made up."""
    with pytest.raises(UsageError, match=match):
        params.on(linear_device())


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "found ''; expected threads, resident, .* each once at most and with a value"),
        ("thread=4", "found 'thread=4'"),
        ("threads", "found 'threads'"),
        ("threads=4.5", "found 'threads=4.5'"),
        ("threads=-1", "found 'threads=-1'"),
        ("threads=4,threads=4", "found 'threads=4'"),
        ("gate=a third", "found 'gate=a third'"),
        ("attention=soon", "time: found 'soon'"),
        ("rate=5", "rate: found '5'"),
        ("barriers=some", "barriers=some: found no barriers by that name; expected one of none, matrix, serial"),
        ("threads=0,missed=2000", "found n_threads = 0, n_missed_clusters = 2000; expected counts from 1 to 1024"),
        ("gate=120%", "found gate_share = 1.2"),
        ("gate=nan", "found gate_share = nan"),
        ("rate=0GB/s", "found thread_bytes_per_s = 0"),
        ("attention=99999999999s", "found attention_us = "),
    ],
)
def test_bad_texts(text: str, match: str) -> None:
    """The message names the part that is wrong."""
    with pytest.raises(UsageError, match=match):
        parse_pipeline(text)
