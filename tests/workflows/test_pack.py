"""`pack_experts` and ``reorder --unit expert``: orders by routes, what is printed, and kills."""

from __future__ import annotations

import json
import random
import signal
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from click.testing import CliRunner

import ripple_place
from ripple_place.checkpoint.names import BUNDLED_FILE, PLACEMENT_FILE
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.cli.main import cli
from ripple_place.errors import PlacementError, TraceFormatError, UsageError
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement, write_placement
from ripple_place.workflows.pack import PackParams, pack_experts
from tests.builders import contents
from tests.crashes import forks
from tests.expert_builders import N_EXPERTS, expected_parts, gguf_mixture, qwen3_moe, read_pack
from tests.trace_builders import write_stock_trace

if TYPE_CHECKING:
    from pathlib import Path

COUNTS = np.array([3, 9, 0, 9, 20, 1])
"""Tokens that expert 0, 1, ... of layer 0 gets."""
BY_FREQUENCY = [4, 1, 3, 0, 5, 2]


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    """Return a Qwen3-MoE of two layers."""
    return qwen3_moe(tmp_path / "qwen")


@pytest.fixture
def routes(tmp_path: Path) -> Path:
    """Return a profile of routes: in layer 0 by `COUNTS`, in layer 1 experts 0 and 5, 1 and 4, 2 and 3 together."""
    n_tokens = 60
    first = np.zeros((n_tokens, N_EXPERTS), bool)
    for expert, count in enumerate(COUNTS):
        first[:count, expert] = True
    second = np.zeros((n_tokens, N_EXPERTS), bool)
    for token in range(n_tokens):
        second[token, [token % 3, 5 - token % 3]] = True
    trace = write_stock_trace(
        tmp_path / "trace", {"layers.0": first, "layers.1": second}, activity="routed", unit="expert"
    )  # fmt: skip
    ripple_place.profile(trace, tmp_path / "routes.profile", ripple_place.ProfileParams(verdict=None))
    return tmp_path / "routes.profile"


def orders(out: Path) -> dict[str, list[int]]:
    """Return the order of each layer's experts by the manifest, which is also the placement's."""
    document, placement = read_manifest(out).document, read_placement(out / PLACEMENT_FILE)
    found = {name: block["order"] for name, block in document["bundled"].items()}
    assert placement.unit == "expert"
    assert all(placement.blocks[name].order.tolist() == order for name, order in found.items())
    return found


def test_without_a_profile(qwen: Path, tmp_path: Path) -> None:
    """Experts by their numbers."""
    report = pack_experts(qwen, tmp_path / "out")
    assert orders(tmp_path / "out") == {name: [*range(N_EXPERTS)] for name in ("layers.0", "layers.1")}
    assert report.ordering == "original"
    assert read_placement(tmp_path / "out" / PLACEMENT_FILE).metadata["bundle_bytes"] == "2304"


def test_by_frequency(qwen: Path, routes: Path, tmp_path: Path) -> None:
    """The most used expert first; of equals, the lower number. Pins go by the counts, which the placement keeps."""
    pack_experts(qwen, tmp_path / "out", profile=routes, params=PackParams(ordering="frequency"))
    assert orders(tmp_path / "out")["layers.0"] == BY_FREQUENCY
    placement = read_placement(tmp_path / "out" / PLACEMENT_FILE)
    frequency = placement.blocks["layers.0"].frequency
    assert frequency is not None
    assert frequency.tolist() == COUNTS.tolist()
    assert placement.metadata["ordering"] == "frequency"


@pytest.mark.parametrize("ordering", ["auto", "greedy"])
def test_greedy(qwen: Path, routes: Path, tmp_path: Path, ordering: str) -> None:
    """Experts that tokens use together are neighbours."""
    report = pack_experts(qwen, tmp_path / "out", profile=routes, params=PackParams(ordering=ordering))
    order = orders(tmp_path / "out")["layers.1"]
    together = {tuple(sorted(order[slot : slot + 2])) for slot in range(5)}
    assert {(0, 5), (1, 4), (2, 3)} <= together
    assert report.ordering == "greedy"


def test_original_by_name(qwen: Path, routes: Path, tmp_path: Path) -> None:
    """The original order, and yet the counts of a profile."""
    pack_experts(qwen, tmp_path / "out", profile=routes, params=PackParams(ordering="original"))
    assert orders(tmp_path / "out")["layers.0"] == [*range(N_EXPERTS)]
    assert read_placement(tmp_path / "out" / PLACEMENT_FILE).blocks["layers.0"].frequency is not None


def test_some_layers(qwen: Path, routes: Path, tmp_path: Path) -> None:
    """The others are packed too, in their original order."""
    pack_experts(qwen, tmp_path / "out", profile=routes, params=PackParams(ordering="frequency", layers="0"))
    assert orders_of_manifest(tmp_path / "out") == {"layers.0": BY_FREQUENCY, "layers.1": [*range(N_EXPERTS)]}
    blocks = read_manifest(tmp_path / "out").document["blocks"]
    assert [block["placed"] for block in blocks.values()] == [True, False]


