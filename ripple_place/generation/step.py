"""One step of generating: a token, or a part of a prompt."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """What one forward of the model gave and cost.

    Attributes
    ----------
    token_id : int or None
        The token that comes next: chosen when text is generated, that of the text when it is scored. None after all
        parts of a prompt but the last.
    n_rows : int
        Tokens that the model was given.
    is_prefill : bool
        Whether they were of a prompt.
    nll : float or None
        Of the next token, in nats; None where there is none.
    elapsed_us : float
        The whole step.
    waited_us, read_us : float
        Of that, waiting for storage; and time in which storage was read, hidden behind computing or not.
    predicted_us : float
        What the simulator charges for the same reads.
    n_asked, n_hits, n_reads, n_requests, bytes_read : int
        Units over all blocks, those of them in DRAM, and what was read for the others.
    n_true, n_predicted, n_both : int or None
        Units that fire, that were predicted, and both, over tokens and blocks; None unless they are counted.
    best_id : int or None
        Of a text that is scored, the token that would have been chosen.
    """

    token_id: int | None
    n_rows: int
    is_prefill: bool
    nll: float | None
    elapsed_us: float
    waited_us: float
    read_us: float
    predicted_us: float
    n_asked: int
    n_hits: int
    n_reads: int
    n_requests: int
    bytes_read: int
    n_true: int | None = None
    n_predicted: int | None = None
    n_both: int | None = None
    best_id: int | None = None

    @property
    def recall(self) -> float | None:
        """Share of what fires that was predicted; None where that is not counted, or nothing fires."""
        return self.n_both / self.n_true if self.n_true and self.n_both is not None else None

    @property
    def precision(self) -> float | None:
        """Share of what was predicted that fires; None where that is not counted, or nothing was predicted."""
        return self.n_both / self.n_predicted if self.n_predicted and self.n_both is not None else None

    @property
    def hit_ratio(self) -> float | None:
        """Share of what was asked for that was in DRAM; None if nothing was asked for."""
        return self.n_hits / self.n_asked if self.n_asked else None
