"""What `run` is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.workflows.run import run as run_outputs
from ripple_place.workflows.run_params import RunParams
from tests.remedies.cases import case, instead

if TYPE_CHECKING:
    from tests.remedies.cases import Attempts

_PARAMS, _DRAM = "workflows/run_params.py:RunParams.__post_init__", "scoring/dram.py:check_dram"

instead(
    _PARAMS, "to go on with", "nothing to go on with: a prompt, or a text", RunParams,
    lambda: RunParams(prompt="The"), lambda: RunParams(text=Path("text.txt")),
)  # fmt: skip
instead(
    _PARAMS, "what the rule sees", "a rule that sees gates: that sees an oracle, or no rule",
    lambda: RunParams(prompt="The", select="top-k=10%", activity="gate"),
    lambda: RunParams(prompt="The", select="top-k=10%"), lambda: RunParams(prompt="The", activity="gate"),
)  # fmt: skip
instead(
    _DRAM, "no DRAM budget", "a cache of no size: of a tenth, or none",
    lambda: RunParams(prompt="The", cache="lru"), lambda: RunParams(prompt="The", cache="lru", dram_budget=0.1),
    lambda: RunParams(prompt="The"),
)  # fmt: skip
instead(
    _DRAM, "write 10%", "a budget of a word: of a share, or a size",
    lambda: RunParams(prompt="The", dram_budget="much"), lambda: RunParams(prompt="The", dram_budget=0.1),
    lambda: RunParams(prompt="The", dram_budget=2**29),
)  # fmt: skip


@case("workflows/run.py:run", needs_torch=True)
def same_output_twice(folder: Path) -> Attempts:
    """An output compared with itself: run alone."""
    from tests.torch.generation_models import write_output, write_source

    out = write_output(write_source(folder / "model", "opt"), folder / "out")
    yield lambda: run_outputs([out, out], RunParams(prompt="w5 w9", max_tokens=2))
    yield lambda: run_outputs([out], RunParams(prompt="w5 w9", max_tokens=2))
