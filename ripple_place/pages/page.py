"""One self-contained HTML page: its frame, tables, and pictures for wide and narrow screens."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from ripple_place.pages.svg import FONT, NARROW, WIDE, css_variables, inline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ripple_place.pages.svg import Picture


def page_html(title: str, sections: Iterable[str]) -> str:
    """Return the page. It loads nothing from elsewhere, and follows the reader's light or dark preference.

    Parameters
    ----------
    title : str
    sections : iterable of str
        HTML, escaped by the caller.
    """
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{css_variables()}{_CSS}</style>\n</head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """Return a table whose first column names its rows."""
    cells = "".join(f'<th scope="col">{escape(text)}</th>' for text in head)
    rows = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>{"".join(f"<td>{escape(text)}</td>" for text in row[1:])}</tr>'
        for row in body
    )
    return f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>{rows}</tbody></table></div>'


def both_widths(draw: Callable[[float], Picture]) -> str:
    """Return a picture drawn for pages and for phones, of which the style sheet shows one."""
    return inline(draw(WIDE), "wide") + inline(draw(NARROW), "narrow")


def side_by_side(pictures: Iterable[Picture]) -> str:
    """Return pictures as wide as a phone next to each other, or below each other where there is no room."""
    return f'<div class="pair">{"".join(inline(picture, "map") for picture in pictures)}</div>'


_CSS = (
    f"body{{margin:0 auto;padding:16px;max-width:{WIDE}px;background:var(--ground);color:var(--ink);"
    f"font:15px/1.5 {FONT}}}"
    "h1{font-size:22px;line-height:1.25;overflow-wrap:anywhere}h2{font-size:17px;margin:32px 0 8px}"
    "svg{display:block;width:100%;height:auto;margin:8px 0}svg.narrow{display:none}"
    "@media (max-width:560px){svg.wide{display:none}svg.narrow{display:block}body{padding:10px}}"
    ".scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px;"
    "font-variant-numeric:tabular-nums}"
    "th,td{padding:4px 8px;text-align:right;border-bottom:1px solid var(--grid)}"
    "td{white-space:nowrap}th:first-child{text-align:left;padding-left:0}tbody th{font-weight:400}"
    "@media (max-width:560px){table{font-size:13px}th,td{padding:4px}}"
    ".warning{border-left:4px solid var(--series-0);background:var(--track);padding:8px 12px}"
    "pre{background:var(--track);padding:10px 12px;white-space:pre-wrap;overflow-wrap:anywhere;font-size:13px}"
    "ul{padding-left:20px}li{margin:4px 0;overflow-wrap:anywhere}"
    f".pair{{display:grid;grid-template-columns:repeat(auto-fit,minmax(280px,1fr));gap:0 24px;max-width:{WIDE}px}}"
    f"svg.map{{max-width:{NARROW}px}}"
)
