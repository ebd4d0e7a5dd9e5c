"""Numbers that no computer has: whatever option they are given to, there is an exit code and a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import pytest

from ripple_place.cli.main import cli
from tests.builders import opt_config, opt_tensors, write_checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

COMMANDS = {
    "profile": ["{trace}", "--out", "again", "--force"],
    "reorder": ["model", "--profile", "{profile}", "--out", "out", "--dry-run"],
    "simulate": ["{trace}", "--layout", "original", "--bundle-bytes", "4KiB"],
}
WILD = ("1e308", "nan", "-1", "1" + 30 * "0", "9" * 5000)
NOT_NUMBERS = {
    "out", "texts", "graphml", "html", "svg", "device", "profile", "placement", "adapter", "carriers", "gguf",
    "layouts", "baseline", "measured_file", "fio", "rule", "core",
}  # fmt: skip
WITH = {
    "effort": ["--time-limit", "50ms"], "cache": ["--dram-budget", "10%"], "admission": ["--dram-budget", "10%"],
    "measure_tokens": ["--measure", "{trace}"], "measure_depth": ["--measure", "{trace}"],
}  # fmt: skip
"""What else an option needs to be looked at."""
FORMS = {"cache": "window:{}", "admission": "linking:{},0.5", "sweep": "dram-budget={}"}


def numbers_of(command: str) -> list[str]:
    """Return the options of a command that take a number, by the names of their parameters."""
    return [
        option.name
        for option in cli.commands[command].params
        if isinstance(option, click.Option) and not option.is_flag and not isinstance(option.type, click.Choice)
        and option.name is not None and option.name not in NOT_NUMBERS
    ]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_wild_numbers(run: Callable[..., Outcome], tmp_path: Path, trace: str, profile: str, command: str) -> None:
    """Every option of a command that takes a number, each with every wild one."""
    write_checkpoint(tmp_path / "model", opt_tensors(), opt_config())
    places = {"trace": trace, "profile": profile}
    for name in numbers_of(command):
        option = next(option for option in cli.commands[command].params if option.name == name)
        arguments = [text.format(**places) for text in (*COMMANDS[command], *WITH.get(name, []))]
        for value in WILD:
            outcome = run(command, *arguments, f"{option.opts[-1]}={FORMS.get(name, '{}').format(value)}")
            assert 0 <= outcome.code <= 5, (name, value)
            assert outcome.code == 0 or outcome.stderr, (name, value)
