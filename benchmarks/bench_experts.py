"""What serving experts from flash costs, on routes that were recorded on a phone; and mbolt's reads, predicted.

    RIPPLE_PLACE_DATA=... python -m benchmarks.bench_experts

*Routes*: three mixtures on a OnePlus 15R (`expert-routes/*.route.csv`), at 2, 4 and 8 GB of DRAM in one pool, under
every policy and the bound: hits of generated tokens, and tokens a second from the published times to compute. Where
the engine's own budget is simulated, the first table compares with its speed.

*mbolt*: reads a token of Qwen3-30B-A3B and Qwen3-Next-80B in checkpoint order, in its order, and packed in that order,
from the counts that it published (`expert-routes/mbolt`). They have no routes, so that only means follow: a token that
uses k experts of a layer makes k reads, less one for each pair of neighbours on flash that it uses both of, which is
exact where the count of the pair is listed. Other pairs (fewer than 5 tokens, a lift below 1.5, or beyond the 2000 most
frequent of a layer) are taken as independent. Its order was made from the first 80 % of the trace that the counts are
of; its own figures are of the last 20 %. Hits in a cache, and times by token, cannot be had from counts. The factor of
I/O depends on the time of a read times the bandwidth: 2.23x takes 1.2 MB.
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.timing import data_folder
from ripple_place.cli.rendering import format_table
from ripple_place.experts.caches import POLICIES
from ripple_place.experts.score import score_experts
from ripple_place.experts.serve_params import ServeParams
from tests.experts.routes import read_routes

if TYPE_CHECKING:
    from pathlib import Path

DEVICE = "ufs4-oneplus15r"
PUBLISHED = {
    "qwen": (4000 << 20, 0.749, 114e3, 5.66), "gemma": (4000 << 20, 0.768, 133e3, 4.97),
    "gptoss": (3000 << 20, 0.324, 1.705e6, 0.50),
}  # fmt: skip
"""Engine's budget in bytes, cumulative hits, time to compute a token in us, tokens a second."""
BUDGETS = (2 * 10**9, 4 * 10**9, 8 * 10**9)
MBOLT = {"qwen3-30b-a3b": (None, None, 258.3), "qwen3-next-80b-a3b": (1418.0, 1097.0, 370.0)}
"""Published reads a token: checkpoint order, by order, by order and packing."""
LINES = ((100.0, 6e9), (73.0, 11.3e9))
"""Time and bandwidth of a read: what mbolt says of its laptop, and its fit over 88 points."""


def routes(folder: Path) -> None:
    """Print the published figures beside the simulated ones, then all policies."""
    traces = {name: read_routes(folder / f"{name}.route.csv").trace for name in PUBLISHED}

    def simulated(name: str, budget: int, policy: str) -> dict[str, Any]:
        params = ServeParams(
            device=DEVICE, dram_budget=budget, dram_pool=True, cache=policy, compute_us_per_token=PUBLISHED[name][2]
        )
        return score_experts(traces[name], params).to_json()

    rows = []
    for name, (budget, hits, _, speed) in PUBLISHED.items():
        original, packed = simulated(name, budget, "lru")["layouts"]
        rows.append(
            [name, f"{original['cache_hit_ratio']:.1%}", f"{hits:.1%}", f"{original['tokens_per_s']:.2f}",
             f"{packed['tokens_per_s']:.2f}", f"{speed:.2f}"]
        )  # fmt: skip
    print(format_table(["lru, as the engine", "hits", "published", "tokens/s", "packed", "published"], rows))
    for name in traces:
        rows = []
        for policy in POLICIES:
            cells = [policy]
            for budget in BUDGETS:
                original, packed = simulated(name, budget, policy)["layouts"]
                hits = original["cache_hit_ratio_by_phase"]["decode"]
                cells += [f"{hits:.1%}", f"{original['tokens_per_s']:.2f}", f"{packed['tokens_per_s']:.2f}"]
            rows.append(cells)
        headers = [text for budget in BUDGETS for text in (f"{budget / 1e9:g} GB hits", "tok/s", "packed")]
        print("\n" + format_table([f"{name} on {DEVICE}", *headers], rows))


def neighbours_per_token(layer: dict[str, Any], n_tokens: int, order: list[int]) -> float:
    """Return how many pairs of neighbours in an order a token uses in a layer, by the counts that are known."""
    known = {frozenset(pair[:2]): pair[2] for pair in layer["pairs"]}
    heat = np.array(layer["heat"], float)
    counts = (known.get(frozenset(pair), heat[pair[0]] * heat[pair[1]] / n_tokens) for pair in pairwise(order))
    return float(sum(counts)) / n_tokens


def mbolt(folder: Path) -> None:
    """Print reads a token, as they follow from counts, beside what was published."""
    rows = []
    entries = json.loads((folder / "readahead_efficiency.json").read_text())
    measured = {entry["model"]: entry for entry in entries}
    for name, published in MBOLT.items():
        counts = json.loads((folder / f"coactivation_{name}.json").read_text())
        n_tokens, k, layers = counts["n_decode_tokens"], counts["k"], counts["layers"]
        in_file = list(range(counts["n_expert_per_layer"]))
        stock = sum(k - neighbours_per_token(layer, n_tokens, in_file) for layer in layers)
        ordered = sum(k - neighbours_per_token(layer, n_tokens, layer["chain_order"]) for layer in layers)
        replayed = {row["layout"]: row["reads_per_token"] for row in reversed(measured[name]["rows"])}
        expected = {
            "pieces": 3.0 * k * len(layers), "checkpoint order": 3 * stock, "its order": 3 * ordered,
            "packed alone": stock, "its order, packed": ordered,
        }  # fmt: skip
        told = {
            "checkpoint order": (published[0], replayed["stock"]), "its order": (published[1], None),
            "its order, packed": (published[2], replayed["interleave+chain"]),
        }  # fmt: skip
        for what, reads in expected.items():
            figures = ["-" if figure is None else f"{figure:,.0f}" for figure in told.get(what, (None, None))]
            rows.append([f"{name}, {what}", f"{reads:,.0f}", *figures])
        n_bytes = k * len(layers) * measured[name]["expert_bytes_kib"] * 1024
        for read_us, bytes_per_s in LINES:
            before, after = (n * read_us + n_bytes / bytes_per_s * 1e6 for n in (3 * stock, ordered))
            line = f"{read_us:g} us and {bytes_per_s / 1e9:g} GB/s"
            rows.append([f"{name}, I/O at {line}", f"{before / after:.2f}x", "2.23x" if "next" in name else "-", "-"])
    print("\n" + format_table(["reads a token", "expected", "published", "its replay"], rows))


def main() -> None:
    """Print everything that the data allows."""
    if folder := data_folder():
        routes(folder / "expert-routes")
        mbolt(folder / "expert-routes" / "mbolt")


if __name__ == "__main__":
    main()
