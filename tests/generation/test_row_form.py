"""What rows of a block hold, by the index of a bundled file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.errors import CheckpointError, UnsupportedError
from ripple_place.generation.known_weights import read_first_bytes
from ripple_place.generation.row_form import form_of_block
from ripple_place.kernels.sparse_ffn import F16
from tests.runtime.builders import HIDDEN, N_NEURONS, bundles_by_index, write_output

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("options", [{}, {"stride": "page"}, {"gates": "apart"}], ids=str)
def test_gated_rows(tmp_path: Path, options: dict[str, Any]) -> None:
    """Gate, up and down one after the other, wherever the gates lie; the first bytes of all rows are read alone."""
    out = write_output(tmp_path, gated=True, **options)
    manifest = read_manifest(out)
    for block in manifest.blocks:
        entry = manifest.document["bundled"][block]
        form = form_of_block(block, entry)
        n_bytes = 2 * HIDDEN
        assert (form.n_units, form.hidden, form.row_bytes, form.is_gated) == (N_NEURONS, HIDDEN, 3 * n_bytes, True)
        assert [(role, part.at_bytes, part.form) for role, part in form.components.items()] == [
            ("gate", 0, F16), ("up", n_bytes, F16), ("down", 2 * n_bytes, F16),
        ]  # fmt: skip
        rest = form.without_gate()
        assert [(role, part.at_bytes) for role, part in rest.components.items()] == [("up", 0), ("down", n_bytes)]
        assert (rest.row_bytes, rest.is_gated) == (2 * n_bytes, False)
        assert manifest.bundled_path is not None
        for first in (n_bytes, 2 * n_bytes, 3 * n_bytes):
            weights = read_first_bytes(manifest.bundled_path, entry, first)
            np.testing.assert_array_equal(weights, bundles_by_index(out, block)[:, :first])


def test_long_blocks_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A piece ends between two rows."""
    monkeypatch.setattr("ripple_place.generation.known_weights._PIECE_BYTES", 5000)
    manifest = read_manifest(write_output(tmp_path))
    assert manifest.bundled_path is not None
    weights = read_first_bytes(manifest.bundled_path, manifest.document["bundled"]["layers.1"], 2 * HIDDEN)
    np.testing.assert_array_equal(weights, bundles_by_index(manifest.out, "layers.1")[:, : 2 * HIDDEN])


def test_a_file_that_was_cut_short_is_refused(tmp_path: Path) -> None:
    """Before anything is made of what there is."""
    manifest = read_manifest(write_output(tmp_path))
    path, entry = manifest.bundled_path, manifest.document["bundled"]["layers.1"]
    assert path is not None
    path.write_bytes(path.read_bytes()[: entry["offset_bytes"] + 900])
    with pytest.raises(CheckpointError, match="bytes before that of a block"):
        read_first_bytes(path, entry, 2 * HIDDEN)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"unit": "column"}, "units that are columns"),
        ({"dtype": "F8_E4M3"}, "up in F8_E4M3"),
        ({"roles": ("up", "up")}, "up in F16"),
        ({"roles": ("up", "side")}, "side in F16"),
        ({"roles": ("gate", "down")}, "gate and down"),
    ],
)
def test_other_rows_are_refused(change: dict[str, Any], match: str) -> None:
    """Columns, 8 bits, and parts that no FFN of this shape has."""
    roles, dtype = change.get("roles", ("up", "down")), change.get("dtype", "F16")
    parts = [{"role": role, "tensor": role, "dtype": dtype, "length_bytes": 8} for role in roles]
    with pytest.raises(UnsupportedError, match=match):
        form_of_block("layers.0", {"unit": change.get("unit", "neuron"), "n_neurons": 4, "components": parts})
