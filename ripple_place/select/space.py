"""The share of a block's units that a rule keeps, where it is given for a whole FFN."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.blocks import COLUMN
from ripple_place.errors import UsageError
from ripple_place.trace.dip import KeepLargest, split_density
from ripple_place.trace.rule_text import Amount

if TYPE_CHECKING:
    from ripple_place.select.rule import BlockView
    from ripple_place.trace.rule_text import RuleText


def keep_of(written: RuleText, example: str) -> float:
    """Return the KEEP of a rule that is written ``NAME=KEEP`` or ``NAME,keep=P%``: a share above 0, at most 1.

    Raises
    ------
    UsageError
        If there is none, or several.
    """
    options = written.options
    texts = [text for text in (written.value, options.get("keep"), options.get("drop")) if text is not None]
    amount = Amount.parse(texts[0]) if len(texts) == 1 else None
    share = None if amount is None else amount.number / 100 if amount.is_percent else amount.number
    if share is not None and "drop" in options:
        share = 1 - share
    if share is None or not 0 < share <= 1:
        raise UsageError(
            f"rule {written}", found=" and ".join(texts) or "nothing that says how much is kept",
            expected="a share above 0 and of at most 1", remedy=f"write, for instance, {example}",
        )  # fmt: skip
    return share


def n_kept(keep: float, block: BlockView, *, is_split: bool = True) -> int:
    """Return how many units of a block are kept, for a density of the FFN's weights.

    Parameters
    ----------
    keep : float
        Of the whole FFN; of a block of neurons, the share of these.
    block : BlockView
    is_split : bool
        Whether inputs and down columns get different shares, as DIP has it, or both get `keep`.
    """
    if block.unit == COLUMN and is_split:
        keep_in, keep_down = split_density(keep, is_gated=block.is_gated)
        keep = keep_in if block.is_input else keep_down
    return KeepLargest(keep).n_kept(block.n_neurons)
