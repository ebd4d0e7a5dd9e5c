"""Simulations with a rule: equal to those without where the rule drops nothing, or drops what was dropped before."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.flash.admission import Admission
from ripple_place.flash.sequential import sequential_read_us
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.flash.token_time import ComputeParams
from ripple_place.select.registry import parse_rule
from ripple_place.select.rule import Tuning
from ripple_place.select.sight import Noise
from ripple_place.select.simulate import simulate_selected
from ripple_place.trace.activity_rules import ActivityRule
from tests.flash.builders import linear_device
from tests.select.builders import N_NEURONS, N_TOKENS, known_of, layout_of, outputs_of, trace_of

if TYPE_CHECKING:
    from typing import Any

    from ripple_place.flash.results import LayoutResult

DEVICE = replace(linear_device(), overhead_us=2.0)
"""With bundles of 4 KiB a gap of 2."""
SIZES = {"layers.0": N_NEURONS, "layers.1": 23}
CACHES = ("lru", "fifo", "lfu", "s3fifo", "sieve", "greedydual", "pinned", "pinned+lru", "window:3")
PRICED = "flash-aware,price=0.05"


class Bench:
    """A trace of two blocks, its layout, and what is known of its neurons."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.outputs = {name: outputs_of(rng, n_neurons=n) for name, n in SIZES.items()}
        self.trace = trace_of(self.outputs, segment_starts=(0, 11, 20))
        self.layout, self.known = layout_of(rng, SIZES), known_of(rng, SIZES)

    def plain(self, outputs: dict[str, np.ndarray] | None = None, **params: Any) -> LayoutResult:
        """Simulate without rules."""
        trace = self.trace if outputs is None else trace_of(outputs)
        return simulate(trace, self.layout, DEVICE, SimulationParams(**params))

    def by(
        self, rule: str, *, tuning: Tuning | None = None, noise: Noise | None = None,
        n_parts: dict[str, int] | None = None, **params: Any,
    ) -> LayoutResult:  # fmt: skip
        """Simulate by a rule."""
        return simulate_selected(
            self.trace, self.layout, DEVICE, SimulationParams(**params), parse_rule(rule),
            self.known if tuning is None else tuning, noise=noise, n_parts=n_parts,
        )  # fmt: skip


@pytest.fixture
def bench() -> Bench:
    """Return a bench."""
    return Bench()


def costs(result: LayoutResult) -> dict[str, Any]:
    """Return all that flash did, to the last bit."""
    document = result.to_json()
    assert document.pop("name") == "tested"
    lossy = {"label", "select", "needs", "kept_share", "kept_value", "predicted_loss"}
    document = {key: value for key, value in document.items() if key not in lossy}
    counts = {name: repr(asdict(block.totals)) for name, block in result.blocks.items()}
    return {**document, "counts": counts, "token_us": result.token_us.tolist()}


def same_costs(one: LayoutResult, other: LayoutResult) -> bool:
    """Tell whether both cost the same on flash."""
    of_one, of_other = costs(one), costs(other)
    return all(of_one[key] == value for key, value in of_other.items())


@pytest.mark.parametrize("rule", ["exact", "threshold=0", "flash-aware,price=0", "fisher,price=0"])
def test_what_drops_nothing_costs_what_it_costs(bench: Bench, rule: str) -> None:
    """The counts and every token's time are those of the simulator without rules."""
    result = bench.by(rule, compute=ComputeParams(us_per_layer=30.0))
    assert same_costs(result, bench.plain(compute=ComputeParams(us_per_layer=30.0)))
    selection = result.to_json()
    assert (selection["select"], selection["kept_share"], selection["predicted_loss"]) == (rule, 1.0, 0.0)


@pytest.mark.parametrize("cache", CACHES)
def test_with_a_cache(bench: Bench, cache: str) -> None:
    """Rules that look at outputs alone ask the cache as the simulator does: in slot order, emptied at segments."""
    params = {
        "cache": cache, "capacity_neurons": {"layers.0": 22, "layers.1": 9}, "admission": Admission(2, 0.5, 3),
        "reset_tokens": (0, 11, 20), "gap": 1,
    }  # fmt: skip
    expected = bench.plain(**params)
    assert expected.totals.n_hits > 0
    for rule in ("exact", "threshold=0"):
        assert same_costs(bench.by(rule, **params), expected)


