"""Neuron Chunking (arXiv 2511.18692): windows of neighbours with the most importance for their read time.

Windows of several lengths are laid over the slots. Each scores the sum of the sizes of its activations over the time
of one read of its length. The best are taken first, those that overlap one that was taken or exceed what is left of
the budget are skipped, until the budget of units is spent. All units of a window that is taken are used.

The lengths go from a smallest one to a largest one in steps of the smallest; windows of a length start every so many
bytes: their length, or the jump cap where that is less. The authors publish both by the shape of a matrix for two
Jetson boards (Table 2); for other shapes the nearest one in the table is taken. Their budgets follow TEAL's sparsities
of each matrix; here KEEP is split as DIP does unless ``split=even``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ripple_place.blocks import WEIGHT_UNITS
from ripple_place.errors import UsageError
from ripple_place.kernels.compiled import compiled
from ripple_place.select.knowledge import Knowledge
from ripple_place.select.rule import PricedBlock
from ripple_place.select.space import keep_of, n_kept

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array, Int64Array
    from ripple_place.select.rule import BlockView
    from ripple_place.trace.rule_text import RuleText

LARGEST_KIB = {"agx": 236, "nano": 348}
"""Largest window (section 4): where the read bandwidth of each board's drive is reached."""
PUBLISHED_KIB = {
    (3584, 3584): ((20, 20), (24, 36)),
    (8960, 1536): ((16, 16), (20, 20)),
    (896, 4864): ((8, 8), (8, 8)),
    (4096, 1024): ((12, 12), (16, 16)),
    (3584, 18944): ((8, 8), (8, 8)),
    (4096, 4096): ((20, 20), (24, 24)),
    (18944, 3584): ((32, 32), (36, 36)),
    (1536, 1536): ((16, 12), (16, 12)),
    (1536, 256): ((8, 8), (8, 8)),
    (896, 128): ((8, 8), (8, 8)),
    (14336, 4096): ((32, 32), (40, 36)),
    (4864, 896): ((12, 16), (20, 16)),
    (3584, 512): ((8, 12), (8, 12)),
    (896, 896): ((8, 8), (8, 8)),
    (4096, 14336): ((8, 8), (8, 8)),
    (1536, 8960): ((8, 8), (8, 8)),
}
"""Smallest window and jump cap by (rows, columns), on AGX and on Nano (Table 2)."""
_OPTIONS = ("keep", "drop", "board", "split", "sees")


class Windows(NamedTuple):
    """What the kernel takes beside a row.

    Attributes
    ----------
    starts, lengths : ndarray of shape (n_windows,), int64
        In slots.
    read_us : ndarray of shape (n_windows,), float64
        Time of a read of each window's length.
    budget : int
        Units that may be used.
    sums : ndarray of shape (n_neurons + 1,), float64
        Scratch.
    is_taken : ndarray of shape (n_neurons,), uint8
        Scratch.
    """

    starts: Any
    lengths: Any
    read_us: Any
    budget: int
    sums: Any
    is_taken: Any


@compiled
def choose(slots: Any, worth: Any, is_resident: Any, windows: Windows, is_used: Any) -> None:
    """Write which of a row's active units are used; parameters as `flash_aware.choose`, `worth` being the sizes.

    Of windows with equal scores, the shorter comes first, then the one that starts earlier.
    """
    sums, is_taken = windows.sums, windows.is_taken
    sums[:] = 0.0
    for i in range(slots.size):
        sums[slots[i] + 1] = worth[i]
    for slot in range(is_taken.size):
        sums[slot + 1] += sums[slot]
    is_taken[:] = 0
    n_windows = windows.starts.size
    scores = np.empty(n_windows)
    for i in range(n_windows):
        start = windows.starts[i]
        scores[i] = -(sums[start + windows.lengths[i]] - sums[start]) / windows.read_us[i]
    n_left = windows.budget
    for i in np.argsort(scores, kind="mergesort"):
        if n_left == 0 or scores[i] == 0.0:
            break
        start, length = windows.starts[i], windows.lengths[i]
        if length > n_left:
            continue
        is_free = True
        for slot in range(start, start + length):
            if is_taken[slot]:
                is_free = False
                break
        if is_free:
            is_taken[start : start + length] = 1
            n_left -= length
    for i in range(slots.size):
        is_used[i] = is_taken[slots[i]]


