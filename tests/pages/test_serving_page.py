"""The page of a simulation of experts: it says what the table says, and draws hits and times against slots."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ripple_place.errors import UsageError
from ripple_place.experts.budget import ExpertSlots
from ripple_place.experts.prefetch import Prefetch
from ripple_place.experts.score import score_experts
from ripple_place.experts.serve_params import ServeParams
from ripple_place.experts.slot_curves import COMPARED, slot_curves
from ripple_place.trace.activation_trace import PREFILL
from ripple_place.units import format_time_us
from ripple_place.workflows.simulate_experts import ExpertFiles, simulate_experts
from tests.experts.builders import routed
from tests.pages.parsing import Balanced, texts

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.trace.activation_trace import ActivationTrace

SIZES = (3 << 20, 2 << 20)
LAYERS = [[[t % 8, (t * t + 1) % 8] for t in range(84)], [[t * 3 % 8] for t in range(84)]]
ROUTES = routed(LAYERS, [PREFILL] * 4 + [1] * 80, unit_bytes=SIZES)
PROMPT = routed([[[0], [1]]], [PREFILL] * 2, unit_bytes=SIZES[:1])
PARAMS = ServeParams("ufs4-oneplus15r", dram_budget=ExpertSlots(3), bound=True, compute_us_per_token=1e5)


def page_of(trace: ActivationTrace, path: Path, params: ServeParams, sweep: tuple[str, tuple[str, ...]] | None = None):
    """Return the page of a simulation, and its document; the page is well-formed and loads nothing."""
    report = simulate_experts(trace, params, sweep, names=["<routes>"], files=ExpertFiles(path / "page.html"))
    page = (path / "page.html").read_text()
    parser = Balanced()
    parser.feed(page)
    assert (parser.open, parser.loads) == ([], [])
    return page, report.to_json()


def test_the_page_says_what_the_document_says(tmp_path: Path) -> None:
    """Scores, prompts, a sweep and layers; names are escaped."""
    page, document = page_of(ROUTES, tmp_path, PARAMS, ("cache", ("lru", "s3fifo")))
    row = document["layouts"][1]
    for text in (
        "Experts of &lt;routes&gt; from flash", "80 generated tokens after 4 of prompts, 2 layers with experts",
        "DRAM: lru cache of 15 MiB, divided among the layers.", format_time_us(row["token_time_us_per_token"]),
        f"{row['cache_hit_ratio_belady']:.1%}", format_time_us(row["prefill"]["flash_time_us"]),
        "Flash time by cache", "Time against slots", "computing included", "counted on the same routes", "layers.1",
    ):  # fmt: skip
        assert text in page, text
    assert "Reading ahead" not in page


def test_without_what_is_not_known(tmp_path: Path) -> None:
    """No time to compute, no DRAM, no prompts: no rows and sections of them."""
    decoded = routed(LAYERS, unit_bytes=SIZES)
    page, _ = page_of(decoded, tmp_path, ServeParams("ufs4-oneplus15r", prefetch=Prefetch("previous")))
    assert "Nothing is kept in DRAM." in page
    assert "Reading ahead" in page
    assert "Flash time against slots" in page
    for text in ("Token time", "Prompts", "Flash time by"):
        assert text not in page, text


def test_prompts_alone(tmp_path: Path) -> None:
    """No token was generated: no curves on the page, and no picture to write."""
    page, document = page_of(PROMPT, tmp_path, ServeParams("ufs4-oneplus15r"))
    assert "against slots" not in page
    assert format_time_us(document["layouts"][0]["prefill"]["flash_time_us"]) in page
    files = ExpertFiles(svg=tmp_path / "hits.svg", html=tmp_path / "other.html")
    with pytest.raises(UsageError, match="found prompts alone"):
        simulate_experts(PROMPT, ServeParams("ufs4-oneplus15r"), files=files)
    assert {path.name for path in tmp_path.iterdir()} == {"page.html"}


def test_the_picture(tmp_path: Path) -> None:
    """Policies are named, and the axes say what they are."""
    simulate_experts(ROUTES, PARAMS, files=ExpertFiles(svg=tmp_path / "hits.svg"))
    found = texts((tmp_path / "hits.svg").read_text())
    assert {*COMPARED, "experts of a layer in DRAM", "found in DRAM", "100%", "1", "8"} <= {*found}


def test_curves_are_those_of_simulations() -> None:
    """Every point is what a simulation with that policy and room says; the policy that was asked for is among them."""
    scores = score_experts(ROUTES, ServeParams("ufs4-oneplus15r", dram_budget=ExpertSlots(3), cache="sieve"))
    curves = slot_curves(ROUTES, scores)
    assert curves is not None
    assert curves.slots == (1, 2, 3, 4, 6, 8)
    assert list(curves.hit_ratio) == [*COMPARED, "sieve"]
    assert not curves.has_compute
    assert curves.hit_ratio["sieve"][2] == scores.to_json()["layouts"][0]["cache_hit_ratio_by_phase"]["decode"]
    assert curves.time_us["sieve"][2] == scores.to_json()["layouts"][0]["flash_time_us_per_token"]
    for policy in ("lru", "s3fifo", "sieve"):
        assert all(map(float.__le__, curves.hit_ratio[policy], curves.hit_ratio["belady"])), policy
    assert list(curves.hit_ratio["lru"]) == sorted(curves.hit_ratio["lru"])


def test_files_are_checked_first(tmp_path: Path) -> None:
    """Nothing that is there is overwritten, no input is, and the two are apart."""
    (tmp_path / "there").write_text("")
    for files, match in (
        (ExpertFiles(tmp_path / "there"), "force"),
        (ExpertFiles(tmp_path / "one", tmp_path / "one"), "one"),
        (ExpertFiles(tmp_path / "in", force=True, inputs=(tmp_path / "in",)), "in"),
    ):
        with pytest.raises(UsageError, match=match):
            simulate_experts(ROUTES, PARAMS, files=files)
    assert {path.name for path in tmp_path.iterdir()} == {"there"}
    simulate_experts(ROUTES, PARAMS, files=ExpertFiles(tmp_path / "there", force=True))
    assert (tmp_path / "there").read_text().startswith("<!")
