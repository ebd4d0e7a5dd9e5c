"""Systems: each equals what plain options ask for, all have the same DRAM, and what does not fit is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.device.conditions import ReadConditions
from ripple_place.flash.token_time import ComputeParams
from ripple_place.placing.params import PlacingParams
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.score import score
from ripple_place.scoring.system_params import SystemParams
from ripple_place.scoring.systems import score_systems
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import reorder
from tests.scoring.system_runs import BUNDLE_BYTES, LAYERS, N_NEURONS, N_TOKENS, Texts, compare, costs, entries
from tests.scoring.system_runs import write_texts as write_texts_to
from tests.trace_builders import write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

LOSSLESS = ("llama.cpp", "llm-in-a-flash", "neuralink-s", "neuralink", "powerinfer2", "ours")


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Texts:
    """Return a profile of one text, and what fires on another."""
    return write_texts_to(tmp_path_factory.mktemp("systems"))


@pytest.fixture(scope="module")
def all_of_them(texts: Texts) -> dict[str, dict[str, Any]]:
    """Return the entries of all systems that serve neurons."""
    return entries(compare(texts, *LOSSLESS))


def plain(trace: Path, layout: str | Path, **params: Any) -> dict[str, Any]:
    """Return the entry of a layout, by the options of plain simulations."""
    settings = {"bundle_bytes": BUNDLE_BYTES, "dram_budget": 0.5, "n_threads": 1, **params}
    return costs(score([trace], [layout], SimulateParams(**settings)).to_json()["layouts"][0])


def placed(texts: Texts, out: Path, **placing: Any) -> Path:
    """Return a placement made of the profile."""
    params = PlacingParams(bundle_bytes=BUNDLE_BYTES, effort=1, n_threads=1, **placing)
    reorder(None, texts.profile, out, params)
    return out


def test_llama_cpp(texts: Texts, tmp_path: Path, all_of_them: dict[str, dict[str, Any]]) -> None:
    """A trace in which everything fires, in a mapped file, with one LRU pool."""
    ones = {name: np.ones_like(active) for name, active in texts.active.items()}
    everything = write_stock_trace(tmp_path / "ones", ones)
    conditions = ReadConditions(access="mmap")
    expected = plain(everything, "original", cache="lru", dram_pool=True, conditions=conditions)
    assert costs(all_of_them["llama.cpp"]) == expected
    assert expected["active_per_token"] == 2 * N_NEURONS
    assert expected["cache_hit_ratio"] == 0


@pytest.mark.parametrize(
    ("knobs", "params"),
    [
        ("", {"dram_pool": True}),
        (",pool=no", {}),
        (",admission=linking:2;0.5", {"dram_pool": True, "admission": "linking:2,0.5"}),
        (",cache=s3fifo,pool=no", {"cache": "s3fifo"}),
        (",gate-first=full-gate,bundle-form=gates-apart,access=direct",
         {"dram_pool": True, "gap": 0, "gate_first": "full-gate", "bundle_form": "gates-apart"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_everything_is_used(
    texts: Texts, tmp_path: Path, share: float, knobs: str, params: dict[str, Any]
) -> None:  # fmt: skip
    """Whatever the cache, and whether replaying it is spared because it cannot hit: as a trace of ones is served."""
    everything = write_stock_trace(tmp_path / "ones", {name: np.ones((N_TOKENS, N_NEURONS)) for name in LAYERS})
    if "gate_first" not in params:
        params = {**params, "conditions": ReadConditions(access="mmap")}
    expected = plain(everything, "original", **{"cache": "lru", "dram_budget": share, **params})
    system = f"llama.cpp{knobs}"
    assert costs(entries(compare(texts, system, dram_budget=share))[system]) == expected


def test_llama_cpp_that_fits(texts: Texts, tmp_path: Path) -> None:
    """With room for all, the first token reads everything, and no other anything."""
    entry = entries(compare(texts, "llama.cpp", dram_budget=1.0))["llama.cpp"]
    assert entry["cache_hit_ratio"] == pytest.approx(1 - 1 / N_TOKENS)
    assert entry["misses_per_token"] * N_TOKENS == 2 * N_NEURONS


def test_llm_in_a_flash(texts: Texts, all_of_them: dict[str, dict[str, Any]]) -> None:
    """Checkpoint order, LRU in each block, bundles one by one."""
    assert costs(all_of_them["llm-in-a-flash"]) == plain(texts.trace, "original", cache="lru", gap=0)


@pytest.mark.parametrize(("system", "ordering"), [("neuralink", "greedy"), ("neuralink-s", "frequency")])
def test_neuralink(
    texts: Texts, tmp_path: Path, all_of_them: dict[str, dict[str, Any]], system: str, ordering: str
) -> None:
    """Its order from the profile, S3-FIFO with linking, and the device's gap."""
    layout = placed(texts, tmp_path / "placed", ordering=ordering)
    expected = plain(texts.trace, layout, cache="s3fifo", admission="linking")
    assert costs(all_of_them[system]) == expected
    # The orders differ, so that a wrong one shows.
    other = placed(texts, tmp_path / "other", ordering="original")
    assert plain(texts.trace, other, cache="s3fifo", admission="linking") != expected


