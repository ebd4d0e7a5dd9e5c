"""Cache-aware masking against a loop over tokens that is written to be obvious, and what its options do by hand."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.flash.block_tally import RowTokens
from ripple_place.flash.layout import BlockExtent, BlockLayout
from ripple_place.flash.read_cost import ReadCost
from ripple_place.flash.simulator import SimulationParams
from ripple_place.placement import NeuronPlacement
from ripple_place.select.dip_ca import Masking, choose
from ripple_place.select.registry import parse_rule
from ripple_place.select.rule import BlockView, PricedBlock, Tuning
from ripple_place.select.selected_block import SelectedBlock
from ripple_place.select.sight import Ffn, Noise
from tests.flash.builders import linear_device
from tests.reference import dip
from tests.reference.selection import largest

if TYPE_CHECKING:
    from collections.abc import Sequence

N_UNITS, N_TOKENS = 24, 30
NEURONS, COLUMNS = Ffn(), Ffn("column", is_gated=True, n_opposite=40)


def view_of(n_units: int = N_UNITS, ffn: Ffn = NEURONS, name: str = "layers.0") -> BlockView:
    """Return a block as a rule sees it."""
    cost = ReadCost.on_device(linear_device(), 4096)
    return BlockView(name, n_units, cost, Tuning.nothing(), ffn.unit, ffn.is_gated, ffn.n_opposite)


def masking_of(rule: str, n_units: int = N_UNITS) -> Masking:
    """Return what the rule's kernel takes beside a row of a block of neurons, of which KEEP is the share."""
    block = parse_rule(rule).of_block(view_of(n_units))
    assert isinstance(block, PricedBlock)
    assert block.choose is choose
    assert isinstance(block.arguments, Masking)
    return block.arguments


def chosen(
    masking: Masking, scores: Sequence[float], is_cached: Sequence[bool], slots: Sequence[int] | None = None
) -> list[bool]:
    """Return what the kernel uses of one row; all units are active unless `slots` says which."""
    is_used = np.full(len(scores), 9, np.uint8)
    choose(
        np.array(range(len(scores)) if slots is None else slots, np.int32), np.array(scores, np.float64),
        np.array(is_cached, np.uint8), masking, is_used,
    )  # fmt: skip
    assert set(is_used.tolist()) <= {0, 1}
    return is_used.astype(bool).tolist()


sizes = st.one_of(st.sampled_from([0.25, 0.5, 1.0, 2.0]), st.floats(2**-20, 2**20, width=32))
tokens = st.lists(st.tuples(sizes, st.booleans()), max_size=N_UNITS)
"""Sizes of the active units of a token, and whether each is in DRAM."""
gammas = st.sampled_from([0.0, 0.1, 0.2, 0.5, 0.75, 1.0])


@given(tokens, st.integers(0, N_UNITS), gammas, st.integers(0, 9), st.booleans())
@settings(max_examples=150, deadline=None)
def test_reweighting_against_the_twin(
    token: list[tuple[float, bool]], k: int, gamma: float, n_exempt: int, blends: bool
) -> None:
    """The exempt ones first, then what is not in DRAM times gamma, then exactly k; ties, and rows shorter than k."""
    n_exempt = min(n_exempt, max(k - 1, 0))
    text = f"dip-ca=1,gamma={gamma},fixed_top_n={n_exempt}" + (",blend=yes" * blends)
    masking = masking_of(text)._replace(n_kept=k)
    scores, is_cached = [score for score, _ in token], [cached for _, cached in token]
    used = chosen(masking, scores, is_cached)
    assert used == dip.reweighted(scores, is_cached, k, gamma, n_exempt, blends=blends)
    assert sum(used) == min(k, len(token))


@given(tokens, st.integers(1, N_UNITS - 2), st.data())
@settings(max_examples=150, deadline=None)
def test_approximate_caching_against_the_twin(token: list[tuple[float, bool]], k: int, data: st.DataObject) -> None:
    """Four groups in turn, by score within each, and exactly k of a token that has so many."""
    n = data.draw(st.integers(0, k - 1))
    m = data.draw(st.integers(k + 1, N_UNITS + 3))
    gamma = data.draw(gammas)
    uses = data.draw(st.lists(st.integers(0, 5), min_size=N_UNITS, max_size=N_UNITS))
    masking = masking_of(f"dip-ca={k / N_UNITS + 1e-9},gamma={gamma},fixed_top_n={n},top_m={m}")
    assert masking[:3] == (k, n, m)
    masking.n_uses[:] = uses
    scores, is_cached = [score for score, _ in token], [cached for _, cached in token]
    slots = sorted(data.draw(st.permutations(range(N_UNITS)))[: len(token)])
    used = chosen(masking, scores, is_cached, slots)
    expected = dip.approximated(scores, is_cached, [uses[slot] for slot in slots], max(uses), k, m, n, gamma)
    assert used == expected
    assert sum(used) == min(k, len(token))
    counted = [uses[slot] + sum(used[i] for i, other in enumerate(slots) if other == slot) for slot in range(N_UNITS)]
    assert masking.n_uses.tolist() == counted


