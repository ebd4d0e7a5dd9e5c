"""The refusal of models that run in another way than stand-ins for their FFNs know."""

from __future__ import annotations

from ripple_place.errors import UnsupportedError


def other_model(where: object, found: str) -> UnsupportedError:
    """Return the error for a model, or an FFN of it, that cannot be run from storage."""
    return UnsupportedError(
        where, found=found, expected="a decoder with FFNs of the shape of OPT's or Llama's, in 16 or 32 bits",
        remedy="run it with an engine of its own, which reads the bundled file (docs/formats.md)",
    )  # fmt: skip
