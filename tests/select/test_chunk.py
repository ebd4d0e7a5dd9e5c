"""Neuron Chunking: its windows and its greedy choice against plain ones, and whose published sizes a block takes."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ripple_place.errors import UsageError
from ripple_place.flash.read_cost import ReadCost
from ripple_place.select.chunk import LARGEST_KIB, PUBLISHED_KIB, Chunk, Windows, choose, window_grid
from ripple_place.select.registry import parse_rule
from ripple_place.select.rule import BlockView, PricedBlock, Tuning
from tests.flash.builders import linear_device
from tests.reference import selection

TABLE_2 = """
3584x3584 20/20 24/36; 8960x1536 16/16 20/20; 896x4864 8/8 8/8; 4096x1024 12/12 16/16; 3584x18944 8/8 8/8;
4096x4096 20/20 24/24; 18944x3584 32/32 36/36; 1536x1536 16/12 16/12; 1536x256 8/8 8/8; 896x128 8/8 8/8;
14336x4096 32/32 40/36; 4864x896 12/16 20/16; 3584x512 8/12 8/12; 896x896 8/8 8/8; 4096x14336 8/8 8/8;
1536x8960 8/8 8/8
"""
"""Of the paper: rows x columns, smallest window / jump cap in KiB on AGX, and on Nano."""


def rule_of(text: str) -> Chunk:
    """Parse a rule."""
    rule = parse_rule(text)
    assert isinstance(rule, Chunk)
    return rule


def view_of(n_units: int, n_opposite: int | None = None, *, name: str = "layers.0", unit: str = "column",
            is_gated: bool = True, bundle_bytes: int = 4096) -> BlockView:  # fmt: skip
    """Return a block as the rule sees it."""
    cost = ReadCost.on_device(linear_device(), bundle_bytes)
    return BlockView(name, n_units, cost, Tuning.nothing(), unit, is_gated, n_opposite)


def windows_at_work(rule: str, view: BlockView) -> Windows:
    """Return what the kernel takes beside a row."""
    block = rule_of(rule).of_block(view)
    assert isinstance(block, PricedBlock)
    assert block.choose is choose
    assert not block.is_squared
    assert block.weight.tolist() == [1] * view.n_neurons
    assert isinstance(block.arguments, Windows)
    return block.arguments


def chosen(windows: Windows, worth: dict[int, float]) -> list[int]:
    """Return the slots that the kernel uses, and check what holds of all its choices."""
    slots = np.array(sorted(worth), np.int32)
    is_used = np.full(slots.size, 9, np.uint8)
    worths = np.array([worth[slot] for slot in slots.tolist()])
    # What is in DRAM does not matter: all of it, or nothing.
    choose(slots, worths, np.ones(slots.size, np.uint8), windows, is_used)
    again = np.full(slots.size, 9, np.uint8)
    choose(slots, worths, np.zeros(slots.size, np.uint8), windows, again)
    np.testing.assert_array_equal(is_used, again)
    assert set(is_used.tolist()) <= {0, 1}
    assert windows.is_taken.sum() <= max(windows.budget, 0)
    assert is_used.sum() <= windows.is_taken.sum()
    return slots[is_used == 1].tolist()


# The windows.


@given(st.integers(1, 60), st.integers(1, 30), st.integers(1, 20), st.integers(0, 60), st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_windows_against_the_twin(n_slots: int, bundle: int, smallest: int, more: int, jump: int) -> None:
    """Sizes below a bundle, blocks below a window, caps below and above the sizes."""
    starts, lengths = window_grid(n_slots, bundle, smallest, smallest + more, jump)
    assert starts.dtype == lengths.dtype == np.int64
    windows = list(zip(starts.tolist(), lengths.tolist(), strict=True))
    assert windows == selection.window_grid(n_slots, bundle, smallest, smallest + more, jump)
    assert len(set(windows)) == len(windows)
    assert all(start >= 0 and length >= 1 and start + length <= n_slots for start, length in windows)
    for length in set(lengths.tolist()):
        # No slot is out of reach of any size unless the jump is longer than the window, which no table has.
        covered = {slot for start, size in windows if size == length for slot in range(start, start + size)}
        assert covered == set(range(n_slots)) or max(1, min(smallest + more, jump) // bundle) > length


def test_windows_by_hand() -> None:
    """Two and four slots, one every two slots, and the last of each at the end."""
    starts, lengths = window_grid(9, 4096, 8 << 10, 16 << 10, 8 << 10)
    assert starts.tolist() == [0, 2, 4, 6, 7, 0, 2, 4, 5]
    assert lengths.tolist() == [2] * 5 + [4] * 4
    # Bundles larger than the largest window: each by itself.
    starts, lengths = window_grid(3, 1 << 20, 8 << 10, 236 << 10, 8 << 10)
    assert (starts.tolist(), lengths.tolist()) == ([0, 1, 2], [1, 1, 1])


# The choice.

N_SLOTS = 20
worths = st.dictionaries(st.integers(0, N_SLOTS - 1), st.integers(1, 8).map(float))
"""Whole numbers, whose sums are exact in any order."""


def windows_of(read_us: np.ndarray, budget: int, smallest: int = 2, largest: int = 7, jump: int = 3) -> Windows:
    """Return windows over slots of one byte."""
    starts, lengths = window_grid(N_SLOTS, 1, smallest, largest, jump)
    return Windows(
        starts, lengths, read_us[lengths], budget, np.full(N_SLOTS + 1, np.nan), np.full(N_SLOTS, 9, np.uint8)
    )


@given(worths, st.integers(0, N_SLOTS + 2), st.integers(1, 4), st.integers(1, 6), st.floats(0, 20), st.floats(0.1, 9))
@settings(max_examples=150, deadline=None)
def test_the_choice_against_the_twin(
    worth: dict[int, float], budget: int, smallest: int, jump: int, overhead: float, slope: float
) -> None:
    """Best first, none that overlaps, none beyond the budget."""
    read_us = overhead + slope * np.arange(N_SLOTS + 1)
    windows = windows_of(read_us, budget, smallest, 7, jump)
    pairs = list(zip(windows.starts.tolist(), windows.lengths.tolist(), strict=True))
    assert chosen(windows, worth) == selection.chunks(worth, pairs, read_us.tolist(), budget)


def test_the_choice_by_hand() -> None:
    """A read costs 4 to start and 1 a slot."""
    read_us = 4.0 + np.arange(N_SLOTS + 1)
    # Alone, slots 4 and 5 score 18 / 6 = 3; with 6 and 7, 22 / 8; then 12 and 13 score 1.
    worth = {4: 9.0, 5: 9.0, 6: 2.0, 7: 2.0, 12: 3.0, 13: 3.0}
    assert chosen(windows_of(read_us, 4, 2, 4, 2), worth) == [4, 5, 12, 13]
    # With cheap bytes the longer window is the better one, and uses up the budget.
    assert chosen(windows_of(40.0 + np.arange(N_SLOTS + 1), 4, 2, 4, 2), worth) == [4, 5, 6, 7]
    # What is left of the budget holds no window: it stays unused.
    assert chosen(windows_of(read_us, 3, 2, 4, 2), worth) == [4, 5]
    assert chosen(windows_of(read_us, 1, 2, 4, 2), worth) == []
    # A window reads slots that are not active, and pays for them from the budget.
    assert chosen(windows_of(read_us, 4, 2, 2, 2), {0: 5.0, 2: 4.0, 8: 1.0}) == [0, 2]


def test_nothing_to_choose() -> None:
    """Nothing active, nothing kept; windows that are worth nothing are left, whatever the budget."""
    read_us = 1.0 + np.arange(N_SLOTS + 1)
    assert chosen(windows_of(read_us, 5), {}) == []
    assert chosen(windows_of(read_us, 0), {3: 1.0}) == []
    windows = windows_of(read_us, N_SLOTS, 2, 2, 2)
    assert chosen(windows, {3: 1.0}) == [3]
    assert windows.is_taken.sum() == 2


def test_equal_scores() -> None:
    """The shorter window comes first, then the one that starts earlier."""
    flat = np.ones(N_SLOTS + 1)
    assert chosen(windows_of(flat, 2, 2, 4, 2), {0: 1.0, 2: 1.0, 6: 1.0}) == [0]
    # Of the budget of four, the two windows of two slots at 0 and at 2 come before that of four, which scores more.
    assert chosen(windows_of(flat, 4, 2, 4, 2), {6: 1.0, 8: 1.0, 12: 1.0}) == [6, 8]
    line = 1.0 * np.arange(N_SLOTS + 1)
    windows = windows_of(line, 4, 2, 4, 2)
    assert chosen(windows, {0: 2.0, 1: 2.0, 2: 2.0, 3: 2.0, 8: 2.0, 9: 2.0}) == [0, 1, 2, 3]


# Sizes and budgets of blocks.


def published() -> dict[tuple[int, int], dict[str, tuple[int, int]]]:
    """Return Table 2."""
    rows = re.findall(r"(\d+)x(\d+) (\d+)/(\d+) (\d+)/(\d+)", TABLE_2)
    numbers = [tuple(map(int, row)) for row in rows]
    return {row[:2]: {"agx": row[2:4], "nano": row[4:]} for row in numbers}  # type: ignore[misc]


@pytest.mark.parametrize("shape", sorted(published()))
def test_published_sizes_of_published_shapes(shape: tuple[int, int]) -> None:
    """Rows are the units of a block, columns the weights of each."""
    view = view_of(*shape)
    for board, sizes in published()[shape].items():
        assert rule_of(f"chunk=0.5,board={board}").sizes_kib(view) == sizes
    assert len(published()) == len(PUBLISHED_KIB) == 16


@pytest.mark.parametrize(
    ("shape", "nearest"),
    [((18000, 3600), (18944, 3584)), ((3072, 8192), (1536, 8960)), ((8192, 3072), (8960, 1536)),
     ((76, 32), (896, 128)), ((100_000, 3584), (18944, 3584))],
)  # fmt: skip
def test_other_shapes_take_the_nearest(shape: tuple[int, int], nearest: tuple[int, int]) -> None:
    """By the factors between their sides; where the other side is unknown, a block counts as square."""
    logs = np.log(np.array(list(published()), float))
    distance = np.abs(logs - np.log(shape)).sum(axis=1)
    assert list(published())[int(distance.argmin())] == nearest
    assert rule_of("chunk=0.5").sizes_kib(view_of(*shape)) == published()[nearest]["agx"]
    assert rule_of("chunk=0.5").sizes_kib(view_of(4000)) == published()[4096, 4096]["agx"]


def test_what_the_kernel_gets() -> None:
    """Windows of the sizes of the block's shape and board, and what the device takes for a read of each length."""
    view = view_of(4864, 896, bundle_bytes=1792)
    for board, (smallest, jump) in published()[4864, 896].items():
        windows = windows_at_work(f"chunk=0.5,board={board}", view)
        expected = selection.window_grid(4864, 1792, smallest << 10, LARGEST_KIB[board] << 10, jump << 10)
        assert list(zip(windows.starts.tolist(), windows.lengths.tolist(), strict=True)) == expected
        run_cost = view.cost.run_cost(4864)
        np.testing.assert_array_equal(windows.read_us, run_cost[[length for _, length in expected]])


@pytest.mark.parametrize(
    ("rule", "name", "more", "budget"),
    [
        ("chunk=0.5", "layers.0.input", {}, 574),
        ("chunk=0.5", "layers.0", {}, 351),
        ("chunk=0.5", "layers.0", {"is_gated": False}, 500),
        ("chunk=0.5,split=even", "layers.0.input", {}, 500),
        ("chunk=0.5,split=even", "layers.0", {}, 500),
        ("chunk=30%", "layers.0", {"unit": "neuron"}, 300),
        ("chunk,drop=70%", "layers.0", {"unit": "neuron"}, 300),
        ("chunk=1", "layers.0.input", {}, 1000),
    ],
)
def test_budgets(rule: str, name: str, more: dict[str, object], budget: int) -> None:
    """Of columns the shares of DIP unless split evenly, of neurons KEEP itself."""
    assert windows_at_work(rule, view_of(1000, 896, name=name, **more)).budget == budget  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["chunk=0.5,split=odd", "chunk=0.5,board=phone"])
def test_what_is_no_choice(text: str) -> None:
    """Boards and splits have names."""
    with pytest.raises(UsageError, match="expected board=agx or nano, and split=dip or even"):
        parse_rule(text)