def test_rules_do_not_share_a_pool(bench: Bench) -> None:
    """They are served block by block, and look at what the block's own cache holds."""
    with pytest.raises(UsageError, match=r"--select flash-aware=0.1: found one DRAM pool \(--dram-pool\)"):
        bench.by("flash-aware=0.1", cache="lru", pool_neurons=9)


@pytest.mark.parametrize(
    ("rule", "thresholds"),
    [("threshold=0.7", {}), ("top-k=5", {}), ("top-k=10%", {}), ("teal=50%", {"layers.0": 0.4, "layers.1": 0.9}),
     ("cats=50%,sees=predictor", {"layers.0": 0.4, "layers.1": 0.9})],
)  # fmt: skip
def test_rules_of_profiles(bench: Bench, rule: str, thresholds: dict[str, float]) -> None:
    """What is left costs what a trace costs from which the same rule removed the rest beforehand."""
    by = ActivityRule.parse(rule.partition(",")[0])
    kept = {
        name: np.where(by.active(outputs, threshold=thresholds.get(name)), outputs, 0).astype(np.float32)
        for name, outputs in bench.outputs.items()
    }
    params: dict[str, Any] = {"cache": "lru", "capacity_neurons": {"layers.0": 9}}
    n_parts = dict.fromkeys(SIZES, 2)
    result = bench.by(rule, tuning=replace(bench.known, thresholds=thresholds), n_parts=n_parts, **params)
    assert same_costs(result, bench.plain(kept, **params))
    n_kept, n_active = (sum(map(np.count_nonzero, rows.values())) for rows in (kept, bench.outputs))
    lost = sum(
        float(bench.known.importance[name].astype(float) @ ((outputs.astype(float) - kept[name]) ** 2).sum(axis=0))
        for name, outputs in bench.outputs.items()
    )
    document = result.to_json()
    assert 0 < document["kept_share"] < 1
    assert document["kept_share"] == pytest.approx(n_kept / n_active)
    assert document["predicted_loss"] == pytest.approx(lost / N_TOKENS)
    untold = replace(Tuning.nothing(), thresholds=thresholds)
    unknown = bench.by(rule, tuning=untold, n_parts=n_parts, **params).to_json()
    assert unknown["kept_share"] == document["kept_share"]
    assert unknown["predicted_loss"] is unknown["kept_value"] is None


def test_layers_of_experts_share_a_threshold() -> None:
    """A threshold of ``layers.0.experts`` holds for ``layers.0.experts.1``, whose rows are those of its tokens."""
    rng = np.random.default_rng(1)
    name, tokens = "layers.0.experts.1", np.array([1, 4, 5, 19])
    outputs = outputs_of(rng, 4)
    trace = trace_of({name: outputs}, token_index={name: tokens})
    layout, known = layout_of(rng, {name: N_NEURONS}), known_of(rng, {name: N_NEURONS})
    params = SimulationParams("lru", {name: 9}, reset_tokens=(0, 5, 18))
    tuning = replace(known, thresholds={"layers.0.experts": 0.5})
    kept = np.where(abs(outputs) > 0.5, outputs, 0)
    expected = simulate(trace_of({name: kept}, token_index={name: tokens}), layout, DEVICE, params)
    result = simulate_selected(trace, layout, DEVICE, params, parse_rule("teal=50%"), tuning)
    assert same_costs(result, expected)
    assert np.flatnonzero(result.token_us).tolist() == tokens.tolist()
    priced = simulate_selected(trace, layout, DEVICE, params, parse_rule("flash-aware,price=0"), known)
    assert priced.totals.n_active == np.count_nonzero(outputs)


@pytest.mark.parametrize("rule", [PRICED, "fisher,price=0.05"])
def test_what_rules_at_a_price_drop(bench: Bench, rule: str) -> None:
    """The predicted loss is the worth of what was dropped; a price without end keeps what is in DRAM, and no more."""
    document = bench.by(rule).to_json()
    everything = bench.by(f"{rule.partition(',')[0]},price=10", tuning=_worth_little(bench)).to_json()
    total = sum(
        float(values.astype(float) @ (bench.outputs[name].astype(float) ** 2).sum(axis=0))
        for name, values in bench.known.importance.items()
    )
    assert 0 < document["predicted_loss"] < total / N_TOKENS
    assert document["kept_value"] == pytest.approx(1 - document["predicted_loss"] * N_TOKENS / total)
    assert everything["kept_share"] == everything["kept_value"] == everything["flash_time_us_per_token"] == 0
    assert everything["predicted_loss"] == pytest.approx(1e-9 * total / N_TOKENS)