def window_grid(
    n_slots: int, bundle_bytes: int, smallest_bytes: int, largest_bytes: int, jump_bytes: int
) -> tuple[Int64Array, Int64Array]:
    """Return first slot and length of every window, shorter ones first; each has at least one slot."""
    starts: list[Int64Array] = []
    lengths: list[Int64Array] = []
    seen = set()
    for n_bytes in range(smallest_bytes, largest_bytes + 1, smallest_bytes):
        length = min(n_slots, max(1, n_bytes // bundle_bytes))
        if length in seen:
            continue
        seen.add(length)
        stride = max(1, min(n_bytes, jump_bytes) // bundle_bytes)
        first = np.unique(np.append(np.arange(0, n_slots - length + 1, stride), n_slots - length))
        starts.append(first.astype(np.int64))
        lengths.append(np.full(first.size, length, np.int64))
    return np.concatenate(starts), np.concatenate(lengths)


@dataclass(frozen=True)
class Chunk:
    """The rule.

    Parameters
    ----------
    keep : float
        Density of the FFN; of neurons, the share that is used.
    board : str
        One of `LARGEST_KIB`: whose published sizes are taken.
    is_split : bool
        Whether inputs and down columns get the shares of `dip`, or both `keep`.
    knowledge : Knowledge
    """

    name: ClassVar[str] = "chunk"
    changes_output: ClassVar[bool] = True
    uses_gate: ClassVar[bool] = False
    target: ClassVar[float | None] = None
    units: ClassVar[tuple[str, ...]] = WEIGHT_UNITS
    keep: float
    board: str = "agx"
    is_split: bool = True
    knowledge: Knowledge = Knowledge("magnitude")  # noqa: RUF009 - frozen

    @classmethod
    def from_text(cls, written: RuleText) -> Chunk:
        """Return the rule that a text names; raises UsageError if it is none."""
        written.check_options(_OPTIONS)
        board, split = written.options.get("board", "agx"), written.options.get("split", "dip")
        if board not in LARGEST_KIB or split not in ("dip", "even"):
            raise UsageError(
                f"rule {written}", found=f"board={board},split={split}",
                expected=f"board={' or '.join(LARGEST_KIB)}, and split=dip or even", remedy="write one of them",
            )  # fmt: skip
        knowledge = Knowledge("magnitude", written.options.get("sees", "predictor"))
        return cls(keep_of(written, "chunk=0.5"), board, split == "dip", knowledge)

    def of_block(self, block: BlockView) -> PricedBlock:
        """Return the kernel, the block's windows and what reads of their lengths take."""
        smallest_kib, jump_kib = self.sizes_kib(block)
        assert block.cost.bundle_bytes is not None
        starts, lengths = window_grid(
            block.n_neurons, block.cost.bundle_bytes, smallest_kib << 10, LARGEST_KIB[self.board] << 10, jump_kib << 10
        )
        read_us: Float64Array = block.cost.run_cost(block.n_neurons)[lengths]
        windows = Windows(
            starts, lengths, read_us, n_kept(self.keep, block, is_split=self.is_split), np.empty(block.n_neurons + 1),
            np.empty(block.n_neurons, np.uint8),
        )  # fmt: skip
        return PricedBlock(choose, windows, np.ones(block.n_neurons, np.float32), is_squared=False)

    def sizes_kib(self, block: BlockView) -> tuple[int, int]:
        """Return smallest window and jump cap of a block, those of the published shape that is nearest."""
        rows, columns = block.n_neurons, block.n_opposite or block.n_neurons

        def distance(shape: tuple[int, int]) -> float:
            return abs(math.log(shape[0] / rows)) + abs(math.log(shape[1] / columns))

        sizes = PUBLISHED_KIB[min(PUBLISHED_KIB, key=distance)]
        return sizes[list(LARGEST_KIB).index(self.board)]

    def __str__(self) -> str:
        """Write the rule as it is parsed."""
        parts = [f"{self.name}={self.keep:g}"]
        parts += [] if self.board == "agx" else [f"board={self.board}"]
        parts += [] if self.is_split else ["split=even"]
        parts += [] if self.knowledge.sees == "predictor" else [f"sees={self.knowledge.sees}"]
        return ",".join(parts)
