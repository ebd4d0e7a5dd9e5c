"""Errors that the library raises on purpose.

Every message has four parts: where it happened (file, tensor, block, option), what was found, what was expected, and
what to do. `ripple_place.cli.main` maps the classes to exit codes; nothing else in the library knows about them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Self

_MAX_PART_CHARACTERS = 4000


def _one_line(text: str) -> str:
    """Return text that came out of a file as a line that can be printed: no controls, no lone surrogates, no novel.

    >>> _one_line("a" + chr(27) + "[31m" + chr(10) + chr(0xD800))
    'a\\\\x1b[31m\\\\n\\\\ud800'
    """
    if len(text) > _MAX_PART_CHARACTERS:
        text = f"{text[: _MAX_PART_CHARACTERS // 2]} ... {text[-_MAX_PART_CHARACTERS // 4 :]}"
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


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
        self.where, self.found, self.expected, self.remedy = map(_one_line, (str(where), found, expected, remedy))
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
