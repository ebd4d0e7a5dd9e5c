"""Files that an output has beside the model, for readers that know what to do with them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ripple_place.checkpoint.names import PREDICTORS_FILE
from ripple_place.errors import TraceFormatError
from ripple_place.predict.files import predictors_bytes, predictors_pieces

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ripple_place.arrays import Int32Array
    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.predict.predictor import ModelPredictor


@dataclass(frozen=True)
class Addition:
    """The content of a file.

    Attributes
    ----------
    size_bytes : int
    pieces : callable
        Returns the content in pieces, each valid until the next is asked for; the same bytes at each call.
    """

    size_bytes: int
    pieces: Callable[[], Iterable[memoryview]]

    @classmethod
    def of_bytes(cls, content: bytes) -> Addition:
        """Return the content that is in memory."""
        return cls(len(content), lambda: [memoryview(content)])


def predictors_file(predictor: ModelPredictor, orders: Mapping[str, Int32Array]) -> dict[str, Addition]:
    """Return the file of predictors for an output whose neurons lie in other orders, ``order[slot]`` by block.

    It is permuted piece by piece while it is written: nothing but the predictors themselves is held in memory.
    """
    return {PREDICTORS_FILE: Addition(predictors_bytes(predictor), partial(predictors_pieces, predictor, orders))}


def misfit(model: FfnModel, predictor: ModelPredictor) -> tuple[str, str, str] | None:
    """Return the first block of predictors that is not as in a model, what it is, and what it should be; or None."""
    for name, block in predictor.blocks.items():
        ffn = model.ffns.get(name)
        if ffn is None:
            return name, "predictors of it", f"a block that {model.checkpoint.path} has"
        if (block.n_neurons, block.n_inputs) != (ffn.n_neurons, ffn.hidden):
            return (
                name, f"predictors of {block.n_neurons} neurons from {block.n_inputs} inputs",
                f"{ffn.n_neurons} neurons and {ffn.hidden} inputs, as {model.checkpoint.path} has",
            )  # fmt: skip
    return None


def check_predictors_of(model: FfnModel, predictor: ModelPredictor) -> None:
    """Refuse the predictors of a profile that were fitted to another model.

    Raises
    ------
    TraceFormatError
        If the model lacks one of their blocks, or has it with another number of neurons or inputs.
    """
    if (found := misfit(model, predictor)) is not None:
        name, is_now, expected = found
        raise TraceFormatError(
            f"profile: {name}.predictor", found=is_now, expected=expected,
            remedy="profile this very model, with --predictor",
        )  # fmt: skip