def orders_of_manifest(out: Path) -> dict[str, list[int]]:
    """Return the order of each layer's experts by the manifest."""
    return {name: block["order"] for name, block in read_manifest(out).document["bundled"].items()}


def test_a_profile_of_another_model(tmp_path: Path, routes: Path) -> None:
    """One of a model with fewer layers: refused, and nothing is written."""
    with pytest.raises(TraceFormatError, match=r"profile: layers\.1: .*a block that the model has"):
        pack_experts(qwen3_moe(tmp_path / "m", 1), tmp_path / "out", profile=routes)
    assert not (tmp_path / "out").exists()


def test_a_placement(qwen: Path, tmp_path: Path) -> None:
    """Orders that were computed elsewhere; of another size they are refused."""
    order = np.arange(N_EXPERTS)[::-1]
    write_placement(tmp_path / "p", ModelPlacement({"layers.1": NeuronPlacement(order)}, {"unit": "expert"}))
    pack_experts(qwen, tmp_path / "out", placement=tmp_path / "p")
    assert orders_of_manifest(tmp_path / "out") == {"layers.0": [*range(N_EXPERTS)], "layers.1": order.tolist()}
    write_placement(tmp_path / "p", ModelPlacement({"layers.1": NeuronPlacement(order[1:])}, {"unit": "expert"}))
    with pytest.raises(PlacementError, match="found 5 experts"):
        pack_experts(qwen, tmp_path / "other", placement=tmp_path / "p")


def test_the_same_bytes_again(qwen: Path, routes: Path, tmp_path: Path) -> None:
    """Two runs, two equal outputs."""
    for name in ("a", "b"):
        pack_experts(qwen, tmp_path / name, profile=routes)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_on_the_command_line(qwen: Path, routes: Path, tmp_path: Path) -> None:
    """Pack, verify, restore: in sentences and in JSON."""
    out = tmp_path / "out"
    arguments = ["reorder", str(qwen), "--unit", "expert", "--profile", str(routes), "--out", str(out), "-q"]
    dry = CliRunner().invoke(cli, [*arguments, "--dry-run"], catch_exceptions=False)
    assert "2 layers of 6 experts, 2.25 KiB each, in greedy order." in dry.output
    assert "Would write" in dry.output
    assert not out.exists()
    done = CliRunner().invoke(cli, [*arguments, "--json"], catch_exceptions=False)
    document = json.loads(done.output)
    assert document["blocks"]["layers.0"] == {
        "n_experts": 6, "expert_bytes": 2304, "stride_bytes": 4096, "parts": ["gate", "up", "down"],
    }  # fmt: skip
    assert {check["result"] for check in document["checks"]} == {"passed"}
    assert read_pack(out, "layers.1") == expected_parts(qwen, "layers.1")
    verified = CliRunner().invoke(
        cli, ["verify", str(qwen), str(out), "--restore", str(tmp_path / "back"), "-q"], catch_exceptions=False
    )
    assert "the bytes of every expert equal the source's" in verified.output
    assert contents(tmp_path / "back") == contents(qwen)


def test_a_gguf_on_the_command_line(tmp_path: Path) -> None:
    """The pack alone; a flipped bit in it ends with exit code 4's error."""
    source, out = gguf_mixture(tmp_path / "m.gguf"), tmp_path / "out"
    before = source.read_bytes()
    done = CliRunner().invoke(cli, ["reorder", str(source), "--unit", "expert", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "The GGUF file itself is not copied" in done.output
    assert source.read_bytes() == before
    assert read_pack(out, "layers.0") == expected_parts(source, "layers.0")
    assert CliRunner().invoke(cli, ["verify", str(source), str(out)]).exit_code == 0
    data = bytearray((out / BUNDLED_FILE).read_bytes())
    data[-5000] ^= 1
    (out / BUNDLED_FILE).write_bytes(data)
    with pytest.raises(ripple_place.RipplePlaceError, match="SHA-256"):
        CliRunner().invoke(cli, ["verify", str(source), str(out)], catch_exceptions=False)


def test_numbers_by_place(qwen: Path, routes: Path, tmp_path: Path) -> None:
    """The pack's expert i is the i-th by the profile's order, in the shards too; the warning of ties is printed."""
    out = tmp_path / "out"
    arguments = ["reorder", str(qwen), "--unit", "expert", "--profile", str(routes), "--ordering", "frequency"]
    done = CliRunner().invoke(cli, [*arguments, "--permute-experts", "--out", str(out)], catch_exceptions=False)
    assert "Experts are numbered by their place on storage; routers follow." in done.output
    assert "depends on their numbers" in done.stderr
    assert orders_of_placement(out)["layers.0"] == BY_FREQUENCY
    source = expected_parts(qwen, "layers.0")
    assert read_pack(out, "layers.0") == [source[expert] for expert in BY_FREQUENCY] == expected_parts(out, "layers.0")
    verified = CliRunner().invoke(
        cli, ["verify", str(qwen), str(out), "--restore", str(tmp_path / "back"), "--json"], catch_exceptions=False
    )
    document = json.loads(verified.output)
    checks = {check["check"]: check["count"] for check in document["checks"]}
    assert checks["routers' slices follow their experts"] == 2
    assert document["tensors_permuted"] > 0
    assert contents(tmp_path / "back") == contents(qwen)


def orders_of_placement(out: Path) -> dict[str, list[int]]:
    """Return ``order[slot]`` of each layer by the placement beside a pack."""
    return {name: block.order.tolist() for name, block in read_placement(out / PLACEMENT_FILE).blocks.items()}


def test_numbers_keep_groups(routes: Path, tmp_path: Path) -> None:
    """By a profile, groups move as wholes, although the hottest experts of layer 0 are of two groups."""
    source = qwen3_moe(tmp_path / "qwen")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"n_group": 3}))
    params = PackParams(ordering="frequency", permute_experts=True)
    report = pack_experts(source, tmp_path / "out", profile=routes, params=params)
    assert report.to_json()["permutes_experts"]
    # By frequency 4, 1, 3, 0, 5, 2: the groups' mean places are those of 0 and 1 (2), of 4 and 5 (2), of 2 and 3 (3.5).
    assert orders_of_placement(tmp_path / "out")["layers.0"] == [1, 0, 4, 5, 3, 2]


