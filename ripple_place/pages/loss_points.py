"""Rules on layouts as points: what each costs in flash time and in loss, and which of them are one curve."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.trace.rule_text import Amount, RuleText

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class LossPoint:
    """A rule on a layout.

    Attributes
    ----------
    layout : int
        Its position.
    family : str
        The rule without its value: rules of one family on one layout are one curve.
    value : str
        What tells the rule from others of its family; empty where nothing does.
    time_us, loss : float
        Flash time, and nats, a token.
    error : float or None
        Standard error of the loss.
    is_exact : bool
        Nothing was dropped.
    """

    layout: int
    family: str
    value: str
    time_us: float
    loss: float
    error: float | None
    is_exact: bool


def loss_points(
    rows: Sequence[Mapping[str, Any]], n_rules: int, key: str, error_key: str | None = None
) -> list[LossPoint]:
    """Return the rules whose loss is known as points, in the order of `rows`.

    Parameters
    ----------
    rows : sequence of mapping
        Entries of ``layouts`` of the JSON document, those of a layout together.
    n_rules : int
        Rules of each layout.
    key, error_key : str
        Of the loss and of its standard error.
    """
    points = []
    for place, row in enumerate(rows):
        is_exact = row["kept_share"] == 1
        # Dropping nothing costs nothing, whether importance is known or not.
        loss = 0.0 if row[key] is None and is_exact else row[key]
        if loss is not None:
            error = None if error_key is None else row[error_key]
            family, value = family_and_value(row["select"])
            time_us = row["flash_time_us_per_token"]
            points.append(LossPoint(place // n_rules, family, value, time_us, loss, error, is_exact))
    return points


def family_and_value(rule: str) -> tuple[str, str]:
    """Return a rule without its value, and the value: the first number in it.

    >>> family_and_value("top-k=5%"), family_and_value("flash-aware,price=1e-06,sees=gate"), family_and_value("exact")
    (('top-k', '5%'), ('flash-aware,price,sees=gate', '1e-6'), ('exact', ''))
    """
    written = RuleText.parse(rule)
    assert written is not None
    parts, value = [written.name], ""
    for key, text in (("", written.value), *written.options.items()):
        if text is not None and not value and Amount.parse(text) is not None:
            parts += [key] if key else []
            value = text.replace("e-0", "e-")
        elif text is not None:
            parts.append(f"{key}={text}")
    return ",".join(parts), value
