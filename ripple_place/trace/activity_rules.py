"""Activity rules: which neurons of a token count as active, and what is kept of their outputs.

numpy is imported only where a rule is applied: the command line imports this module to print its help.

`x` is the input of the down projection, which is what the neurons put out; `g` the output of the activation function
within a gated FFN.

============== ======================================================================================
``relu``       x is not exactly zero
``threshold=X``  \\|x\\| > X
``top-k=K``      \\|x\\| is among the K largest of the token (those equal to the K-th too), and not zero
``top-k=P%``     the same with K = P % of the block's neurons
``cats=P%``      \\|g\\| >= t, with t the P-th percentile of \\|g\\| over the first tokens [1]_
``teal=P%``      \\|x\\| > t, with t the P-th percentile of \\|x\\| over the first tokens [2]_
============== ======================================================================================

References
----------
.. [1] CATS: Contextually-Aware Thresholding for Sparsity in Large Language Models. arXiv 2404.08763.
.. [2] TEAL: Training-Free Activation Sparsity in Large Language Models. arXiv 2408.14690.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from ripple_place.errors import UsageError

FIT_TOKENS = 1024
"""Recorded tokens on which the thresholds of ``cats`` and ``teal`` are fitted, rounded up to whole batches: with ten
thousand neurons these are ten million values a block, so that the percentile's own error is far below one of a text."""

_EXAMPLES = "relu, threshold=0.1, top-k=512, top-k=10%, cats=70% or teal=50%"


@dataclass(frozen=True)
class ActivityRule:
    """By which rule a neuron counts as active.

    Parameters
    ----------
    kind : str
        ``relu``, ``threshold``, ``top-k``, ``cats`` or ``teal``.
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
        sound = {
            "relu": self.value == 0 and not self.is_percent,
            "threshold": 0 <= self.value < math.inf and not self.is_percent,
            "top-k": 0 < self.value <= 100 if self.is_percent else self.value >= 1 and self.value % 1 == 0,
            "cats": self.is_percent and 0 < self.value < 100,
            "teal": self.is_percent and 0 < self.value < 100,
        }.get(self.kind)
        if not sound:
            raise UsageError(
                "--active", found=str(self), expected=_EXAMPLES, remedy="write the rule that way (docs/profiling.md)"
            )

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
        match = re.fullmatch(r"([a-z-]+)(?:=([0-9]*\.?[0-9]+(?:[eE]-?[0-9]{1,3})?)(%?))?", text.strip())
        if match is None or (match[1] == "relu") != (match[2] is None):
            raise UsageError(
                "--active", found=repr(text), expected=_EXAMPLES, remedy="write the rule that way (docs/profiling.md)"
            )
        return cls(match[1], float(match[2] or 0), match[3] == "%")

    def __str__(self) -> str:
        """Write the rule as it is parsed.

        >>> str(ActivityRule("cats", 70, True)), str(ActivityRule("relu"))
        ('cats=70%', 'relu')
        """
        return self.kind if self.kind == "relu" else f"{self.kind}={self.value:g}{'%' if self.is_percent else ''}"

    @property
    def changes_output(self) -> bool:
        """Whether neurons that do not count as active may put out something."""
        return self.kind != "relu" and not (self.kind == "threshold" and self.value == 0)

    @property
    def is_fitted(self) -> bool:
        """Whether each block needs a threshold fitted on the first tokens."""
        return self.kind in ("cats", "teal")

    @property
    def uses_gate(self) -> bool:
        """Whether the rule looks at the output of the activation function rather than at the down input."""
        return self.kind == "cats"

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
        if self.kind == "relu":
            return values != 0
        if self.kind == "threshold":
            return abs(values) > self.value
        if self.kind == "top-k":
            size = abs(values)
            return (size >= _kth_largest(size, self.n_kept(values.shape[-1]))) & (values != 0)
        assert threshold is not None, f"{self} without a fitted threshold"
        return abs(values if gate is None else gate) >= threshold if self.uses_gate else abs(values) > threshold

    def fit(self, sizes: Any) -> float:
        """Return the threshold of ``cats`` or ``teal``: the smallest value that P % of the values do not exceed.

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


def _kth_largest(sizes: Any, k: int) -> Any:
    """Return the k-th largest value of each row, shape (n_rows, 1)."""
    import numpy as np

    if isinstance(sizes, np.ndarray):
        return np.partition(sizes, sizes.shape[-1] - k, axis=-1)[..., sizes.shape[-1] - k, None]
    return sizes.topk(k, dim=-1, sorted=True).values[..., -1:]
