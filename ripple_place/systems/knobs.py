"""The knobs of a system: what a reader of flash can be told, each with the values it takes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import COLUMN, NEURON
from ripple_place.errors import UsageError
from ripple_place.flash.admission import Admission
from ripple_place.flash.caches.registry import find_policy
from ripple_place.flash.caches.segmented import Segmented
from ripple_place.flash.pipeline.params import BARRIERS
from ripple_place.flash.token_time import OVERLAPS
from ripple_place.ordering.registry import AUTO, ORDERINGS
from ripple_place.select.registry import parse_rule
from ripple_place.units import parse_count

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EVERYTHING = "everything"
"""In place of a rule: all neurons are used, whether they fire or not."""
NO = "no"
GATE_MODES = ("predicted", "full-gate", "resident")
FORMS = ("whole", "gate-first", "gates-apart", "int4")


@dataclass(frozen=True)
class Knobs:
    """How a system reads from flash. Every field is a key of its file, and may be set on the command line.

    Parameters
    ----------
    unit : str
        What a bundle is: ``neuron`` or ``column``.
    uses : str
        A rule that chooses what a token uses, or ``everything``.
    ordering : str
        Of the units on flash; made from a profile, unless it is ``original``.
    layout : str
        Path of a placement to take instead; empty: none.
    for_dram : str
        ``yes``: the order is made for the DRAM budget, which is split over the blocks as that decides.
    cache : str
        Policy of the DRAM; ``auto``, with `for_dram`: the best on tokens of the profile held out.
    admission : str
        Which misses may enter it.
    pool : str
        ``yes``: one cache for the whole model in place of one a block.
    access : str
        ``direct``, ``sync`` or ``mmap``.
    queue_depth : str
        Reads kept in flight; empty: enough to saturate the device.
    collapse : str
        Which gaps are read through: ``auto``, ``off``, ``adaptive`` or a number.
    gate_first : str
        ``no``, or how gates are read before the rest.
    bundle_form : str
        Where the gates lie.
    plan : str
        ``yes``: the hottest neurons are planned for a dense unit, resident or read ahead, as PowerInfer-2 does.
    overlap : str
        How reading hides under computing.
    barriers : str
        Of the pipeline: ``none``, ``matrix`` or ``serial``.

    Raises
    ------
    UsageError
        If a value is none that its knob takes, or two do not go together.
    """

    unit: str = NEURON
    uses: str = "exact"
    ordering: str = "original"
    layout: str = ""
    for_dram: str = NO
    cache: str = "none"
    admission: str = "all"
    pool: str = NO
    access: str = "direct"
    queue_depth: str = ""
    collapse: str = "off"
    gate_first: str = NO
    bundle_form: str = "whole"
    plan: str = NO
    overlap: str = "serial"
    barriers: str = "none"

    def __post_init__(self) -> None:
        for name, values in _CHOICES.items():
            if getattr(self, name) not in values:
                raise _refused(name, getattr(self, name), f"one of {', '.join(values)}")
        for name, check in _CHECKS.items():
            check(getattr(self, name))
        if self.cache == AUTO and self.for_dram == NO:
            raise _refused("cache", AUTO, "for_dram=yes beside it, or the name of a policy")
        if self.cache == Segmented.policy and (self.pool == NO or (self.plan == NO and not self.layout)):
            raise _refused("cache", self.cache, "pool=yes and plan=yes beside it, or the name of another policy")
        if self.plan == "yes" and self.unit == COLUMN:
            raise _refused("plan", "yes", "unit=neuron: what is planned are whole neurons")

    @property
    def uses_everything(self) -> bool:
        """Whether all units are used for every token."""
        return self.uses == EVERYTHING

    @property
    def is_lossless(self) -> bool:
        """Whether what is used is at least what fires."""
        return self.uses_everything or not parse_rule(self.uses).changes_output

    def changed(self, changes: Mapping[str, str]) -> Knobs:
        """Return the knobs with some of them set anew; raises UsageError for one that there is not."""
        if unknown := changes.keys() - {entry.name for entry in fields(self)}:
            raise UsageError(
                f"--system: {min(unknown)}", found="no knob by that name",
                expected=f"one of {', '.join(entry.name for entry in fields(self))}",
                remedy="correct the name (docs/systems.md)",
            )  # fmt: skip
        return replace(self, **changes)


def _refused(name: str, value: Any, expected: str) -> UsageError:
    return UsageError(
        f"--system: {name}", found=repr(value), expected=expected, remedy="correct the value (docs/systems.md)"
    )


def _check_depth(text: str) -> None:
    if text and not parse_count(text):
        raise _refused("queue_depth", text, "a number of at least 1")


def _check_collapse(text: str) -> None:
    if text not in ("auto", "off", "adaptive") and parse_count(text) is None:
        raise _refused("collapse", text, "auto, off, adaptive or a number of neurons")


def _check_cache(text: str) -> None:
    if text not in (AUTO, Segmented.policy):
        find_policy(text)


def _check_rule(text: str) -> None:
    if text != EVERYTHING:
        parse_rule(text)


_YES_NO = ("yes", NO)
_CHOICES: dict[str, tuple[str, ...]] = {
    "unit": (NEURON, COLUMN),
    "ordering": (AUTO, *ORDERINGS),
    "for_dram": _YES_NO,
    "pool": _YES_NO,
    "access": ("direct", "sync", "mmap"),
    "gate_first": (NO, *GATE_MODES),
    "bundle_form": tuple(FORMS),
    "plan": _YES_NO,
    "overlap": OVERLAPS,
    "barriers": BARRIERS,
}
_CHECKS: dict[str, Callable[[str], object]] = {
    "uses": _check_rule,
    "cache": _check_cache,
    "admission": Admission.parse,
    "queue_depth": _check_depth,
    "collapse": _check_collapse,
}
