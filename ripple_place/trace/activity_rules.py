"""Activity rules: which neurons of a token count as active, and what is kept of their outputs.

numpy is imported only where a rule is applied: the command line imports this module to print its help.

`x` is the input of the down projection, which is what the neurons put out; `g` the output of the activation function
within a gated FFN.

==================== ==================================================================================
``relu``             x is not exactly zero
``threshold=X``      \\|x\\| > X
``top-k=K``          \\|x\\| is among the K largest of the token (those equal to the K-th too), and not zero
``top-k=P%``         the same with K = P % of the block's neurons
``cats=P%``          \\|g\\| >= t, with t the P-th percentile of \\|g\\| over the first tokens [1]_
``teal=P%``          \\|x\\| > t, with t the P-th percentile of \\|x\\| over the first tokens [2]_
``dip=KEEP``         of columns: the largest \\|x\\| of both spaces, KEEP of all the FFN's weights [3]_
``glu-pruning=KEEP`` of columns: all inputs, and the share KEEP of the down columns with the largest \\|x\\| [3]_
``routed``           of experts: the router sends the token to the expert
==================== ==================================================================================

Where the unit is a column, x is also the input of the FFN, for its input columns.

``top-k`` names what is kept, ``cats`` and ``teal`` what is dropped, as their papers do. ``keep=P%`` or ``drop=P%``
instead of the value says which: ``cats,keep=30%`` is ``cats=70%``.

References
----------
.. [1] CATS: Contextually-Aware Thresholding for Sparsity in Large Language Models. arXiv 2404.08763.
.. [2] TEAL: Training-Free Activation Sparsity in Large Language Models. arXiv 2408.14690.
.. [3] Dynamic Input Pruning and Cache-Aware Masking. arXiv 2412.01380, section 4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import COLUMN, EXPERT, NEURON, is_input_block
from ripple_place.errors import TraceFormatError, UsageError
from ripple_place.trace.dip import KeepLargest, kth_largest, split_density
from ripple_place.trace.rule_text import Amount, RuleText

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.arrays import Int32Array

FIT_TOKENS = 1024
"""Recorded tokens on which the thresholds of ``cats`` and ``teal`` are fitted, rounded up to whole batches: with ten
thousand neurons these are ten million values a block, so that the percentile's own error is far below one of a text."""


@dataclass(frozen=True)
class RuleKind:
    """A kind of activity rule: one function, and one line of `RULES`.

    Parameters
    ----------
    name : str
    examples : tuple of str
        As written on the command line.
    is_sound : callable
        Takes the rule's value and whether it is a percentage; returns whether they fit the kind.
    active : callable
        Takes the rule, the outputs that it looks at, and the fitted threshold; returns which neurons are active.
    is_fitted : bool
        Whether each block needs a threshold fitted on the first tokens.
    uses_gate : bool
        Whether it looks at the output of the activation function rather than at the down input.
    value_is : str
        What a percentage is a share of: ``keep``, ``drop``, or empty where there is none.
    units : tuple of str
        Of `ripple_place.blocks.UNITS`, those for which the rule means something.
    """

    name: str
    examples: tuple[str, ...]
    is_sound: Callable[[float, bool], bool]
    active: Callable[[ActivityRule, Any, float], Any]
    is_fitted: bool = False
    uses_gate: bool = False
    value_is: str = ""
    units: tuple[str, ...] = (NEURON, COLUMN)


