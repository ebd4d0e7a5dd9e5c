"""What a step cost: differences of the reader's counters."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.generation.plain_activities import Predicted
from ripple_place.generation.step import Step

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ripple_place.generation.decision import Activity
    from ripple_place.runtime.layout_reader import LayoutReader

_COUNTS = ("n_asked", "n_hits", "n_reads", "n_requests", "bytes_read")
_TIMES = ("read_us", "waited_us", "predicted_us")
_OUTCOMES = ("n_true", "n_predicted", "n_both")


class Meter:
    """Reads the counters before and after a step.

    Parameters
    ----------
    reader : LayoutReader
    activities : sequence of Activity
    """

    def __init__(self, reader: LayoutReader, activities: Sequence[Activity]) -> None:
        self._reader = reader
        self._checked = [each for each in activities if isinstance(each, Predicted) and each.is_checked]
        self.start()

    def start(self) -> None:
        """Note where the counters stand."""
        counters = self._reader.counters
        self._counts = {name: counters.total(name) for name in _COUNTS}
        self._n_rows = {name: len(block.read_us) for name, block in counters.blocks.items()}
        self._outcomes = {name: self._outcome(name) for name in _OUTCOMES}

    def step_of(self, n_rows: int, elapsed_us: float) -> Callable[..., Step]:
        """Return what makes a step of the next token, its NLL, and whether rows were of a prompt."""
        counters = self._reader.counters
        counts = {name: counters.total(name) - before for name, before in self._counts.items()}
        times = {
            name: float(sum(sum(getattr(block, name)[self._n_rows[key] :]) for key, block in counters.blocks.items()))
            for name in _TIMES
        }
        outcomes = {name: self._outcome(name) - before for name, before in self._outcomes.items()}

        def step(token_id: int | None, nll: float | None, *, is_prefill: bool, best_id: int | None = None) -> Step:
            return Step(
                token_id, n_rows, is_prefill, nll, elapsed_us, times["waited_us"], times["read_us"],
                times["predicted_us"], **counts, **(outcomes if self._checked else {}), best_id=best_id,
            )  # fmt: skip

        return step

    def _outcome(self, name: str) -> int:
        return sum(getattr(each, name) for each in self._checked)
