"""A small model for comparisons of systems: what it does on two texts, its profile, and what systems cost on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.system_params import SystemParams
from ripple_place.scoring.systems import SystemScores, score_systems
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from tests.trace_builders import write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

N_TOKENS, N_NEURONS, BUNDLE_BYTES = 90, 96, 12288
LAYERS = ("layers.0", "layers.1")


class Texts(NamedTuple):
    """A profile of one text, and what fires on another."""

    profile: Path
    trace: Path
    active: dict[str, np.ndarray]


def write_texts(folder: Path) -> Texts:
    """Write a trace and a profile; some neurons fire often, and clusters of scattered ones fire together."""
    rng = np.random.default_rng(5)
    cluster_of = {name: rng.permutation(np.repeat(np.arange(12), N_NEURONS // 12)) for name in LAYERS}

    def draw(n_tokens: int) -> dict[str, np.ndarray]:
        rates = np.minimum(0.95, 3.0 / np.arange(1, 13))
        return {
            name: (rng.random((n_tokens, 12)) < rates)[:, of] & (rng.random((n_tokens, N_NEURONS)) < 0.8)
            for name, of in cluster_of.items()
        }

    learned, active = draw(200), draw(N_TOKENS)
    path = folder / "p.profile"
    profile(write_stock_trace(folder / "train", learned), path, ProfileParams(verdict=None))
    tensors = {"segment_starts": np.array([0, 40], np.int64)}
    return Texts(path, write_stock_trace(folder / "test.trace", active, tensors=tensors), active)


def compare(
    texts: Texts, *systems: str, trace: Path | None = None, profiles: tuple[Path, ...] | None = None, **simulate: Any
) -> SystemScores:
    """Return what systems cost, with half of the neurons in DRAM unless otherwise told."""
    settings = {"bundle_bytes": BUNDLE_BYTES, "dram_budget": 0.5, "n_threads": 1, **simulate}
    profiles = (texts.profile,) if profiles is None else profiles
    params = SystemParams(tuple(systems), SimulateParams(**settings), profiles, effort=1)
    return score_systems([trace or texts.trace], params)


def entries(scores: SystemScores) -> dict[str, dict[str, Any]]:
    """Return the entries of the document by system."""
    return {entry["system"]: entry for entry in scores.to_json()["layouts"]}


def costs(entry: dict[str, Any]) -> dict[str, Any]:
    """Return what an entry of systems, or of layouts, says of flash: all but names, speedups and gates."""
    left_out = ("name", "label", "speedup", "token_speedup", "system", "knobs", "policy", "lossless", "knows",
                "predictor_bytes", "tokens_per_s", "dram_bytes", "blocks", "gate")  # fmt: skip
    blocks = {
        name: {key: value for key, value in block.items() if key not in left_out}
        for name, block in entry["blocks"].items()
    }
    time_keys = ("compute_us_per_token", "token_time_us_per_token", "token_time_us_percentiles", "pipeline")
    return {key: value for key, value in entry.items() if key not in (*left_out, *time_keys)} | {"blocks": blocks}
