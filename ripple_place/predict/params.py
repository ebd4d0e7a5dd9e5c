"""What predictors to fit. Imports nothing heavy, because the command line takes the defaults in its help from here."""

from __future__ import annotations

from dataclasses import dataclass

from ripple_place.errors import UsageError

PREDICTS = ACTIVITY, MAGNITUDE = ("activity", "magnitude")
TRUE, PREDICTED = ACTIVITIES = ("true", "predicted")
"""What is served, and counted: what fires, or what a predictor said would fire."""
DEFAULT_RECALLS = (0.95, 0.99, 0.999)


@dataclass(frozen=True)
class PredictorParams:
    """What predictors to fit.

    Parameters
    ----------
    rank : int
        Of the two matrices.
    predicts : str
        ``activity``: which neurons fire. ``magnitude``: also how much they put out.
    recalls : tuple of float
        Shares of the neurons that fire which shall be predicted; a threshold is set for each. Kept in ascending order.

    Raises
    ------
    UsageError
        If one is out of range, unknown or named twice.
    """

    rank: int
    predicts: str = ACTIVITY
    recalls: tuple[float, ...] = DEFAULT_RECALLS

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise UsageError(
                "--predictor", found=str(self.rank), expected="at least 1", remedy="ask for a rank such as 64"
            )
        if self.predicts not in PREDICTS:
            raise UsageError(
                "--predict", found=repr(self.predicts), expected=" or ".join(PREDICTS), remedy="name one of these"
            )
        if not self.recalls or not all(0 < recall < 1 for recall in self.recalls):
            raise UsageError(
                "--recall", found=", ".join(f"{recall:g}" for recall in self.recalls) or "none",
                expected="shares above 0 and below 1", remedy="ask for one such as 0.99",
            )  # fmt: skip
        if len({*self.recalls}) < len(self.recalls):
            raise UsageError("--recall", found="one twice", expected="each once", remedy="leave one out")
        object.__setattr__(self, "recalls", tuple(sorted(self.recalls)))


def place_of_recall(recall: float, recalls: tuple[float, ...]) -> int:
    """Return the place of a recall among those that predictors have thresholds for.

    Raises
    ------
    UsageError
        If it is none of them.
    """
    if recall not in recalls:
        raise UsageError(
            f"recall {recall:g}", found="no thresholds for it in the predictors",
            expected=" or ".join(f"{known:g}" for known in recalls),
            remedy="name one of these, or fit the predictors for it with `ripple-place profile --recall`",
        )  # fmt: skip
    return recalls.index(recall)


def check_activity(activity: str, recall: float | None = None) -> None:
    """Refuse an activity that is none of `ACTIVITIES`, and a recall of what is not predicted.

    Raises
    ------
    UsageError
    """
    if activity not in ACTIVITIES:
        raise UsageError(
            "--activity", found=repr(activity), expected=" or ".join(ACTIVITIES), remedy="name one of these"
        )
    if activity == TRUE and recall is not None:
        raise UsageError(
            f"--recall {recall:g}", found="what fires, which no predictor says", expected="--activity predicted",
            remedy="add that, or leave --recall out",
        )  # fmt: skip
