"""The families that ship with the package, and which of them a model belongs to."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.checkpoint.model.family import Family
from ripple_place.errors import CheckpointError, UsageError
from ripple_place.inputfile import read_input

if TYPE_CHECKING:
    from collections.abc import Mapping

_HOLDERS = frozenset({
    "aya_vision", "cohere2_vision", "deepseek_vl", "idefics3", "internvl", "lfm2_vl", "lfm3_vl", "llava", "llava_next",
    "llava_onevision", "mistral3", "smolvlm",
})  # fmt: skip
"""Models of images and text that may have any text model inside, as their config's `text_config` says."""


@lru_cache(maxsize=1)
def families() -> Mapping[str, Family]:
    """Return the families that ship with the package, by model type."""
    by_model_type: dict[str, Family] = {}
    for file in sorted(files("ripple_place.checkpoint").joinpath("families").iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".toml"):
            continue
        family = Family.parse(file.name.removesuffix(".toml"), file.read_text(encoding="utf-8"))
        for model_type in family.model_types:
            assert model_type not in by_model_type, f"{model_type} in two family files"
            by_model_type[model_type] = family
    return by_model_type


def family_of(config: Mapping[str, Any]) -> Family | None:
    """Return the family that describes a model with this config, None where none does."""
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        return None
    family, inner = families().get(model_type), config.get("text_config")
    inner_type = inner.get("model_type") if model_type in _HOLDERS and isinstance(inner, dict) else None
    return families().get(inner_type, family) if isinstance(inner_type, str) else family


def read_family(given: str | os.PathLike[str]) -> Family:
    """Return the family in a file, or the one that ships under a name.

    A file describes the model types that it lists; a name stands for any.

    Raises
    ------
    UsageError
        If there is no such file, and no such family, or it is no regular file.
    CheckpointError
        If the file is no family file.
    OSError
        If it cannot be read.
    """
    shipped = {family.name: replace(family, model_types=()) for family in families().values()}
    if str(given) in shipped:
        return shipped[str(given)]
    path = Path(given)
    is_directory = os.path.isdir(path)
    if is_directory or not os.path.exists(path):
        raise UsageError(
            f"--family {path}", found="a directory" if is_directory else "no such file",
            expected=f"a family file, or one of {', '.join(sorted(shipped))}",
            remedy="correct the path; docs/families.md says how to write one",
        )  # fmt: skip
    try:
        text = read_input(path).decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        raise CheckpointError(
            path, found=f"bytes that are no UTF-8 ({cause.reason})", expected="TOML", remedy="correct the family file"
        ) from cause
    return Family.parse(path.stem, text, where=str(path))


def check_described(family: Family, path: Path, config: Mapping[str, Any]) -> None:
    """Raise if a family lists the model types that it describes, and a model's is none of them.

    Raises
    ------
    UsageError
    """
    model_type = config.get("model_type")
    if family.model_types and model_type not in family.model_types:
        raise UsageError(
            f"--family {family.name}", found=f"model_types {', '.join(family.model_types)}",
            expected=f"{model_type!r} among them, as in {path}/config.json",
            remedy="add it to the file, if it describes this model too",
        )  # fmt: skip
