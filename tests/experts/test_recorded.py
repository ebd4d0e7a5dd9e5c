"""Replays against the residency that an engine recorded beside its routes: BigMoeOnEdge, one LRU pool of all layers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from ripple_place.experts.accesses import list_accesses, unit_bytes_of
from ripple_place.experts.score import score_experts
from ripple_place.experts.serve_params import ServeParams
from ripple_place.experts.serving import Memory, Served, serve
from tests.experts.routes import Routes, read_routes

DATA = os.environ.get("RIPPLE_PLACE_DATA")
# As an engine with room for three experts of 10 and 20 bytes writes it: a prompt of two tokens, then three tokens.
EXCERPT = """# route_trace v1
# model=tiny.gguf arch=tiny n_layer=2 n_expert=4 n_expert_used=1
# layer=0 expert_bytes=10 dense_bytes=1
# layer=1 expert_bytes=20 dense_bytes=1
turn,phase,step,layer,slot,expert,weight,residency,expert_bytes
0,0,0,0,0,1,0.9,0,10
0,0,1,0,0,2,0.8,0,10
0,0,0,1,0,3,0.7,0,20
0,0,1,1,0,3,0.7,0,20
0,1,0,0,0,2,0.9,1,0
0,1,0,1,0,3,0.9,1,0
0,1,1,0,0,1,0.9,1,0
0,1,1,1,0,0,0.9,0,20
0,1,2,0,0,1,0.9,1,0
0,1,2,1,0,3,0.9,0,20
"""


def replayed(routes: Routes, capacity_bytes: int) -> tuple[Served, np.ndarray, np.ndarray]:
    """Return what an LRU pool finds, what was recorded, and the bytes of each item."""
    accesses, by_block = list_accesses(routes.trace), unit_bytes_of(routes.trace)
    sizes = np.repeat([by_block[block] for block in accesses.blocks], np.diff(accesses.first_item)).astype(np.int64)
    memory = Memory("lru", (capacity_bytes,), sizes, np.zeros_like(sizes), sizes.astype(float))
    served = serve(accesses, memory, routes.trace.segment_starts)
    once = served.accesses
    experts = once.items - once.first_item[once.layers]
    places = zip(once.tokens.tolist(), once.layers.tolist(), experts.tolist(), strict=True)
    return served, np.array([routes.residency[place] for place in places]), sizes


def test_an_excerpt(tmp_path: Path) -> None:
    """Every access of the form that engines write is found as recorded, with room for 45 bytes."""
    (tmp_path / "tiny.route.csv").write_text(EXCERPT)
    served, recorded, _ = replayed(read_routes(tmp_path / "tiny.route.csv"), 45)
    assert served.is_hit.tolist() == recorded.tolist()
    assert recorded.tolist() == [False, False, False, True, True, True, False, True, False]


@pytest.mark.skipif(DATA is None, reason="RIPPLE_PLACE_DATA names no development data")
@pytest.mark.parametrize(
    ("name", "mib", "agreement", "cumulative", "compute_us", "tokens_per_s"),
    [
        ("qwen", 4000, 0.9998, 0.749, 114e3, 5.66),
        ("gemma", 4000, 0.9996, 0.768, 133e3, 4.97),
        ("gptoss", 3000, 1.0, 0.324, 1.705e6, 0.50),
    ],
)
def test_recorded_on_a_phone(
    name: str, mib: int, agreement: float, cumulative: float, compute_us: float, tokens_per_s: float
) -> None:
    """Residency of decoded accesses, the published hits, and the published speed within 8 %.

    The hits that were published count every expert of a layer once for a whole prompt, as `simulate` does.
    """
    assert DATA is not None
    routes = read_routes(Path(DATA) / "expert-routes" / f"{name}.route.csv")
    served, recorded, _ = replayed(routes, mib << 20)
    is_decode = served.accesses.is_decode
    assert (served.is_hit == recorded)[is_decode].mean() >= agreement
    assert recorded.mean() == pytest.approx(cumulative, abs=0.0005)
    params = ServeParams(
        device="ufs4-oneplus15r", dram_budget=mib << 20, dram_pool=True, compute_us_per_token=compute_us
    )
    document = score_experts(routes.trace, params).to_json()
    for layout in document["layouts"]:
        assert layout["cache_hit_ratio"] == pytest.approx(cumulative, abs=0.001)
        assert layout["tokens_per_s"] == pytest.approx(tokens_per_s, rel=0.08)
