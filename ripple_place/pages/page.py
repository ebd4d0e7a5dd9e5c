"""A page: a template filled with values, tables and figures gives one self-contained HTML file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from html import escape
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from ripple_place.pages.svg import FONT, NARROW, WIDE, Picture, css_variables, inline
from ripple_place.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


@dataclass(frozen=True)
class Table:
    """The cells of a table, as text.

    Parameters
    ----------
    head : sequence of str
        Titles of the columns.
    rows : sequence of sequence of str
        One cell a column; the first names the row.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __post_init__(self) -> None:
        assert all(len(row) == len(self.head) for row in self.rows), "a table's rows have as many cells as its head"


@dataclass(frozen=True)
class Figure:
    """A picture drawn for pages and for phones; the style sheet shows one of the two."""

    wide: Picture
    narrow: Picture

    @classmethod
    def drawn(cls, draw: Callable[[float], Picture]) -> Figure:
        """Return what `draw` makes of each width."""
        return cls(draw(WIDE), draw(NARROW))


def render(template: str, **values: object) -> str:
    """Return the page that a template makes of values.

    Parameters
    ----------
    template : str
        File name in ``templates/``.
    **values
        By the names that the template uses. Everything but pictures is escaped as HTML; what is not printable is
        shown as an escape (`ripple_place.printable`).

    Raises
    ------
    jinja2.UndefinedError
        If the template uses a name that `values` lacks.
    """
    return printable(environment().get_template(template).render(values), keep="\n")


@cache
def environment() -> Environment:
    """Return the environment of all templates: text is escaped, and a missing value is an error."""
    made = Environment(
        loader=PackageLoader("ripple_place.pages"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_escaped,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["svg"] = lambda picture, class_: Markup(inline(picture, class_))
    made.globals |= {"colours": Markup(css_variables()), "font": Markup(FONT), "wide": WIDE, "narrow": NARROW}
    return made


def _escaped(value: object) -> Markup:
    """Return a value as HTML, with quotes as `html.escape` spells them; autoescape alone would write ``&#39;``."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))
