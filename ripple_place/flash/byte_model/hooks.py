"""Hooks: which linears of the MLP are masked together, as DIP and GLU pruning register them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ripple_place.flash.byte_model.dims import ModelDims


@dataclass(frozen=True)
class Hook:
    """Linears that share one mask of columns, and so one cache.

    Parameters
    ----------
    n_columns : int
        Inputs of each linear: the width of the mask.
    column_values : int
        Outputs of each linear: the values of one column.
    n_linears : int
    """

    n_columns: int
    column_values: int
    n_linears: int = 1


def dip_hooks(dims: ModelDims) -> tuple[Hook, ...]:
    """Return DIP's hooks, layer by layer: one for the inputs of up (and gate), one for those of down."""
    up = Hook(dims.d_model, dims.d_ffn, dims.n_mlp_linears - 1)
    return (up, Hook(dims.d_ffn, dims.d_model)) * dims.n_layers


def glu_hooks(dims: ModelDims) -> tuple[Hook, ...]:
    """Return the hooks of GLU pruning: one a layer, for the inputs of down."""
    return (Hook(dims.d_ffn, dims.d_model),) * dims.n_layers
