"""The helpers that write SVG."""

from __future__ import annotations

from ripple_place.pages.svg import boxes, label


def test_helpers_by_hand() -> None:
    """Boxes of equal height are one path, no boxes are nothing, and texts are escaped."""
    assert boxes([(0.0, 2.0), (5.0, 0.5)], 1, 3, fill="red") == '<path d="M0 1h2v3h-2zM5 1h0.5v3h-0.5z" fill="red"/>'
    assert boxes([], 1, 3) == ""
    assert label(1, 2, "a<b", size=9) == '<text x="1" y="2" font-size="9" fill="var(--ink)">a&lt;b</text>'
