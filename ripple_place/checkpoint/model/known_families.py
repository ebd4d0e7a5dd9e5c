"""The families that ship with the package, and which of them a model belongs to."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from ripple_place.checkpoint.model.family import Family
from ripple_place.errors import UnsupportedArchitectureError

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


def family_of(where: object, config: Mapping[str, Any]) -> Family:
    """Return the family that describes a model with this config.

    Raises
    ------
    UnsupportedArchitectureError
        If none does.
    """
    model_type = config.get("model_type")
    family = families().get(model_type) if isinstance(model_type, str) else None
    if family is None:
        raise UnsupportedArchitectureError(
            f"{where}: model_type", found=repr(model_type), expected=f"one of {', '.join(sorted(families()))}",
            remedy="ask for this architecture, or add a family file that names its FFN tensors (docs/families.md)",
        )  # fmt: skip
    inner = config.get("text_config")
    inner_type = inner.get("model_type") if model_type in _HOLDERS and isinstance(inner, dict) else None
    return families().get(inner_type, family) if isinstance(inner_type, str) else family
