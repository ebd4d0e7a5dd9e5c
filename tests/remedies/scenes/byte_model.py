"""DIP's byte model."""

from __future__ import annotations

import numpy as np

from ripple_place.flash.byte_model.dims import MODELS, ModelDims
from ripple_place.flash.byte_model.hooks import Hook
from ripple_place.flash.byte_model.memory import ByteModel
from ripple_place.flash.byte_model.simulate import MaskedSequence, simulate_bytes
from tests.remedies.cases import instead

DUMMY = MODELS["dummy"]


def made(**changes: object) -> ByteModel:
    """Make a small model; look at how DRAM is divided."""
    model = ByteModel(DUMMY, **{"dram_bytes": 1e6, "sequence_tokens": 8, **changes})  # type: ignore[arg-type]
    assert model.split
    return model


def run_masks(n_used: int = 6, n_columns: int = 101, n_tokens: int = 4, **changes: object) -> None:
    """Run masks of the lowest columns through one hook, whose columns have 101 values."""
    mask = np.zeros((n_tokens, n_columns), bool)
    mask[:, :n_used] = True
    simulate_bytes(made(**changes), (Hook(101, 101),), [MaskedSequence((mask,))], "mask-first-lru")


instead(
    "flash/byte_model/dims.py:_check_positive", "", "a model without layers: with some",
    lambda: ModelDims(0, 101, 101, 101), lambda: ModelDims(2, 101, 101, 101),
)  # fmt: skip
instead(
    "flash/byte_model/memory.py:ByteModel.__post_init__", "correct the number", "a bandwidth of 0: another",
    lambda: made(flash_bytes_per_s=0), lambda: made(flash_bytes_per_s=1e9),
)  # fmt: skip
instead(
    "flash/byte_model/memory.py:ByteModel.__post_init__", "name some of them", "an unknown part: one that there is",
    lambda: made(streamed_parts=("heads",)), lambda: made(streamed_parts=("mlp",)),
)  # fmt: skip
instead(
    "flash/byte_model/memory.py:ByteModel.split", "",
    "static parts that do not fit in DRAM: more DRAM, or they are streamed",
    lambda: made(dram_bytes=1e4), lambda: made(dram_bytes=1e6),
    lambda: made(dram_bytes=1e4, allows_static_streaming=True),
)  # fmt: skip
instead(
    "flash/byte_model/simulate.py:_check_sequence", "from the same hooks", "masks of another width: of the hook's",
    lambda: run_masks(n_columns=100), run_masks,
)  # fmt: skip
instead(
    "flash/byte_model/simulate.py:_check_sequence", "shorten the sequence",
    "more tokens than DRAM has room for: fewer, or room for more",
    lambda: run_masks(n_tokens=9), lambda: run_masks(n_tokens=8), lambda: run_masks(n_tokens=9, sequence_tokens=9),
)  # fmt: skip
instead(
    "flash/byte_model/simulate.py:_check_fit", "",
    "a mask larger than its cache: a smaller mask, more DRAM, or columns are streamed",
    lambda: run_masks(dram_bytes=64_500), lambda: run_masks(n_used=0, dram_bytes=64_500),
    lambda: run_masks(dram_bytes=1e6), lambda: run_masks(dram_bytes=64_500, allows_mlp_streaming=True),
)  # fmt: skip
