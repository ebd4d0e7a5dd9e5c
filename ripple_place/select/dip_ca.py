"""DIP with cache-aware masking (DIP-CA, arXiv 2412.01380, section 5): what is in DRAM counts for more.

A unit's score is the size of its activation. Scores of units that are not in DRAM are multiplied by gamma, but for
those of the `fixed_top_n` largest; then the largest scores are kept, as many as without. A gamma of 0 is the limit of
small ones: what is in DRAM comes first, then the largest of the rest. With ``blend=yes`` the score
becomes ``gamma score + (1 - gamma) [in DRAM]``. With ``top_m=M`` the authors' other way is taken, "approximate
caching": kept are, in turn, the `fixed_top_n` largest, those in DRAM among the k largest, those in DRAM among the M
largest, and the rest of the k largest. There, scores are ``gamma c / max(c) + (1 - gamma) score`` with c the number of
tokens that used a unit before.

With ``warm_up=yes``, gamma of the t-th token since the cache was emptied is ``1 - (1 - gamma)(1 - gamma^(t/4))``: as
the authors' code has it, from no effect to all of it. Approximate caching has no warm-up there: its gamma weighs
against the scores. What is kept does not depend on where units lie, unless scores are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from ripple_place.blocks import WEIGHT_UNITS
from ripple_place.errors import UsageError
from ripple_place.kernels.compiled import compiled
from ripple_place.kernels.largest import mark_largest
from ripple_place.select.knowledge import Knowledge
from ripple_place.select.rule import PricedBlock
from ripple_place.select.space import keep_of, n_kept
from ripple_place.trace.rule_text import Amount

if TYPE_CHECKING:
    from ripple_place.select.rule import BlockView
    from ripple_place.trace.rule_text import RuleText

DEFAULT_GAMMA = 0.2
"""Section 5 of the paper reports on it."""
_WARM_UP_TOKENS = 4
_LEAST_GAMMA = 2.0**-512
"""Stands for 0, at which units outside of DRAM would all score the same, and slots would decide. Times float32 it is
exact, and below whatever is in DRAM."""
_OPTIONS = ("keep", "drop", "gamma", "fixed_top_n", "top_m", "warm_up", "blend", "sees")


class Masking(NamedTuple):
    """What the kernel takes beside a row.

    Attributes
    ----------
    n_kept, n_exempt, n_considered : int
        k, the authors' n and m; an m of 0 means reweighting.
    gamma : float
    warms_up, blends : bool
    n_rows : ndarray of shape (1,), int64
        Tokens since the cache was emptied; counted in place.
    n_uses : ndarray of shape (n_neurons,), float64
        By slot, tokens that used it; counted in place.
    scores : ndarray of shape (2, n_neurons), float64
        Scratch.
    marks : ndarray of shape (4, n_neurons), uint8
        Scratch.
    """

    n_kept: int
    n_exempt: int
    n_considered: int
    gamma: float
    warms_up: bool
    blends: bool
    n_rows: Any
    n_uses: Any
    scores: Any
    marks: Any


@compiled
def choose(slots: Any, worth: Any, is_resident: Any, masking: Masking, is_used: Any) -> None:
    """Write which of a row's active units are used; parameters as `flash_aware.choose`, `worth` being the sizes."""
    n = slots.size
    scores = masking.scores[0][:n]
    gamma = masking.gamma
    if masking.warms_up:
        gamma = 1.0 - (1.0 - gamma) * (1.0 - gamma ** (masking.n_rows[0] / _WARM_UP_TOKENS))
    masking.n_rows[0] += 1
    if masking.n_considered > 0:
        _approximate(slots, worth, is_resident, masking, gamma, scores, is_used)
    else:
        is_exempt = masking.marks[0][:n]
        mark_largest(worth, masking.n_exempt, is_exempt)
        for i in range(n):
            scores[i] = worth[i]
            if not is_exempt[i]:
                if masking.blends:
                    scores[i] = gamma * worth[i] + (1.0 - gamma) * is_resident[i]
                elif not is_resident[i]:
                    scores[i] = max(gamma, _LEAST_GAMMA) * worth[i]
        mark_largest(scores, masking.n_kept, is_used)
    for i in range(n):
        masking.n_uses[slots[i]] += is_used[i]


@compiled
def _approximate(
    slots: Any, worth: Any, is_resident: Any, masking: Masking, gamma: float, scores: Any, is_used: Any
) -> None:
    """Keep k units in the order of the authors' `approximate_caching`."""
    n = slots.size
    most = masking.n_uses.max()
    for i in range(n):
        share = masking.n_uses[slots[i]] / most if most > 0.0 else 0.0
        scores[i] = gamma * share + (1.0 - gamma) * worth[i]
    in_n, in_k, in_m = masking.marks[0][:n], masking.marks[1][:n], masking.marks[2][:n]
    mark_largest(scores, masking.n_exempt, in_n)
    mark_largest(scores, masking.n_kept, in_k)
    mark_largest(scores, masking.n_considered, in_m)
    is_best, of_group = masking.marks[3][:n], masking.scores[1][:n]
    is_used[:] = 0
    n_left = min(n, masking.n_kept)
    for group in range(4):
        n_members = 0
        for i in range(n):
            is_member = in_k[i] != 0
            if group == 0:
                is_member = in_n[i] != 0
            elif group < 3:
                is_member = is_resident[i] != 0 and (in_k[i] if group == 1 else in_m[i]) != 0
            # Scores are not negative: nobody else is among the best as long as there are members.
            of_group[i] = -1.0
            if is_member and not is_used[i]:
                of_group[i] = scores[i]
                n_members += 1
        n_taken = min(n_members, n_left)
        mark_largest(of_group, n_taken, is_best)
        for i in range(n):
            is_used[i] |= is_best[i]
        n_left -= n_taken


