"""What was tuned for an output, written and read again; and every way in which its files can be wrong."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from ripple_place.checkpoint.names import COMPENSATION_FILE, SELECTION_FILE
from ripple_place.errors import CheckpointError, UsageError
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.simulator import SimulationParams
from ripple_place.select.registry import parse_rule
from ripple_place.select.rule import Tuning
from ripple_place.select.tuned import ReaderNote, TunedRule, TunedRules, read_tuned
from tests.flash.builders import LINEAR_SOURCES, layout_of, linear_device

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

READER = ReaderNote("phone", "auto", "lru", {"layers.0": 3, "layers.1": 0})


def with_dram(capacity: dict[str, int]) -> ReaderNote:
    """Return the reader with other DRAM."""
    return replace(READER, capacity_neurons=capacity)


def some_rules() -> TunedRules:
    """Return two rules of two blocks."""
    rng = np.random.default_rng(0)
    importance = {f"layers.{i}": rng.random(5, np.float32) for i in range(2)}
    sensitivity = {"layers.1": rng.random(4, np.float32)}
    priced = Tuning(2.5e-6, {}, importance, sensitivity, {"layers.1": rng.random(2, np.float32)})
    fitted = Tuning(None, {"layers.0": 0.5, "layers.1": 0.25}, importance, sensitivity, {})
    return TunedRules(
        {
            "flash-aware=0.001": TunedRule("flash-aware=0.001", READER, priced, "fisher", {"n_tokens": 9, "kl": 0.1}),
            "teal=50%": TunedRule("teal=50%", READER, fitted, "fisher"),
        }
    )


def write(out: Path, files: dict[str, bytes]) -> Path:
    """Write the files of an output."""
    (out / "ripple_place").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (out / name).write_bytes(content)
    return out


def test_round_trip(tmp_path: Path) -> None:
    """What is read is what was written, and writes the same bytes again; an output without rules has none."""
    files = some_rules().files()
    assert list(files) == [SELECTION_FILE, COMPENSATION_FILE]
    found = read_tuned(write(tmp_path, files))
    assert found is not None
    assert found.files() == files == some_rules().files()
    tuned = found.rules["flash-aware=0.001"]
    assert (tuned.reader, tuned.importance, tuned.tuning.price) == (READER, "fisher", 2.5e-6)
    assert tuned.report == {"n_tokens": 9, "kl": 0.1}
    assert found.rules["teal=50%"].tuning.thresholds == {"layers.0": 0.5, "layers.1": 0.25}
    for name, vector in some_rules().rules["flash-aware=0.001"].tuning.importance.items():
        np.testing.assert_array_equal(found.rules["teal=50%"].tuning.importance[name], vector)
    assert list(tuned.tuning.sensitivity) == list(tuned.tuning.compensation) == ["layers.1"]
    assert read_tuned(tmp_path / "elsewhere") is None


def test_the_stock_reader_opens_it() -> None:
    """The vectors lie in an ordinary safetensors file, by names that say what they are."""
    files = some_rules().files()
    tensors = load(files[COMPENSATION_FILE])
    assert set(tensors) == {
        "layers.0.importance", "layers.1.importance", "layers.1.sensitivity", "layers.1.compensation.0",
    }  # fmt: skip
    document = json.loads(files[SELECTION_FILE])
    assert document["compensation_sha256"] == hashlib.sha256(files[COMPENSATION_FILE]).hexdigest()
    assert document["rules"][0]["compensated_blocks"] == ["layers.1"]


def change_rule(**changes: Any) -> Callable[[dict[str, Any]], None]:
    """Return what changes keys of the first rule."""
    return lambda document: document["rules"][0].update(changes)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda document: document.update(format="ripple-place.selection/2"), "format 'ripple-place.selection/2'"),
        (lambda document: document.pop("format"), "format None"),
        (lambda document: document.pop("rules"), "rules"),
        (lambda document: document.update(rules=[]), "no rules"),
        (lambda document: document.update(rules={"a": 1}), "found"),
        (lambda document: document.update(rules=7), "found"),
        (lambda document: document.update(rules=[7]), "found"),
        (lambda document: document["rules"][1].update(rule="flash-aware=0.001"), "flash-aware=0.001 twice"),
        (lambda document: document["rules"][0].pop("device"), "device"),
        (lambda document: document["rules"][0].pop("tuning"), "tuning"),
        (lambda document: document.pop("compensation_sha256"), "compensation_sha256"),
        (lambda document: document.update(compensation_sha256="0" * 64), "compensation.safetensors missing or changed"),
        (change_rule(price_nats_per_us=-1), "a price, threshold or capacity that is no number"),
        (change_rule(price_nats_per_us="1"), "no number"),
        (change_rule(price_nats_per_us=True), "no number"),
        (change_rule(price_nats_per_us=10**400), "found"),
        (change_rule(thresholds={"layers.0": -0.5}), "no number"),
        (change_rule(thresholds=[0.5]), "found"),
        (change_rule(capacity_neurons={"layers.0": None}), "no number"),
        (change_rule(capacity_neurons=None), "found"),
        (change_rule(compensated_blocks=["layers.0"]), "no tensor layers.0.compensation.0"),
        (change_rule(compensated_blocks=None), "found"),
        (change_rule(rule=7), "found"),
        (change_rule(tuning=[]), "found"),
        (change_rule(collapse=None), "found"),
    ],
)
def test_damaged_documents(tmp_path: Path, change: Callable[[dict[str, Any]], None], match: str) -> None:
    """Each is named, with the file, what was expected and what to do."""
    files = some_rules().files()
    document = json.loads(files[SELECTION_FILE])
    change(document)
    write(tmp_path, {**files, SELECTION_FILE: json.dumps(document).encode()})
    with pytest.raises(CheckpointError, match=match) as caught:
        read_tuned(tmp_path)
    assert "selection.json" in str(caught.value)
    assert caught.value.remedy == "run `ripple-place reorder --select` again"


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b'{"format": NaN}', b"null"])
def test_no_document(tmp_path: Path, text: bytes) -> None:
    """What is no JSON object is refused as such."""
    write(tmp_path, {**some_rules().files(), SELECTION_FILE: text})
    with pytest.raises(CheckpointError, match=r"expected a file of format ripple-place\.selection/1"):
        read_tuned(tmp_path)


def test_a_missing_half(tmp_path: Path) -> None:
    """The vectors are missing, or those of another run."""
    files = some_rules().files()
    write(tmp_path, files)
    (tmp_path / COMPENSATION_FILE).unlink()
    with pytest.raises(CheckpointError, match=r"compensation\.safetensors missing or changed"):
        read_tuned(tmp_path)
    (tmp_path / COMPENSATION_FILE).mkdir()
    with pytest.raises(CheckpointError, match=r"compensation\.safetensors missing or changed"):
        read_tuned(tmp_path)


@pytest.mark.parametrize(
    ("tensors", "match"),
    [
        ({"layers.1.compensation.0": np.zeros((2, 2), np.float32)}, "layers.1.compensation.0"),
        ({"layers.1.compensation.0": np.zeros(2)}, "layers.1.compensation.0"),
        ({"layers.1.compensation.0": np.array([np.nan], np.float32)}, "a value that is NaN or infinite"),
        ({"layers.0.importance": np.array([np.inf] * 5, np.float32)}, "layers.0.importance: a value that is NaN"),
        ({"layers.0.importance": np.array([-1.0] * 5, np.float32)}, "importance below 0"),
        ({"layers.1.sensitivity": np.zeros(4, np.float16)}, "layers.1.sensitivity"),
    ],
)
def test_vectors_that_are_none(tmp_path: Path, tensors: dict[str, np.ndarray], match: str) -> None:
    """A file whose digest holds may still be wrong, if something else wrote it."""
    files = some_rules().files()
    content = save({**load(files[COMPENSATION_FILE]), **tensors})
    document = json.loads(files[SELECTION_FILE])
    document["compensation_sha256"] = hashlib.sha256(content).hexdigest()
    write(tmp_path, {SELECTION_FILE: json.dumps(document).encode(), COMPENSATION_FILE: content})
    with pytest.raises(CheckpointError, match=match):
        read_tuned(tmp_path)


def test_vectors_in_no_file_of_ours(tmp_path: Path) -> None:
    """Bytes that are no safetensors file, with the right digest."""
    files = some_rules().files()
    document = json.loads(files[SELECTION_FILE])
    document["compensation_sha256"] = hashlib.sha256(b"some").hexdigest()
    write(tmp_path, {SELECTION_FILE: json.dumps(document).encode(), COMPENSATION_FILE: b"some"})
    with pytest.raises(CheckpointError, match=r"compensation\.safetensors"):
        read_tuned(tmp_path)


@pytest.mark.parametrize(
    ("reader", "match"),
    [
        (replace(READER, device="laptop"), "tuned for device phone; .*tuned for device laptop"),
        (replace(READER, collapse="8"), "tuned for collapse auto; .*tuned for collapse 8"),
        (replace(READER, cache="none"), "tuned for cache lru; .*tuned for cache none"),
        (with_dram({"layers.0": 3}), r"blocks layers.0, layers.1; .*blocks layers.0, as simulated"),
        (with_dram({"layers.0": 5, "layers.1": 0}), "3 neurons of layers.0; .*5 neurons of layers.0"),
        (with_dram({"layers.0": 0, "layers.1": 3}), "3 neurons of layers.0; .*0 neurons of layers.0"),
    ],
)
def test_another_reader(reader: ReaderNote, match: str) -> None:
    """Prices hold for the reader that they were tuned for; thresholds hold for any."""
    rule = parse_rule("flash-aware=0.001")
    with pytest.raises(UsageError, match=match):
        some_rules().tuning_for("out", rule, reader)
    assert some_rules().tuning_for("out", parse_rule("teal=50%"), reader) is not None
    assert some_rules().tuning_for("out", parse_rule("flash-aware=0.002"), reader) is None


def test_the_same_reader() -> None:
    """What was fitted; capacities of blocks that are not named are 0."""
    layout, params = layout_of({"layers.0": [0, 1], "layers.1": [1, 0]}), SimulationParams("lru", {"layers.0": 3})
    device = replace(
        linear_device(),
        name="phone",
        read_ahead_bytes=65536,
        sources={**LINEAR_SOURCES, "read_ahead_bytes": "remembered: made up"},
    )
    reader = ReaderNote.of(under(device, ReadConditions()), params, layout)
    assert reader == READER
    tuning = some_rules().tuning_for("out", parse_rule("flash-aware=0.001"), reader)
    assert tuning is not None
    assert tuning.price == 2.5e-6
    mapped = ReaderNote.of(under(device, ReadConditions(access="mmap")), replace(params, gap=4), layout)
    assert (mapped.device.startswith("phone under {"), mapped.collapse) == (True, "4")
