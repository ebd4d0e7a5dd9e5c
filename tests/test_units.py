"""Units: what is read back is what was written, and what is no quantity says so."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place import units
from ripple_place.errors import UsageError


@pytest.mark.parametrize(
    ("text", "n_bytes"),
    [
        ("0", 0), ("1", 1), ("512", 512), ("512B", 512), ("4KiB", 4096), ("4kib", 4096), ("4K", 4096), ("4kB", 4000),
        ("4KB", 4000), ("1.5 MB", 1_500_000), (" 2 MiB ", 2**21), (".5KiB", 512), ("1.GiB", 2**30), ("1TiB", 2**40),
        ("1.3KiB", 1331), ("1TB", 10**12), ("3g", 3 * 2**30),
    ],
)  # fmt: skip
def test_bytes(text: str, n_bytes: int) -> None:
    """Binary prefixes are powers of 1024, decimal ones of 1000, whatever the case; a bare number is bytes."""
    assert units.parse_bytes(text) == n_bytes


@pytest.mark.parametrize(
    ("text", "time_us"),
    [("80us", 80), ("80µs", 80), ("80", 80), ("250ns", 0.25), ("1.5ms", 1500), ("60 s", 60e6), ("2min", 120e6)],
)
def test_times(text: str, time_us: float) -> None:
    """Microseconds are what a bare number means."""
    assert units.parse_time_us(text) == pytest.approx(time_us)


@pytest.mark.parametrize(("text", "rate"), [("1.6GB/s", 1.6e9), (" 200MiB/s ", 200 * 2**20), ("5/s", 5)])
def test_rates(text: str, rate: float) -> None:
    """A rate is a size per second."""
    assert units.parse_rate_bytes_per_s(text) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("text", "value"),
    [("10%", 0.1), ("0%", 0.0), ("100 %", 1.0), (".5%", 0.005), ("512MiB", 2**29), ("7B", 7), ("0", 0), (" 0.0 ", 0)],
)
def test_shares_or_sizes(text: str, value: float) -> None:
    """The type says which it is: the simulator takes a float as a share and an int as bytes."""
    parsed = units.parse_share_or_bytes(text)
    assert parsed == pytest.approx(value)
    assert isinstance(parsed, float) == ("%" in text)


@pytest.mark.parametrize(
    ("parse", "text", "match"),
    [
        (units.parse_bytes, "", "size: found ''; expected a number and a unit, such as 4KiB"),
        (units.parse_bytes, "KiB", "found 'KiB'"),
        (units.parse_bytes, "-1", "found '-1'"),
        (units.parse_bytes, "4 QiB", "found '4 QiB'"),
        (units.parse_bytes, "1e3", "found '1e3'"),
        (units.parse_bytes, "4KiB/s", "found '4KiB/s'"),
        (units.parse_bytes, "nan", "found 'nan'"),
        (units.parse_bytes, "9" * 400, "expected a number and a unit"),
        (units.parse_bytes, "0.1", "found '0.1'; expected at least one byte"),
        (units.parse_time_us, "10 fortnights", "time: found .*such as 80us or 60s"),
        (units.parse_time_us, "9" * 400 + "s", "time: found"),
        (units.parse_rate_bytes_per_s, "1.6GB", "rate: found '1.6GB'; expected a size per second"),
        (units.parse_rate_bytes_per_s, "fast/s", "rate: found 'fast'"),
        (units.parse_share_or_bytes, "101%", "share: found '101%'; expected a share from 0% to 100%"),
        (units.parse_share_or_bytes, "-1%", "share: found '-1%'"),
        (units.parse_share_or_bytes, "%", "share: found '%'"),
        (
            units.parse_share_or_bytes,
            "20",
            r"share or size: found '20'; expected 20% for a share, or 20MiB or 20B for a ",
        ),
        (
            units.parse_share_or_bytes,
            " 4096 ",
            "expected 4096% for a share, or 4096MiB or 4096B for a size. Add the unit",
        ),
        (units.parse_share_or_bytes, "0.1", "found '0.1'; expected 10% for a share, or 0.1MiB or 0.1B for a size"),
        (units.parse_share_or_bytes, "1", "found '1'; expected 1% for a share, or 1MiB or 1B for a size"),
        (units.parse_share_or_bytes, "0.1B", "found '0.1B'; expected at least one byte"),
        (units.parse_share_or_bytes, "ten", "size: found 'ten'"),
    ],
)
def test_what_is_no_quantity(parse: object, text: str, match: str) -> None:
    """Each is refused with its text and an example; `0.1` for 10 % must not become 0 bytes."""
    with pytest.raises(UsageError, match=match):
        parse(text)  # type: ignore[operator]


@pytest.mark.parametrize(("text", "count"), [("0", 0), ("4096", 4096), ("", None), ("-1", None), ("4.0", None),
                                             ("²", None), ("9" * 5000, None), (None, None)])  # fmt: skip
def test_counts(text: str | None, count: int | None) -> None:
    """Metadata comes from files of others: superscripts are digits to str.isdigit, and int refuses long numbers."""
    assert units.parse_count(text) == count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (units.format_bytes(0), "0 B"),
        (units.format_bytes(1023), "1023 B"),
        (units.format_bytes(4096), "4 KiB"),
        (units.format_bytes(3 * 2**40), "3 TiB"),
        (units.format_time_us(0), "0 us"),
        (units.format_time_us(0.25), "250 ns"),
        (units.format_time_us(1500), "1.5 ms"),
        (units.format_time_us(2.224e6), "2.224 s"),
        (units.format_rate(999), "999 B/s"),
        (units.format_rate(1.6378e9), "1.638 GB/s"),
    ],
)
def test_formats(text: str, expected: str) -> None:
    """Four significant digits at most, in the largest unit that leaves something before the point."""
    assert text == expected


@given(st.integers(1, 2**50))
@settings(deadline=None)
def test_bytes_read_back(n_bytes: int) -> None:
    """A size as we print it can be given to an option, and is then right to four digits."""
    assert units.parse_bytes(units.format_bytes(n_bytes)) == pytest.approx(n_bytes, rel=1e-3)


@given(st.floats(1e-3, 1e12))
@settings(deadline=None)
def test_times_read_back(time_us: float) -> None:
    """The same for times, as far as they are printed without exponent."""
    text = units.format_time_us(time_us)
    if "e" not in text:
        assert units.parse_time_us(text) == pytest.approx(time_us, rel=1e-3)
