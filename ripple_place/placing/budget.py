"""What a DRAM budget may be: a share or bytes, told apart by its type."""

from __future__ import annotations

from ripple_place.errors import UsageError


def check_budget(budget: float | int) -> None:
    """Refuse a DRAM budget that is neither a share (float) nor bytes (int).

    Raises
    ------
    UsageError
        If a share is not from 0 to 1, bytes are negative, or the type says neither, as numpy's do.
    """
    # A bool is an int, and numpy's float64 a float.
    is_share = isinstance(budget, float) and 0 <= budget <= 1
    is_size = isinstance(budget, int) and not isinstance(budget, bool) and budget >= 0
    if not (is_share or is_size):
        raise UsageError(
            "dram_budget", found=repr(budget), expected="a share from 0.0 to 1.0 (float), or bytes (int)",
            remedy="write 0.2 for 20 %, or 20 * 2**20 for 20 MiB",
        )  # fmt: skip
