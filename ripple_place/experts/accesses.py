"""The experts that a trace asks for, in the order in which an engine asks for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.blocks import EXPERT
from ripple_place.errors import UsageError
from ripple_place.trace.activation_trace import DECODE
from ripple_place.trace.unit_bytes import read_unit_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import BoolArray, Float32Array, Int32Array, Int64Array
    from ripple_place.trace.activation_trace import ActivationTrace, BlockTrace


@dataclass(frozen=True, eq=False)
class ExpertAccesses:
    """Accesses to experts, one for each routing of a token in a layer.

    Attributes
    ----------
    items : ndarray of shape (n_accesses,), int32
        Experts of the whole model, numbered through the layers: `first_item` of the layer, plus the expert's own.
    layers : ndarray of shape (n_accesses,), int32
        Place of each access's layer among the blocks.
    tokens : ndarray of shape (n_accesses,), int32
    is_decode : ndarray of shape (n_accesses,), bool
    steps : ndarray of shape (n_accesses,), int64
        Number of the batch that each access belongs to: all tokens of a prompt or of a chunk of it, or one that is
        generated.
    step_tokens : ndarray of shape (n_steps,), int64
        Tokens of each batch.
    first_item : ndarray of shape (n_layers + 1,), int64
    blocks : tuple of str
        Names of the layers.
    """

    items: Int32Array
    layers: Int32Array
    tokens: Int32Array
    is_decode: BoolArray
    steps: Int64Array
    step_tokens: Int64Array
    first_item: Int64Array
    blocks: tuple[str, ...]

    @property
    def n_items(self) -> int:
        """Experts of the whole model."""
        return int(self.first_item[-1])


def list_accesses(trace: ActivationTrace, prefill_chunk: int | None = None) -> ExpertAccesses:
    """Return what a trace of experts asks for, in execution order.

    Parameters
    ----------
    trace : ActivationTrace
        Of experts. Where it has magnitudes, they are the router's weights, and a token asks for the experts of a layer
        by descending weight, else by number.
    prefill_chunk : int, optional
        Tokens of a prompt that pass together, at least 1; default: all of them.

    Raises
    ------
    UsageError
        If its unit is another one.

    Notes
    -----
    The tokens of a prompt, or of a chunk, pass together: layer 0 of all of them, then layer 1. Tokens that are
    generated pass one by one, each through all layers. Consecutive tokens of one segment whose phase is prefill are one
    prompt; without phases, all tokens count as generated. Costs about 60 bytes a routing.
    """
    check_experts(trace)
    n_experts = [block.n_neurons for block in trace.blocks.values()]
    first_item = np.concatenate([[0], np.cumsum(n_experts)]).astype(np.int64)
    is_decode = np.ones(trace.n_tokens, bool) if trace.phases is None else trace.phases == DECODE
    begins = is_decode.copy()
    begins[trace.segment_starts] = True
    begins[1:] |= is_decode[:-1] != is_decode[1:]
    if prefill_chunk is not None:
        places = np.arange(trace.n_tokens)
        in_prompt = places - np.maximum.accumulate(np.where(begins, places, 0))
        begins |= in_prompt % prefill_chunk == 0
    step_of_token = np.cumsum(begins) - 1
    parts = [_of_block(block) for block in trace.blocks.values()]
    tokens = np.concatenate([token for token, _, _ in parts])
    experts = np.concatenate([expert for _, expert, _ in parts])
    weights = np.concatenate([weight for _, _, weight in parts])
    layers = np.repeat(np.arange(len(parts), dtype=np.int32), [token.size for token, _, _ in parts])
    steps = step_of_token[tokens]
    order = np.lexsort((experts, -weights, tokens, layers, steps))
    return ExpertAccesses(
        (experts + first_item[layers])[order].astype(np.int32), layers[order], tokens[order], is_decode[tokens][order],
        steps[order], np.bincount(step_of_token), first_item, tuple(trace.blocks),
    )  # fmt: skip


def check_experts(trace: ActivationTrace) -> None:
    """Refuse traces of other units than experts.

    Raises
    ------
    UsageError
        If the unit is another one.
    """
    if trace.unit != EXPERT:
        raise UsageError(
            "trace", found=f"blocks of {trace.unit}s", expected=f"blocks of {EXPERT}s: which experts each token uses",
            remedy="give a route trace, or record one with `ripple-place profile MODEL --text FILE --unit expert`",
        )  # fmt: skip


def unit_bytes_of(trace: ActivationTrace) -> Mapping[str, int]:
    """Return the bytes of an expert by block, as the trace records them; empty where it does not.

    Raises
    ------
    TraceFormatError
        If the trace records them in another form.
    """
    return read_unit_bytes(trace.metadata)


def _of_block(block: BlockTrace) -> tuple[Int32Array, Int32Array, Float32Array]:
    """Return token, expert and weight of each routing in a block, row by row."""
    bits = np.unpackbits(np.asarray(block.active[:]), axis=1, count=block.n_neurons, bitorder="little")
    row, expert = np.nonzero(bits)
    weights = np.zeros(row.size, np.float32)
    if block.magnitudes is not None:
        weights = np.asarray(block.magnitudes.values[:], np.float32)
    token = row if block.token_index is None else block.token_index[row]
    return token.astype(np.int32), expert.astype(np.int32), weights
