"""A system: its knobs as published, where each comes from, and the file that holds them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.errors import DeviceConfigError, UsageError
from ripple_place.foreign import file_error
from ripple_place.inputfile import read_input
from ripple_place.systems.knobs import Knobs

if TYPE_CHECKING:
    from collections.abc import Mapping

_SHIPPED = Path(__file__).parent / "published"
SYSTEMS = (
    "llama.cpp", "llm-in-a-flash", "neuralink-s", "neuralink", "powerinfer2", "dip", "dip-ca", "neuron-chunking",
    "ours",
)  # fmt: skip
"""The systems that ship with the package, in the order in which they were published."""


@dataclass(frozen=True)
class System:
    """A configuration of the simulator that stands for a system.

    Parameters
    ----------
    name : str
        As results show it: its own, with the knobs that were changed.
    description : str
    knobs : Knobs
        Where activations are zero as a rule.
    dense : Knobs
        Where they are not, such as behind SiLU.
    sources : mapping of str to str
        Where the value of each knob comes from: ``found``, ``derived`` or ``assumed``, and the paper.
    """

    name: str
    description: str
    knobs: Knobs
    dense: Knobs
    sources: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> System:
        """Return the system that ``NAME[,knob=value]...`` or ``FILE.toml[,knob=value]...`` names.

        In a rule's options, ``;`` stands for a comma: ``ours,uses=flash-aware;price=3e-06``.

        >>> System.parse("neuralink,cache=lru").knobs.cache
        'lru'

        Raises
        ------
        UsageError
            If there is none, or a knob does not take its value.
        DeviceConfigError
            If a file is malformed.
        """
        name, *changes = text.split(",")
        system = load_system(name)
        if not changes:
            return system
        pairs = [change.partition("=") for change in changes]
        if broken := [change for change, (_, sign, _) in zip(changes, pairs, strict=True) if not sign]:
            raise UsageError(
                f"--system {text}", found=repr(broken[0]), expected="NAME[,knob=value]...",
                remedy="write, for instance, neuralink,cache=lru",
            )  # fmt: skip
        values = {knob.replace("-", "_"): value.replace(";", ",") for knob, _, value in pairs}
        return replace(
            system, name=text, knobs=system.knobs.changed(values), dense=system.dense.changed(values)
        )  # fmt: skip


def load_system(name_or_path: str) -> System:
    """Return a shipped system by name, or the one in a TOML file; raises as `System.parse`."""
    if "/" not in name_or_path and not name_or_path.endswith(".toml"):
        if name_or_path not in SYSTEMS:
            raise UsageError(
                f"--system {name_or_path}", found="no shipped system by that name",
                expected=f"one of {', '.join(SYSTEMS)}, or the path of a .toml file", remedy="name one of them",
            )  # fmt: skip
        return read_system(_SHIPPED / f"{name_or_path}.toml")
    if not Path(name_or_path).is_file():
        raise UsageError(
            f"--system {name_or_path}", found="no such file", expected="a system",
            remedy=f"give the path of a .toml file, or one of {', '.join(SYSTEMS)}",
        )  # fmt: skip
    return read_system(Path(name_or_path))


def read_system(path: Path) -> System:
    """Read and check one file of a system; raises DeviceConfigError if it is malformed."""
    text = read_input(path)
    try:
        entries: dict[str, Any] = tomllib.loads(text.decode("utf-8-sig"))
    except (ValueError, RecursionError) as cause:
        raise file_error(
            DeviceConfigError, path, found=str(cause), expected="TOML in UTF-8",
            remedy="correct the file; docs/systems.md has an example",
        ) from cause  # fmt: skip
    name, description = entries.pop("name", None), entries.pop("description", None)
    dense, sources = entries.pop("dense", {}), entries.pop("sources", {})
    tables = [entries, dense, sources]
    is_text = all(isinstance(value, str) for table in tables if isinstance(table, dict) for value in table.values())
    if not (isinstance(name, str) and name and isinstance(description, str) and is_text) or not all(
        isinstance(table, dict) for table in tables
    ):
        raise DeviceConfigError(
            path, found="a name or a description that is missing, or a value that is no text",
            expected='name, description, and knobs such as cache = "lru"; [dense] and [sources] of the same kind',
            remedy="correct the file; docs/systems.md has an example",
        )  # fmt: skip
    named = {*entries, *(f"dense.{knob}" for knob in dense)}
    if named != set(sources):
        raise DeviceConfigError(
            f"{path}: sources", found=f"sources of {', '.join(sorted(sources)) or 'nothing'}",
            expected=f"one for each of {', '.join(sorted(named))}",
            remedy="say where each value comes from: found, derived or assumed, and the paper",
        )  # fmt: skip
    try:
        knobs = Knobs().changed(entries)
        return System(name, description, knobs, knobs.changed(dense), sources)
    except UsageError as cause:
        raise DeviceConfigError(
            f"{path}: {cause.where.removeprefix('--system: ')}", found=cause.found, expected=cause.expected,
            remedy="correct the file; docs/systems.md describes each key",
        ) from cause  # fmt: skip
