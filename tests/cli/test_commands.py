"""Each command from end to end, its document, its silence, and its help."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner

from ripple_place.cli.main import cli
from ripple_place.flash.caches.registry import POLICY_NAMES
from ripple_place.flash.device.files import list_devices
from tests.builders import llama_config, llama_tensors, write_checkpoint
from tests.checkpoint.test_carriers import lora, write_adapter
from tests.golden_files import check_golden

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.cli.conftest import Outcome

    Run = Callable[..., Outcome]

LAYOUT_KEYS = [
    "name", "flash_time_us_per_token", "reads_per_token", "requests_per_token", "bytes_read_per_token",
    "bytes_active_per_token", "read_length_mean", "read_length_max", "read_amplification",
    "effective_bandwidth_bytes_per_s", "cache_hit_ratio", "flash_time_us_percentiles", "speedup", "blocks",
]  # fmt: skip
BLOCK_KEYS = [key for key in LAYOUT_KEYS if key not in ("name", "blocks")]
REORDER_KEYS = [
    "objective_before",
    "objective",
    "held_out_before",
    "held_out",
    "lower_bound",
    "gap_to_bound",
    "seconds",
]


def document_of(outcome: Outcome) -> Any:
    """Return the JSON document that is all of stdout."""
    assert outcome.code == 0, outcome.stderr
    return json.loads(outcome.stdout)


def test_from_a_trace_to_a_simulation(run: Run, tmp_path: Path, pico_opt: Path, trace: str) -> None:
    """The way of the README: profile, reorder, verify, simulate; tables on stdout, warnings on stderr."""
    outcome = run("profile", trace, "--out", "pico.profile", "--graphml", "pico.graphml")
    assert outcome.code == 0
    assert "300 tokens in 1 segments. Wrote pico.profile" in outcome.stdout
    assert outcome.stderr.startswith("Warning: the trace has 300 tokens")
    assert (tmp_path / "pico.graphml").exists()

    outcome = run("reorder", pico_opt, "--profile", "pico.profile", "--ordering", "greedy", "--out", "flash")
    assert outcome.code == 0
    assert re.search(r"^layers\.0 .* -\d\d\.\d%", outcome.stdout, re.MULTILINE)
    assert "Wrote flash: " in outcome.stdout
    assert "Verified: " in outcome.stdout

    outcome = run("verify", pico_opt, "flash")
    assert outcome.code == 0
    assert outcome.stdout.startswith("Verified: ")

    outcome = run("simulate", trace, "--layout", "original", "--layout", "flash", "--dram-budget", "25%", "--html",
                  "r.html", "--svg", "r.svg", "-v")  # fmt: skip
    assert outcome.code == 0
    rows = [line.split()[0] for line in outcome.stdout.splitlines() if line]
    assert [row for row in rows if row in ("original", "flash")][:2] == ["original", "flash"]
    assert rows.count("layers.1") == 2
    assert (tmp_path / "r.html").read_text().lower().startswith("<!doctype html>")
    assert "</svg>" in (tmp_path / "r.svg").read_text()


def test_placement_alone(run: Run, tmp_path: Path, trace: str, profile: str) -> None:
    """Without a checkpoint one file is written, exactly there, and it can be simulated."""
    outcome = run("reorder", "--profile", profile, "--out", "greedy.placement", "--bundle-bytes", "4KiB", "--quiet")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert "Wrote the placement greedy.placement" in outcome.stdout
    assert run("simulate", trace, "--layout", "greedy.placement").code == 0


def test_profile_json(run: Run, trace: str) -> None:
    """One document, with what the table shows and what may mislead."""
    document = document_of(run("profile", trace, "--out", "p", "--json"))
    assert {"n_tokens", "n_segments", "profile", "blocks", "warnings"} <= document.keys()
    assert document["importance"] is None
    assert {"active_share", "dead_neurons", "hottest_tenth_share", "lift_of_best_neighbors"} <= document["blocks"][
        "layers.0"
    ].keys()


@pytest.mark.parametrize("with_checkpoint", [True, False])
def test_reorder_json(run: Run, pico_opt: Path, profile: str, with_checkpoint: bool) -> None:
    """The keys that design promises, for every block; null where unknown."""
    checkpoint = [pico_opt] if with_checkpoint else []
    document = document_of(run("reorder", *checkpoint, "--profile", profile, "--out", "out", "--json"))
    assert {"ordering", "seconds", "blocks"} <= document.keys()
    assert document["ordering"] == ("flash-time" if with_checkpoint else "greedy")
    assert list(document["blocks"]) == ["layers.0", "layers.1"]
    for block in document["blocks"].values():
        assert set(REORDER_KEYS) <= block.keys()
        assert block["objective"] < block["objective_before"]


def test_reorder_by_path_shows_the_gap_to_the_bound(run: Run, profile: str) -> None:
    """The table gains a column, and a sentence that says what it means; without a bound there is neither."""
    arguments = ("reorder", "--profile", profile, "--effort", "1", "--force", "--out", "out")
    bounded = run(*arguments, "--ordering", "path").stdout
    assert re.search(r"^layers\.0 .* -\d\d\.\d% +\d+\.\d\d% +\d+\.\d\d$", bounded, re.MULTILINE)
    assert "gap to bound" in bounded.splitlines()[0]
    assert "Gap to bound: reads over the least that any order could need on that trace." in bounded
    assert "bound" not in run(*arguments).stdout.lower()


def test_simulate_json(run: Run, trace: str) -> None:
    """The keys that design promises, for every layout and every block of it."""
    document = document_of(run("simulate", trace, "--layout", "original", "--bundle-bytes", "4KiB", "--json"))
    assert {"device", "traces", "n_tokens", "break_even_gap", "layouts"} <= document.keys()
    assert (document["traces"], document["n_tokens"]) == ([trace], 300)
    (layout,) = document["layouts"]
    assert set(LAYOUT_KEYS) <= layout.keys()
    assert list(layout["blocks"]) == ["layers.0", "layers.1"]
    for block in layout["blocks"].values():
        assert set(BLOCK_KEYS) <= block.keys()
    assert list(layout["flash_time_us_percentiles"]) == ["50", "90", "99"]


def test_verify_json(run: Run, pico_opt: Path, profile: str) -> None:
    """What was compared."""
    assert run("reorder", pico_opt, "--profile", profile, "--out", "out").code == 0
    document = document_of(run("verify", pico_opt, "out", "--json"))
    assert document["tensors_permuted"] > 0
    assert document["bytes_compared"] > 0


def test_verify_with_originals(run: Run, tmp_path: Path, profile: str) -> None:
    """Without the adapter that went along the report says that it is no proof; with it, it is one."""
    write_checkpoint(tmp_path / "m", llama_tensors(), llama_config())
    write_adapter(tmp_path / "adapter", lora())
    assert run("reorder", "m", "--profile", profile, "--out", "out", "--adapter", "adapter").code == 0
    outcome = run("verify", "m", "out")
    assert outcome.code == 0
    assert "3 files permuted along agree with the manifest (no proof: give their originals with" in outcome.stdout
    outcome = run("verify", "m", "out", "--adapter", "adapter")
    assert outcome.code == 0
    assert "3 files permuted along equal their sources after the inverse permutation" in outcome.stdout
    (tmp_path / "adapter" / "README.md").write_text("another")
    assert run("verify", "m", "out", "--adapter", "adapter").code == 4
    assert run("verify", "out", "--restore", "again", "--adapter", "adapter").code == 2


def test_dry_run(run: Run, tmp_path: Path, pico_opt: Path, profile: str) -> None:
    """The plan is printed, and nothing is written."""
    outcome = run("reorder", pico_opt, "--profile", profile, "--out", "out", "--dry-run")
    assert outcome.code == 0
    assert "Would write out: " in outcome.stdout
    assert not list(tmp_path.glob("out*"))


def test_a_given_placement(run: Run, pico_opt: Path, profile: str) -> None:
    """Computed on one machine, applied on another; what else says how to order is refused."""
    assert run("reorder", "--profile", profile, "--out", "p").code == 0
    outcome = run("reorder", pico_opt, "--placement", "p", "--out", "out")
    assert outcome.code == 0
    assert "In the order of the given placement (greedy)." in outcome.stdout
    assert "Verified: 6 tensors" in outcome.stdout
    for words, found in (
        ([pico_opt], "neither"),
        ([pico_opt, "--placement", "p", "--profile", profile], "found both"),
        ([pico_opt, "--placement", "p", "--ordering", "greedy"], "--ordering as well"),
        (["--placement", "p"], "no checkpoint to apply"),
    ):
        refused = run("reorder", *words, "--out", "other")
        assert refused.code == 2
        assert found in refused.stderr


def test_threads_and_seed_give_the_same_bytes(run: Run, tmp_path: Path, profile: str) -> None:
    """Threads do not show in the result; the seed does."""
    for name, *options in (("a", "--threads", 1), ("b", "--threads", 2), ("c", "--seed", 7)):
        assert run("reorder", "--profile", profile, "--out", name, "--ordering", "random", *options).code == 0
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()


def test_list_devices(run: Run) -> None:
    """A line a device, without a trace or a layout."""
    outcome = run("simulate", "--list-devices")
    assert outcome.code == 0
    assert [line.split()[0] for line in outcome.stdout.splitlines()] == list_devices()


@pytest.mark.parametrize("command", ["profile", "reorder", "simulate", "verify"])
def test_quiet(run: Run, pico_opt: Path, trace: str, profile: str, command: str) -> None:
    """`-q` leaves stderr empty, and stdout as it is; without it these traces are warned of."""
    assert run("reorder", pico_opt, "--profile", profile, "--out", "flash").code == 0
    arguments = {
        "profile": [trace, "--out", "p"],
        "reorder": [pico_opt, "--profile", profile, "--out", "out"],
        "simulate": [trace, "--layout", "original", "--bundle-bytes", "4KiB", "--device", "m1-max"],
        "verify": [pico_opt, "flash"],
    }[command]
    outcome = run(command, *arguments, "-q")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_overwriting_needs_force(run: Run, tmp_path: Path, trace: str, profile: str, command: str) -> None:
    """Every option that writes a file refuses one that exists, and replaces it with `--force`."""
    base = {
        "profile": [trace, "--out", "{new}"],
        "reorder": ["--profile", profile, "--out", "{new}"],
        "simulate": [trace, "--layout", "original", "--bundle-bytes", "4KiB", "--html", "{new}"],
    }
    if command not in base:
        return
    (tmp_path / "old").write_text("old")
    arguments = [argument.format(new="old") for argument in base[command]]
    outcome = run(command, *arguments)
    assert outcome.code == 2
    assert "overwrite it with --force" in outcome.stderr
    assert (tmp_path / "old").read_text() == "old"
    assert run(command, *arguments, "--force").code == 0
    assert (tmp_path / "old").read_bytes() != b"old"


def help_of(*path: str) -> str:
    """Return the help of the group, or of a command, a hundred characters wide whatever the terminal."""
    result = CliRunner().invoke(cli, [*path, "--help"], prog_name="ripple-place", terminal_width=100)
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize(
    "path", [[], *([name] for name in sorted(cli.commands))], ids=lambda path: "-".join(path) or "group"
)
def test_help(path: list[str]) -> None:
    """To the letter as it was reviewed; its last lines are an example that can be pasted."""
    text = help_of(*path)
    example = text.rstrip().rpartition("\n\n")[2].splitlines()
    assert example[0].strip() == "Example:"
    assert all(line.startswith("    ripple-place ") or example[i].endswith("\\") for i, line in enumerate(example[1:]))
    check_golden(f"help-{'-'.join(path) or 'ripple-place'}.txt", text.encode())


def test_help_names_every_cache_policy() -> None:
    """It is written by hand, as loading the caches would take longer than printing it."""
    text = help_of("simulate")
    listed = text[text.index("--cache POLICY") : text.index("--admission")]
    assert [name for name in POLICY_NAMES if name not in listed] == []


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_defaults_are_shown(name: str) -> None:
    """Every option with a default says which, and every option says what it is for."""
    text = " ".join(help_of(name).split())
    for parameter in cli.commands[name].params:
        if not isinstance(parameter, click.Option):
            continue
        assert parameter.help, parameter.name
        default = parameter.to_info_dict()["default"]
        if not (parameter.is_flag or parameter.multiple or parameter.required or default is None):
            assert f"[default: {default}" in text, parameter.name


@pytest.mark.parametrize("name", sorted(cli.commands))
def test_common_options(name: str) -> None:
    """Every command has them all."""
    options = {option for parameter in cli.commands[name].params for option in parameter.opts}
    assert {"--json", "--seed", "--threads", "-q", "--quiet", "-v", "--verbose"} <= options


def test_short_help_flag() -> None:
    """`-h` is `--help`, of the group and of commands."""
    for path in ([], ["simulate"]):
        result = CliRunner().invoke(cli, [*path, "-h"], prog_name="ripple-place", terminal_width=100)
        assert result.output == help_of(*path)