def test_neurons_smaller_than_a_page(bench: Bench) -> None:
    """A second neuron in the same page costs nothing, but a neuron has a price all the same: its share of a block."""
    bench.layout = layout_of(np.random.default_rng(3), SIZES, 1000)
    shares = [bench.by(f"fisher,price={price}").to_json()["kept_share"] for price in (0, 0.1, 1)]
    assert shares[0] == 1 > shares[1] > shares[2] > 0


def _worth_little(bench: Bench) -> Tuning:
    return replace(
        bench.known, importance={name: values * np.float32(1e-9) for name, values in bench.known.importance.items()}
    )


def test_a_higher_price_saves_more_and_costs_more(bench: Bench) -> None:
    """Flash time falls with the price, the predicted loss rises; each price has less of the sum of both at it."""
    prices = (0.0, 0.01, 0.05, 0.2, 1.0)
    documents = [bench.by(f"flash-aware,price={price}").to_json() for price in prices]
    times = [document["flash_time_us_per_token"] for document in documents]
    losses = [document["predicted_loss"] for document in documents]
    assert times == sorted(times, reverse=True)
    assert losses == sorted(losses)
    for price in prices:
        sums = [loss + price * time for loss, time in zip(losses, times, strict=True)]
        assert min(sums) == pytest.approx(sums[prices.index(price)])


