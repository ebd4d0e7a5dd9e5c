"""The form of a manifest: every value of the kind it must be, and every name inside the directory it belongs to.

A manifest whose hash holds may still have been made with intent. What reads one opens the files it names and, when an
output is restored, writes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

from ripple_place.blocks import COLUMN, EXPERT, is_block_name
from ripple_place.checkpoint.names import ADDITIONS
from ripple_place.checkpoint.output.bundle_layout import APART
from ripple_place.checkpoint.output.expert_numbers import BY_SLOT
from ripple_place.checkpoint.output.plan import FORMATS, STRIDES

Rule = Callable[[Any], bool]

_CARRIER_KINDS = ("adapter", "predictor", "imatrix", "counts")
_ACTIONS = ("copied", "rows", "columns", "packed", "experts")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def is_inner_name(name: Any) -> bool:
    """Tell whether something is the name of a file below a directory, written with ``/`` and in no roundabout way.

    >>> is_inner_name("notes/card.md"), is_inner_name("../card.md"), is_inner_name("/etc/passwd")
    (True, False, False)
    """
    if not isinstance(name, str) or not name or "\0" in name or "\\" in name:
        return False
    pure = PurePosixPath(name)
    return not pure.is_absolute() and ".." not in pure.parts and str(pure) == name != "."


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_size(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_hash(value: Any) -> bool:
    return isinstance(value, str) and _SHA256.fullmatch(value) is not None


def _is_anything(value: Any) -> bool:
    return True


def _one_of(*allowed: Any) -> Rule:
    return lambda value: isinstance(value, str) and value in allowed


def _object(rules: dict[str, Rule], together: dict[str, Rule] | None = None) -> Rule:
    """Return the rule of an object with these keys, perhaps with all of those that come `together`, and no others."""
    more = {**rules, **(together or {})}
    return lambda value: (
        isinstance(value, dict) and value.keys() in (rules.keys(), more.keys())
        and all(more[key](value[key]) for key in value)
    )  # fmt: skip


def _any_of(*rules: Rule) -> Rule:
    return lambda value: any(rule(value) for rule in rules)


def _mapping(key: Rule, item: Rule) -> Rule:
    return lambda value: isinstance(value, dict) and all(key(name) and item(entry) for name, entry in value.items())


def _list(item: Rule) -> Rule:
    return lambda value: isinstance(value, list) and all(map(item, value))


def _or_none(rule: Rule) -> Rule:
    return lambda value: value is None or rule(value)


def _is_block(value: Any) -> bool:
    return isinstance(value, str) and is_block_name(value)


_COMPONENTS = _list(
    _object(
        {
            "role": _is_text,
            "tensor": _is_text,
            "dtype": _is_text,
            "offset_bytes": _is_size,
            "length_bytes": _is_size,
        },
        together={"shape": _list(_is_size)},
    )
)
_BUNDLED_BLOCK: dict[str, Rule] = {
    "offset_bytes": _is_size,
    "stride_bytes": _is_size,
    "components": _COMPONENTS,
    "dtype": _is_text,
    "n_neurons": _is_size,
    "order": _list(_is_size),
}  # fmt: skip
_SECOND_COPY: dict[str, Rule] = {"offset_2_bytes": _is_size, "order_2": _list(_is_size)}
_PLACE_OF_GATES: dict[str, Rule] = {"offset_bytes": _is_size, "stride_bytes": _is_size}
_FILES = _mapping(is_inner_name, _object({"size_bytes": _is_size, "sha256": _is_hash}))
_RULES: dict[str, Rule] = {
    "format": _is_text,
    "tool_version": _is_text,
    "family": _is_text,
    "model_type": _is_text,
    "formats": lambda value: value in [list(FORMATS), *([name] for name in FORMATS)],
    "stride": _one_of(*STRIDES),
    "source": _object({"files": _FILES, "shards": _list(is_inner_name), "left_out": _mapping(_is_text, _is_text)}),
    "tensors": _mapping(_is_text, _one_of(*_ACTIONS)),
    "blocks": _mapping(
        _is_block,
        _object(together={"gates": _object(_PLACE_OF_GATES)}, rules={
            "n_neurons": lambda value: _is_size(value) and 0 < value < 2**31,
            "hidden": _is_size,
            "dtype": _is_text,
            "bundle_bytes": _is_size,
            "stride_bytes": _is_size,
            "offset_bytes": _or_none(_is_size),
            "placed": lambda value: isinstance(value, bool),
            "tensors": _mapping(_is_text, _is_text),
        }),
    ),
    "bundled": _or_none(
        _mapping(
            _is_block,
            _any_of(
                _object(_BUNDLED_BLOCK, together=_SECOND_COPY),
                _object({**_BUNDLED_BLOCK, "unit": _one_of(COLUMN, EXPERT)}, together=_SECOND_COPY),
                _object({**_BUNDLED_BLOCK, "gates": _object({**_PLACE_OF_GATES, "components": _COMPONENTS})}),
            ),
        )
    ),
    "unit": _one_of(COLUMN, EXPERT),
    "gates": _one_of(APART),
    "numbering": _one_of(BY_SLOT),
    "carriers": _mapping(is_inner_name, _object({"kind": _one_of(*_CARRIER_KINDS), "source_sha256": _is_hash})),
    "additions": lambda value: isinstance(value, dict) and value.items() <= ADDITIONS.items(),
    "checks": _list(_object({"check": _is_text, "count": _is_size, "result": _is_text})),
    "files": _FILES,
    "manifest_sha256": _is_hash,
}  # fmt: skip


def malformed_key(document: dict[str, Any]) -> str | None:
    """Return the first key of a manifest whose value is not what it must be, None if all are.

    Parameters
    ----------
    document : dict
        With known keys only.
    """
    for key, value in document.items():
        if not _RULES[key](value):
            return key
    source = document["source"]
    if not set(source["shards"]) <= source["files"].keys():
        return "source"
    if ("bundled" in document["formats"]) != (document["bundled"] is not None):
        return "bundled"
    return None
