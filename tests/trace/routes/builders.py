"""Small sound files of routes, one in each form, all of the same mixture."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ROUTES = [
    # Turn, phase, token, layer, experts by descending weight.
    (0, 0, 0, 0, [3, 1]), (0, 0, 0, 1, [0, 2]), (0, 0, 1, 0, [1, 4]), (0, 0, 1, 1, [2, 5]),
    (0, 0, 2, 0, [5, 0]), (0, 0, 2, 1, [4, 3]), (0, 0, 2, 3, [1, 2]),
    (0, 1, 3, 0, [2, 3]), (0, 1, 3, 1, [1, 0]), (0, 1, 3, 3, [5, 4]),
    (0, 1, 4, 0, [3, 1]), (0, 1, 4, 1, [0, 2]), (0, 1, 4, 3, [2, 0]),
    (1, 0, 0, 0, [1, 0]), (1, 0, 0, 1, [3, 2]), (1, 0, 1, 0, [4, 2]), (1, 0, 1, 1, [2, 1]), (1, 0, 1, 3, [0, 4]),
    (1, 1, 2, 0, [5, 1]), (1, 1, 2, 1, [0, 3]), (1, 1, 2, 3, [4, 1]),
]  # fmt: skip
"""Layers 0, 1 and 3 of a model with six experts, of which two are used; the last layer of a prompt, of one token."""
N_TOKENS = 8
BYTES = {"layers.0": 3000, "layers.1": 2500, "layers.3": 3000}
WEIGHTS = (0.75, 0.25)


def route_trace() -> str:
    """Return the routes in BigMoeOnEdge's form."""
    lines = ["# route_trace v1", "# model=/data/a b/tiny.gguf arch=tiny n_layer=4 n_expert=6 n_expert_used=2"]
    lines += [f"# layer={name[7:]} expert_bytes={size} dense_bytes=77" for name, size in BYTES.items()]
    lines.append("turn,phase,step,layer,slot,expert,weight,residency,expert_bytes")
    lines += [
        f"{turn},{phase},{token},{layer},{slot},{expert},{WEIGHTS[slot]},0,0"
        for turn, phase, token, layer, experts in ROUTES
        for slot, expert in enumerate(experts)
    ]
    return "\n".join(lines) + "\n"


def moe_trace() -> str:
    """Return the routes in llama.cpp's form: prompts layer by layer, the rest token by token."""
    order = sorted(ROUTES, key=lambda row: (row[0], row[1], row[1] * row[2], row[3], row[2]))
    return "layer,expert\n" + "".join(f"{layer},{expert}\n" for *_, layer, experts in order for expert in experts)


def json_lines() -> str:
    """Return the routes as JSON lines, one for each token and layer, under a line about the model."""
    lines = [json.dumps({"model": "tiny.gguf", "n_experts": 6, "unit_bytes": BYTES})]
    lines += [
        json.dumps({
            "turn": turn, "token": token, "layer": layer, "experts": experts, "weights": list(WEIGHTS),
            "phase": ("prefill", "decode")[phase],
        })
        for turn, phase, token, layer, experts in ROUTES
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def coactivation() -> dict[str, object]:
    """Return a table in mbolt's form."""
    layers = [
        {"layer": 0, "heat": [9, 5, 7, 0], "pairs": [[0, 2, 6, 1.5], [1, 0, 4, 2.0]], "clusters": [[0, 1]]},
        {"layer": 2, "heat": [1, 2, 3, 4], "pairs": []},
    ]
    return {"model": "tiny", "n_layers": 2, "n_expert_per_layer": 4, "n_decode_tokens": 10, "k": 2, "layers": layers}


def write_routes(folder: Path) -> None:
    """Write a file in each form."""
    (folder / "a.route.csv").write_text(route_trace())
    (folder / "moe.csv").write_text(moe_trace())
    (folder / "routes.jsonl").write_text(json_lines())
    (folder / "mbolt.json").write_text(json.dumps(coactivation()))
