"""From the times of steps to those of tokens, where several sequences are served at once."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.flash.simulation_params import batch_changes
from ripple_place.flash.step_scores import StepScores

if TYPE_CHECKING:
    from ripple_place.arrays import Float64Array, Int32Array
    from ripple_place.flash.results import LayoutResult


def per_sequence(step_us: Float64Array, batch_of_step: Int32Array) -> Float64Array:
    """Return the time of each token: the step's over its sequences, once for each; shape (n_tokens,), float64.

    >>> per_sequence(np.array([6.0, 5.0]), np.array([3, 1])).tolist()
    [2.0, 2.0, 2.0, 5.0]
    """
    return np.repeat(step_us / batch_of_step, batch_of_step)


def per_token(result: LayoutResult, batch_of_step: Int32Array) -> LayoutResult:
    """Return a result whose tokens are those of all sequences, from one whose tokens are steps.

    Parameters
    ----------
    result : LayoutResult
        Percentiles of its blocks are of tokens already.
    batch_of_step : ndarray of shape (n_steps,), int32
        At least 1.
    """
    time = result.token_time
    changes = batch_changes(batch_of_step)
    ends = [*(step for step, _ in changes[1:]), batch_of_step.size]
    steps = tuple(
        StepScores(
            batch, end - first, float(result.token_us[first:end].mean()),
            None if time is None else float(time.token_us[first:end].mean()),
        )
        for (first, batch), end in zip(changes, ends, strict=True)
    )  # fmt: skip
    n_tokens = int(batch_of_step.sum())
    if time is not None:
        compute_us = time.compute_us_per_token * batch_of_step.size / n_tokens
        time = replace(time, compute_us_per_token=compute_us, token_us=per_sequence(time.token_us, batch_of_step))
    return replace(
        result, n_tokens=n_tokens, token_us=per_sequence(result.token_us, batch_of_step), token_time=time, steps=steps
    )
