"""The page of a profile: self-contained, with every picture, escaped names, and the verdict's own numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.pages.profile_page import frequency_curve
from ripple_place.verdict.judge import VerdictParams
from ripple_place.verdict.sentences import sentences
from ripple_place.workflows.profile import ProfileReport, profile
from ripple_place.workflows.profile_params import ProfileParams
from tests.pages.parsing import Balanced
from tests.trace_builders import planted_clusters, random_activity, write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path


def page_of(
    tmp_path: Path, blocks: dict[str, np.ndarray], *, name: str = "t", **params: int
) -> tuple[str, ProfileReport]:
    """Return the page on some activity, and the report behind it."""
    source = write_stock_trace(tmp_path / name, blocks)
    charge, html = VerdictParams(**params), tmp_path / "page.html"
    report = profile(source, tmp_path / "p", ProfileParams(verdict=charge, html=html, command="profile <b> & c"))
    return (tmp_path / "page.html").read_text(encoding="utf-8"), report


def clustered(seed: int, n_rows: int = 600) -> np.ndarray:
    """Return activity in which neurons fire in clusters."""
    return planted_clusters(np.random.default_rng(seed), n_clusters=8, cluster_size=10, n_rows=n_rows)[0]


def test_the_page_has_every_picture_and_the_verdict(tmp_path: Path) -> None:
    """Verdict, tables, curve, two maps and a histogram for each block; warnings; nothing loaded from elsewhere."""
    page, report = page_of(tmp_path, {f"layers.{layer}": clustered(layer) for layer in range(2)}, bundle_bytes=4096)
    parser = Balanced()
    parser.feed(page)
    assert parser.open == parser.loads == []
    assert report.verdict is not None
    assert "<script" not in page
    assert "prefers-color-scheme:dark" in page
    for sentence in sentences(report.verdict):
        assert sentence in page
    assert page.count("Co-activation of slots, original order") == 2
    assert page.count("Co-activation of slots, greedy order") == 2
    assert page.count("Neurons read per token by the length of the read") == 4  # both widths
    assert page.count("<title>Share of activations by the hottest share of neurons</title>") == 2
    assert page.count("Warning.</b> the trace has 600 tokens") == 1
    for title in ("Verdict", "What more text brings", "What is left as more neurons are active", "Blocks"):
        assert f"<h2>{title}</h2>" in page
    assert "Drawn are" not in page


def test_names_are_escaped(tmp_path: Path) -> None:
    """File names and the command are text, whatever is in them."""
    page, _ = page_of(tmp_path, {"layers.0": clustered(0)}, name="<i>&t")
    assert "<i>" not in page
    assert "Profile of &lt;i&gt;&amp;t" in page
    assert "profile &lt;b&gt; &amp; c" in page


def test_the_blocks_most_worth_it_are_drawn(tmp_path: Path) -> None:
    """Of many, the four where greedy order saves most, in model order; the page says so."""
    blocks = {f"layers.{layer}": random_activity(np.random.default_rng(layer), 600, 80, 0.1) for layer in range(9)}
    blocks |= {f"layers.{layer}": clustered(layer) for layer in (1, 3, 4, 8)}
    page, _ = page_of(tmp_path, blocks)
    assert "Drawn are layers.1, layers.3, layers.4, layers.8: of the blocks that were judged, those" in page
    assert page.count("Co-activation of slots, greedy order") == 4
    assert "<li>layers.0: placement gains" in page


@pytest.mark.parametrize("active", [np.zeros((300, 20)), np.ones((300, 20)), np.eye(20)])
def test_pages_of_degenerate_blocks(tmp_path: Path, active: np.ndarray) -> None:
    """Nothing fires, everything does, or there are too few tokens: a page all the same, that says so."""
    page, _ = page_of(tmp_path, {"layers.0": active})
    assert "<li>layers.0: p" in page
    assert "too short to tell" in page


def test_a_page_needs_a_verdict(tmp_path: Path, trace_path: Path) -> None:
    """Refused before any work; so is an existing page, and one in the place of another output."""
    with pytest.raises(UsageError, match="--html: found no verdict to show"):
        profile([trace_path], tmp_path / "p", ProfileParams(verdict=None, html=tmp_path / "page.html"))
    (tmp_path / "old").write_text("old")
    with pytest.raises(UsageError, match="old: found a file; expected a new name"):
        profile([trace_path], tmp_path / "p", ProfileParams(html=tmp_path / "old"))
    with pytest.raises(UsageError, match="found another file of this command"):
        profile([trace_path], tmp_path / "p", ProfileParams(html=tmp_path / "p"))
    assert not (tmp_path / "p").exists()


def test_the_frequency_curve() -> None:
    """From nothing to everything, never falling, above the diagonal; flat where nothing fires."""
    curve = frequency_curve(np.random.default_rng(0).integers(0, 100, 500))
    shares, made = zip(*curve, strict=True)
    assert (curve[0], curve[-1]) == ((0.0, 0.0), (1.0, 1.0))
    assert list(made) == sorted(made)
    assert all(y >= x for x, y in zip(shares, made, strict=True))
    assert {y for _, y in frequency_curve(np.zeros(9, np.int64))} == {0.0}
