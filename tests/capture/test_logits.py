"""Asking for logits where they cannot be had; tests/torch compares real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from ripple_place.capture import extra, logits
from ripple_place.errors import UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path


def test_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 3, with what to install."""
    monkeypatch.setattr(extra, "find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match=r"no torch and no transformers.*pip install 'torch"):
        logits.check_can_run(tmp_path)


def test_without_drop_in_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bundled file is for other readers."""
    found: Any = object()
    monkeypatch.setattr(extra, "find_spec", lambda name: found)
    with pytest.raises(UnsupportedError, match=r"expected the drop-in format.*--format both"):
        logits.check_can_run(tmp_path)
