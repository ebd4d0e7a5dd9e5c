"""A model of transformers whose FFN weights are never in memory: all else comes from the bundled file."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ripple_place.capture.model import build_skeleton, read_config
from ripple_place.capture.weights import WeightSource
from ripple_place.checkpoint.names import BUNDLED_FILE
from ripple_place.errors import CheckpointError
from ripple_place.generation.refusal import other_model
from ripple_place.tensorfile import TensorFile

if TYPE_CHECKING:
    from ripple_place.checkpoint.output.manifest import Manifest

TORCH_OF_DTYPE = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_PARTS = ("bundles", "bundles_2", "gates", "padding", "padding_2", "padding_gates")
"""Of a block in the bundled file."""


class BareModel:
    """A model without its FFNs' weights; who makes it puts something in their place, then calls `load`.

    Parameters
    ----------
    manifest : Manifest
    dtype : str or None
        What the model computes in; None: that of most bundles.

    Attributes
    ----------
    manifest : Manifest
    model : transformers.PreTrainedModel
    config : transformers.PreTrainedConfig
    resident : TensorFile
        The bundled file with the tensors that are no part of a block.

    Raises
    ------
    UnsupportedError
        If it is no decoder, or transformers does not know it.
    CheckpointError, OSError
        If a file is malformed, or cannot be read.
    """

    def __init__(self, manifest: Manifest, dtype: str | None) -> None:
        self.manifest, out = manifest, manifest.out
        if manifest.document["family"] == "gguf":
            raise other_model(out, "the pack of a GGUF file, which has experts alone")
        self.config = read_config(out)
        if getattr(self.config, "is_encoder_decoder", False) or getattr(self.config, "quantization_config", None):
            raise other_model(out, f"{self.config.model_type}, with an encoder or with quantised weights")
        self.model: Any = build_skeleton(out, self.config, dtype=dtype or _dtype_of(manifest))
        if not hasattr(self.model, "prepare_inputs_for_generation") or self.model.get_output_embeddings() is None:
            raise other_model(out, f"{type(self.model).__name__}, which puts out no text")
        bundled = TensorFile.open(out / BUNDLED_FILE, CheckpointError)
        ours = {f"{block}.{part}" for block in manifest.blocks for part in _PARTS}
        kept = {name: extent for name, extent in bundled.tensors.items() if name not in ours}
        self.resident = replace(bundled, tensors=kept)

    def load(self) -> None:
        """Read every tensor that is no part of a block.

        Raises
        ------
        CheckpointError
            If one is missing.
        """
        WeightSource(self.model, [self.resident], "cpu").load_all()
        self.model.tie_weights()

    @property
    def n_bytes(self) -> int:
        """Memory of parameters and buffers, shared ones once."""
        held = {}
        for tensor in [*self.model.parameters(), *self.model.buffers()]:
            held[tensor.data_ptr()] = tensor.nbytes
        return sum(held.values())


def _dtype_of(manifest: Manifest) -> str:
    """Return the dtype of most of the bundles."""
    dtypes = Counter(entry["dtype"] for entry in manifest.document["bundled"].values())
    most = max(dtypes, key=lambda dtype: dtypes[dtype], default="F32")
    return TORCH_OF_DTYPE.get(most, "float32")