def test_the_order_of_the_groups() -> None:
    """Ten units, the largest first: n = 1, k = 4 and m = 8, with 3, 5, 6 and 9 in DRAM."""
    scores, cached = [10.0 - i for i in range(10)], [i in (3, 5, 6, 9) for i in range(10)]

    def used(n: int, m: int, held: list[bool]) -> list[int]:
        masking = masking_of(f"dip-ca=0.4,gamma=0,fixed_top_n={n},top_m={m}", 10)
        return np.flatnonzero(chosen(masking, scores, held)).tolist()

    # 0 is the largest; 3 is one of the four and held; 5 and 6 are of the eight and held; 9 is neither.
    assert used(1, 8, cached) == [0, 3, 5, 6]
    # Two more are exempt, so that one of the eight is left: the larger one.
    assert used(3, 8, cached) == [0, 1, 2, 3]
    assert used(2, 8, cached) == [0, 1, 3, 5]
    # Of the six largest 6 is none: the largest of the four that are not held.
    assert used(0, 6, cached) == [0, 1, 3, 5]
    assert used(0, 9, [False] * 10) == [0, 1, 2, 3]
    assert used(0, 9, [True] * 10) == [0, 1, 2, 3]


def test_scores_of_a_group_far_apart() -> None:
    """Within a group the larger comes first, however small both are beside the largest of all."""
    scores = [1e30, 1e-30, 2e-30, 1.0]
    masking = masking_of("dip-ca=0.5,gamma=0,fixed_top_n=1,top_m=4", 4)
    assert chosen(masking, scores, [False, True, True, False]) == [True, False, True, False]


def test_counts_are_over_the_most_used_of_the_block() -> None:
    """Also where the most used unit is not active in this row."""
    masking = masking_of("dip-ca=0.5,gamma=0.5,top_m=4", 4)
    masking.n_uses[:] = [0, 1, 0, 10]
    # Unit 1 was used, and so gains .05: too little to pass unit 2. Over the active ones alone it would gain .5.
    assert chosen(masking, [1.0, 0.7, 0.9], [False] * 3, [0, 1, 2]) == [True, False, True]


