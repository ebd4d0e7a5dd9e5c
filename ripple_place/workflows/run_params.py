"""How to generate text from outputs, or to read one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ripple_place.errors import UsageError
from ripple_place.flash.device.files import DEFAULT_DEVICE
from ripple_place.generation.params import ORACLE, PREDICTED, RULE, GenerationParams
from ripple_place.runtime.bundled_file import FULL
from ripple_place.scoring.dram import check_dram
from ripple_place.select.registry import parse_rule

if TYPE_CHECKING:
    from pathlib import Path

PROMPT_TOKENS, TEXT_TOKENS = 64, 256
"""Default numbers of tokens: to generate, and to read of a text."""


@dataclass(frozen=True)
class RunParams:
    """What to run, and how.

    Parameters
    ----------
    prompt : str, optional
        Text to go on with. Either this or `text`.
    text : str or Path, optional
        File to read token by token; nothing is generated then, and the loss is reported.
    max_tokens : int, optional
        To generate (default 64), or to read of the text (default 256).
    activity : str
        Who says what a token uses (`ripple_place.generation.params.ACTIVITIES`); with a rule, what the rule sees:
        ``oracle`` or ``predicted``.
    select : str, optional
        Rule that chooses among it (`ripple_place.select.registry.parse_rule`).
    recall : float, optional
        Of predictors; default that of the output.
    check_recall : bool
        Count what predictors miss, for which all weights are held in memory.
    dtype : str, optional
        What is computed in; default the checkpoint's.
    prefill_rows : int
        Tokens of a prompt that are computed, and whose units are read, together.
    device : str or Path
        Device profile that reads are planned for, and predicted with.
    dram_budget : float, int or str, optional
        Share of each block's neurons, or bytes, or ``placement``, as of `ripple_place.scoring.params.SimulateParams`.
    dram_pool : bool
        One cache for all blocks.
    cache : str, optional
        Policy; default as `simulate`.
    gap : int or str, optional
        As of `simulate`.
    queue_depth : int, optional
        Reads in flight; default the least that saturates the device, as far as its profile says.
    admission : str
        As of `simulate`.
    check : {"full", "header"}
        What of each bundled file is compared with its manifest before the start.
    against : str or Path, optional
        Checkpoint that runs in memory on the same tokens, to compare with.
    seed : int
        Of what admission draws.
    n_threads : int, optional
        That torch computes on; default its own choice.

    Raises
    ------
    UsageError
        If there is neither a prompt nor a text, or both, or a value is out of range.
    """

    prompt: str | None = None
    text: Path | str | None = None
    max_tokens: int | None = None
    activity: str = ORACLE
    select: str | None = None
    recall: float | None = None
    check_recall: bool = False
    dtype: str | None = None
    prefill_rows: int = GenerationParams.prefill_rows
    device: str | Path = DEFAULT_DEVICE
    dram_budget: float | int | str | None = None
    dram_pool: bool = False
    cache: str | None = None
    gap: int | str | None = None
    queue_depth: int | None = None
    admission: str = "all"
    check: str = FULL
    against: Path | str | None = None
    seed: int = 0
    n_threads: int | None = None

    def __post_init__(self) -> None:
        if (self.prompt is None) == (self.text is None):
            raise UsageError(
                "run", found="neither a prompt nor a text" if self.prompt is None else "a prompt and a text",
                expected="one of them", remedy="give --prompt TEXT to go on with, or --text FILE to read",
            )  # fmt: skip
        if self.select is not None and self.activity not in (ORACLE, PREDICTED):
            raise UsageError(
                f"--select {self.select}", found=f"--activity {self.activity}",
                expected=f"{ORACLE} or {PREDICTED}: what the rule sees",
                remedy="name one of these, or leave --select out",
            )  # fmt: skip
        uses = {f"--admission {self.admission}": self.admission != "all", "--dram-pool": self.dram_pool}
        check_dram(self.dram_budget, self.cache, uses)
        _ = self.generation  # What is wrong with it is said now.

    @property
    def generation(self) -> GenerationParams:
        """What the model does with it."""
        rule = None if self.select is None else parse_rule(self.select)
        return GenerationParams(
            self.n_tokens, self.activity if rule is None else RULE, rule, ORACLE if rule is None else self.activity,
            self.recall, self.check_recall, self.dtype, self.prefill_rows,
        )  # fmt: skip

    @property
    def n_tokens(self) -> int:
        """Tokens to generate, or to read of the text."""
        return self.max_tokens or (PROMPT_TOKENS if self.text is None else TEXT_TOKENS)
