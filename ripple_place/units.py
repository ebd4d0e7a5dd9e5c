"""Parse and format bytes, times, rates and shares. Nothing else in the package does.

Binary prefixes (KiB, MiB) are powers of 1024, decimal ones (kB, MB) powers of 1000; a bare number is bytes or
microseconds, and refused where it might be a share.
"""

from __future__ import annotations

import math
import re

from ripple_place.errors import UsageError

_BYTE_UNITS = {
    "": 1, "b": 1,
    "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12,
    "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40,
    "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40,
}  # fmt: skip
_TIME_UNITS_US = {"ns": 1e-3, "us": 1.0, "µs": 1.0, "": 1.0, "ms": 1e3, "s": 1e6, "min": 60e6}
_MAX_GAP = 2**30
"""In neurons: more than any block has, and a number for any kernel."""
_NUMBER = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*([a-zA-Zµ]*)\s*")


def _parse(text: str, units: dict[str, int] | dict[str, float], what: str, example: str) -> float:
    match = _NUMBER.fullmatch(text)
    value = float(match[1]) * units.get(match[2].lower(), math.nan) if match else math.nan
    if not math.isfinite(value):
        raise UsageError(
            what, found=repr(text), expected=f"a number and a unit, such as {example}", remedy="write it that way"
        )
    return value


def parse_bytes(text: str) -> int:
    """Return a size in bytes.

    >>> parse_bytes("4KiB"), parse_bytes("1.5 MB"), parse_bytes("512")
    (4096, 1500000, 512)

    Raises
    ------
    UsageError
        If `text` is not a non-negative number with a known unit, or is a part of a byte.
    """
    n_bytes = _parse(text, _BYTE_UNITS, "size", "4KiB or 512MB")
    # `0.1` is no share and no size; rounding it to nothing would hide that.
    if 0 < n_bytes < 1:
        raise UsageError(
            "size", found=repr(text), expected="at least one byte, such as 4KiB or 512MB", remedy="add the unit"
        )
    return round(n_bytes)


def parse_count(text: str | None) -> int | None:
    """Return a count written in a file's metadata; None if there is none, or it is no number.

    >>> parse_count("4096"), parse_count("many"), parse_count(None)
    (4096, None, None)
    """
    return int(text) if text is not None and re.fullmatch("[0-9]{1,18}", text) else None


def parse_time_us(text: str) -> float:
    """Return a time in microseconds.

    >>> parse_time_us("80us"), parse_time_us("1.5ms"), parse_time_us("60s")
    (80.0, 1500.0, 60000000.0)

    Raises
    ------
    UsageError
        If `text` is not a non-negative number with a known unit.
    """
    return _parse(text, _TIME_UNITS_US, "time", "80us or 60s")


def parse_rate_bytes_per_s(text: str) -> float:
    """Return a rate in bytes per second.

    >>> parse_rate_bytes_per_s("1.6GB/s")
    1600000000.0

    Raises
    ------
    UsageError
        If `text` is not a size followed by ``/s``.
    """
    if not text.strip().endswith("/s"):
        raise UsageError(
            "rate", found=repr(text), expected="a size per second, such as 1.6GB/s", remedy="write it that way"
        )
    return _parse(text.strip()[:-2], _BYTE_UNITS, "rate", "1.6GB/s")


def parse_share_or_bytes(text: str) -> float | int:
    """Return a share in [0, 1] as a float (``10%``), or a size in bytes as an int (``512MiB``).

    >>> parse_share_or_bytes("10%"), parse_share_or_bytes("512MiB")
    (0.1, 536870912)

    Raises
    ------
    UsageError
        If `text` is neither, a bare number other than 0, which might be either, or a share above 100 %.
    """
    if not text.strip().endswith("%"):
        match = _NUMBER.fullmatch(text)
        return _no_unit(text) if match is not None and not match[2] else parse_bytes(text)
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*%\s*", text)
    if match is None or float(match[1]) > 100:
        raise UsageError(
            "share", found=repr(text), expected="a share from 0% to 100% or a size", remedy="write 10% or 512MiB"
        )
    return float(match[1]) / 100


def _no_unit(text: str) -> int:
    """Return 0, which needs no unit; refuse any other bare number, in both spellings.

    Raises
    ------
    UsageError
        If the number is not 0.
    """
    number = text.strip()
    if float(number) == 0:
        return 0
    share = f"{100 * float(number):g}%" if float(number) < 1 else f"{number}%"
    raise UsageError(
        "share or size", found=repr(text), expected=f"{share} for a share, or {number}MiB or {number}B for a size",
        remedy="add the unit",
    )  # fmt: skip


def format_bytes(n_bytes: float) -> str:
    """Write a size with a binary prefix and at most four significant digits.

    >>> format_bytes(4096), format_bytes(1.5 * 2**20), format_bytes(100)
    ('4 KiB', '1.5 MiB', '100 B')
    """
    for prefix, unit in (("TiB", 2**40), ("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(n_bytes) >= unit:
            return f"{n_bytes / unit:.4g} {prefix}"
    return f"{n_bytes:.4g} B"


def format_time_us(time_us: float) -> str:
    """Write a time in the unit that leaves one to three digits before the point.

    >>> format_time_us(0.25), format_time_us(80), format_time_us(2224e3)
    ('250 ns', '80 us', '2.224 s')
    """
    for unit, size_us in (("s", 1e6), ("ms", 1e3), ("us", 1.0)):
        if abs(time_us) >= size_us:
            return f"{time_us / size_us:.4g} {unit}"
    return f"{time_us * 1e3:.4g} ns" if time_us else "0 us"


def format_rate(bytes_per_s: float) -> str:
    """Write a rate with a decimal prefix, as device data sheets do.

    >>> format_rate(1.6378e9), format_rate(250e6)
    ('1.638 GB/s', '250 MB/s')
    """
    for prefix, unit in (("GB/s", 1e9), ("MB/s", 1e6), ("kB/s", 1e3)):
        if abs(bytes_per_s) >= unit:
            return f"{bytes_per_s / unit:.4g} {prefix}"
    return f"{bytes_per_s:.4g} B/s"


def whole_gap(break_even_gap: float) -> int:
    """Return the largest whole gap worth reading through: one of exactly lambda merges.

    A lambda that is whole but for rounding errors is that whole number.

    >>> whole_gap(4.98), whole_gap(5.0), whole_gap(4.999999999999), whole_gap(0.0), whole_gap(1e12)
    (4, 5, 5, 0, 1073741824)
    """
    return min(math.floor(break_even_gap * (1 + 1e-9) + 1e-9), _MAX_GAP)
