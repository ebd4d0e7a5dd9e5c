"""Errors: the four parts of a message, and what is caught as what."""

from __future__ import annotations

import pytest

from ripple_place import errors

CLASSES = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


@pytest.mark.parametrize("kind", CLASSES)
def test_message(kind: type[errors.RipplePlaceError]) -> None:
    """Where, found, expected, remedy: all four in the text, the remedy as a sentence, and each to be had alone."""
    error = kind("model.trace", found="no header", expected="one", remedy="record it again.")
    assert str(error) == "model.trace: found no header; expected one. Record it again."
    assert (error.where, error.found, error.expected, error.remedy) == (
        "model.trace", "no header", "one", "record it again.",
    )  # fmt: skip


def test_a_remedy_keeps_its_own_capitals() -> None:
    """Only the first letter is raised: `str.capitalize` would write --LAYERS as --layers."""
    error = errors.UsageError("x", found="a", expected="b", remedy="`ripple-place reorder` with OUT")
    assert str(error).endswith(". `ripple-place reorder` with OUT.")


@pytest.mark.parametrize("kind", CLASSES)
def test_hierarchy(kind: type[Exception]) -> None:
    """One base for all; what is a wrong value is a ValueError too, what is unsupported or unverified is not."""
    assert issubclass(kind, errors.RipplePlaceError)
    is_value = kind not in (errors.RipplePlaceError, errors.UnsupportedError, errors.VerificationError)
    assert issubclass(kind, ValueError) == is_value


def test_unsupported_architectures_are_both() -> None:
    """A checkpoint that is sound but of no known family: callers that catch either must see it."""
    assert issubclass(errors.UnsupportedArchitectureError, errors.CheckpointError)
    assert issubclass(errors.UnsupportedArchitectureError, errors.UnsupportedError)
