"""Place a model's neurons: a list of stages, chosen from the parameters, each of which takes what the last one made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ripple_place.blocks import unit_metadata
from ripple_place.ordering.registry import find_ordering
from ripple_place.placing.compare import compare
from ripple_place.placing.dram.place import MAX_SEARCHES, place_behind_cache
from ripple_place.placing.granules import check_granules, coarse_costs, coarse_profile, expand_placed
from ripple_place.placing.job import Job
from ripple_place.placing.placed import Placed
from ripple_place.placing.refit import refit
from ripple_place.placing.search import search, take_asked
from ripple_place.placing.search_clock import SearchClock, stop_on_interrupt
from ripple_place.placing.second_copy import add_second_copy
from ripple_place.placing.whole import order_all_rows
from ripple_place.version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ripple_place.flash.read_cost import ReadCosts
    from ripple_place.graph.profile import Profile
    from ripple_place.ordering.ordering import Ordering
    from ripple_place.placing.params import PlacingParams
    from ripple_place.tracking import Track


@dataclass(frozen=True)
class Stage:
    """One stage of placing.

    Parameters
    ----------
    run : callable
        Takes the job and what the stages before have made, and returns what there is then.
    n_searches : int
        Searches of each block, at most, that share the time limit.
    """

    run: Callable[[Job, Placed], Placed]
    n_searches: int = 0


def stages_of(params: PlacingParams, ordering: Ordering) -> list[Stage]:
    """Return the stages that resolved parameters ask for, in turn."""
    if not params.is_judged:
        return [Stage(order_all_rows)]
    stages = [Stage(search, n_searches=1), Stage(compare)]
    if params.dram_budget is not None:
        stages.append(Stage(place_behind_cache, n_searches=MAX_SEARCHES))
    elif ordering.is_searched or params.copies == 2:
        stages.append(Stage(take_asked))
    else:
        stages.append(Stage(order_all_rows))
    if params.copies == 2:
        stages.append(Stage(add_second_copy))
    if params.refit:
        stages.append(Stage(refit, n_searches=1))
    return stages


def place_neurons(
    profile: Profile, names: Sequence[str], params: PlacingParams, costs: ReadCosts, track: Track
) -> Placed:
    """Order the neurons of the named blocks.

    Parameters
    ----------
    profile : Profile
    names : sequence of str
        Blocks, in model order.
    params : PlacingParams
        Resolved.
    costs : ReadCosts
        What reads cost, as far as it is known.
    track : Track
        Receives progress.

    Raises
    ------
    UsageError
        If the ordering or the budget needs to know what a read costs, or a neuron's bytes, and nothing says it.
    TraceFormatError
        If it needs activation bits, and the profile has none.
    """
    if params.granule > 1:
        check_granules(params)
        coarse = coarse_profile(profile, names, params.granule)
        coarse_params = replace(params, granule=1)
        placed = place_neurons(coarse, names, coarse_params, coarse_costs(costs, params.granule), track)
        return expand_placed(placed, profile, params.granule, origin_of(profile, params, costs))
    with stop_on_interrupt() as interrupt:
        job = Job(profile, tuple(names), params, costs, SearchClock(1), track)
        stages = stages_of(params, job.ordering)
        n_searches = len(names) * sum(stage.n_searches for stage in stages)
        clock = SearchClock(n_searches, params.n_threads or 1, params.time_limit_s, interrupt)
        job = replace(job, clock=clock)
        placed = Placed({}, origin_of(profile, params, costs))
        for stage in stages:
            placed = stage.run(job, placed)
    return replace(placed, cut_short=clock.cut_short)


def origin_of(profile: Profile, params: PlacingParams, costs: ReadCosts) -> dict[str, str]:
    """Return what a placement says of its origin; nothing that differs from run to run."""
    metadata = {"ordering": params.ordering, "seed": str(params.seed), "profile": profile.digest}
    metadata |= unit_metadata(profile.unit)
    metadata["tool_version"] = __version__
    if find_ordering(params.ordering).takes_effort:
        metadata["effort"] = str(params.effort)
    if params.refit:
        metadata["refit"] = "true"
    if params.copies == 2:
        metadata |= {"copies": "2", "effort": str(params.effort)}
    return metadata | costs.to_metadata()
