"""Small helpers to write SVG by hand: elements, texts, paths of boxes, and the colours of light and dark pages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape, quoteattr

from ripple_place.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

WIDE, NARROW = 720, 340
"""Widths that pictures are drawn for: a page, and a phone of 360 pixels."""
SERIES = ("series-0", "series-1", "series-2", "series-3", "series-4", "series-5")
"""Colours of layouts, by position; a seventh layout starts over."""
HEAT = ("heat-0", "heat-1", "heat-2", "heat-3", "heat-4", "heat-5", "heat-6")
"""Colours from less than expected, by neutral (the third), to much more."""

# Told apart under the common colour deficiencies, and at least 3:1 against their background.
_LIGHT = {
    "ground": "#ffffff", "ink": "#1f2430", "muted": "#667085", "grid": "#d5dae3", "track": "#eef1f6",
    "series-0": "#c2571a", "series-1": "#2a66b8", "series-2": "#1d8466", "series-3": "#8b50b0",
    "series-4": "#b0862a", "series-5": "#51606f",
    "heat-0": "#3f74bb", "heat-1": "#b4cbe8", "heat-2": "#f1f2f5", "heat-3": "#f8d9ad", "heat-4": "#efa25e",
    "heat-5": "#d2602a", "heat-6": "#84290d",
}  # fmt: skip
_DARK = {
    "ground": "#14171d", "ink": "#e6e9ef", "muted": "#98a2b3", "grid": "#343b47", "track": "#20252e",
    "series-0": "#ee8a4f", "series-1": "#6ea6ee", "series-2": "#4fbd9b", "series-3": "#c08fe2",
    "series-4": "#d8b158", "series-5": "#9aa7b5",
    "heat-0": "#6b9fe4", "heat-1": "#324d75", "heat-2": "#20252e", "heat-3": "#54391f", "heat-4": "#96541f",
    "heat-5": "#e3853c", "heat-6": "#ffdca6",
}  # fmt: skip

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


@dataclass(frozen=True)
class Picture:
    """A drawing: its size, what it shows in words, and its elements."""

    width: float
    height: float
    title: str
    elements: tuple[str, ...]


def colour_of(position: int) -> str:
    """Return the colour of the layout at a position."""
    return f"var(--{SERIES[position % len(SERIES)]})"


def element(tag: str, content: str = "", /, **attributes: object) -> str:
    """Return an element; underscores in attribute names stand for hyphens, ``class_`` for ``class``.

    >>> element("rect", x=1.5, fill_opacity=0.25)
    '<rect x="1.5" fill-opacity="0.25"/>'
    """
    text = "".join(
        f" {name.rstrip('_').replace('_', '-')}={quoteattr(number(value))}" for name, value in attributes.items()
    )
    return f"<{tag}{text}>{content}</{tag}>" if content else f"<{tag}{text}/>"


def label(x: float, y: float, content: str, *, size: float = 12, **attributes: object) -> str:
    """Return a text with its baseline at (x, y), as text."""
    attributes.setdefault("fill", "var(--ink)")
    return element("text", escape(content), x=x, y=y, font_size=size, **attributes)


def boxes(spans: Iterable[tuple[float, float]], y: float, height: float, **attributes: object) -> str:
    """Return one path of boxes of equal height, each from x to x + width; nothing for no spans."""
    path = "".join(f"M{number(x)} {number(y)}h{number(width)}v{number(height)}h-{number(width)}z" for x, width in spans)
    return element("path", d=path, **attributes) if path else ""


def number(value: object) -> str:
    """Write a coordinate with at most two decimals.

    >>> number(1.0), number(0.333), number("a")
    ('1', '0.33', 'a')
    """
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def round_up(value: float) -> float:
    """Return the next 1, 2, 4 or 8 times a power of ten: a quarter of it is a short number."""
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 8, 10, 20) if step * power >= value)


def css_variables() -> str:
    """Return CSS that defines the colours, light by default and dark where the reader prefers it."""
    light, dark = (";".join(f"--{name}:{colour}" for name, colour in theme.items()) for theme in (_LIGHT, _DARK))
    return f":root{{color-scheme:light dark;{light}}}@media (prefers-color-scheme:dark){{:root{{{dark}}}}}"


def inline(picture: Picture, class_: str) -> str:
    """Return the picture as an element of a page that has `css_variables`."""
    return _root(picture, "".join(picture.elements), class_=class_)


def standalone(picture: Picture) -> str:
    """Return the picture as a file of its own, on a light background, for a README."""
    margin = 12
    framed = Picture(picture.width + 2 * margin, picture.height + 2 * margin, picture.title, ())
    body = element("rect", width=framed.width, height=framed.height, fill=_LIGHT["ground"])
    body += element("g", "".join(picture.elements), transform=f"translate({margin} {margin})")
    for name, colour in _LIGHT.items():  # readers of SVG outside browsers know no variables
        body = body.replace(f"var(--{name})", colour)
    root = _root(framed, body, xmlns="http://www.w3.org/2000/svg", width=framed.width, height=framed.height)
    return printable(root, keep="\n") + "\n"  # XML takes neither controls nor surrogates.


def _root(picture: Picture, body: str, **attributes: object) -> str:
    return element(
        "svg",
        element("title", escape(picture.title)) + body,
        **attributes,
        viewBox=f"0 0 {number(picture.width)} {number(picture.height)}",
        role="img",
        font_family=FONT,
    )