@dataclass(frozen=True)
class ActivityRule:
    """By which rule a neuron counts as active.

    Parameters
    ----------
    kind : str
        One of `RULES`.
    value : float
        The threshold, the number of neurons, or the percentage; 0 for ``relu``.
    is_percent : bool
        `value` is a percentage.

    Raises
    ------
    UsageError
        If kind and value do not fit each other.
    """

    kind: str
    value: float = 0.0
    is_percent: bool = False

    def __post_init__(self) -> None:
        if self.kind not in RULES or not RULES[self.kind].is_sound(self.value, self.is_percent):
            raise _no_rule(str(self))

    @classmethod
    def parse(cls, text: str) -> ActivityRule:
        """Read a rule as written on the command line.

        >>> ActivityRule.parse("top-k=10%")
        ActivityRule(kind='top-k', value=10.0, is_percent=True)

        Raises
        ------
        UsageError
            If it is none.
        """
        written = RuleText.parse(text)
        if written is None or written.name not in RULES:
            raise _no_rule(repr(text))
        return cls.from_text(written)

    @classmethod
    def from_text(cls, written: RuleText) -> ActivityRule:
        """Return the rule that a text names: by its value, or by the share that it keeps or drops.

        >>> str(ActivityRule.from_text(RuleText("cats", None, {"keep": "30%"})))
        'cats=70%'

        Raises
        ------
        UsageError
            If the text does not fit the kind.
        """
        shares = {key: text for key, text in written.options.items() if key in ("keep", "drop")}
        kind = RULES[written.name]
        is_odd = len(shares) < len(written.options) or len(shares) + (written.value is not None) > 1
        amount = Amount.parse(written.value if written.value is not None else next(iter(shares.values()), "0"))
        if is_odd or amount is None or (shares and (kind.value_is == "" or not amount.is_percent)):
            raise _no_rule(repr(str(written)))
        if _has_value(written.name) != (written.value is not None or bool(shares)):
            raise _no_rule(repr(str(written)))
        # Papers name what is kept, or what is dropped.
        is_other = bool(shares) and kind.value_is not in shares
        return cls(written.name, 100 - amount.number if is_other else amount.number, amount.is_percent)

    def __str__(self) -> str:
        """Write the rule as it is parsed.

        >>> str(ActivityRule("cats", 70, True)), str(ActivityRule("relu"))
        ('cats=70%', 'relu')
        """
        if self.kind in RULES and not _has_value(self.kind):
            return self.kind
        return f"{self.kind}={self.value:g}{'%' if self.is_percent else ''}"

    @property
    def changes_output(self) -> bool:
        """Whether neurons that do not count as active may put out something."""
        return self.kind not in ("relu", "routed") and not (self.kind == "threshold" and self.value == 0)

    @property
    def is_fitted(self) -> bool:
        """Whether each block needs a threshold fitted on the first tokens."""
        return RULES[self.kind].is_fitted

    @property
    def uses_gate(self) -> bool:
        """Whether the rule looks at the output of the activation function rather than at the down input."""
        return RULES[self.kind].uses_gate

    @property
    def units(self) -> tuple[str, ...]:
        """Those of `ripple_place.blocks.UNITS` for which the rule means something."""
        return RULES[self.kind].units

    def check_unit(self, unit: str) -> None:
        """Refuse units for which the rule means nothing.

        Parameters
        ----------
        unit : str
            One of `ripple_place.blocks.UNITS`.

        Raises
        ------
        UsageError
        """
        if unit not in self.units:
            raise UsageError(
                f"--active {self}", found=f"a rule of {self.units[0]}s, and {unit}s",
                expected=f"--unit {self.units[0]}",
                remedy=f"use --unit {self.units[0]}, or leave --active out",
            )  # fmt: skip

    def of_block(self, block: str, *, is_gated: bool = True) -> ActivityRule | KeepLargest:
        """Return what the rule is in a block: rules of columns keep different shares of inputs and of down columns.

        Parameters
        ----------
        block : str
        is_gated : bool
            Whether the FFN has a gate.
        """
        if self.kind == "dip":
            return KeepLargest(split_density(self.share, is_gated=is_gated)[0 if is_input_block(block) else 1])
        if self.kind == "glu-pruning":
            return KeepLargest(1.0 if is_input_block(block) else self.share)
        return self

    @property
    def share(self) -> float:
        """The value as a share, where it is one or a percentage."""
        return self.value / 100 if self.is_percent else self.value

    def n_kept(self, n_neurons: int) -> int:
        """Return K of ``top-k`` for a block.

        >>> ActivityRule("top-k", 10, True).n_kept(4096), ActivityRule("top-k", 8).n_kept(4)
        (410, 4)
        """
        n_kept = math.floor(self.value / 100 * n_neurons + 0.5) if self.is_percent else int(self.value)
        return min(max(1, n_kept), n_neurons)

    def active(self, values: Any, gate: Any = None, threshold: float | None = None) -> Any:
        """Return which neurons are active for each row.

        Parameters
        ----------
        values : ndarray or torch.Tensor of shape (n_rows, n_neurons), floating
            Input of the down projection.
        gate : the same, optional
            Output of the activation function; `values` where the FFN has no gate.
        threshold : float, optional
            What was fitted for the block.

        Returns
        -------
        ndarray or torch.Tensor of shape (n_rows, n_neurons), bool
            Of the kind of `values`, on the same device.
        """
        assert threshold is not None or not self.is_fitted, f"{self} without a fitted threshold"
        outputs = gate if self.uses_gate and gate is not None else values
        return RULES[self.kind].active(self, outputs, math.nan if threshold is None else threshold)

    def fit(self, sizes: Any) -> float:
        """Return the threshold of a fitted rule: the smallest value that P % of the values do not exceed.

        Parameters
        ----------
        sizes : ndarray or torch.Tensor of shape (n_values,), floating
            Absolute values; at least one.
        """
        import numpy as np

        k = min(max(1, math.ceil(self.value / 100 * sizes.shape[0])), sizes.shape[0])
        if isinstance(sizes, np.ndarray):
            return float(np.partition(sizes, k - 1)[k - 1])
        return float(sizes.kthvalue(k).values)


