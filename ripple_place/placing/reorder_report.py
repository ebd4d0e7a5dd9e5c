"""What a run of `reorder` came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.checkpoint.names import PREDICTORS_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.checkpoint.output.plan import RewritePlan
    from ripple_place.checkpoint.proof.verify import VerificationReport
    from ripple_place.placing.block_report import BlockReport
    from ripple_place.placing.comparison import OrderingComparison
    from ripple_place.placing.copies import CopiesReport
    from ripple_place.placing.dram_report import DramReport
    from ripple_place.placing.params import PlacingParams
    from ripple_place.placing.placed import Placed
    from ripple_place.select.tuned import TunedRules


@dataclass(frozen=True)
class ReorderReport:
    """What a run of `reorder` came to.

    Attributes
    ----------
    ordering : str
        The ordering that was used.
    seconds : float
    blocks : mapping of str to BlockReport
        By block; empty where a given placement was applied.
    unplaced : tuple of str
        Blocks of the model that stay in original order.
    plan : RewritePlan or None
        What was written, or would be; None without a checkpoint.
    verification : VerificationReport or None
        What was checked in what was written.
    warnings : tuple of str
        How the result may mislead.
    dram, comparison, copies
        See `ripple_place.placing.placed.Placed`.
    is_refitted : bool
        Whether orders were made once more on all rows after they were judged.
    tuned : TunedRules or None
        Rules that were tuned for the output.
    neuron_plan : mapping of str to anything JSON has, or None
        Which neurons are hot, as ``plan.json`` has it, if that was planned.
    """

    ordering: str
    seconds: float
    blocks: Mapping[str, BlockReport]
    unplaced: tuple[str, ...] = ()
    plan: RewritePlan | None = None
    verification: VerificationReport | None = None
    warnings: tuple[str, ...] = ()
    dram: DramReport | None = None
    comparison: OrderingComparison | None = None
    copies: CopiesReport | None = None
    is_refitted: bool = False
    tuned: TunedRules | None = None
    neuron_plan: Mapping[str, Any] | None = None

    @classmethod
    def of_placed(cls, params: PlacingParams, placed: Placed) -> ReorderReport:
        """Return the report of a run that has placed, but not written anything yet."""
        warnings: tuple[str, ...] = ()
        if placed.cut_short is not None:
            warnings = (f"the search was cut short ({placed.cut_short}): another run may find another placement",)
        return cls(
            params.ordering, 0.0, placed.reports, warnings=warnings, dram=placed.dram,
            comparison=placed.comparison, copies=placed.copies, is_refitted=bool(params.refit),
        )  # fmt: skip

    @property
    def _bytes_of_predictors(self) -> int | None:
        """Size of the file of predictors, written or to be; None if there is none."""
        predictors = None if self.plan is None else self.plan.additions.get(PREDICTORS_FILE)
        return None if predictors is None else predictors.size_bytes

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``reorder --json``."""
        return {
            "ordering": self.ordering,
            "seconds": self.seconds,
            "blocks": {name: block.to_json() for name, block in self.blocks.items()},
            "orderings": self.comparison.to_json() if self.comparison else None,
            "dram": self.dram.to_json() if self.dram else None,
            "copies": self.copies.to_json() if self.copies else None,
            "blocks_in_original_order": list(self.unplaced),
            "blocks_ordered_in_bundled_file_alone": list(self.plan.bundled_only) if self.plan else [],
            "formats": list(self.plan.formats) if self.plan else None,
            "stride": self.plan.stride if self.plan else None,
            "gates": self.plan.gates if self.plan else None,
            "bytes_written": self.plan.written_bytes if self.plan else None,
            "bytes_of_predictors": self._bytes_of_predictors,
            "verified": self.verification.as_json() if self.verification else None,
            "selection": self.tuned.to_json() if self.tuned else None,
            "neuron_plan": self.neuron_plan,
            "warnings": list(self.warnings),
        }
