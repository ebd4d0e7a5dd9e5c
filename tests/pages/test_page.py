"""Templates: what they are given is escaped, what they lack is an error, and they are installed with the package."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from jinja2 import UndefinedError

import ripple_place
from ripple_place.pages.page import Figure, Table, environment, render
from ripple_place.pages.svg import NARROW, WIDE, Picture, label

PACKAGE = Path(ripple_place.__file__).parent
TEMPLATES = sorted((PACKAGE / "pages" / "templates").iterdir())
HOSTILE = """<script>'"&"""


def filled(body: str, **values: object) -> str:
    """Return what a body makes of values."""
    return environment().from_string('{% import "parts.html" as parts %}\n' + body).render(values)


def picture(width: float) -> Picture:
    """Return a picture that says its width."""
    return Picture(width, 10, "a < b", (label(0, 8, f"{width:g} pixels"),))


@pytest.mark.parametrize(
    ("body", "html"),
    [
        ("{{ text }}", "&lt;script&gt;&#x27;&quot;&amp;"),
        ("{{ parts.warnings([text]) }}", '<p class="warning"><b>Warning.</b> &lt;script&gt;&#x27;&quot;&amp;</p>\n'),
        ("{{ parts.warnings([]) }}", ""),
        ("{{ parts.bullets([text, 1]) }}", "<ul><li>&lt;script&gt;&#x27;&quot;&amp;</li><li>1</li></ul>\n"),
        ("{{ parts.made_by(text) }}", "<h2>Made by</h2>\n<pre>&lt;script&gt;&#x27;&quot;&amp;</pre>\n"),
        ("{{ parts.paragraph(text) }}", "<p>&lt;script&gt;&#x27;&quot;&amp;</p>\n"),
        ("{{ [text, text] | join(', ') }}", "&lt;script&gt;&#x27;&quot;&amp;, &lt;script&gt;&#x27;&quot;&amp;"),
        (
            "{% call parts.paragraph() %}\nof <b>{{ text }}</b>,\non two lines\n{% endcall %}",
            "<p>of <b>&lt;script&gt;&#x27;&quot;&amp;</b>, on two lines</p>\n",
        ),
    ],
)
def test_texts_are_escaped_once(body: str, html: str) -> None:
    """In every part; the tags of the templates stay tags."""
    assert filled(body, text=HOSTILE) == html


def test_a_table_with_a_caption() -> None:
    """The first column names the rows; every cell is escaped; all on one line, below its caption."""
    html = filled("{% call parts.table(t) %}\nof {{ x }}\n{% endcall %}", t=Table(["", "<a>"], [["r", "&"]]), x="<x>")
    assert html == (
        '<p>of &lt;x&gt;</p>\n<div class="scroll"><table><thead><tr><th scope="col"></th><th scope="col">&lt;a&gt;</th>'
        '</tr></thead><tbody><tr><th scope="row">r</th><td>&amp;</td></tr></tbody></table></div>\n'
    )


def test_rows_of_a_table_are_as_long_as_its_head() -> None:
    """A cell too many or too few would stand in the wrong column."""
    with pytest.raises(AssertionError, match="as many cells as its head"):
        Table(["", "a"], [["r", "1"], ["s"]])


def test_a_figure_is_drawn_at_both_widths() -> None:
    """The picture is ours and goes in as it is, once for each width; a caption goes above it."""
    html = filled("{% call parts.figure(figure) %}\nsaid\n{% endcall %}", figure=Figure.drawn(picture))
    assert html.startswith('<p>said</p>\n<svg class="wide" viewBox="0 0 720 10"')
    assert html.count("<svg") == html.count("</svg>") == 2
    assert f">{WIDE} pixels</text>" in html
    assert f">{NARROW} pixels</text>" in html
    assert html.count("<title>a &lt; b</title>") == 2
    assert filled("{{ parts.figure(figure) }}", figure=Figure.drawn(picture)) == html.removeprefix("<p>said</p>\n")


def test_pictures_side_by_side() -> None:
    """In one frame, in order."""
    html = filled("{{ parts.side_by_side(pictures) }}", pictures=[picture(1), picture(2)])
    assert html.startswith('<div class="pair"><svg class="map" viewBox="0 0 1 10"')
    assert html.endswith("</svg></div>\n")
    assert html.index("1 pixels") < html.index("2 pixels")


@pytest.mark.parametrize("body", ["{{ missing }}", "{% if missing %}{% endif %}", "{{ parts.bullets(missing) }}"])
def test_a_missing_value_is_an_error(body: str) -> None:
    """A page with a hole in it is not written."""
    with pytest.raises(UndefinedError, match="'missing' is undefined"):
        filled(body)


def test_a_page_without_its_values_is_an_error() -> None:
    """The same, of a template of ours."""
    with pytest.raises(UndefinedError, match="'report' is undefined"):
        render("simulation.html")


def test_every_template_is_installed() -> None:
    """What lies in ``templates/`` is package data, and compiles."""
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    installed = {path for pattern in settings["package-data"]["ripple_place"] for path in PACKAGE.glob(pattern)}
    assert set(TEMPLATES) <= installed
    assert [path.name for path in TEMPLATES] == environment().list_templates()
    for path in TEMPLATES:
        environment().get_template(path.name)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_templates_load_nothing_and_escape_everything(path: Path) -> None:
    """No address, script, image or style sheet is named in any of them, and nothing goes around escaping."""
    source = path.read_text(encoding="utf-8")
    assert not any(text in source for text in ("http", "src=", "href=", "url(", "<script", "@import"))
    assert not re.search(r"\|\s*safe\b|autoescape", source)
