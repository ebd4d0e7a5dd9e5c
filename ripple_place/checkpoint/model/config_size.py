"""Sizes that a model's config gives."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def config_size(config: Mapping[str, Any], keys: Iterable[str], layer: int = 0) -> int | None:
    """Return the first size that a config gives under one of some keys.

    A key may be a path (``ffn_config.ffn_hidden_size``) or a product (``moe_intermediate_size * n_shared_experts``). A
    list has one entry a layer. Models of text and images keep the sizes of the text model under ``text_config``, where
    they are looked for first.

    >>> config_size({"text_config": {"d": [4, 6]}, "n": 2}, ["absent", "d * n"], layer=1)
    12
    """
    for key in keys:
        factors = [_factor(config, name.strip(), layer) for name in key.split("*")]
        if None not in factors:
            return math.prod(factor for factor in factors if factor is not None)
    return None


def _factor(config: Mapping[str, Any], key: str, layer: int) -> int | None:
    for root in (config.get("text_config"), config):
        value: Any = root
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
            # A list of sizes, or of what each layer is made of.
            if isinstance(value, list) and layer < len(value):
                value = value[layer]
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None