def test_gamma_of_one_is_plain_dip() -> None:
    """In either way of writing it, whatever is in DRAM; and so is a token of which everything is exempt but one."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        scores, is_cached = rng.random(N_UNITS).tolist(), (rng.random(N_UNITS) < 0.4).tolist()
        for text in ("gamma=1", "gamma=1,warm_up=yes", "gamma=1,blend=yes", "gamma=1,fixed_top_n=3"):
            assert chosen(masking_of(f"dip-ca=50%,{text}"), scores, is_cached) == largest(scores, 12)


def test_gamma_of_zero_takes_what_is_in_dram_first() -> None:
    """And then the largest of the rest, wherever they lie: to gamma of 0 the smallest gamma is nearest."""
    scores, is_cached = [1.0, 5.0, 2.0, 4.0, 0.5, 3.0], [False, False, False, False, True, True]
    for gamma in ("0", "1e-12"):
        masking = masking_of(f"dip-ca=0.5,gamma={gamma}", 6)
        assert np.flatnonzero(chosen(masking, scores, is_cached)).tolist() == [1, 4, 5]
        assert np.flatnonzero(chosen(masking, scores, [False] * 6)).tolist() == [1, 3, 5]


@pytest.mark.parametrize(
    ("token", "gamma"), [(0, 1.0), (1, 0.735), (2, 0.558), (4, 0.360), (8, 0.232), (16, 0.201), (400, 0.2)]
)
def test_the_warm_up(token: int, gamma: float) -> None:
    """What is in DRAM wins from gamma times the size on: by the released code, to three digits."""
    assert dip.warmed_up(0.2, token) == pytest.approx(gamma, abs=5e-4)
    for more, expected in ((0.001, [True, False]), (-0.001, [False, True])):
        masking = masking_of("dip-ca=0.5,gamma=0.2,warm_up=yes", 2)
        masking.n_rows[0] = token
        assert chosen(masking, [gamma + more, 1.0], [True, False]) == expected
        assert masking.n_rows[0] == token + 1


def test_the_blend_by_hand() -> None:
    """In DRAM a unit scores .2 x + .8, elsewhere .2 x: whether that matters depends on the scale."""
    scores, is_cached = [0.1, 1.0, 3.9, 4.2], [True, False, False, False]
    masking = masking_of("dip-ca=0.5,gamma=0.2,blend=yes", 4)
    assert chosen(masking, scores, is_cached) == [True, False, False, True]
    assert chosen(masking, [10 * score for score in scores], is_cached) == [False, False, True, True]
    exempt = masking_of("dip-ca=0.75,gamma=0.2,blend=yes,fixed_top_n=2", 4)
    assert chosen(exempt, [0.1, 1.0, 0.5, 0.6], is_cached) == [True, True, False, True]


# Beside the caches of the authors.


def outputs_of(rng: np.random.Generator, n_units: int = N_UNITS) -> np.ndarray:
    """Return outputs of which some units put out more than others, and a few are 0."""
    values = rng.standard_normal((N_TOKENS, n_units)) * np.linspace(0.5, 2, n_units)
    return np.where(rng.random(values.shape) < 0.1, 0, values).astype(np.float32)


def block_of(
    rule: str, order: np.ndarray, params: SimulationParams, ffn: Ffn = NEURONS, name: str = "layers.0"
) -> SelectedBlock:
    """Return a rule at work in a block."""
    layout = BlockLayout(NeuronPlacement(order), BlockExtent.packed(4096))
    return SelectedBlock(
        name, parse_rule(rule), layout, linear_device(), params, RowTokens(N_TOKENS, None, N_TOKENS), Tuning.nothing(),
        Noise(), ffn,
    )  # fmt: skip


def served(block: SelectedBlock, outputs: np.ndarray, resets: Sequence[int] = (0,)) -> np.ndarray:
    """Serve a text whose segments begin at `resets`; return what is used."""
    used = []
    for first, last in zip(resets, [*resets[1:], len(outputs)], strict=True):
        block.start_segment()
        # In two chunks: what a rule remembers lasts from one to the next.
        used += [block.choose(outputs[rows]) for rows in (slice(first, first + 3), slice(first + 3, last))]
    return np.concatenate(used)


def plain_choice(text: str, k: int) -> Any:
    """Return the twin of a rule."""
    options = dict(part.split("=") for part in text.split(",")[1:])
    gamma, n = float(options.get("gamma", 0.2)), int(options.get("fixed_top_n", 0))
    blends = options.get("blend") == "yes"

    def choose_plainly(scores: list[float], held: list[bool], uses: list[int], most: int, now: int) -> list[bool]:
        at = dip.warmed_up(gamma, now) if options.get("warm_up") == "yes" else gamma
        if "top_m" in options:
            return dip.approximated(scores, held, uses, most, k, int(options["top_m"]), n, at)
        return dip.reweighted(scores, held, k, at, n, blends=blends)

    return choose_plainly


RULES = (
    "dip-ca=0.5", "dip-ca=0.5,gamma=0", "dip-ca=0.5,gamma=0.6,fixed_top_n=4", "dip-ca=0.5,gamma=0.1,warm_up=yes",
    "dip-ca=0.5,gamma=0.3,blend=yes", "dip-ca=0.5,gamma=0.4,fixed_top_n=3,top_m=18",
)  # fmt: skip


@pytest.mark.parametrize("policy", ["lru", "lfu"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("resets", [(0,), (0, 11, 20)])
def test_beside_the_caches_of_the_authors(rule: str, policy: str, resets: tuple[int, ...]) -> None:
    """Masks and hits of every token are those of a plain loop; where the cache is emptied, the rule begins anew."""
    rng = np.random.default_rng(4)
    outputs, order = outputs_of(rng), rng.permutation(N_UNITS)
    params = SimulationParams(f"mask-first-{policy}", {"layers.0": 15}, reset_tokens=resets if len(resets) > 1 else ())
    block = block_of(rule, order, params)
    used = served(block, outputs, resets)
    expected = dip.masked(outputs.tolist(), 15, policy, plain_choice(rule, 12), resets)
    assert [np.flatnonzero(row).tolist() for row in used] == [[unit for unit, _ in row] for row in expected]
    totals = block.result()[0].totals
    assert totals.n_hits == sum(is_hit for row in expected for _, is_hit in row)
    assert totals.n_active == sum(map(len, expected))


@pytest.mark.parametrize("rule", [*RULES, "dip-ca=0.5,gamma=1"])
def test_the_order_of_slots_does_not_matter(rule: str) -> None:
    """Masks and hits depend on what is in DRAM alone, as long as no sizes are equal."""
    rng = np.random.default_rng(5)
    outputs = outputs_of(rng)
    params = SimulationParams("mask-first-lfu", {"layers.0": 15})
    blocks = [block_of(rule, order, params) for order in (np.arange(N_UNITS), rng.permutation(N_UNITS))]
    one, other = (served(block, outputs) for block in blocks)
    np.testing.assert_array_equal(one, other)
    counts = [block.result()[0].totals for block in blocks]
    assert counts[0].n_hits == counts[1].n_hits


@pytest.mark.parametrize("name", ["layers.0.input", "layers.0"])
@pytest.mark.parametrize("cache", ["mask-first-lru", "mask-first-lfu", "lru"])
def test_gamma_of_one_costs_what_dip_costs(name: str, cache: str) -> None:
    """In each of the two spaces: the same masks, hits and reads; a smaller gamma has more hits."""
    rng = np.random.default_rng(6)
    outputs, order = outputs_of(rng), rng.permutation(N_UNITS)
    params = SimulationParams(cache, {name: 15})
    plain, same, eager = (
        block_of(rule, order, params, COLUMNS, name) for rule in ("dip=0.5", "dip-ca=0.5,gamma=1", "dip-ca=0.5")
    )
    used = served(plain, outputs)
    np.testing.assert_array_equal(served(same, outputs), used)
    assert used.sum(axis=1).max() == int(dip.split(0.5)[name == "layers.0"] * N_UNITS)
    assert same.result()[0].totals.n_active == plain.result()[0].totals.n_active
    if cache != "lru":
        # Others are asked in slot order by the one, and for what they hold first by the other.
        assert repr(same.result()[0].totals) == repr(plain.result()[0].totals)
        np.testing.assert_array_equal(same.result()[1].flash_us, plain.result()[1].flash_us)
    served(eager, outputs)
    assert eager.result()[0].totals.n_hits > plain.result()[0].totals.n_hits


def test_how_many_are_kept() -> None:
    """Of columns the shares of DIP, of neurons KEEP itself; percentages are of what is kept."""
    rule = parse_rule("dip-ca=0.5,gamma=0.1,fixed_top_n=50%,top_m=200%")
    kept = {}
    for ffn, name in ((COLUMNS, "layers.0.input"), (COLUMNS, "layers.0"), (NEURONS, "layers.0"),
                      (Ffn("column", is_gated=False), "layers.0")):  # fmt: skip
        block = rule.of_block(view_of(1000, ffn, name))
        assert isinstance(block, PricedBlock)
        kept[ffn.unit, ffn.is_gated, name] = block.arguments[:3]
        assert not block.is_squared
        assert not block.foresees_reads
        assert block.weight.tolist() == [1] * 1000
    assert list(kept.values()) == [(574, 287, 1148), (351, 175, 702), (500, 250, 1000), (500, 250, 1000)]


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ("fixed_top_n=12", "found fixed_top_n 12, 12 units kept; expected fixed_top_n below what is kept"),
        ("fixed_top_n=100%", "found fixed_top_n 12, 12 units kept"),
        ("top_m=12", "found fixed_top_n 0, 12 units kept, top_m 12"),
        ("fixed_top_n=50%,top_m=100%", "found fixed_top_n 6, 12 units kept, top_m 12"),
    ],
)
def test_n_below_k_below_m(options: str, match: str) -> None:
    """As the authors demand."""
    with pytest.raises(UsageError, match=match):
        parse_rule(f"dip-ca=0.5,{options}").of_block(view_of())


@pytest.mark.parametrize("rule", ["dip-ca=0.5,gamma=0.1,top_m=200%", "dip-ca=0.5,gamma=0.1,warm_up=yes"])
def test_states_are_forgotten(rule: str) -> None:
    """A cache that is never emptied keeps its counts; one that is starts over, and so does the rule."""
    rng = np.random.default_rng(7)
    outputs = outputs_of(rng)
    at_work = partial(block_of, rule, np.arange(N_UNITS))
    emptied = at_work(SimulationParams("mask-first-lfu", {"layers.0": 15}, reset_tokens=(0, 15)))
    again = np.concatenate([outputs[:15], outputs[:15]])
    used = served(emptied, again, (0, 15))
    np.testing.assert_array_equal(used[:15], used[15:])
    kept = at_work(SimulationParams("mask-first-lfu", {"layers.0": 15}))
    used = served(kept, again, (0, 15))
    assert not np.array_equal(used[:15], used[15:])
