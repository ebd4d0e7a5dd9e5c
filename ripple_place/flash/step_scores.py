"""What the steps of a batch take."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class StepScores:
    """What consecutive steps of one batch size took, on average.

    Attributes
    ----------
    batch, n_steps : int
    flash_time_us_per_step : float
    step_time_us_per_step : float or None
        Reading and computing together; None where the cost of computing is unknown.
    """

    batch: int
    n_steps: int
    flash_time_us_per_step: float
    step_time_us_per_step: float | None

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``steps``."""
        return {**asdict(self), "flash_time_us_per_token": self.flash_time_us_per_step / self.batch}
