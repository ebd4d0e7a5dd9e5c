"""How `--pipeline` is written: ``KEY=VALUE,KEY=VALUE``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ripple_place.errors import UsageError
from ripple_place.flash.pipeline.params import PipelineParams
from ripple_place.units import parse_bytes, parse_rate_bytes_per_s, parse_time_us

if TYPE_CHECKING:
    from collections.abc import Callable


def _count(text: str) -> int:
    """Return a whole number; raises ValueError if it is none."""
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(text)
    return int(text)


def _share(text: str) -> float:
    """Return ``0.5`` or ``50%`` as a number; raises ValueError if it is none."""
    return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)


KEYS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "threads": ("n_threads", _count),
    "resident": ("n_resident_clusters", _count),
    "missed": ("n_missed_clusters", _count),
    "barriers": ("barriers", str),
    "attention": ("attention_us", parse_time_us),
    "prefetch": ("prefetch_us", parse_time_us),
    "npu": ("npu_us", parse_time_us),
    "npu-bytes": ("npu_bytes", parse_bytes),
    "npu-neurons": ("npu_neurons", _count),
    "predict": ("predict_us", parse_time_us),
    "rate": ("thread_bytes_per_s", parse_rate_bytes_per_s),
    "gate": ("gate_share", _share),
    "gate-read": ("gate_read_share", _share),
}
"""By key, the field of `PipelineParams` and what parses its value."""


def parse_pipeline(text: str) -> PipelineParams:
    """Return the parameters that a text names; others keep their defaults.

    >>> parse_pipeline("threads=2,barriers=matrix,attention=430us").attention_us
    430.0

    Raises
    ------
    UsageError
        If a key is unknown, stands twice, or its value is none.
    """
    fields: dict[str, Any] = {}
    for part in text.split(","):
        key, _, value = part.strip().partition("=")
        try:
            field, parse = KEYS[key]
            if field in fields:
                raise ValueError(key)
            fields[field] = parse(value)
        except (KeyError, ValueError) as cause:
            if isinstance(cause, UsageError):
                raise
            raise UsageError(
                f"--pipeline {text}", found=repr(part),
                expected=f"{', '.join(KEYS)}, each once at most and with a value",
                remedy="write KEY=VALUE,KEY=VALUE such as threads=4,barriers=none,attention=430us",
            ) from cause  # fmt: skip
    return PipelineParams(**fields)