def check_finite(outputs: Any, where: str, tokens: Int32Array | None = None, first_row: int = 0) -> None:
    """Refuse outputs that are no numbers: NaN and infinity fit no rule.

    ``relu`` would take them for active, ``top-k`` and ``teal`` would drop a NaN and let it silence its token.

    Parameters
    ----------
    outputs : ndarray or torch.Tensor of shape (n_rows, n_neurons), floating
    where : str
        The block, and the file if there is one.
    tokens : ndarray of shape (n_rows,), int32, optional
        Token of each row; otherwise rows are counted from `first_row`.
    first_row : int

    Raises
    ------
    TraceFormatError
        At the first of them, by token and neuron.

    Notes
    -----
    One pass over the outputs; on a GPU, one value is copied.
    """
    import numpy as np

    finite: Any = np.isfinite(outputs) if isinstance(outputs, np.ndarray) else outputs.isfinite()
    if finite.all():
        return
    is_finite = finite if isinstance(outputs, np.ndarray) else finite.cpu().numpy()
    row, neuron = (int(index) for index in np.argwhere(~is_finite)[0])
    token = first_row + row if tokens is None else int(tokens[row])
    raise TraceFormatError(
        f"{where}, token {token}, neuron {neuron}", found=str(float(outputs[row, neuron])),
        expected=f"finite outputs ({int((~is_finite).sum())} of {is_finite.size} here are not)",
        remedy="record it again in a wider dtype, such as float32, from weights without NaN",
    )  # fmt: skip


def _is_share(value: float, is_percent: bool) -> bool:
    return is_percent and 0 < value < 100


def _is_count(value: float, is_percent: bool) -> bool:
    return 0 < value <= 100 if is_percent else value >= 1 and value % 1 == 0


def _is_part(value: float, is_percent: bool) -> bool:
    return 0 < value <= (100 if is_percent else 1)


def _keep_largest(rule: ActivityRule, outputs: Any, threshold: float) -> Any:
    return KeepLargest(rule.share).active(outputs)


def _top_k(rule: ActivityRule, outputs: Any, threshold: float) -> Any:
    sizes = abs(outputs)
    return (sizes >= kth_largest(sizes, rule.n_kept(sizes.shape[-1]))) & (sizes != 0)


RULES: dict[str, RuleKind] = {
    kind.name: kind
    for kind in (
        RuleKind(
            "relu", ("relu",), lambda value, is_percent: value == 0 and not is_percent,
            lambda rule, outputs, threshold: outputs != 0,
        ),
        RuleKind(
            "threshold", ("threshold=0.1",), lambda value, is_percent: 0 <= value < math.inf and not is_percent,
            lambda rule, outputs, threshold: abs(outputs) > rule.value,
        ),
        RuleKind("top-k", ("top-k=512", "top-k=10%"), _is_count, _top_k, value_is="keep"),
        RuleKind(
            "cats", ("cats=70%",), _is_share, lambda rule, outputs, threshold: abs(outputs) >= threshold,
            is_fitted=True, uses_gate=True, value_is="drop", units=(NEURON,),
        ),
        RuleKind(
            "teal", ("teal=50%",), _is_share, lambda rule, outputs, threshold: abs(outputs) > threshold,
            is_fitted=True, value_is="drop",
        ),
        RuleKind("dip", ("dip=0.5",), _is_part, _keep_largest, value_is="keep", units=(COLUMN,)),
        RuleKind("glu-pruning", ("glu-pruning=0.3",), _is_part, _keep_largest, value_is="keep", units=(COLUMN,)),
        RuleKind(
            "routed", ("routed",), lambda value, is_percent: value == 0 and not is_percent,
            lambda rule, outputs, threshold: outputs != 0, units=(EXPERT,),
        ),
    )
}  # fmt: skip
"""The kinds by name."""


def _has_value(kind: str) -> bool:
    """Return whether rules of a kind are written with a value."""
    return any("=" in example for example in RULES[kind].examples)


def _no_rule(found: str) -> UsageError:
    *examples, last = (example for kind in RULES.values() for example in kind.examples)
    return UsageError(
        "--active", found=found, expected=f"{', '.join(examples)} or {last}",
        remedy="write the rule that way (docs/profiling.md)",
    )  # fmt: skip
