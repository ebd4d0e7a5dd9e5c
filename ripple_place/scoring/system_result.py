"""What one system cost, and what it must know for that."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.select.registry import parse_rule

if TYPE_CHECKING:
    from ripple_place.flash.results import LayoutResult
    from ripple_place.scoring.system_layouts import SystemLayout
    from ripple_place.systems.knobs import Knobs
    from ripple_place.systems.system import System


@dataclass(frozen=True, eq=False)
class SystemResult:
    """What one system cost.

    Attributes
    ----------
    system : System
    knobs : Knobs
        Those that were used: of activations with zeros, or without.
    layout : SystemLayout
    result : LayoutResult
    dram_bytes : int
        What its caches hold when they are full.
    predictor_bytes : int or None
        DRAM that the profile's predictors take beside the budget; None where it has none.
    hit_ratio : float or None
        Share of what fires that DRAM held, where the result counts more than what fires.
    """

    system: System
    knobs: Knobs
    layout: SystemLayout
    result: LayoutResult
    dram_bytes: int
    predictor_bytes: int | None = None
    hit_ratio: float | None = None

    @property
    def knows(self) -> str:
        """What must be known or predicted of a token before it is served."""
        if self.knobs.uses_everything:
            return "nothing"
        if self.knobs.gate_first in ("full-gate", "resident"):
            return "nothing: all gates are read" if self.knobs.gate_first == "full-gate" else "nothing: gates in DRAM"
        knowledge = parse_rule(self.knobs.uses).knowledge.on(self.knobs.unit)
        if knowledge.of == "nothing":
            return "inputs, then outputs" if self.knobs.unit == "column" else "nothing"
        return knowledge.sentence

    @property
    def is_predicting(self) -> bool:
        """Whether a predictor must say what is served."""
        return self.knows.startswith("a predictor")

    def to_json(self, baseline: LayoutResult) -> dict[str, Any]:
        """Return the entry of ``layouts``: the keys of `ripple_place.flash.results.LayoutResult`, and the system's."""
        document = self.result.to_json(baseline)
        time = self.result.token_time
        return {
            **document,
            "name": self.system.name,
            "label": self.system.name,
            "system": self.system.name,
            "knobs": asdict(self.knobs),
            "policy": self.layout.cache,
            "dram_bytes": self.dram_bytes,
            "cache_hit_ratio": document["cache_hit_ratio"] if self.hit_ratio is None else self.hit_ratio,
            "lossless": self.knobs.is_lossless,
            "knows": self.knows,
            "predictor_bytes": self.predictor_bytes if self.is_predicting else None,
            "tokens_per_s": None if time is None else 1e6 / float(time.token_us.mean()),
        }