def test_ours(texts: Texts, tmp_path: Path, all_of_them: dict[str, dict[str, Any]]) -> None:
    """Placed for the budget, with the policy and the split that the placement records."""
    layout = placed(texts, tmp_path / "placed", ordering="flash-time", dram_budget=0.5, cache="auto")
    assert costs(all_of_them["ours"]) == plain(texts.trace, layout, dram_budget="placement")
    assert all_of_them["ours"]["policy"] != "auto"


@pytest.mark.parametrize(
    ("system", "params"),
    [
        ("llm-in-a-flash,cache=window:4", {"cache": "window:4", "gap": 0}),
        ("llm-in-a-flash,collapse=3,access=sync", {"cache": "lru", "gap": 3,
                                                   "conditions": ReadConditions(access="sync")}),
        ("llm-in-a-flash,collapse=adaptive", {"cache": "lru", "gap": "adaptive"}),
        ("llm-in-a-flash,cache=none,collapse=auto", {"cache": "none"}),
        ("llm-in-a-flash,pool=yes,admission=linking:2,0.5".replace("2,0.5", "2;0.5"),
         {"cache": "lru", "gap": 0, "dram_pool": True, "admission": "linking:2,0.5"}),
        ("llm-in-a-flash,gate-first=full-gate,bundle-form=gates-apart",
         {"cache": "lru", "gap": 0, "gate_first": "full-gate", "bundle_form": "gates-apart"}),
        ("llm-in-a-flash,gate-first=predicted", {"cache": "lru", "gap": 0, "gate_first": "predicted",
                                                 "bundle_form": "whole"}),
        ("llm-in-a-flash,bundle-form=gates-apart", {"cache": "lru", "gap": 0, "bundle_form": "gates-apart"}),
    ],
)  # fmt: skip
def test_knobs_are_options(texts: Texts, system: str, params: dict[str, Any]) -> None:
    """Each knob does what its option does; hits are of what fires, whatever is asked for beside."""
    entry = entries(compare(texts, system))[system]
    found, expected = costs(entry), plain(texts.trace, "original", **params)
    if params.get("gate_first") == "predicted":
        of_candidates = expected.pop("cache_hit_ratio")
        assert 0 < found.pop("cache_hit_ratio") != of_candidates
    assert found == expected


def test_layout_and_resets(texts: Texts, tmp_path: Path) -> None:
    """A placement in place of an order, and caches that are emptied at segments."""
    layout = placed(texts, tmp_path / "placed", ordering="greedy")
    system = f"llm-in-a-flash,layout={layout}"
    found = entries(compare(texts, system, reset_at_segments=True, profiles=()))[system]
    assert costs(found) == plain(texts.trace, layout, cache="lru", gap=0, reset_at_segments=True)
    assert costs(found) != costs(entries(compare(texts, system, profiles=()))[system])


