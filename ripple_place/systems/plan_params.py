"""What the planner is told, and how it is written: ``powerinfer2[,batches=1-4][,cold-share=50%]...``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.errors import UsageError
from ripple_place.trace.rule_text import Amount, RuleText
from ripple_place.units import parse_count, parse_time_us

if TYPE_CHECKING:
    from collections.abc import Callable

POWERINFER2 = "powerinfer2"
CLUSTER_ROWS = 512
"""Rows that the CPU takes at a time (arXiv 2406.06282, its example of Bamboo-7B at batch size 1)."""
CLUSTERS_OF_BLOCK = 28
"""Bamboo-7B's 14336 rows by 512: narrower blocks have as many clusters, of fewer rows."""
ATTENTION_WEIGHTS = 2.5
"""Attention weights of a layer by the square of the hidden size: Bamboo-7B's 42 M over 4096 squared."""
_PARTS, _WEIGHT_BYTES = 3, 2
"""Parts of a neuron and bytes of a weight that a bundle is taken to have, where it stands for the width of a layer."""
MAX_BATCH = 2**16
MAX_OVER_PREDICT = 100.0


@dataclass(frozen=True)
class PlanParams:
    """What the planner is told beside the profile.

    Parameters
    ----------
    batch_sizes : tuple of int
        To plan for, ascending; the paper plans for 1 to 4.
    cluster_rows : int, optional
        Neurons of a hot cluster; default 512, or fewer in blocks narrower than 14336.
    cold_share : float
        Share of the DRAM budget that hot neurons leave to cold ones, at least.
    over_predict : float
        Candidates that the CPU looks at for each neuron that fires.
    attention_us : float, optional
        Time of one layer's attention, under which hot neurons that are not resident are read; default as
        `attention_of` has it.

    Raises
    ------
    UsageError
        If a number is out of range, or batch sizes do not ascend.
    """

    batch_sizes: tuple[int, ...] = (1, 2, 3, 4)
    cluster_rows: int | None = None
    cold_share: float = 0.5
    over_predict: float = 1.25
    attention_us: float | None = None

    def __post_init__(self) -> None:
        sizes, rows = self.batch_sizes, self.cluster_rows
        fits = {
            "batches": bool(sizes) and list(sizes) == sorted(set(sizes)) and sizes[0] >= 1 and sizes[-1] <= MAX_BATCH,
            "cluster-rows": rows is None or 1 <= rows < 2**31,
            "cold-share": 0 <= self.cold_share <= 1,
            "over-predict": 1 <= self.over_predict <= MAX_OVER_PREDICT,
            "attention": self.attention_us is None or 0 <= self.attention_us < 1e9,
        }
        for key, is_well in fits.items():
            if not is_well:
                raise _refused(key, "a number out of range, or sizes that do not ascend")

    @classmethod
    def parse(cls, text: str) -> PlanParams:
        """Read what ``--plan`` says.

        >>> PlanParams.parse("powerinfer2,batches=1-2,cold-share=25%").cold_share
        0.25

        Raises
        ------
        UsageError
            If there is no such plan, or an option does not parse or is out of range.
        """
        written = RuleText.parse(text)
        if written is None or written.name != POWERINFER2 or written.value is not None:
            raise UsageError(
                f"--plan {text}", found="no plan by that name", expected=f"{POWERINFER2}[,key=value]...",
                remedy=f"write {POWERINFER2}, perhaps with options (docs/systems.md)",
            )  # fmt: skip
        values: dict[str, Any] = {}
        for key, value in written.options.items():
            if key not in _OPTIONS:
                raise _refused(key, "no option of the plan")
            field, read = _OPTIONS[key]
            if (number := read(value)) is None:
                raise _refused(key, repr(value))
            values[field] = number
        return cls(**values)

    def attention_of(self, bundle_bytes: int, dram_bytes_per_s: float) -> float:
        """Return the time of one layer's attention, in us: its weights at what DRAM gives.

        As given, or from the width that bundles of three rows in 16 bits tell.

        >>> round(PlanParams().attention_of(24576, 59.6e9))
        1407
        """
        if self.attention_us is not None:
            return self.attention_us
        hidden = bundle_bytes / (_PARTS * _WEIGHT_BYTES)
        return ATTENTION_WEIGHTS * hidden**2 * _WEIGHT_BYTES * 1e6 / dram_bytes_per_s

    def rows_of_cluster(self, n_neurons: int) -> int:
        """Return the neurons of a hot cluster in a block."""
        return self.cluster_rows or max(1, min(CLUSTER_ROWS, n_neurons // CLUSTERS_OF_BLOCK))


def _refused(key: str, found: str) -> UsageError:
    return UsageError(
        f"--plan {POWERINFER2},{key}", found=found,
        expected="batches=1-4 (sizes up to 65536), cluster-rows=512, cold-share=50%, over-predict=1.25 (1 to 100), "
        "attention=440us", remedy="correct the option",
    )  # fmt: skip


def _read_batches(text: str) -> tuple[int, ...] | None:
    """Read ``1-4``, or sizes with a slash between them, ``1/2/8``; None if it is neither."""
    first, is_range, last = text.partition("-")
    counts = [parse_count(part) for part in ((first, last) if is_range else text.split("/"))]
    sizes = [size for size in counts if size is not None]
    if len(sizes) < len(counts) or (is_range and sizes[1] - sizes[0] > MAX_BATCH):
        return None
    return tuple(range(sizes[0], sizes[1] + 1)) if is_range else tuple(sizes)


def _read_number(text: str) -> float | None:
    amount = Amount.parse(text)
    return None if amount is None else amount.number / (100 if amount.is_percent else 1)


def _read_time(text: str) -> float | None:
    try:
        return parse_time_us(text)
    except ValueError:
        return None


_OPTIONS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "batches": ("batch_sizes", _read_batches),
    "cluster-rows": ("cluster_rows", parse_count),
    "cold-share": ("cold_share", _read_number),
    "over-predict": ("over_predict", _read_number),
    "attention": ("attention_us", _read_time),
}
"""By option, the field of `PlanParams`, and what reads it."""
