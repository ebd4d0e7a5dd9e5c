"""What to say where transformers does not load something: what is wrong with the files, or what is missing here."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from ripple_place.checkpoint.model.prefix import names_error
from ripple_place.errors import CheckpointError, RipplePlaceError, UnsupportedError
from ripple_place.foreign import recognised_error
from ripple_place.hub import download_command

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

OWN_CODE = "record a trace with your own code (docs/formats.md)"
_READ = ("*.json", "*.safetensors", "*.model", "*.bin", "vocab.txt", "merges.txt")
"""Files that transformers reads."""
_SENTENCE_PIECE = ("*.model", "*.spm")
_VOCABULARIES = (*_SENTENCE_PIECE, "tokenizer.json", "vocab.json", "vocab.txt", "*.tiktoken", "tekken.json")
_MAX_REASON = 300


def loading_error(path: Path, what: str, cause: Exception) -> RipplePlaceError:
    """Return the error for a part of a checkpoint that transformers does not load.

    Parameters
    ----------
    path : Path
        The checkpoint.
    what : str
        The part.
    cause : Exception
        What transformers raised.

    Raises
    ------
    OSError
        If the directory cannot be read.
    """
    for file in _files(path, _READ):
        read = "a file that transformers reads"
        if error := recognised_error(CheckpointError, file, expected=read, formats=("zip", "torch")):
            return error
    reason = (" ".join(str(cause).split()) or type(cause).__name__)[:_MAX_REASON]
    where, expected = f"{path}: {what}", "what the installed transformers loads, without remote code"
    if isinstance(cause, ImportError):
        return UnsupportedError(where, found=reason, expected=expected, remedy="install the package that it names")
    if "trust_remote_code" in reason or "custom code" in reason:
        return UnsupportedError(
            where, found="a model that brings code of its own, which is not run", expected=expected, remedy=OWN_CODE
        )
    if "does not recognize this architecture" in reason:
        return UnsupportedError(
            where, found=reason, expected=expected,
            remedy=f"update transformers (pip install -U transformers), or {OWN_CODE}",
        )  # fmt: skip
    if "Unrecognized configuration class" in reason:
        return UnsupportedError(
            where, found="a model that transformers does not run as a language model", expected="one that it does",
            remedy=OWN_CODE,
        )  # fmt: skip
    return CheckpointError(
        where, found=reason, expected=expected, remedy=f"see what from_pretrained of transformers says, or {OWN_CODE}"
    )


def tokenizer_error(path: Path, cause: Exception) -> RipplePlaceError:
    """Return the error for a tokenizer that transformers does not load; parameters as of `loading_error`."""
    vocabularies = _files(path, _VOCABULARIES)
    if not vocabularies:
        names = ["tokenizer.json", "tokenizer_config.json"]
        return CheckpointError(
            f"{path}: tokenizer", found="no tokenizer files", expected="tokenizer.json, or a vocabulary",
            remedy=f"copy those of its base model, or download them: {download_command(path, names)}",
        )  # fmt: skip
    only_pieces = set(vocabularies) == set(_files(path, _SENTENCE_PIECE))
    is_missing = not (_is_installed("sentencepiece") and _is_installed("google.protobuf"))
    damaged = [file for file in vocabularies if recognised_error(CheckpointError, file, expected="") is not None]
    if only_pieces and is_missing and not damaged:
        return UnsupportedError(
            f"{path}: tokenizer", found=f"{vocabularies[0].name} alone, and no package that reads it",
            expected="tokenizer.json, or the packages sentencepiece and protobuf",
            remedy="run: pip install sentencepiece protobuf",
        )  # fmt: skip
    return loading_error(path, "tokenizer", cause)


def has_vocabulary(path: Path) -> bool:
    """Tell whether a checkpoint has a file with the words of its tokenizer; tokenizers of bytes need none."""
    return bool(_files(path, _VOCABULARIES))


def missing_tensor(path: Path, name: str, stored: Iterable[str] = ()) -> CheckpointError:
    """Return the error for a checkpoint that lacks a tensor of the model that its config describes.

    Parameters
    ----------
    path : Path
        The checkpoint.
    name : str
        The tensor.
    stored : iterable of str
        Names of the tensors that there are.
    """
    ending = ".".join(name.split(".")[-2:])
    likely = min((other for other in stored if other.endswith(ending)), default=min(stored, default=""))
    return names_error(
        f"{path}: {name}", [likely], found="no such tensor" + (f", but names such as {likely}" if likely else ""),
        expected="every parameter of the model that config.json describes",
        remedy="make sure that config.json and the weights belong to the same model; from_pretrained of transformers "
        "lists what it misses",
    )  # fmt: skip


def _files(path: Path, patterns: Iterable[str]) -> list[Path]:
    return sorted({file for pattern in patterns for file in path.glob(pattern)})


def _is_installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # Its parent is missing.
        return False
