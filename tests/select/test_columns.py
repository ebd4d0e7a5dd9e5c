"""Rules on traces of columns: what is kept in each of the two spaces, who could run it, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.errors import UsageError
from ripple_place.flash.block_tally import RowTokens
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.placement import NeuronPlacement
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.rules import RuleScorer
from ripple_place.select.registry import EXAMPLES, check_units, parse_rule
from ripple_place.select.shared_choice import SharedChoice
from ripple_place.select.sight import Noise
from ripple_place.select.simulate import gather_result, selected_blocks, simulate_selected
from ripple_place.tracking import no_track
from tests.flash.builders import linear_device
from tests.reference import dip
from tests.select.builders import N_TOKENS, known_of, trace_of

if TYPE_CHECKING:
    from ripple_place.flash.results import LayoutResult
    from ripple_place.select.rule import Tuning
    from ripple_place.trace.activation_trace import ActivationTrace

DEVICE = replace(linear_device(), overhead_us=2.0)
SIZES = {"layers.0.input": 32, "layers.0": 41, "layers.1.input": 32, "layers.1": 27}
BYTES = {"input": 8192, "down": 4096}
NEURON_RULES = ("cats", "partial-glu")
COLUMN_RULES = ("dip", "glu-pruning")


def outputs_of(seed: int = 0) -> dict[str, np.ndarray]:
    """Return what the inputs of FFNs are, and what their neurons put out: hardly any zeros."""
    rng = np.random.default_rng(seed)
    found = {}
    for name, n in SIZES.items():
        values = rng.standard_normal((N_TOKENS, n)) * np.linspace(0.3, 2, n)
        found[name] = np.where(rng.random(values.shape) < 0.05, 0, values).astype(np.float32)
    return found


def columns_of(outputs: dict[str, np.ndarray]) -> ActivationTrace:
    """Return a trace of columns."""
    return trace_of(outputs, metadata={"unit": "column"})


def layout_of(seed: int = 1, name: str = "tested") -> Layout:
    """Return random orders in which an input column is twice as large as a down column."""
    rng = np.random.default_rng(seed)
    return Layout(name, {
        block: BlockLayout(
            NeuronPlacement(rng.permutation(n), frequency=rng.integers(1, 50, n)),
            BlockExtent.packed(BYTES["input" if block.endswith(".input") else "down"]),
        )
        for block, n in SIZES.items()
    })  # fmt: skip


def known() -> Tuning:
    """Return importance and thresholds of all blocks."""
    return replace(known_of(np.random.default_rng(2), SIZES), thresholds=dict.fromkeys(SIZES, 0.7))


def by(rule: str, outputs: dict[str, np.ndarray], *, n_parts: dict[str, int] | None = None, **params: Any
       ) -> LayoutResult:  # fmt: skip
    """Simulate a rule on a trace of columns."""
    return simulate_selected(
        columns_of(outputs), layout_of(), DEVICE, SimulationParams(**params), parse_rule(rule), known(), n_parts=n_parts
    )


def shares_of(rule: str, *, is_gated: bool = True) -> tuple[float, float]:
    """Return the shares of inputs and of down columns that a rule keeps."""
    name, _, keep = rule.partition("=")
    if name == "glu-pruning":
        return 1.0, float(keep)
    return dip.split(float(keep)) if is_gated else (float(keep), float(keep))


@pytest.mark.parametrize("cache", ["none", "lru", "mask-first-lfu"])
@pytest.mark.parametrize("rule", ["dip=0.5", "dip=0.3", "glu-pruning=0.4"])
def test_what_is_kept_in_each_space(rule: str, cache: str) -> None:
    """It costs what a trace costs from which the rest was removed beforehand."""
    outputs = outputs_of()
    kept = {}
    for name, rows in outputs.items():
        share = shares_of(rule)[0 if name.endswith(".input") else 1]
        kept[name] = np.where([dip.keep_largest(row, share) for row in rows.tolist()], rows, 0).astype(np.float32)
    params = {"cache": cache, "capacity_neurons": dict.fromkeys(SIZES, 20)}
    result = by(rule, outputs, **params)
    expected = simulate(columns_of(kept), layout_of(), DEVICE, SimulationParams(**params))
    np.testing.assert_array_equal(result.token_us, expected.token_us)
    assert {name: repr(block.totals) for name, block in result.blocks.items()} == {
        name: repr(block.totals) for name, block in expected.blocks.items()
    }
    lost = sum(
        float(known().importance[name].astype(float) @ ((rows.astype(float) - kept[name]) ** 2).sum(axis=0))
        for name, rows in outputs.items()
    )
    document = result.to_json()
    assert document["predicted_loss"] == pytest.approx(lost / N_TOKENS)
    assert document["needs"] == "any reader"


@pytest.mark.parametrize("rule", ["dip=0.5", "dip-ca=0.5,gamma=1", "chunk=0.5"])
def test_ffns_without_a_gate(rule: str) -> None:
    """Where the parts of a neuron are known to be two, both spaces keep the same share; else a gate is assumed."""
    ones = {name: np.ones((N_TOKENS, n), np.float32) for name, n in SIZES.items()}
    for n_parts, is_gated in (({"layers.0": 2, "layers.1": 2}, False), ({"layers.0": 3, "layers.1": 3}, True),
                              (None, True)):  # fmt: skip
        result = by(rule, ones, n_parts=n_parts)
        for name, n in SIZES.items():
            share = shares_of("dip=0.5", is_gated=is_gated)[0 if name.endswith(".input") else 1]
            n_used = result.blocks[name].totals.n_active // N_TOKENS
            assert n_used == int(share * n) or (rule.startswith("chunk") and 0 < n_used <= int(share * n))


@pytest.mark.parametrize("policy", ["lru", "lfu"])
def test_cache_aware_masking_of_both_spaces(policy: str) -> None:
    """Hits and uses of each block are those of a plain loop over its own rows, its own cache and its own share."""
    outputs = outputs_of(3)
    result = by("dip-ca=0.5", outputs, cache=f"mask-first-{policy}", capacity_neurons=dict.fromkeys(SIZES, 20))
    for name, rows in outputs.items():
        k = int(dip.split(0.5)[0 if name.endswith(".input") else 1] * SIZES[name])

        def choose(scores: list[float], held: list[bool], *_: object, k: int = k) -> list[bool]:
            return dip.reweighted(scores, held, k, 0.2)

        expected = dip.masked(rows.tolist(), 20, policy, choose)
        totals = result.blocks[name].totals
        assert totals.n_active == sum(map(len, expected))
        assert totals.n_hits == sum(is_hit for row in expected for _, is_hit in row)


@pytest.mark.parametrize("rule", [rule for rule in EXAMPLES if not rule.startswith(NEURON_RULES)])
def test_any_reader_can_run_it(rule: str) -> None:
    """Inputs are known before their columns are read, and outputs before down columns are: nothing has to be told."""
    price = rule.replace("=0.001", ",price=0.001")
    assert by(price, outputs_of()).to_json()["needs"] == "any reader"
    params = SimulateParams(select=(price,))
    scorer = RuleScorer(columns_of(outputs_of()), under(DEVICE, ReadConditions()), SimulationParams(), params, None)
    if rule == "exact":  # Bits suffice for it, on another way through the scorer.
        [result] = scorer.score([layout_of()], {}, no_track)
        assert result.to_json()["needs"] == "any reader"


def test_who_could_run_it_elsewhere() -> None:
    """The same rules of neurons need a predictor."""
    for text in ("dip-ca=0.5", "chunk=0.5"):
        rule = parse_rule(text)
        assert rule.knowledge.on("neuron").sentence == "a predictor of |h|"
        assert rule.knowledge.on("column").sentence == "any reader"
        assert rule.knowledge.on("column").parts_read(3) == 0


@pytest.mark.parametrize("rule", ["exact,sees=gate", "teal=50%,sees=output", "top-k=5,sees=output",
                                  "dip-ca=0.5,sees=output", "chunk=0.5,sees=output",
                                  "flash-aware,price=0.05,sees=output"])  # fmt: skip
def test_nothing_is_seen_by_reading(rule: str) -> None:
    """A reader would read weights to learn what it knows already."""
    with pytest.raises(UsageError, match=r"and blocks of columns; expected no sees.* Leave sees out"):
        by(rule, outputs_of(), n_parts={"layers.0": 3, "layers.1": 3})


@pytest.mark.parametrize("rule", [rule for rule in EXAMPLES if rule.startswith(NEURON_RULES)])
def test_rules_of_neurons_alone(rule: str) -> None:
    """CATS and partial GLU pruning look at the gate."""
    with pytest.raises(UsageError, match=r"found a rule of neurons, and blocks of columns; .* Use --unit neuron"):
        by(rule, outputs_of(), n_parts={"layers.0": 2, "layers.1": 2})


@pytest.mark.parametrize("rule", [rule for rule in EXAMPLES if rule.startswith(COLUMN_RULES)])
def test_rules_of_columns_alone(rule: str) -> None:
    """DIP prunes inputs, and GLU pruning reads up and gate in full; cache-aware masking goes with both units."""
    trace = trace_of({"layers.0": outputs_of()["layers.0"]})
    layout = Layout("tested", {"layers.0": layout_of().blocks["layers.0"]})

    def run() -> LayoutResult:
        return simulate_selected(trace, layout, DEVICE, SimulationParams(), parse_rule(rule), known())

    if rule.startswith("dip-ca"):
        assert run().totals.n_active == N_TOKENS * int(0.5 * SIZES["layers.0"])
        return
    with pytest.raises(UsageError, match=r"found a rule of columns, and blocks of neurons; .* Use --unit column"):
        run()


def test_the_first_rule_that_does_not_fit_is_named() -> None:
    """Whatever comes before and after it."""
    rules = [parse_rule(text) for text in ("exact", "cats=70%", "partial-glu=0.3")]
    check_units(rules[:1], "column")
    check_units(rules, "neuron")
    with pytest.raises(UsageError, match="--select cats=70%"):
        check_units(rules, "column")


@pytest.mark.parametrize("unit", ["neuron", "column"])
def test_noise_is_a_predictor_s(unit: str) -> None:
    """Of columns nothing is predicted, so that nothing is predicted wrongly."""
    trace = columns_of(outputs_of()) if unit == "column" else trace_of({"layers.0": outputs_of()["layers.0"]})
    params = SimulateParams(select=("top-k=5",), magnitude_noise=0.5)

    def make() -> RuleScorer:
        return RuleScorer(trace, under(DEVICE, ReadConditions()), SimulationParams(), params, None)

    if unit == "neuron":
        make()
        return
    with pytest.raises(UsageError, match=r"--magnitude-noise: found blocks of columns.* Leave --magnitude-noise out"):
        make()


@pytest.mark.parametrize("rule", ["dip=0.5", "exact", "teal=50%", "threshold=0.5"])
@pytest.mark.parametrize("cache", ["none", "lru"])
def test_layouts_that_share_a_choice(rule: str, cache: str) -> None:
    """Each has the masks, costs and worths of a run of its own, in chunks, with segments."""
    outputs, layouts = outputs_of(), [layout_of(seed) for seed in (4, 5, 6)]
    params = SimulationParams(cache, dict.fromkeys(SIZES, 12), reset_tokens=(0, 11))
    rows = {name: RowTokens(N_TOKENS, None, N_TOKENS) for name in SIZES}

    def at_work() -> list[Any]:
        return [
            selected_blocks(rows, layout, DEVICE, params, parse_rule(rule), known(), Noise(), None, "column")
            for layout in layouts
        ]

    together, apart = at_work(), at_work()
    for name, values in outputs.items():
        shared = SharedChoice([blocks[name] for blocks in together])
        assert (shared.uses_gate, shared.uses_inputs) == (False, False)
        for first, last in ((0, 4), (4, 11), (11, N_TOKENS)):
            if first in params.reset_tokens:
                for chooser in (shared, *(blocks[name] for blocks in apart)):
                    chooser.start_segment()
            used = shared.choose(values[first:last])
            for blocks in apart:
                np.testing.assert_array_equal(blocks[name].choose(values[first:last]), used)
            assert all(blocks[name].sees_outputs_alone for blocks in apart)
    for layout, one, other in zip(layouts, together, apart, strict=True):
        results = [
            gather_result(layout.name, blocks, params, parse_rule(rule), known(), N_TOKENS, "column")
            for blocks in (one, other)
        ]
        assert results[0].to_json() == results[1].to_json()
        np.testing.assert_array_equal(results[0].token_us, results[1].token_us)
    times = {blocks["layers.0"].result()[0].totals.flash_time_us for blocks in together}
    assert len(times) > 1, "layouts that cost the same tell nothing"


def test_who_cannot_share() -> None:
    """Rules that look at DRAM or slots choose something else on each layout."""
    rows = {name: RowTokens(N_TOKENS, None, N_TOKENS) for name in SIZES}
    for rule in ("dip-ca=0.5", "chunk=0.5", "flash-aware,price=0.01", "fisher,price=0.01"):
        blocks = selected_blocks(
            rows, layout_of(), DEVICE, SimulationParams(), parse_rule(rule), known(), Noise(), None, "column"
        )
        assert not any(block.sees_outputs_alone for block in blocks.values())


def test_sensitivity_is_that_of_neurons() -> None:
    """No profile has one of inputs: its remedy is not to measure it."""
    with pytest.raises(UsageError, match=r"no sensitivity of tokens in layers.0.input.* Write sensitive=no"):
        by("flash-aware,price=0.1,sensitive=yes", outputs_of())