def test_threads_and_chunks_change_nothing(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same to the last bit with three threads; in chunks of one row all but the last bits of sums of worth."""
    params: dict[str, Any] = {"cache": "lru", "capacity_neurons": {"layers.0": 9}, "reset_tokens": (0, 11, 20)}
    noise = Noise(0.5, 4)
    for rule in (PRICED, "top-k=5"):
        alone = bench.by(rule, noise=noise, **params)
        assert bench.by(rule, noise=noise, n_threads=3, **params).to_json() == alone.to_json()
        with monkeypatch.context() as patch:
            patch.setattr("ripple_place.select.simulate.CHUNK_OUTPUTS", 1)
            by_row = bench.by(rule, noise=noise, **params)
        assert same_costs(by_row, alone)
        assert by_row.to_json()["predicted_loss"] == pytest.approx(alone.to_json()["predicted_loss"])


@pytest.mark.parametrize("rule", [PRICED, "top-k=5"])
def test_noise(bench: Bench, rule: str) -> None:
    """Noise is that of its seed; what it makes a rule drop is counted at what it is really worth."""
    exact, one, again, other = (
        bench.by(rule, noise=noise) for noise in (Noise(), Noise(1.0, 1), Noise(1.0, 1), Noise(1.0, 2))
    )
    assert one.to_json() == again.to_json()
    assert len({result.to_json()["predicted_loss"] for result in (exact, one, other)}) == 3
    # All see the same neurons fire, and count the same total.
    totals = [result.selection.worth for result in (exact, one, other) if result.selection is not None]
    assert len({worth.n_active for worth in totals}) == 1
    assert [worth.active for worth in totals] == pytest.approx([totals[0].active] * 3)
    price = 0.05
    objective = [
        document["predicted_loss"] + price * document["flash_time_us_per_token"]
        for document in (result.to_json() for result in (exact, one, other))
    ]
    assert rule != PRICED or objective[0] < min(objective[1:])


@pytest.mark.parametrize(("rule", "share"), [("exact,sees=gate", 1 / 3), ("teal=50%,sees=output", 2 / 3),
                                            ("flash-aware,price=0,sees=output", 2 / 3)])  # fmt: skip
def test_what_is_read_to_decide(bench: Bench, rule: str, share: float) -> None:
    """Each token pays one sequential read of the gates (and ups), then reads of what is left of bundles."""
    tuning = replace(bench.known, thresholds=dict.fromkeys(SIZES, 0.0))
    bench.layout = layout_of(np.random.default_rng(3), SIZES, 12288)
    result = bench.by(rule, tuning=tuning, n_parts=dict.fromkeys(SIZES, 3))
    bench.layout = layout_of(np.random.default_rng(3), SIZES, round(12288 * (1 - share)))
    rest = bench.plain()
    more = [sequential_read_us(DEVICE, round(12288 * share) * n) for n in SIZES.values()]
    us, requests, n_bytes = (sum(parts) for parts in zip(*more, strict=True))
    np.testing.assert_allclose(result.token_us, rest.token_us + us)
    assert result.totals.n_requests == rest.totals.n_requests + N_TOKENS * requests
    assert result.totals.bytes_read == rest.totals.bytes_read + N_TOKENS * n_bytes
    assert result.totals.n_reads == rest.totals.n_reads
    assert result.totals.flash_time_us == pytest.approx(rest.totals.flash_time_us + N_TOKENS * us)
    assert result.totals.flash_time_linear_us == pytest.approx(rest.totals.flash_time_linear_us + N_TOKENS * us)


def test_a_sequential_read() -> None:
    """Of 40 bundles of 4 KiB, in requests of 16 pages: three requests."""
    assert sequential_read_us(DEVICE, 40 * 4096) == (3 * 2.0 + 40, 3, 40 * 4096)
    assert sequential_read_us(DEVICE, 1) == (3.0, 1, 4096)


@pytest.mark.parametrize(
    ("rule", "options", "match"),
    [
        ("exact,sees=gate", {}, "found nothing that says whether layers.0 has a gate"),
        ("exact,sees=gate", {"n_parts": dict.fromkeys(SIZES, 2)}, "found neurons without a gate"),
        (
            "cats=50%,sees=predictor",
            {"n_parts": dict.fromkeys(SIZES, 3)},
            "has no outputs of the activation function of layers.0",
        ),
        ("cats=50%,sees=predictor", {}, "has no outputs of the activation function of layers.0"),
        ("teal=50%", {}, "found no threshold for layers.0"),
        ("flash-aware=0.001", {}, "a layout for which the rule was not tuned"),
        (PRICED, {"tuning": Tuning.nothing()}, "found no importance of the neurons of layers.0"),
        (PRICED, {"cache": "belady"}, "found a policy that knows what later tokens ask for"),
        ("top-k=5", {"cache": "belady"}, "found a policy that knows what later tokens ask for"),
        (PRICED, {"gap": "optimal"}, "found --collapse optimal"),
    ],
)
def test_what_is_missing(bench: Bench, rule: str, options: dict[str, Any], match: str) -> None:
    """What a rule needs and does not have is said before anything is served."""
    if rule.startswith("cats"):
        options["tuning"] = replace(bench.known, thresholds=dict.fromkeys(SIZES, 0.1))
    with pytest.raises(UsageError, match=match):
        bench.by(rule, **options)


def test_importance_of_another_model(bench: Bench) -> None:
    """Importance of another number of neurons would be read past its end."""
    with pytest.raises(UsageError, match=r"importance of 39 neurons of layers.0; expected that of 40"):
        bench.by(PRICED, tuning=known_of(np.random.default_rng(0), {**SIZES, "layers.0": 39}))


def test_traces_without_magnitudes(bench: Bench) -> None:
    """Bits suffice for a rule that drops nothing, and for no other."""
    bench.trace = trace_of(bench.outputs, with_values=False)
    assert same_costs(bench.by("exact"), bench.plain())
    for rule in ("top-k=5", PRICED):
        with pytest.raises(TraceFormatError, match="found no magnitudes"):
            bench.by(rule)


def test_empty_blocks() -> None:
    """A block that no token reaches, and one whose neurons never fire, cost nothing and divide by nothing."""
    rng = np.random.default_rng(0)
    rows = {"layers.0": np.zeros((0, 8), np.float32), "layers.1": np.zeros((3, 8), np.float32)}
    trace = trace_of(rows, 3, token_index={"layers.0": np.zeros(0)})
    sizes = dict.fromkeys(rows, 8)
    layout, known = layout_of(rng, sizes), known_of(rng, sizes)
    for rule in ("threshold=0.5", PRICED):
        result = simulate_selected(trace, layout, DEVICE, SimulationParams(), parse_rule(rule), known)
        document = result.to_json()
        assert document["kept_share"] is document["kept_value"] is None
        assert document["predicted_loss"] == document["flash_time_us_per_token"] == 0
