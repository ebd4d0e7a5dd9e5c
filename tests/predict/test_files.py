"""Files of predictors, and predictors in profiles: what is written comes back, what is malformed is refused."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load, load_file, save_file

from ripple_place.errors import CheckpointError, TraceFormatError
from ripple_place.graph.profile import read_importance, read_predictor, read_profile, write_profile
from ripple_place.predict import files
from ripple_place.predict.files import predictors_bytes, predictors_content, predictors_pieces, read_predictors
from ripple_place.predict.params import ACTIVITY, MAGNITUDE
from ripple_place.tensorfile import DTYPE_BITS, TensorFile
from tests.predict.builders import SIZES, add_predictor, predictor_of

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.predict.predictor import ModelPredictor

ORDERS = {name: np.random.default_rng(1).permutation(n).astype(np.int32) for name, n in SIZES.items()}


def assert_same(found: ModelPredictor | None, expected: ModelPredictor) -> None:
    """Assert that both say the same."""
    assert found is not None
    assert found.note == expected.note
    assert list(found.blocks) == list(expected.blocks)
    for name, block in expected.blocks.items():
        for field in fields(block):
            ours, theirs = getattr(found.blocks[name], field.name), getattr(block, field.name)
            assert (ours is None) == (theirs is None), field.name
            if theirs is not None:
                assert ours.dtype == theirs.dtype
                np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("predicts", [ACTIVITY, MAGNITUDE])
@pytest.mark.parametrize("with_constant", [True, False])
def test_a_file_of_their_own(tmp_path: Path, predicts: str, with_constant: bool) -> None:
    """What was written comes back; each tensor is aligned to its own size."""
    predictor = predictor_of(predicts=predicts, with_constant=with_constant)
    (tmp_path / "p").write_bytes(predictors_content(predictor))
    assert_same(read_predictors(tmp_path / "p", CheckpointError), predictor)
    for extent in TensorFile.open(tmp_path / "p").tensors.values():
        assert extent.offset_bytes % (DTYPE_BITS[extent.dtype] // 8) == 0
    assert predictors_bytes(predictor) == (tmp_path / "p").stat().st_size


@pytest.mark.parametrize("piece_bytes", [1, 40, 1 << 20])
def test_another_order_piece_by_piece(monkeypatch: pytest.MonkeyPatch, piece_bytes: int) -> None:
    """Permuted while it is written, the file is that of permuted predictors, and as long as without an order."""
    monkeypatch.setattr(files, "PIECE_BYTES", piece_bytes)
    predictor = predictor_of(predicts=MAGNITUDE)
    pieces = [bytes(piece) for piece in predictors_pieces(predictor, ORDERS)]
    assert b"".join(pieces) == predictors_content(predictor.in_orders(ORDERS))
    assert sum(map(len, pieces)) == predictors_bytes(predictor)
    tensors, block = load(b"".join(pieces)), predictor.blocks["layers.0"]
    for part in ("up", "bias", "scale"):
        np.testing.assert_array_equal(tensors[f"layers.0.predictor.{part}"], getattr(block, part)[ORDERS["layers.0"]])
    for part in ("down", "threshold", "constant"):
        np.testing.assert_array_equal(tensors[f"layers.0.predictor.{part}"], getattr(block, part))


def test_the_constant_costs_a_reader_nothing() -> None:
    """Only an export needs it."""
    assert predictor_of(with_constant=True).n_bytes == predictor_of(with_constant=False).n_bytes


def test_in_a_profile(profile_path: Path) -> None:
    """Both readers give them back; counts and the digest, which names the profile, are as without."""
    before = read_profile(profile_path)
    assert before.predictor is None
    assert read_predictor(profile_path) is None
    add_predictor(profile_path, predictor_of(predicts=MAGNITUDE))
    assert_same(read_predictor(profile_path), predictor_of(predicts=MAGNITUDE))
    after = read_profile(profile_path)
    assert_same(after.predictor, predictor_of(predicts=MAGNITUDE))
    assert after.digest == before.digest
    assert read_importance(profile_path) is None
    for extent in TensorFile.open(profile_path).tensors.values():
        assert extent.offset_bytes % (DTYPE_BITS[extent.dtype] // 8) == 0


def test_of_some_blocks(profile_path: Path) -> None:
    """A block that no token reached has none."""
    learned = read_profile(profile_path)
    some = predictor_of({"layers.1": 24})
    write_profile(profile_path, replace(learned, predictor=some))
    assert_same(read_predictor(profile_path), some)


def changed(path: Path, tensors: dict[str, Any], metadata: dict[str, str | None]) -> None:
    """Write a file of predictors in which some tensors and metadata are others; None: removed."""
    path.write_bytes(predictors_content(predictor_of(predicts=MAGNITUDE)))
    held, said = load_file(path), dict(TensorFile.open(path).metadata)
    for name, array in tensors.items():
        held.pop(f"layers.0.predictor.{name}")
        if array is not None:
            held[f"layers.0.predictor.{name}"] = array
    for key, value in metadata.items():
        said.pop(key)
        if value is not None:
            said[key] = value
    save_file(held, path, said)


def note(**parts: Any) -> dict[str, str | None]:
    """Return the note with some values changed; `...`: without."""
    document = {
        "predicts": MAGNITUDE, "recalls": [0.9, 0.99], "n_tokens": 300, "methods": dict.fromkeys(SIZES, "logistic")
    }  # fmt: skip
    return {"predictor": json.dumps({key: value for key, value in {**document, **parts}.items() if value is not ...})}


HALF, SINGLE = np.float16, np.float32


@pytest.mark.parametrize(
    ("tensors", "metadata", "message"),
    [
        ({"down": None}, {}, "down"),
        ({"down": np.ones((3, 8), SINGLE)}, {}, "down"),
        ({"down": np.ones(8, HALF)}, {}, "down"),
        ({"down": np.ones((0, 8), HALF)}, {}, "no number, NaN or infinity"),
        ({"down": np.full((3, 8), np.nan, HALF)}, {}, "no number, NaN or infinity"),
        ({"up": np.full((24, 3), np.inf, HALF)}, {}, "no number, NaN or infinity"),
        ({"up": np.ones((24, 4), HALF)}, {}, r"up: found shape \[24, 4\]; expected \[24, 3\]"),
        ({"up": np.ones((23, 3), HALF)}, {}, r"up: found shape \[23, 3\]; expected \[24, 3\]"),
        ({"bias": np.ones(23, SINGLE)}, {}, r"bias: found shape \[23\]; expected \[24\]"),
        ({"threshold": np.ones(3, SINGLE)}, {}, r"threshold: found shape \[3\]; expected \[2\]"),
        ({"scale": None}, {}, "scale"),
        ({"scale": np.ones(25, SINGLE)}, {}, r"scale: found shape \[25\]; expected \[24\]"),
        ({"scale": -np.ones(24, SINGLE)}, {}, "negative numbers"),
        ({"constant": np.ones(9, SINGLE)}, {}, r"constant: found shape \[9\]; expected \[8\]"),
        ({"constant": np.ones(8, HALF)}, {}, "constant"),
        ({"constant": np.full(8, np.nan, SINGLE)}, {}, "no number, NaN or infinity"),
        ({}, {"predictor": None}, "metadata 'predictor'"),
        ({}, {"predictor": "7"}, "metadata 'predictor'"),
        ({}, note(predicts="all"), "predicts 'all'"),
        ({}, note(n_tokens=0), "n_tokens 0"),
        ({}, note(n_tokens=10**30), "n_tokens"),
        ({}, note(recalls=[]), r"recalls \[\]"),
        ({}, note(recalls=[0.99, 0.9]), "recalls"),
        ({}, note(recalls=[0.9, 1.0]), "recalls"),
        ({}, note(recalls=["a", "b"]), "recalls"),
        ({}, note(recalls=...), "recalls"),
        ({}, note(methods={"layers.0": "logistic"}), "methods of 1 blocks; expected one for each of the 2"),
        ({}, note(methods=dict.fromkeys(SIZES, "magic")), "methods"),
        ({}, note(methods=["logistic"]), "methods"),
        ({}, {"blocks": None}, "metadata 'blocks'"),
        ({}, {"blocks": "[1]"}, "metadata 'blocks'"),
        ({}, {"blocks": '{"layers.0": 0, "layers.1": 24}'}, "metadata 'blocks'"),
        ({}, {"blocks": '{"layers.0": 24, "layers.1": 24, "layers.2": 24}'}, "blocks without a predictor"),
        ({}, {"blocks": "{}"}, "methods of 2 blocks"),
        ({}, {"format": "ripple-place.trace/1"}, r"expected ripple-place\.predictors/1"),
        ({}, {"format": "ripple-place.predictors/2"}, "a later version wrote this file"),
    ],
)  # fmt: skip
def test_what_is_malformed(
    tmp_path: Path, tensors: dict[str, Any], metadata: dict[str, str | None], message: str
) -> None:
    """In one sentence, of the error that the caller names."""
    changed(tmp_path / "p", tensors, metadata)
    with pytest.raises(CheckpointError, match=message):
        read_predictors(tmp_path / "p", CheckpointError)


def test_malformed_in_a_profile(profile_path: Path) -> None:
    """A profile whose predictors are of another size is no sound profile."""
    add_predictor(profile_path, predictor_of({"layers.0": 23}))
    for read in (read_profile, read_predictor):
        with pytest.raises(TraceFormatError, match=r"layers\.0\.predictor\.up: found shape \[23, 3\]"):
            read(profile_path)
