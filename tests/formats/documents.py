"""Compares a JSON document with a golden one: keys and types must stay, and values that are the same in every run."""

from __future__ import annotations

import math
from typing import Any

UNHELD = frozenset({
    "seconds", "estimated_seconds", "bytes_free",  # These differ from run to run,
    "bytes_needed", "peak_ram_bytes",  # these are estimates,
    "out", "checkpoint", "directory",  # these are what the user typed,
    "warnings", "sentences", "note", "check", "checks", "verified",  # these are sentences, or lists of them,
    "tool_version", "manifest_sha256",  # and these follow from the version or from all the others.
})  # fmt: skip
"""Keys whose values may change from version to version, and from run to run; their types may not."""
TOLERANCE = 1e-9
"""Of floats, relative and absolute: sums may be added up in another order by another processor."""


def differences(golden: Any, found: Any, *, values: bool = True, where: str = "") -> list[str]:
    """Return what `found` lacks of `golden`, or has otherwise; keys that only `found` has are none of it.

    Parameters
    ----------
    golden, found : object
        Parsed JSON.
    values : bool
        Compare values and lengths of lists too, except under `UNHELD` keys. Without, a null stands for any type.
    where : str
        Path of the two in their documents, for the messages.
    """
    if isinstance(golden, dict) and isinstance(found, dict):
        lines = [f"{where}/{key}: missing" for key in golden.keys() - found.keys()]
        for key in sorted(golden.keys() & found.keys()):
            holds = values and key not in UNHELD
            lines += differences(golden[key], found[key], values=holds, where=f"{where}/{key}")
        return lines
    if isinstance(golden, list) and isinstance(found, list):
        lines = []
        if values and len(golden) != len(found):
            lines = [f"{where}: {len(found)} entries, not {len(golden)}"]
        for number, (old, new) in enumerate(zip(golden, found, strict=False)):
            lines += differences(old, new, values=values, where=f"{where}/{number}")
        return lines
    if not values and (golden is None or found is None):
        return []
    if type(golden) is not type(found):
        return [f"{where}: {type(found).__name__}, not {type(golden).__name__}"]
    if not values:
        return []
    if isinstance(golden, float):
        is_same = math.isclose(golden, found, rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    else:
        is_same = golden == found
    return [] if is_same else [f"{where}: {found!r}, not {golden!r}"]
