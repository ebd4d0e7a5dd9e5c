"""Routes as llama.cpp's moe-trace writes them: ``layer,expert``, one line a routing, without the bounds of tokens.

References
----------
github.com/ggml-org/llama.cpp, pull request 28544.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ripple_place.errors import TraceFormatError
from ripple_place.trace.activation_trace import ASSUMED, DECODE, PREFILL
from ripple_place.trace.routes.routings import Routings, check_whole
from ripple_place.trace.routes.tables import read_table, whole_numbers

if TYPE_CHECKING:
    from typing import TextIO

    from ripple_place.arrays import Int64Array

COLUMNS = ("layer", "expert")


def read_moe_trace(where: object, text: TextIO, n_used: int | None) -> tuple[Routings, dict[str, str]]:
    """Read ``layer,expert`` lines; a first line that names the columns is skipped.

    Parameters
    ----------
    where : object
        The source, for messages.
    text : text file
    n_used : int or None
        Experts that a token uses in a layer; by default, the rows of the shortest run of one layer.

    Returns
    -------
    Routings
        Without weights. Phases are told by the runs, unless there is one layer only.
    metadata : dict of str to str
        ``assumed``: what the file does not say.

    Raises
    ------
    TraceFormatError
        If a line is malformed; a run of a layer is no multiple of `n_used`, or names an expert twice for a token;
        there is one layer and no `n_used`; or a token that was generated lacks a layer.

    Notes
    -----
    An engine runs a batch through one layer after the other. So consecutive rows of one layer, a run, are the tokens
    of a batch, `n_used` rows each, in order; a batch ends where layers no longer ascend. A batch of several tokens is
    taken for a part of a prompt, one of a single token for a token that was generated. In layers where a batch has
    fewer tokens (the last layer of a prompt) they are taken for the last ones. A prompt after generated tokens begins
    a segment.
    """
    first = text.readline()
    is_header = tuple(field.strip().lower() for field in first.split(",")) == COLUMNS
    table = read_table(where, text, COLUMNS, "" if is_header else first)
    layers, experts = (whole_numbers(where, name, table[:, place]) for place, name in enumerate(COLUMNS))
    starts = np.flatnonzero(np.append(True, layers[1:] != layers[:-1]))
    lengths = np.diff(np.append(starts, layers.size))
    is_one_layer = starts.size == 1
    if n_used is None and is_one_layer:
        raise _used_error(where, found="one layer, whose rows say nothing of where a token ends")
    used = int(lengths.min()) if n_used is None else n_used
    if (odd := lengths % used != 0).any():
        at = int(odd.argmax())
        raise _used_error(
            f"{where}: row {starts[at] + 1}", found=f"{lengths[at]} rows of layer {layers[starts[at]]}, no multiple of "
            f"the {used} of {'the shortest run' if n_used is None else 'used'}",
        )  # fmt: skip
    n_tokens = lengths // used
    _check_distinct(where, layers, experts, used)

    of_run = layers[starts]
    batch = np.cumsum(np.append(False, of_run[1:] <= of_run[:-1]))
    size = np.zeros(batch[-1] + 1, np.int64)
    np.maximum.at(size, batch, n_tokens)
    begins = np.concatenate([[0], np.cumsum(size)[:-1]])
    first_token = begins[batch] + size[batch] - n_tokens
    row = np.arange(layers.size)
    tokens = np.repeat(first_token, lengths) + (row - np.repeat(starts, lengths)) // used
    is_prompt = size > 1
    turn = np.cumsum(np.append(False, is_prompt[1:] & ~is_prompt[:-1]))
    phases = None
    if not is_one_layer:
        phases = np.repeat(np.where(is_prompt, PREFILL, DECODE)[batch], lengths).astype(np.uint8)
    routings = Routings(np.repeat(turn[batch], lengths), tokens, layers, experts, None, phases)
    check_whole(where, routings)
    how = "as given" if n_used is not None else "the rows of the shortest run of a layer"
    return routings, {ASSUMED: f"{used} experts a token and layer ({how}), tokens in the order of the rows"}


def _check_distinct(where: object, layers: Int64Array, experts: Int64Array, used: int) -> None:
    """Raise at an expert that is named twice within the rows of one token."""
    rows = np.sort(experts.reshape(-1, used), axis=1)
    if (again := (rows[:, 1:] == rows[:, :-1]).any(axis=1)).any():
        at = int(again.argmax()) * used
        raise _used_error(
            f"{where}: rows {at + 1} to {at + used}", found=f"an expert twice for a token of layer {layers[at]}"
        )


def _used_error(where: object, *, found: str) -> TraceFormatError:
    return TraceFormatError(
        where, found=found, expected="the same number of rows, each of another expert, for every token of a layer",
        remedy="say how many experts a token uses in a layer: routes:FILE,used=8; if that is right, remove the rows of "
        "a token that was cut off",
    )  # fmt: skip
