"""Errors that the library raises on purpose.

Every message has four parts: where it happened (file, tensor, block, option), what was found, what was expected, and
what to do. `ripple_place.cli.main` maps the classes to exit codes; nothing else in the library knows about them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.printable import one_line

if TYPE_CHECKING:
    from typing import Self


class RipplePlaceError(Exception):
    """An input, an option or an output is not what it must be.

    Parameters
    ----------
    where : str
        File, tensor, block or option at fault.
    found, expected : str
        What was found there, and what should have been.
    remedy : str
        What the user can do about it, as an imperative.
    """

    def __init__(self, where: object, *, found: str, expected: str, remedy: str) -> None:
        self.where, self.found, self.expected, self.remedy = map(one_line, (where, found, expected, remedy))
        super().__init__(
            f"{self.where}: found {self.found}; expected {self.expected}. "
            f"{self.remedy[:1].upper()}{self.remedy[1:].rstrip('.')}."
        )

    @classmethod
    def relocated(cls, cause: RipplePlaceError, where: object) -> Self:
        """Return an error of this class that says what `cause` says, at another place."""
        return cls(where, found=cause.found, expected=cause.expected, remedy=cause.remedy)


class UsageError(RipplePlaceError, ValueError):
    """A path does not exist, an output already does, a name is unknown, or two options exclude each other."""


class TensorFileError(RipplePlaceError, ValueError):
    """A safetensors container is malformed or truncated."""


class TraceFormatError(TensorFileError):
    """An activation trace or profile is malformed, empty, or of another model."""


class PlacementError(TensorFileError):
    """A placement is no permutation, or belongs to another model."""


class CheckpointError(TensorFileError):
    """A checkpoint's weights, index or config are malformed or contradict each other."""


class DeviceConfigError(RipplePlaceError, ValueError):
    """A device profile has an unknown key, a missing one, or a value out of range."""


class UnsupportedError(RipplePlaceError):
    """The request is sound, but this version or installation cannot serve it."""


class UnsupportedArchitectureError(CheckpointError, UnsupportedError):
    """No family file describes this checkpoint, or its quantisation packs several neurons into one element."""


class VerificationError(RipplePlaceError):
    """A rewritten checkpoint is not the source, permuted."""
