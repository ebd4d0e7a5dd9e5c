"""Whether raw bytes are the floating point numbers that they are taken for: evidence in the bytes themselves.

What neurons put out spans some powers of two, and zero is zero in all its bytes. Read as float16, a float32 number
becomes two: the upper one has sign and exponent, whose first five bits hardly differ between numbers; the lower one is
the end of a mantissa, which is anything (or all zeros, where the numbers were rounded before).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from ripple_place.arrays import AnyArray
    from ripple_place.storedarray import StoredArray

WIDER = {"float32": 2, "float64": 4}
"""float16 numbers in a number of each wider type."""

_WINDOWS, _WINDOW = 64, 2**15
"""Stretches looked at, spread evenly over a file, and float16 numbers in each: at most 4 MB."""
_LEAST = 8
"""Numbers other than zero on which something is judged."""
_MOST_LONE = 1e-3
"""Share of numbers with an empty upper part and a lower one that is not: of float32, those below 1e-38."""
_FIELDS, _FIELDS_SHARE = 3, 0.99
"""Upper parts lie in so many of float16's 32 exponents, all but 1 %: of float32, that is 24 powers of two."""
_LEAST_ELSEWHERE = 0.5
"""Share of lower parts that lie in other exponents: 29/32 of any mantissas, 3/4 of float16 rounded up, all zeros of
bfloat16. Of true float16 numbers both parts are alike."""


def wider_type(numbers: AnyArray | StoredArray) -> str | None:
    """Return the wider type that float16 numbers in truth are parts of; None if nothing says so.

    Parameters
    ----------
    numbers : ndarray of shape (n,), float16, little-endian
        May stay in a file: `_WINDOWS` stretches of it are read.

    Examples
    --------
    >>> outputs = np.maximum(np.random.default_rng(0).standard_normal(1000), 0)
    >>> wider_type(outputs.astype("<f4").view("<f2")), wider_type(outputs.astype("<f2"))
    ('float32', None)
    """
    halves = _sample(numbers, 4).view(np.uint16)
    for name, n_parts in WIDER.items():
        parts = halves[: halves.size // n_parts * n_parts].reshape(-1, n_parts)
        if _are_parts(parts[:, -1], parts[:, :-1]):
            return name
    return None


def has_narrower(numbers: AnyArray | StoredArray) -> bool:
    """Tell whether wide numbers are made of narrower ones: more than 1 % are nearer to zero than any normal number.

    Parameters
    ----------
    numbers : ndarray of shape (n,), float32 or float64
        May stay in a file.
    """
    sample = _sample(numbers, 1)
    sizes = np.abs(sample[sample != 0])
    return bool(sizes.size >= _LEAST and (sizes < np.finfo(sizes.dtype).tiny).mean() > 0.01)


def _are_parts(upper: AnyArray, lower: AnyArray) -> bool:
    """Tell whether the parts of numbers look like those of wider ones, by the constants above."""
    is_number = (upper & 0x7FFF) != 0
    n_numbers = int(is_number.sum())
    if n_numbers < _LEAST or (lower.any(axis=1) & ~is_number).sum() > _MOST_LONE * n_numbers:
        return False
    counts = np.bincount(upper[is_number] >> 10 & 31, minlength=32)
    fields = np.argsort(counts)[-_FIELDS:]
    elsewhere = ~np.isin(lower[is_number, 0] >> 10 & 31, fields[counts[fields] > 0])
    return bool(counts[fields].sum() >= _FIELDS_SHARE * n_numbers and elsewhere.mean() >= _LEAST_ELSEWHERE)


def _sample(numbers: AnyArray | StoredArray, multiple: int) -> AnyArray:
    """Return stretches of an array one after the other, each from a multiple of `multiple` on; all of a short one."""
    if numbers.size <= _WINDOWS * _WINDOW:
        return np.ascontiguousarray(numbers)
    starts = np.linspace(0, numbers.size - _WINDOW, _WINDOWS).astype(np.int64) // multiple * multiple
    return np.concatenate([np.asarray(numbers[start : start + _WINDOW]) for start in starts])
