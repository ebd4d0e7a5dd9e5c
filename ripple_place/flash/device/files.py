"""Device files: the profiles that ship with the package, and those a user wrote or measured."""

from __future__ import annotations

import tomllib
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from ripple_place.errors import DeviceConfigError, UsageError
from ripple_place.flash.device.profile import DeviceProfile
from ripple_place.flash.device.ranges import text_of
from ripple_place.foreign import file_error
from ripple_place.inputfile import read_input

DEFAULT_DEVICE = "ufs4-oneplus12-neuralink"
"""The device whose table is fitted to the most published points (benchmarks/fit_neuralink_table2.py)."""

_SHIPPED = Path(__file__).parents[1] / "devices"
_TUPLES = frozenset(key.name for key in fields(DeviceProfile) if key.default == ())


def list_devices() -> list[str]:
    """Return the names of the shipped profiles, sorted.

    >>> "ufs4-oneplus12-neuralink" in list_devices()
    True
    """
    return sorted(path.stem for path in _SHIPPED.glob("*.toml"))


def load_device(name_or_path: str) -> DeviceProfile:
    """Return a shipped profile by name, or the one in a TOML file.

    Parameters
    ----------
    name_or_path : str
        A name out of `list_devices`, or the path of a file (anything with a slash or ending in ``.toml``).

    Raises
    ------
    UsageError
        If no shipped profile has that name, or there is no such file.
    DeviceConfigError
        If the file is no TOML, has unknown keys, lacks some, or has values out of range.
    """
    if "/" not in name_or_path and not name_or_path.endswith(".toml"):
        if name_or_path not in list_devices():
            raise UsageError(
                f"device {name_or_path}",
                found="no shipped profile by that name",
                expected=f"one of {', '.join(list_devices())}, or the path of a .toml file",
                remedy="name one of them",
            )
        return read_device(_SHIPPED / f"{name_or_path}.toml")
    path = Path(name_or_path)
    if path.is_dir() or not path.exists():
        raise UsageError(
            f"device {name_or_path}",
            found="a directory" if path.is_dir() else "no such file",
            expected="a device profile",
            remedy=f"give the path of a .toml file, or one of {', '.join(list_devices())}",
        )
    return read_device(path)


def read_device(path: Path) -> DeviceProfile:
    """Read and check one device file; see `load_device` for what it raises."""
    text = read_input(path)
    try:
        # Some editors begin UTF-8 with a mark.
        entries: dict[str, Any] = tomllib.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as cause:  # Bad TOML, bad UTF-8, or brackets without end.
        raise file_error(
            DeviceConfigError, path, found=str(cause), expected="TOML in UTF-8",
            remedy="correct the file; docs/devices.md has an example",
        ) from cause  # fmt: skip
    known = {key.name for key in fields(DeviceProfile)}
    required = {
        key.name for key in fields(DeviceProfile) if key.default is MISSING and key.default_factory is MISSING
    } | {"sources"}
    wrong_type = [
        key
        for key, value in entries.items()
        if key in known
        and not isinstance(
            value,
            {"sources": dict, "estimated": bool, "name": str, "description": str, "form": str}.get(
                key, list if key in _TUPLES else int | float
            ),
        )
    ]
    problems = [
        *(f"unknown key {key}" for key in sorted(entries.keys() - known)),
        *(f"no {key}" for key in sorted(required - entries.keys())),
        *(f"{key} = {text_of(entries[key])}" for key in wrong_type),
    ]
    if problems:
        raise DeviceConfigError(
            path,
            found="; ".join(problems),
            expected=f"the keys {', '.join(sorted(required))}, and those of its form",
            remedy="correct the file; docs/devices.md describes each key",
        )
    for key in _TUPLES & entries.keys():
        entries[key] = tuple(entries[key])
    try:
        return DeviceProfile(**entries)
    except DeviceConfigError as cause:
        raise DeviceConfigError.relocated(cause, f"{path}: {cause.where}") from cause
