"""Writing device files: TOML that `ripple_place.flash.device.files.read_device` gives back unchanged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from ripple_place.tensorfile import replacing

if TYPE_CHECKING:
    import os

    from ripple_place.flash.device.profile import DeviceProfile


def write_device(path: str | os.PathLike[str], device: DeviceProfile) -> None:
    """Write a device file; it appears whole or not at all.

    Raises
    ------
    OSError
        If storage refuses.
    """
    with replacing(path) as file:
        file.write(format_device(device).encode())


def format_device(device: DeviceProfile) -> str:
    """Return the profile as TOML: every field that differs from its default, tables last.

    >>> from ripple_place.flash.device.files import load_device
    >>> print(format_device(load_device("m1-max")).splitlines()[0])
    name = "m1-max"
    """
    values = {
        entry.name: value
        for entry in fields(device)
        if (value := getattr(device, entry.name)) != (None if entry.default is MISSING else entry.default)
    }
    lines = [f"{name} = {_toml(value)}" for name, value in values.items() if not isinstance(value, Mapping)]
    for name, value in values.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{name}]", *(f"{_key(key)} = {_toml(entry)}" for key, entry in value.items())]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    """Return a string, bool, number or sequence as TOML writes it."""
    if isinstance(value, str):
        # JSON escapes what TOML wants escaped, but for DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    return "[" + ", ".join(map(_toml, value)) + "]"


def _key(key: str) -> str:
    """Return a key, quoted unless it is bare."""
    is_bare = key.isascii() and key.replace("_", "").replace("-", "").isalnum()
    return key if is_bare else _toml(key)