def test_equal_dram_in_bytes(texts: Texts) -> None:
    """No system has more than the budget, and none leaves more of it than a neuron a block."""
    resident = "llm-in-a-flash,pool=yes,gate-first=resident,bundle-form=gates-apart"
    small = ("powerinfer2,bundle-form=int4", "llm-in-a-flash,bundle-form=int4")
    for dram, in_bytes, names in (
        (81 * BUNDLE_BYTES + 100, 81 * BUNDLE_BYTES + 100, (*LOSSLESS, resident)),
        (0.5, N_NEURONS * BUNDLE_BYTES, (*LOSSLESS, resident)),
        (0.1, 2 * N_NEURONS * BUNDLE_BYTES // 10, small),
    ):
        scores = compare(texts, *names, dram_budget=dram)
        assert scores.budget_bytes == in_bytes
        for result in scores.results:
            left = in_bytes - result.dram_bytes
            assert left >= 0, result.system.name
            # Where DRAM is split by gain, neurons that would save nothing stay out.
            assert left <= 3 * BUNDLE_BYTES or result.system.name == "ours", result.system.name


def test_threads_change_nothing(texts: Texts, all_of_them: dict[str, dict[str, Any]]) -> None:
    """All systems, orders included."""
    document = entries(compare(texts, *LOSSLESS, n_threads=4))
    assert json.dumps(document) == json.dumps(all_of_them)


def test_the_document(texts: Texts) -> None:
    """Its keys, those of an entry beside a layout's, and speedups against the first system."""
    scores = compare(texts, "llm-in-a-flash", "neuralink", compute=ComputeParams(50.0))
    document = scores.to_json()
    assert set(document) >= {
        "device", "traces", "n_tokens", "dram_budget_bytes", "model_bytes", "activity", "baseline", "layouts",
        "warnings",
    }  # fmt: skip
    assert (document["n_tokens"], document["traces"]) == (N_TOKENS, ["test.trace"])
    assert document["model_bytes"] == 2 * document["dram_budget_bytes"] == 2 * N_NEURONS * BUNDLE_BYTES
    assert document["baseline"] == "llm-in-a-flash"
    base, other = document["layouts"]
    laid = score([texts.trace], ["original"], SimulateParams(bundle_bytes=BUNDLE_BYTES, compute=ComputeParams(50.0)))
    assert set(base) == set(laid.to_json()["layouts"][0]) | {
        "system", "knobs", "policy", "lossless", "knows", "predictor_bytes", "tokens_per_s", "dram_bytes",
    }  # fmt: skip
    assert base["speedup"] == 1
    ratio = base["flash_time_us_per_token"] / other["flash_time_us_per_token"]
    assert other["speedup"] == pytest.approx(ratio)
    assert (other["name"], other["label"], other["system"]) == ("neuralink",) * 3
    assert other["knobs"]["ordering"] == "greedy"
    assert (other["policy"], other["lossless"]) == ("s3fifo", True)
    assert other["tokens_per_s"] == pytest.approx(1e6 / other["token_time_us_per_token"])
    assert base["token_time_us_per_token"] == pytest.approx(base["flash_time_us_per_token"] + 2 * 50, rel=1e-6)


def test_the_order_of_systems(texts: Texts) -> None:
    """As named, not as made."""
    names = ("neuralink", "llama.cpp", "llm-in-a-flash,cache=fifo")
    scores = compare(texts, *names)
    assert [result.system.name for result in scores.results] == list(names)
    assert scores.to_json()["baseline"] == "neuralink"


def test_what_must_be_known(texts: Texts) -> None:
    """In words, by what a system reads."""
    names = ("llama.cpp", "llm-in-a-flash", "llm-in-a-flash,gate_first=resident,bundle_form=gates-apart",
             "llm-in-a-flash,gate_first=full-gate,bundle_form=gates-apart")  # fmt: skip
    found = entries(compare(texts, *names))
    assert [found[name]["knows"].split(":")[0] for name in names[:1] + names[2:]] == ["nothing"] * 3
    assert found["llm-in-a-flash"]["knows"].startswith("a predictor")


@pytest.mark.parametrize(
    ("systems", "simulate", "match"),
    [
        (("neuralink",), {"dram_budget": None}, "--system: found no DRAM budget"),
        (("neuralink",), {"dram_budget": "placement"}, "--system: found no DRAM budget"),
        ((), {}, "--system: found none"),
        (("neuralink", "neuralink"), {}, "--system: found neuralink twice"),
        (("dip",), {}, "--system dip: found a trace of neurons; expected one of columns, or a model"),
        (("llm-in-a-flash",), {"bundle_bytes": None}, "nothing that says how long a neuron's weights are"),
        (("llm-in-a-flash,gate_first=resident,bundle_form=gates-apart",), {"dram_budget": 0.1},
         "--gate-first resident: layers.0"),
        (("powerinfer2,plan=no",), {}, "cache: found 'segmented'; expected pool=yes and plan=yes"),
        (("powerinfer2,pool=no",), {}, "cache: found 'segmented'; expected pool=yes and plan=yes"),
        (("powerinfer2,uses=top-k=20%",), {}, "found the rule top-k=20% beside plan=yes"),
        (("llm-in-a-flash,uses=top-k=20%,pool=yes",), {}, "beside pool=yes"),
        (("llm-in-a-flash,uses=top-k=20%,gate_first=predicted",), {}, "beside gate_first=predicted"),
        (("llm-in-a-flash,uses=flash-aware=0.01",), {}, "which has to be tuned, and no text for that"),
    ],
)  # fmt: skip
def test_what_is_refused(texts: Texts, systems: tuple[str, ...], simulate: dict[str, Any], match: str) -> None:
    """Usage errors that name the system."""
    with pytest.raises(UsageError, match=match):
        compare(texts, *systems, **simulate)


def test_profiles_that_do_not_fit(texts: Texts, tmp_path: Path) -> None:
    """None, two of one unit, and one of another model."""
    for system in ("neuralink", "powerinfer2", "ours"):
        with pytest.raises(UsageError, match=f"--system {system}: found no profile of neurons"):
            compare(texts, system, profiles=())
    with pytest.raises(UsageError, match="a second profile of neurons; expected one a unit"):
        compare(texts, "neuralink", profiles=(texts.profile, texts.profile))
    with pytest.raises(UsageError, match=r"--profile .*nowhere: found nothing there"):
        compare(texts, "neuralink", profiles=(tmp_path / "nowhere",))
    for blocks, found in (({"layers.0": 8}, "8 neurons in layers.0"), ({"layers.0": N_NEURONS}, "no layers.1")):
        path = tmp_path / f"{len(found)}.profile"
        activity = {name: np.ones((9, n), bool) for name, n in blocks.items()}
        profile(write_stock_trace(tmp_path / "other", activity), path, ProfileParams(verdict=None))
        with pytest.raises(UsageError, match=f"--profile: found {found}"):
            compare(texts, "neuralink", profiles=(path,))
    # A system that orders nothing needs none.
    assert compare(texts, "llm-in-a-flash", profiles=()).results


def test_activations_that_are_never_zero(texts: Texts, tmp_path: Path) -> None:
    """What fires is all there is: systems that leave the rest in flash have nothing to leave."""
    dense = write_stock_trace(tmp_path / "dense", {name: np.ones((N_TOKENS, N_NEURONS)) for name in LAYERS})
    with pytest.raises(UsageError, match=r"found activations that are never zero.*neuralink,uses=top-k=20%"):
        compare(texts, "neuralink", trace=dense)
    with pytest.raises(UsageError, match=r"found activations that are never zero.*Leave the system out"):
        compare(texts, "powerinfer2", trace=dense)
    # Ours is of columns then, which a trace of neurons does not have.
    with pytest.raises(UsageError, match="--system ours: found a trace of neurons; expected one of columns"):
        compare(texts, "ours", trace=dense)
    assert compare(texts, "llama.cpp", trace=dense).results


def test_layers(texts: Texts) -> None:
    """Those that are selected alone, in budget and costs."""
    found = compare(texts, "llm-in-a-flash", layers="1")
    assert list(found.results[0].result.blocks) == ["layers.1"]
    assert found.budget_bytes == N_NEURONS * BUNDLE_BYTES // 2


def test_predicted_activity(texts: Texts, tmp_path: Path) -> None:
    """What was predicted is served, as without systems; it is said, with its recall."""
    rng = np.random.default_rng(1)
    named = {name: active | (rng.random(active.shape) < 0.1) for name, active in texts.active.items()}
    tensors = {f"{name}.predicted": np.packbits(bits, axis=1, bitorder="little") for name, bits in named.items()}
    trace = write_stock_trace(tmp_path / "t", texts.active, tensors=tensors, predicted_recall="0.9")
    scores = compare(texts, "llm-in-a-flash", trace=trace, activity="predicted")
    assert costs(entries(scores)["llm-in-a-flash"]) == plain(
        trace, "original", cache="lru", gap=0, activity="predicted"
    )  # fmt: skip
    document = scores.to_json()
    assert (document["activity"], document["recall"]) == ("predicted", 0.9)


def test_params_are_checked_first(texts: Texts) -> None:
    """Before a file is opened."""
    with pytest.raises(UsageError, match="no knob by that name"):
        SystemParams(("neuralink,speed=1",), SimulateParams(dram_budget=0.5))
    params = SystemParams(("llm-in-a-flash",), SimulateParams(dram_budget=0.5, bundle_bytes=BUNDLE_BYTES))
    assert params.budget == 0.5
    with pytest.raises(UsageError, match="ufs9"):
        score_systems([texts.trace], replace(params, simulate=replace(params.simulate, device="ufs9")))