def test_numbers_without_an_order(qwen: Path, tmp_path: Path) -> None:
    """Nothing says how to number: refused before anything is written."""
    with pytest.raises(UsageError, match="no order of the experts"):
        pack_experts(qwen, tmp_path / "out", params=PackParams(permute_experts=True))
    assert not (tmp_path / "out").exists()


def test_numbers_of_another_model(qwen: Path, tmp_path: Path) -> None:
    """Routes of a model with more experts, and a placement of one: refused."""
    wide = {f"layers.{layer}": np.ones((8, N_EXPERTS + 2), bool) for layer in range(2)}
    trace = write_stock_trace(tmp_path / "wide", wide, activity="routed", unit="expert")
    ripple_place.profile(trace, tmp_path / "wide.profile", ripple_place.ProfileParams(verdict=None))
    params = PackParams(permute_experts=True)
    with pytest.raises(TraceFormatError, match="8 experts"):
        pack_experts(qwen, tmp_path / "out", profile=tmp_path / "wide.profile", params=params)
    blocks = {"layers.0": NeuronPlacement(np.arange(N_EXPERTS + 2)[::-1])}
    write_placement(tmp_path / "placement", ModelPlacement(blocks, {"unit": "expert"}))
    with pytest.raises(PlacementError, match="8 experts"):
        pack_experts(qwen, tmp_path / "out", placement=tmp_path / "placement", params=params)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--gates", "apart"], ["--stride", "packed"], ["--copies", "2"], ["--dram-budget", "10%"], ["--granule", "32"],
        ["--select", "exact"], ["--gguf", "x.gguf"], ["--plan", "powerinfer2"], ["--compare"],
    ],
)  # fmt: skip
def test_options_of_neurons(qwen: Path, tmp_path: Path, options: list[str]) -> None:
    """Each is refused rather than ignored."""
    arguments = ["reorder", str(qwen), "--unit", "expert", "--out", str(tmp_path / "out"), *options]
    with pytest.raises(UsageError, match=f"^{options[0]}: found --unit expert as well"):
        CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kills")
def test_killed_and_resumed(tmp_path: Path) -> None:
    """A run that is killed at any moment leaves no half output, and --resume ends with the same bytes."""
    source, out, stderr = qwen3_moe(tmp_path / "m", width=512, hidden=128), tmp_path / "out", tmp_path / "stderr"
    arguments = ["reorder", str(source), "--unit", "expert", "--out", str(out), "-q"]
    begin = time.perf_counter()
    assert forks.finish(forks.start(arguments, stderr)) == 0, stderr.read_text()
    seconds = time.perf_counter() - begin
    expected, rng = contents(out), random.Random(0)
    for _ in range(6):
        for name in expected:
            (out / name).unlink()
        for folder in sorted(out.rglob("*"), reverse=True):
            folder.rmdir()
        out.rmdir()
        was_running = forks.kill(forks.start(arguments, stderr), stderr, rng.random() * seconds)
        assert not out.exists() or contents(out) == expected
        if was_running and not out.exists():
            assert forks.finish(forks.start([*arguments, "--resume"], stderr)) == 0, stderr.read_text()
        assert contents(out) == expected
        assert {path.name for path in tmp_path.iterdir()} <= {"m", "out", "stderr", ".out.lock"}