@dataclass(frozen=True)
class DipCacheAware:
    """The rule.

    Parameters
    ----------
    keep : float
        Density of the FFN, split as `dip` does; of neurons, the share that is kept.
    gamma : float
        0 to 1; 1 has no effect.
    fixed_top_n, top_m : Amount or None
        Units, or a percentage of the k that are kept.
    warms_up, blends : bool
    knowledge : Knowledge
    """

    name: ClassVar[str] = "dip-ca"
    changes_output: ClassVar[bool] = True
    uses_gate: ClassVar[bool] = False
    target: ClassVar[float | None] = None
    units: ClassVar[tuple[str, ...]] = WEIGHT_UNITS
    keep: float
    gamma: float = DEFAULT_GAMMA
    fixed_top_n: Amount | None = None
    top_m: Amount | None = None
    warms_up: bool = False
    blends: bool = False
    knowledge: Knowledge = Knowledge("magnitude")  # noqa: RUF009 - frozen

    def __post_init__(self) -> None:
        if not 0 <= self.gamma <= 1:
            raise UsageError(
                f"rule {self}",
                found=f"gamma {self.gamma:g}",
                expected="0 to 1",
                remedy="write, for instance, gamma=0.2",
            )
        if self.top_m is not None and (self.blends or self.warms_up):
            raise UsageError(
                f"rule {self}", found=f"{'blend' if self.blends else 'warm_up'}=yes and top_m",
                expected="one of the two ways to favour what is in DRAM", remedy="leave one out",
            )  # fmt: skip

    @classmethod
    def from_text(cls, written: RuleText) -> DipCacheAware:
        """Return the rule that a text names; raises UsageError if it is none."""
        written.check_options(_OPTIONS)
        options = written.options
        gamma = Amount.parse(options.get("gamma", str(DEFAULT_GAMMA)))
        counts = {key: Amount.parse(options[key]) for key in ("fixed_top_n", "top_m") if key in options}
        flags = {key: options.get(key, "no") for key in ("warm_up", "blend")}
        wrong = [f"gamma={options['gamma']}"] if gamma is None or gamma.is_percent else []
        wrong += [
            f"{key}={options[key]}" for key, amount in counts.items()
            if amount is None or not (amount.is_percent or amount.number % 1 == 0)
        ]  # fmt: skip
        wrong += [f"{key}={text}" for key, text in flags.items() if text not in ("yes", "no")]
        if wrong or gamma is None:
            raise UsageError(
                f"rule {written}", found=", ".join(wrong), expected="gamma=X, fixed_top_n=N and top_m=M as numbers or "
                "as P% of what is kept, warm_up=yes, blend=yes", remedy="write, for instance, dip-ca=0.5,gamma=0.2",
            )  # fmt: skip
        return cls(
            keep_of(written, "dip-ca=0.5"), gamma.number, counts.get("fixed_top_n"), counts.get("top_m"),
            flags["warm_up"] == "yes", flags["blend"] == "yes",
            Knowledge("magnitude", options.get("sees", "predictor")),
        )  # fmt: skip

    def of_block(self, block: BlockView) -> PricedBlock:
        """Return the kernel, and k, n and m of the block.

        Raises
        ------
        UsageError
            Unless n < k < m, as the authors demand.
        """
        k, n = n_kept(self.keep, block), block.n_neurons
        exempt, considered = (_units(amount, k) for amount in (self.fixed_top_n, self.top_m))
        if exempt >= max(k, 1) or (self.top_m is not None and considered <= k):
            raise UsageError(
                f"--select {self}: {block.name}", found=f"fixed_top_n {exempt}, {k} units kept"
                + (f", top_m {considered}" if self.top_m is not None else ""),
                expected="fixed_top_n below what is kept, and top_m above", remedy="give percentages of what is kept: "
                "fixed_top_n=50%,top_m=200%",
            )  # fmt: skip
        masking = Masking(
            k, exempt, considered, self.gamma, self.warms_up, self.blends, np.zeros(1, np.int64), np.zeros(n),
            np.empty((2, n)), np.empty((4, n), np.uint8),
        )  # fmt: skip
        return PricedBlock(
            choose, masking, np.ones(n, np.float32), is_squared=False, state=(masking.n_rows, masking.n_uses),
            foresees_reads=False,
        )  # fmt: skip

    def __str__(self) -> str:
        """Write the rule as it is parsed."""
        parts = [f"{self.name}={self.keep:g},gamma={self.gamma:g}"]
        parts += [
            f"{key}={amount.number:g}{'%' if amount.is_percent else ''}"
            for key, amount in (("fixed_top_n", self.fixed_top_n), ("top_m", self.top_m)) if amount is not None
        ]  # fmt: skip
        parts += [f"{key}=yes" for key, is_set in (("warm_up", self.warms_up), ("blend", self.blends)) if is_set]
        parts += [] if self.knowledge.sees == "predictor" else [f"sees={self.knowledge.sees}"]
        return ",".join(parts)


def _units(amount: Amount | None, k: int) -> int:
    """Return a number of units: as it is given, or a percentage of k, rounded down."""
    if amount is None:
        return 0
    return int(amount.number / 100 * k) if amount.is_percent else int(amount.number)
