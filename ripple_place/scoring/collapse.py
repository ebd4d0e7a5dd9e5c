"""The text that names an access collapse: a gap, or who decides it."""

from __future__ import annotations

from ripple_place.errors import UsageError


def parse_collapse(text: str) -> int | str | None:
    """Return what ``--collapse`` names: 0 for off, None for auto, a planner, or a fixed gap.

    >>> parse_collapse("off"), parse_collapse("auto"), parse_collapse("optimal"), parse_collapse("5")
    (0, None, 'optimal', 5)

    Raises
    ------
    UsageError
        If it is none of these.
    """
    if text in ("auto", "off"):
        return 0 if text == "off" else None
    if text.isascii() and text.isdigit() and len(text) < 10:
        return int(text)
    # Not at the top: the command line imports this module to print its help.
    from ripple_place.flash.planners.registry import named_planners

    if text in named_planners():
        return text
    planners = ", ".join(named_planners())
    raise UsageError(
        f"--collapse {text}", found=repr(text), expected=f"auto, off, {planners}, or a number of neurons",
        remedy="write one of them",
    )  # fmt: skip
