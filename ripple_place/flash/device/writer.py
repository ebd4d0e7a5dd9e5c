"""Writing device files: TOML that `ripple_place.flash.device.files.read_device` gives back unchanged."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING

import tomli_w

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
    return tomli_w.dumps(values)
