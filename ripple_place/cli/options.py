"""Options that several commands share, and the parameter types that turn text into values with units."""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ripple_place import units
from ripple_place.bundle_sizes import parse_bundle_bytes
from ripple_place.cli.rendering import show_log
from ripple_place.errors import UsageError
from ripple_place.experts.budget import is_slots
from ripple_place.scoring.collapse import parse_collapse

if TYPE_CHECKING:
    from collections.abc import Callable


class _Parsed(click.ParamType[Any]):
    """A parameter that one of the functions of `ripple_place.units` parses."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name, self.parse = name, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse text; what is no text is a value already."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


SIZE = _Parsed("size", units.parse_bytes)
BUNDLE_SIZE = _Parsed("size[,size]", parse_bundle_bytes)
TIME = _Parsed("time", units.parse_time_us)
SHARE_OR_SIZE = _Parsed("share|size", units.parse_share_or_bytes)
COLLAPSE = _Parsed("collapse", parse_collapse)
BUDGET = _Parsed(
    "share|size|experts|placement",
    lambda text: text if text == "placement" or is_slots(text) else units.parse_share_or_bytes(text),
)
PATH = click.Path(path_type=Path)
family_option = click.option(
    "--family", type=PATH, metavar="FILE",
    help="Family file that names the FFN tensors of the model (docs/families.md), or a shipped family to read it by.",
)  # fmt: skip
adapter_option = click.option(
    "--adapter", type=PATH, metavar="DIR",
    help="LoRA adapter, a directory that peft saved: the model runs with it applied (docs/profiling.md).",
)  # fmt: skip


@dataclass(frozen=True)
class Common:
    """What every command takes besides its own options."""

    as_json: bool
    seed: int
    n_threads: int
    quiet: bool
    verbose: bool
    n_threads_given: bool = False


def common_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--json --seed --threads -q -v``; the command gets them as `common`, a `Common`."""

    @click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of a table.")
    @click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of whatever is random.")
    @click.option("--threads", type=click.IntRange(1), help="Threads to use.  [default: all cores]")
    @click.option("-q", "--quiet", is_flag=True, help="No progress bars, no warnings.")
    @click.option("-v", "--verbose", is_flag=True, help="Say more on stderr.")
    @functools.wraps(command)
    def with_common(
        *args: Any, as_json: bool, seed: int, threads: int | None, quiet: bool, verbose: bool, **kwargs: Any
    ) -> Any:
        show_log(quiet=quiet)
        if threads is not None:
            import numba

            numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))  # type: ignore[attr-defined]
        common = Common(as_json, seed, threads or os.cpu_count() or 1, quiet, verbose, threads is not None)
        return command(*args, common=common, **kwargs)

    return with_common
