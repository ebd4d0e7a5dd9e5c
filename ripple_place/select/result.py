"""What a rule cost, on flash and in loss."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ripple_place.select.selected_block import WorthCount

LOSS_KEYS = ("nll", "nll_rise", "nll_rise_se", "kl", "perplexity", "agreement")


@dataclass(frozen=True, eq=False)
class SelectionResult:
    """What a rule dropped.

    Attributes
    ----------
    rule : str
        As it is written.
    needs : str
        Who could run it.
    worth : WorthCount
        Of all blocks.
    n_tokens : int
    has_importance : bool
        Whether worth is known.
    loss : mapping of str to float, or None
        `LOSS_KEYS`, where the rule ran inside the model.
    is_predicted : bool
        Whether what is read was told by a predictor.
    """

    rule: str
    needs: str
    worth: WorthCount
    n_tokens: int
    has_importance: bool
    loss: dict[str, Any] | None = None
    is_predicted: bool = False

    def with_loss(self, loss: dict[str, Any]) -> SelectionResult:
        """Return the same with what the rule costs in loss."""
        return replace(self, loss=loss)

    def to_json(self) -> dict[str, Any]:
        """Return the keys that an entry of ``layouts`` has beside those of flash."""
        worth, known = self.worth, self.has_importance
        kept_share = 1 - worth.n_dropped / worth.n_active if worth.n_active else None
        precision = (worth.n_active - worth.n_dropped) / worth.n_chosen if worth.n_chosen else None
        return {
            "select": self.rule,
            "needs": self.needs,
            "kept_share": kept_share,
            "kept_value": 1 - worth.dropped / worth.active if known and worth.active else None,
            "predicted_loss": worth.dropped / self.n_tokens if known else None,
            "recall": kept_share if self.is_predicted else None,
            "precision": precision if self.is_predicted else None,
            **(self.loss or dict.fromkeys(LOSS_KEYS)),
        }
