"""From activation traces to a profile: how often neurons fire, and fire together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.graph.coactivation import NeuronBits, neighbor_graph
from ripple_place.graph.export import write_graphml
from ripple_place.graph.profile import BlockProfile, Profile, write_profile
from ripple_place.graph.statistics import BlockStatistics, block_statistics
from ripple_place.trace.sources import read_sources
from ripple_place.workflows.outputs import check_output_file
from ripple_place.workflows.tracking import Track, no_track

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.trace.activation_trace import ActivationTrace

SHORT_TRACE_TOKENS = 1024
"""Below this a block's pair counts are mostly noise: a pair that fires together for 1 % of tokens does so 10 times."""


@dataclass(frozen=True)
class ProfileReport:
    """What `profile` prints."""

    trace: ActivationTrace
    statistics: dict[str, BlockStatistics]
    digest: str
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``profile --json``."""
        return {
            "n_tokens": self.trace.n_tokens,
            "n_segments": int(self.trace.segment_starts.size),
            **{key: self.trace.metadata.get(key) for key in ("activity", "model", "dataset")},
            "profile": self.digest,
            "blocks": {name: statistics.to_json() for name, statistics in self.statistics.items()},
            "warnings": list(self.warnings),
        }


def profile(
    sources: Sequence[Path],
    out: Path,
    *,
    n_neighbors: int = 64,
    graphml: Path | None = None,
    force: bool = False,
    track: Track = no_track,
) -> ProfileReport:
    """Count firings and co-firings of every block, and write the profile.

    Parameters
    ----------
    sources : sequence of Path
        Traces; see `ripple_place.trace.sources`.
    out : Path
        The profile; appears whole or not at all.
    n_neighbors : int
        Neighbours kept of each neuron.
    graphml : Path, optional
        Where the neighbour graphs go as GraphML.
    force : bool
        Overwrite existing files.
    track : Track
        Told of progress.

    Raises
    ------
    UsageError, UnsupportedError, TraceFormatError, OSError
        As for `read_sources` and `write_profile`; `UsageError` also if an output exists.
    """
    check_output_file(out, force=force, apart_from=sources)
    if graphml is not None:
        check_output_file(graphml, force=force, apart_from=[*sources, out])
    trace = read_sources(sources)
    blocks, statistics = {}, {}
    for name, block in track(trace.blocks.items(), "counting co-activations"):
        bits = NeuronBits.of_block(block)
        blocks[name] = BlockProfile(bits.frequency(), neighbor_graph(bits, n_neighbors))
        statistics[name] = block_statistics(blocks[name].frequency, blocks[name].graph, bits)
    result = Profile(blocks, n_neighbors, trace)
    write_profile(out, result)
    if graphml is not None:
        write_graphml(graphml, blocks)
    return ProfileReport(trace, statistics, result.digest, _warnings(trace, statistics))


def _warnings(trace: ActivationTrace, statistics: dict[str, BlockStatistics]) -> tuple[str, ...]:
    """Say how the profile may mislead."""
    warnings = []
    if trace.n_tokens < SHORT_TRACE_TOKENS:
        warnings.append(
            f"the trace has {trace.n_tokens} tokens; pair counts are mostly noise below {SHORT_TRACE_TOKENS}: "
            "record more text"
        )
    silent = [name for name, block in statistics.items() if block.dead_neurons == block.n_neurons]
    if silent:
        warnings.append(f"no neuron fires in {', '.join(silent)}: check the activity rule of the trace")
    dense = [name for name, block in statistics.items() if block.active_share > 0.5]
    if dense:
        warnings.append(f"more than half of the neurons fire in {', '.join(dense)}: no placement can help there much")
    return tuple(warnings)
