"""What reads cost in the verdict of a profile: as asked for, with the bundles of the model that is profiled."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from ripple_place.blocks import is_input_block
from ripple_place.checkpoint.model.ffn import open_model
from ripple_place.errors import RipplePlaceError
from ripple_place.verdict.judge import VerdictParams

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.workflows.profile_params import ProfileParams


def verdict_costs(params: ProfileParams, sources: Sequence[Path], unit: str) -> VerdictParams:
    """Return what reads cost with the sizes of bundles of the model among the sources, where they are not given.

    Of several sizes, the one that most neurons (or columns of a kind) have. A model that no family describes, or whose
    columns cannot be moved, tells nothing here: `reorder` says why.

    Parameters
    ----------
    params : ProfileParams
    sources : sequence of Path
    unit : str
        One of `ripple_place.blocks.UNITS`.
    """
    costs, model = params.verdict or VerdictParams(), next((path for path in sources if path.is_dir()), None)
    if model is None or costs.bundle_bytes is not None or costs.break_even_gap is not None:
        return costs
    try:
        described = open_model(model, params.capture.family if params.capture is not None else None).of_unit(unit)
    except RipplePlaceError:
        return costs
    n_neurons: dict[bool, Counter[int]] = defaultdict(Counter)
    for name, block in described.blocks.items():
        n_neurons[is_input_block(name)][block.bundle_bytes] += block.n_neurons
    of_input, of_down = (n_neurons[is_input].most_common(1) for is_input in (True, False))
    return replace(costs, bundle_bytes=(of_input[0][0], of_down[0][0]) if of_input else of_down[0][0])
