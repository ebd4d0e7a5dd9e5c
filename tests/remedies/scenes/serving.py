"""Experts that are served from flash."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.experts.accesses import list_accesses
from ripple_place.experts.budget import ExpertSlots, capacities
from ripple_place.experts.caches import CacheInput, replay
from ripple_place.experts.prefetch import Prefetch
from ripple_place.experts.score import score_experts
from ripple_place.experts.serve_params import ServeParams
from ripple_place.flash.device.conditions import ReadConditions
from ripple_place.trace.files import write_trace
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.simulate_experts import ExpertFiles, simulate_experts
from tests.experts.builders import routed
from tests.flash.builders import block_trace, trace_of
from tests.remedies.bench import placement_at, profile_at
from tests.remedies.cases import case, instead, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.remedies.cases import Attempts

_PARAMS, _SCORE = "experts/serve_params.py:ServeParams", "experts/score.py"
_ROUTES = routed([[[0, 1], [1, 2]] * 8, [[4], [5]] * 8], unit_bytes=(4096, 4096))
_UNSIZED = replace(_ROUTES, metadata={"unit": "expert"})


def _replay(policy: str) -> None:
    one = np.ones(1, np.int64)
    replay(policy, CacheInput(np.zeros(1, np.int32), one, one.astype(np.uint8), 1, one, one.astype(float)))


def params_otherwise(words: str, story: str, bad: dict[str, Any], *good: dict[str, Any], where: str = "") -> None:
    """List a case of parameters that are refused, and of those to give instead."""
    instead(
        f"{_PARAMS}.{where or '__post_init__'}", words, story, lambda: ServeParams(**bad),
        *(partial(ServeParams, **params) for params in good),
    )  # fmt: skip


instead(
    "experts/accesses.py:check_experts", "", "blocks of neurons: a trace of routes",
    lambda: list_accesses(trace_of({"layers.0": block_trace(np.eye(8, dtype=bool))}, 8)),
    lambda: list_accesses(_ROUTES),
)  # fmt: skip
instead(
    "experts/caches.py:replay", "", "a policy of experts that is not known: one that is", lambda: _replay("arc"),
    lambda: _replay("lru"),
)  # fmt: skip
instead(
    "experts/budget.py:capacities", "", "caches too small for an expert: room for 8 of each layer, or one pool",
    lambda: capacities(12, [9, 9], [10, 10], is_pool=False),
    lambda: capacities(ExpertSlots(8), [9, 9], [10, 10], is_pool=False),
    lambda: capacities(12, [9, 9], [10, 10], is_pool=True),
)  # fmt: skip
instead(
    "experts/prefetch.py:Prefetch.parse", "", "what is to be read ahead: one of the two kinds",
    lambda: Prefetch.parse("hottest"), lambda: Prefetch.parse("previous"), lambda: Prefetch.parse("hottest:8"),
)  # fmt: skip
params_otherwise(
    "--prefill-chunk", "no token at once: 512, or the whole prompt", {"prefill_chunk": 0}, {"prefill_chunk": 512}, {}
)
params_otherwise(
    "--prefill-compute-us-per-token", "a negative time: one that is none", {"prefill_compute_us_per_token": -1.0},
    {"prefill_compute_us_per_token": 9000.0}, where="_check_times",
)  # fmt: skip
params_otherwise(
    "write 0.2", "a budget that is none: a share, bytes, or experts", {"dram_budget": 20.0}, {"dram_budget": 0.2},
    {"dram_budget": 4000 * 2**20}, {"dram_budget": ExpertSlots(16)},
)  # fmt: skip
params_otherwise(
    "no policy of experts", "a policy that is not known: one that is", {"cache": "arc", "dram_budget": 0.2},
    {"cache": "lru", "dram_budget": 0.2},
)  # fmt: skip
params_otherwise(
    "no DRAM for experts", "a cache without room: with a budget", {"cache": "lru"},
    {"cache": "lru", "dram_budget": 4000 * 2**20}, {"cache": "lru", "dram_budget": ExpertSlots(16)},
)  # fmt: skip
params_otherwise(
    "name each once", "a layout twice: once", {"layouts": ("packed", "packed")}, {"layouts": ("packed",)},
)  # fmt: skip
params_otherwise(
    "the bytes of one expert", "an expert of no bytes: of 3 MiB", {"expert_bytes": 0}, {"expert_bytes": 3 * 2**20},
)  # fmt: skip
params_otherwise(
    "--access mmap", "page faults of experts: requests", {"conditions": ReadConditions(access="mmap")}, {},
)  # fmt: skip
params_otherwise(
    "one time of at least 0", "times of a layer and of a token: one of them",
    {"compute_us_per_token": 9.0, "compute_us_per_layer": 1.0}, {"compute_us_per_token": 9.0},
    {"compute_us_per_layer": 1.0}, where="_check_times",
)  # fmt: skip
params_otherwise(
    "--overlap layer --compute-us-per-token", "nothing to overlap with: a time to compute, or no overlap",
    {"overlap": "layer"}, {"overlap": "layer", "compute_us_per_token": 1e5}, {}, where="_check_times",
)  # fmt: skip
params_otherwise(
    "everything is read a layer ahead", "reading ahead of what is read ahead: one of the two",
    {"overlap": "layer", "compute_us_per_token": 1.0, "prefetch": Prefetch("previous")},
    {"overlap": "layer", "compute_us_per_token": 1.0}, {"prefetch": Prefetch("previous")}, where="_check_times",
)  # fmt: skip
instead(
    f"{_SCORE}:_unit_bytes", "", "a trace that does not say how long experts are: their size",
    lambda: score_experts(_UNSIZED, ServeParams()),
    lambda: score_experts(_UNSIZED, ServeParams(expert_bytes=3 * 2**20)),
)  # fmt: skip
instead(
    f"{_SCORE}:_request_bytes", "", "requests of no whole pages: of a size that the device has, or any",
    lambda: score_experts(_ROUTES, ServeParams(request_bytes=5000)),
    lambda: score_experts(_ROUTES, ServeParams(request_bytes=524288)), lambda: score_experts(_ROUTES, ServeParams()),
)  # fmt: skip
instead(
    "workflows/simulate_experts.py:_settings", "", "a sweep of what experts do not have: of caches",
    lambda: simulate_experts(_ROUTES, ServeParams(dram_budget=0.5), ("collapse", ("off",))),
    lambda: simulate_experts(_ROUTES, ServeParams(dram_budget=0.5), ("cache", ("lru", "s3fifo"))),
)  # fmt: skip


@case(f"{_SCORE}:_frequency")
def other_counts(folder: Path) -> Attempts:
    """A profile of neurons for routes of experts: one of routes of the same model."""
    other = profile_at(folder / "other")
    write_trace(folder / "routes", _ROUTES)
    profile([folder / "routes"], folder / "same", ProfileParams(verdict=None))
    yield lambda: score_experts(_ROUTES, ServeParams(profile=other))
    yield lambda: score_experts(_ROUTES, ServeParams(profile=folder / "same"))


@case("experts/layouts.py:read_expert_layout", "or check the path")
def no_such_layout(folder: Path) -> Attempts:
    """A layout that is not there: one of the two names, or a path that is right."""
    yield lambda: score_experts(_ROUTES, ServeParams(layouts=(str(folder / "order"),)))
    yield lambda: score_experts(_ROUTES, ServeParams(layouts=("packed",)))
    placement_at(folder / "order", n_neurons=8, unit="expert")
    yield lambda: score_experts(_ROUTES, ServeParams(layouts=(str(folder / "order"),)))


@case("experts/layouts.py:read_expert_layout", "made from these routes")
def other_placement(folder: Path) -> Attempts:
    """A placement of other experts: one of these, or packed by number."""
    other, same = placement_at(folder / "other", unit="expert"), placement_at(folder / "s", n_neurons=8, unit="expert")
    yield lambda: score_experts(_ROUTES, ServeParams(layouts=(str(other),)))
    yield lambda: score_experts(_ROUTES, ServeParams(layouts=(str(same),)))
    yield lambda: score_experts(_ROUTES, ServeParams(layouts=("packed",)))


def options_otherwise(where: str, words: str, story: str, bad: str, *good: str) -> None:
    """List a case of options of simulate that are refused for routes, and of those to give instead."""

    @case(f"cli/expert_options.py:{where}", words, story)
    def scene(folder: Path) -> Attempts:
        write_trace(folder / "routes", _ROUTES)
        for options in (bad, *good):
            yield partial(run, "simulate", folder / "routes", *options.split())


options_otherwise(
    "run_experts", "", "a budget of placements: of bytes", "--dram-budget placement", "--dram-budget 4000MiB",
)  # fmt: skip
options_otherwise("_refuse_given", "", "rules for experts: none", "--select exact", "--json")


@case("workflows/simulate_experts.py:_draw")
def a_picture_of_prompts(folder: Path) -> Attempts:
    """A picture of what generated tokens find, and prompts alone: without, or a trace that has some."""
    prompts = replace(_ROUTES, phases=np.zeros(16, np.uint8))
    params = ServeParams(dram_budget=0.5)
    files = ExpertFiles(svg=folder / "hits.svg")
    yield lambda: simulate_experts(prompts, params, files=files)
    yield lambda: simulate_experts(prompts, params)
    yield lambda: simulate_experts(_ROUTES, params, files=files)
