"""Systems as files: all that ship parse, each value has a source, and whatever is malformed says where."""

from __future__ import annotations

import tomllib
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ripple_place.errors import DeviceConfigError, UsageError
from ripple_place.systems import system
from ripple_place.systems.knobs import Knobs
from ripple_place.systems.system import SYSTEMS, System, load_system, read_system

if TYPE_CHECKING:
    from collections.abc import Callable

PUBLISHED = Path(system.__file__).parent / "published"
KNOBS = {entry.name for entry in fields(Knobs)}
WHOLE = """
name = "mine"
description = "for tests"
cache = "lru"
[dense]
unit = "column"
[sources]
cache = "assumed: made up"
"dense.unit" = "assumed: made up"
"""


def written(path: Path, text: str) -> Path:
    """Return a file of a system."""
    (path / "mine.toml").write_text(text)
    return path / "mine.toml"


def test_all_that_ship_are_listed() -> None:
    """A file that nobody can name, or a name without a file, is a mistake."""
    assert {path.stem for path in PUBLISHED.glob("*.toml")} == set(SYSTEMS)
    assert len(SYSTEMS) == 9


@pytest.mark.parametrize("name", SYSTEMS)
def test_shipped(name: str) -> None:
    """Each is named as its file, says what it is, and where each value comes from; other values are defaults."""
    entries = tomllib.loads((PUBLISHED / f"{name}.toml").read_text())
    found = load_system(name)
    assert (found.name, bool(found.description)) == (name, True)
    dense = entries.get("dense", {})
    given = {knob for knob in entries if knob in KNOBS}
    assert set(entries) == given | {"name", "description", "sources"} | ({"dense"} if dense else set())
    assert set(found.sources) == given | {f"dense.{knob}" for knob in dense}
    for knob, source in found.sources.items():
        assert source.startswith(("found:", "derived:", "assumed:", "ours")), knob
    defaults = asdict(Knobs())
    for knob, value in asdict(found.knobs).items():
        assert value == entries.get(knob, defaults[knob])
    assert asdict(found.dense) == {**asdict(found.knobs), **dense}


def test_what_systems_stand_for() -> None:
    """The features that tell them apart."""
    of = {name: load_system(name).knobs for name in SYSTEMS}
    assert {name for name, knobs in of.items() if knobs.access == "mmap"} == {"llama.cpp"}
    assert {name for name, knobs in of.items() if knobs.plan == "yes"} == {"powerinfer2"}
    assert {name for name, knobs in of.items() if knobs.pool == "yes"} == {"llama.cpp", "powerinfer2"}
    assert {name for name, knobs in of.items() if not knobs.is_lossless} == {"dip", "dip-ca", "neuron-chunking"}
    assert {name for name, knobs in of.items() if knobs.unit == "column"} == {"dip", "dip-ca", "neuron-chunking"}
    assert [name for name, knobs in of.items() if knobs.uses_everything] == ["llama.cpp"]
    assert load_system("ours").dense.unit == "column"


def test_overrides() -> None:
    """Of both sets of knobs; hyphens are underscores, and a semicolon is a comma in a rule's options."""
    changed = System.parse("ours,cache=lru,for-dram=no,uses=flash-aware;price=3e-06")
    assert changed.name == "ours,cache=lru,for-dram=no,uses=flash-aware;price=3e-06"
    for knobs in (changed.knobs, changed.dense):
        assert (knobs.cache, knobs.for_dram, knobs.uses) == ("lru", "no", "flash-aware,price=3e-06")
    assert changed.knobs.ordering == load_system("ours").knobs.ordering
    assert System.parse("ours").name == "ours"
    assert load_system("ours").knobs.cache == "auto"
    # The last of two, as on a command line.
    assert System.parse("neuralink,cache=lru,cache=fifo").knobs.cache == "fifo"
    assert System.parse("neuralink,layout=a=b").knobs.layout == "a=b"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("ollama", "--system ollama: found no shipped system by that name"),
        ("", "--system : found no shipped system"),
        ("Neuralink", "no shipped system"),
        ("nowhere.toml", r"--system nowhere.toml: found no such file"),
        ("./neuralink", r"--system \./neuralink: found no such file"),
        ("neuralink,lru", "found 'lru'; expected NAME"),
        ("neuralink,", "found ''"),
        ("neuralink,speed=9", "--system: speed: found no knob by that name; expected one of unit, uses"),
        ("neuralink,cache=arc", "cache arc: found no policy by that name"),
        ("neuralink,cache=window:0", "cache window:0"),
        ("neuralink,cache=auto", "--system: cache: found 'auto'; expected for_dram=yes beside it"),
        ("neuralink,pool=maybe", "--system: pool: found 'maybe'; expected one of yes, no"),
        ("neuralink,ordering=best", "--system: ordering: found 'best'"),
        ("neuralink,unit=row", "--system: unit: found 'row'"),
        ("neuralink,access=random", "--system: access"),
        ("neuralink,queue_depth=0", "--system: queue_depth: found '0'"),
        ("neuralink,queue-depth=two", "--system: queue_depth: found 'two'"),
        ("neuralink,collapse=-1", "--system: collapse: found '-1'"),
        ("neuralink,admission=some", "admission some"),
        ("neuralink,uses=magic=1", "magic"),
        ("neuralink,gate_first=late", "--system: gate_first"),
        ("neuralink,bundle_form=int3", "--system: bundle_form"),
        ("neuralink,overlap=some", "--system: overlap"),
        ("neuralink,barriers=some", "--system: barriers"),
        ("powerinfer2,unit=column", "--system: plan: found 'yes'; expected unit=neuron"),
    ],
)
def test_what_does_not_parse(text: str, match: str) -> None:
    """Refused, with what may be written."""
    with pytest.raises(UsageError, match=match) as raised:
        System.parse(text)
    assert raised.value.remedy


