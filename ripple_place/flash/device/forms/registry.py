"""The forms by name, and which numbers belong to which."""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any

from ripple_place.flash.device.forms.ceiling import CeilingForm
from ripple_place.flash.device.forms.linear import LinearForm
from ripple_place.flash.device.forms.table import TableForm

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from ripple_place.flash.device.forms.form import Form

FORMS: dict[str, type[Form]] = {
    form.name: form
    for form in (
        TableForm,
        LinearForm,
        CeilingForm,
    )
}


def form_problems(name: str, numbers: Mapping[str, Any]) -> list[str]:
    """Return what keeps a profile's numbers from being of the form: an unknown name, other forms' numbers, bad ones."""
    if name not in FORMS:
        return [f"form = {name!r}"]
    return [*_foreign_numbers(name, numbers), *FORMS[name].problems_in(numbers)]


def describe_forms() -> str:
    """Return all forms with the numbers that each must have.

    >>> describe_forms()[:64]
    'table (size_bytes, latency_us), linear (overhead_us, bandwidth_b'
    """
    *others, last = (
        f"{name} ({', '.join(entry.name for entry in fields(form) if entry.default is MISSING)})"
        for name, form in FORMS.items()
    )
    return f"{', '.join(others)} or {last}"


def additive_forms() -> list[str]:
    """Return the names of the forms whose times add up over reads.

    >>> additive_forms()
    ['table', 'linear']
    """
    return [name for name, form in FORMS.items() if form.times_add_up]


def _foreign_numbers(name: str, numbers: Mapping[str, Any]) -> Iterator[str]:
    """Name the numbers that are set and belong to other forms only; those with the same owners in one sentence."""
    owners_of: dict[str, tuple[str, ...]] = {}
    for owner, form in FORMS.items():
        for entry in fields(form):
            owners_of[entry.name] = (*owners_of.get(entry.name, ()), owner)
    numbers_of: dict[tuple[str, ...], list[str]] = {}
    for number, owners in owners_of.items():
        numbers_of.setdefault(owners, []).append(number)
    # Single numbers come before those that make a table together.
    for owners, names in sorted(numbers_of.items(), key=lambda item: len(item[1])):
        if name not in owners and any(numbers[number] not in (None, ()) for number in names):
            belong = "belongs" if len(names) == 1 else "belong"
            yield f"{' and '.join(names)} {belong} to {' and '.join(f'the {owner} form' for owner in owners)}"
