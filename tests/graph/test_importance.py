"""Importance in profiles: what is written comes back, what is malformed is refused, what is joined is averaged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ripple_place.errors import TraceFormatError
from ripple_place.graph.importance import (
    ImportanceNote,
    ModelImportance,
    SensitivityNote,
    join_importance,
    share_of_top,
)
from ripple_place.graph.profile import Profile, read_importance, read_profile, write_profile
from ripple_place.tensorfile import DTYPE_BITS, TensorFile
from tests.graph.test_profile import profile_of
from tests.trace_builders import random_activity, trace_of

if TYPE_CHECKING:
    from pathlib import Path

SIZES = {"layers.0": 13, "layers.1": 9}


def importance_of(seed: int = 0, n_tokens: int = 20, *, fewer: int | None = None) -> ModelImportance:
    """Return importance of two blocks, the first with a sensitivity; `fewer` tokens reach the second."""
    rng = np.random.default_rng(seed)
    values = {name: rng.random(n).astype(np.float32) for name, n in SIZES.items()}
    weights = {"layers.0": rng.normal(size=6).astype(np.float32)}
    n_rows = {"layers.0": n_tokens, "layers.1": n_tokens if fewer is None else fewer}
    note = ImportanceNote(n_tokens, seed, n_rows, {"layers.0": SensitivityNote("model.layers.0.mlp.up_proj", 0.5)})
    return ModelImportance(values, weights, note)


@pytest.fixture
def profile() -> Profile:
    """Return a profile of two blocks."""
    rng = np.random.default_rng(0)
    return profile_of(trace_of(*(random_activity(rng, 20, n) for n in SIZES.values())))


def assert_same(found: ModelImportance | None, expected: ModelImportance) -> None:
    """Assert that both say the same."""
    assert found is not None
    for ours, theirs in ((found.values, expected.values), (found.sensitivities, expected.sensitivities)):
        assert list(ours) == list(theirs)
        for name, array in ours.items():
            np.testing.assert_array_equal(array, theirs[name])
    assert found.note == expected.note


@pytest.mark.parametrize("fewer", [None, 3])
def test_round_trip(tmp_path: Path, profile: Profile, fewer: int | None) -> None:
    """Both readers give back what was written; counts and the digest, which names the profile, are as without."""
    expected = importance_of(fewer=fewer)
    write_profile(tmp_path / "p", profile.with_importance(expected))
    read = read_profile(tmp_path / "p")
    assert_same(read.importance, expected)
    assert_same(read_importance(tmp_path / "p"), expected)
    assert read.digest == profile.digest
    first, second = read.blocks.values()
    assert first.sensitivity is not None
    assert second.sensitivity is None
    write_profile(tmp_path / "again", read)
    assert (tmp_path / "again").read_bytes() == (tmp_path / "p").read_bytes()
    write_profile(tmp_path / "without", read.with_importance(None))
    write_profile(tmp_path / "never", profile)
    assert (tmp_path / "without").read_bytes() == (tmp_path / "never").read_bytes()
    assert read_importance(tmp_path / "never") is None
    assert read_profile(tmp_path / "never").importance is None


def test_file_as_others_read_it(tmp_path: Path, profile: Profile) -> None:
    """The stock reader finds what docs/formats.md promises; tensors are aligned to their own sizes."""
    write_profile(tmp_path / "p", profile.with_importance(importance_of(fewer=3)))
    tensors = load_file(tmp_path / "p")
    assert (str(tensors["layers.0.importance"].dtype), tensors["layers.0.importance"].shape) == ("float32", (13,))
    assert (str(tensors["layers.0.sensitivity"].dtype), tensors["layers.0.sensitivity"].shape) == ("float32", (6,))
    file = TensorFile.open(tmp_path / "p")
    assert json.loads(file.metadata["importance"]) == {
        "method": "fisher", "n_tokens": 20, "seed": 0, "n_rows": {"layers.1": 3},
        "sensitivity": {"layers.0": {"input": "model.layers.0.mlp.up_proj", "r2": 0.5}},
    }  # fmt: skip
    for tensor in file.tensors.values():
        assert (tensor.offset_bytes - file.data_start_bytes) % (DTYPE_BITS[tensor.dtype] // 8) == 0


NOTE: dict[str, Any] = {
    "method": "fisher", "n_tokens": 20, "seed": 0, "sensitivity": {"layers.0": {"input": "up", "r2": None}}
}  # fmt: skip


@pytest.mark.parametrize(
    ("tensor", "value", "match"),
    [
        ("layers.0.importance", np.ones(12, np.float32), "tensor layers.0.importance: found 12 numbers; expected 13"),
        ("layers.0.importance", np.ones(13), r"tensor layers.0.importance: found F64 \[13\]; expected F32"),
        ("layers.0.importance", np.ones((13, 1), np.float32), r"found F32 \[13, 1\]; expected F32 tensor with 1 axes"),
        ("layers.0.importance", np.full(13, np.nan, np.float32), "found NaN or infinity; expected finite numbers"),
        ("layers.0.importance", np.full(13, np.inf, np.float32), "found NaN or infinity; expected finite numbers"),
        ("layers.0.importance", np.full(13, -1, np.float32), "found negative numbers; expected costs of at least 0"),
        ("layers.0.importance", None, "found no tensor layers.0.importance"),
        ("layers.0.sensitivity", None, "found no tensor layers.0.sensitivity"),
        ("layers.0.sensitivity", np.ones(2, np.float32), "found 2 numbers; expected at least 3"),
        ("layers.0.sensitivity", np.full(6, np.inf, np.float32), "tensor layers.0.sensitivity: found NaN or infinity"),
        ("layers.1.sensitivity", np.ones(6, np.float32), "layers.1.sensitivity: found weights without a note"),
        ("note", None, "metadata 'importance': found JSONDecodeError"),
        ("note", "[]", "metadata 'importance': found TypeError"),
        ("note", "{}", "metadata 'importance': found KeyError: 'method'"),
        ("note", json.dumps(NOTE | {"method": "gradient"}), "found ValueError: method 'gradient'; expected JSON such"),
        ("note", json.dumps(NOTE | {"n_tokens": -1}), "metadata 'importance': found ValueError: counts"),
        ("note", json.dumps(NOTE | {"seed": True}), "metadata 'importance': found ValueError: counts"),
        ("note", json.dumps(NOTE | {"n_rows": {"layers.0": 0.5}}), "metadata 'importance': found ValueError: counts"),
        ("note", json.dumps(NOTE | {"n_rows": [1]}), "metadata 'importance': found AttributeError"),
        ("note", json.dumps(NOTE | {"sensitivity": {"layers.0": {}}}), "found KeyError: 'input'"),
        ("note", json.dumps(NOTE | {"sensitivity": {"layers.0": {"input": "up", "r2": "x"}}}), "found TypeError"),
        ("note", json.dumps(NOTE | {"sensitivity": {"layers.0": {"input": "up", "r2": np.inf}}}), "found ValueError"),
        ("note", json.dumps(NOTE | {"sensitivity": {"a": {"input": "up", "r2": 1}}}), "found no tensor a.sensitivity"),
    ],
)
def test_malformed(tmp_path: Path, profile: Profile, tensor: str, value: object, match: str) -> None:
    """Selection multiplies by these numbers: whoever reads a profile may trust them."""
    write_profile(tmp_path / "p", profile.with_importance(importance_of()))
    tensors, metadata = load_file(tmp_path / "p"), dict(TensorFile.open(tmp_path / "p").metadata)
    metadata["importance"] = json.dumps(NOTE)
    held: dict[str, Any] = metadata if tensor == "note" else tensors
    key = "importance" if tensor == "note" else tensor
    if value is None:
        del held[key]
    else:
        held[key] = value
    save_file(tensors, tmp_path / "q", metadata)
    for read in (read_profile, read_importance):
        with pytest.raises(TraceFormatError, match=match):
            read(tmp_path / "q")


def test_join_one_text_after_the_other() -> None:
    """The mean is over the tokens that reached each block; sensitivity and seed are the newest."""
    a, b = importance_of(1, 20), importance_of(2, 60, fewer=5)
    both = join_importance([a, b])
    assert both is not None
    np.testing.assert_allclose(both.values["layers.0"], (a.values["layers.0"] + 3 * b.values["layers.0"]) / 4)
    np.testing.assert_allclose(both.values["layers.1"], (4 * a.values["layers.1"] + b.values["layers.1"]) / 5)
    assert both.sensitivities["layers.0"] is b.sensitivities["layers.0"]
    assert (both.note.n_tokens, both.note.seed) == (80, 2)
    assert both.note.n_rows == {"layers.0": 80, "layers.1": 25}


def test_join_side_by_side() -> None:
    """Blocks that were measured apart on one text stay as they are; so does one measurement alone."""
    whole = importance_of()
    parts = [
        ModelImportance(
            {name: whole.values[name]}, {n: w for n, w in whole.sensitivities.items() if n == name},
            ImportanceNote(20, 0, {name: 20}, {n: f for n, f in whole.note.sensitivity.items() if n == name}),
        )
        for name in SIZES
    ]  # fmt: skip
    assert_same(join_importance(parts), whole)
    assert_same(join_importance([whole]), whole)
    assert join_importance([]) is None


def test_json() -> None:
    """The report has the mean, how unequal it is, and what the sensitivity explains; None where that is unknown."""
    importance = importance_of()
    document = importance.to_json()
    assert (document["method"], document["n_tokens"], list(document["blocks"])) == ("fisher", 20, list(SIZES))
    first, second = document["blocks"].values()
    assert first["mean"] == pytest.approx(importance.values["layers.0"].mean())
    assert (first["sensitivity_r2"], second["sensitivity_r2"]) == (0.5, None)
    assert share_of_top(np.array([1, 5, 2, 2], np.float32)) == 0.5
    assert share_of_top(np.arange(20, dtype=np.float32)) == pytest.approx(37 / 190)
    assert share_of_top(np.zeros(3, np.float32)) is None