def test_a_file(tmp_path: Path) -> None:
    """Knobs that it leaves out are defaults, in both sets; its path takes overrides as a name does."""
    path = written(tmp_path, WHOLE)
    found = load_system(str(path))
    assert (found.name, found.knobs) == ("mine", Knobs(cache="lru"))
    assert found.dense == Knobs(cache="lru", unit="column")
    assert System.parse(f"{path},cache=fifo").dense == Knobs(cache="fifo", unit="column")
    path.write_bytes(b"\xef\xbb\xbf" + WHOLE.encode())
    assert read_system(path) == found


MALFORMED: dict[str, tuple[Callable[[str], str], str]] = {
    "no TOML": (lambda text: text + "cache = \n", "expected TOML in UTF-8"),
    "a key twice": (lambda text: text.replace("cache =", 'cache = "lru"\ncache =', 1), "expected TOML in UTF-8"),
    "deep": (lambda text: "x = " + "[" * 100000 + text, "expected TOML in UTF-8"),
    "empty": (lambda text: "", "a name or a description that is missing"),
    "no name": (lambda text: text.replace('name = "mine"', ""), "a name or a description that is missing"),
    "empty name": (lambda text: text.replace('"mine"', '""'), "a name or a description that is missing"),
    "no description": (lambda text: text.replace('description = "for tests"', ""), "a name or a description"),
    "a number": (lambda text: text.replace('cache = "lru"', "cache = 4"), "a value that is no text"),
    "a bool": (lambda text: text.replace('unit = "column"', "unit = true"), "a value that is no text"),
    "a table": (lambda text: text + "[pool]\nyes = 'no'\n", "a value that is no text"),
    "dense is no table": (lambda text: 'dense = "column"\n' + text.replace('[dense]\nunit = "column"\n', ""),
                          "a value that is no text"),
    "a source is no text": (lambda text: text.replace('cache = "assumed: made up"', "cache = 3"), "no text"),
    "no source": (lambda text: text.replace('cache = "assumed: made up"', ""), "sources: found sources of dense.unit"),
    "no sources": (lambda text: text[: text.index("[sources]")], "sources: found sources of nothing"),
    "a source too many": (lambda text: text + 'pool = "found: x"\n', "expected one for each of cache, dense.unit"),
    "dense without source": (lambda text: text.replace('"dense.unit" = "assumed: made up"', ""), "dense.unit"),
    "no such knob": (lambda text: text.replace("cache", "cash"), "cash: found no knob by that name"),
    "no such knob of dense": (lambda text: text.replace("unit", "units"), "units: found no knob by that name"),
    "no such policy": (lambda text: text.replace('"lru"', '"arc"'), "cache arc: found no policy"),
    "a choice": (lambda text: text.replace('"column"', '"row"'), "unit: found 'row'; expected one of neuron, column"),
}  # fmt: skip


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files(tmp_path: Path, case: str) -> None:
    """Each kind of mistake: the file, what was found, what was expected."""
    change, match = MALFORMED[case]
    path = written(tmp_path, change(WHOLE))
    with pytest.raises(DeviceConfigError, match=match) as raised:
        read_system(path)
    assert "mine.toml" in str(raised.value)
    assert raised.value.remedy


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    """Refused as other mistakes are."""
    path = tmp_path / "mine.toml"
    path.write_bytes(b'name = "\xff"\n')
    with pytest.raises(DeviceConfigError, match="expected TOML in UTF-8"):
        load_system(str(path))


@given(st.dictionaries(st.sampled_from(sorted(KNOBS)), st.text("ab,;=0\n%", max_size=6), max_size=3))
def test_a_text_parses_or_is_refused(changes: dict[str, str]) -> None:
    """No other error than a usage error, whatever is written."""
    text = "neuralink" + "".join(f",{knob}={value}" for knob, value in changes.items())
    try:
        found = System.parse(text)
    except UsageError:
        return
    assert found.name == text
