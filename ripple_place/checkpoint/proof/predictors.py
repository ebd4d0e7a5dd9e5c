"""The predictors in an output: of its blocks, and, where the profile is at hand, those of the profile."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.checkpoint.names import PREDICTORS_FILE
from ripple_place.checkpoint.output.additions import check_predictors_of, misfit
from ripple_place.checkpoint.proof.compare import AGAIN
from ripple_place.errors import CheckpointError, UsageError, VerificationError
from ripple_place.inputfile import open_stream
from ripple_place.predict.files import predictors_pieces, read_predictors

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

    from ripple_place.arrays import Int32Array
    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.predict.predictor import ModelPredictor

PREDICTED = "predictors equal the profile's, in the new order"


def require_predictors(out: Path, additions: Collection[str]) -> None:
    """Refuse an output that declares no predictors, where those of a profile are to be compared with it.

    Raises
    ------
    UsageError
        In that case.
    """
    if PREDICTORS_FILE not in additions:
        raise UsageError(
            "--profile", found=f"no predictors in {out}", expected="those of the profile",
            remedy="leave --profile out, or reorder with this profile",
        )  # fmt: skip


def check_predictors(
    out: Path, additions: Collection[str], model: FfnModel, orders: Mapping[str, Int32Array],
    expected: ModelPredictor | None,
) -> dict[str, int]:  # fmt: skip
    """Return what was compared of the predictors in an output: how many blocks, if there is a profile's to compare.

    Parameters
    ----------
    out : Path
    additions : collection of str
        Files that the output declares.
    model : FfnModel
    orders : mapping of str to ndarray of int32
        ``order[slot]`` of every block of the model, as the output has it.
    expected : ModelPredictor or None
        The profile's, in the model's order; then the output must declare predictors (`require_predictors`).

    Raises
    ------
    VerificationError
        If those of the output are not of its blocks, or not the expected ones, byte for byte.
    CheckpointError
        If the file is malformed.
    TraceFormatError
        If the expected ones are not of this model.
    OSError
        If the file cannot be read.
    """
    path = out / PREDICTORS_FILE
    if PREDICTORS_FILE in additions:
        found = misfit(model, read_predictors(path, CheckpointError))
        if found is not None:
            name, is_now, should_be = found
            raise VerificationError(f"{path}: {name}", found=is_now, expected=should_be, remedy=AGAIN)
    if expected is None:
        return {}
    check_predictors_of(model, expected)
    pieces = predictors_pieces(expected, orders)
    with open_stream(path) as file:
        is_equal = all(file.read(piece.nbytes) == piece for piece in pieces) and not file.read(1)
    if not is_equal:
        raise VerificationError(
            path, found="other predictors", expected="the profile's, in the order of the placement",
            remedy="give the profile that was given to `ripple-place reorder`, or reorder again with this one",
        )  # fmt: skip
    return {PREDICTED: len(expected.blocks)}
