"""What to capture: defaults that fit together, paths as text or not, and every value out of range refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from ripple_place.capture.params import CaptureParams
from ripple_place.errors import UsageError
from ripple_place.paths import as_paths


@pytest.mark.parametrize("texts", ["a.txt", Path("a.txt"), ["a.txt"], (Path("a.txt"),)])
def test_texts_in_any_form(texts: object) -> None:
    """One or several, text or path."""
    assert as_paths(CaptureParams(texts).texts) == (Path("a.txt"),)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"texts": ()}, "found no text; expected --text FILE"),
        ({"texts": "a", "device": "tpu"}, "--torch-device: found 'tpu'; expected auto or cpu or cuda"),
        ({"texts": "a", "dtype": "int8"}, "--dtype: found 'int8'; expected float32 or bfloat16 or float16 or float64"),
        ({"texts": "a", "n_threads": 0}, "--threads: found 0; expected at least 1"),
    ],
)
def test_refused_parameters(params: dict[str, object], match: str) -> None:
    """Before torch is imported."""
    with pytest.raises(UsageError, match=match):
        CaptureParams(**params)  # type: ignore[arg-type]
