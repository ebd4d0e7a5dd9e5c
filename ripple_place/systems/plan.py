"""A neuron plan: which neurons of each block are hot at each batch size, and the file ``plan.json`` that says so."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.errors import PlacementError
from ripple_place.jsontext import parse_json

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.placement import ModelPlacement

PLAN_FORMAT = "ripple-place.plan/1"
METADATA_KEY = "plan"
"""Of a placement: the same document as ``plan.json``."""


@dataclass(frozen=True)
class HotCounts:
    """The hot neurons of one block at one batch size: the first of its slots.

    Attributes
    ----------
    n_hot : int
        Computed densely, whether they fire or not: a multiple of the rows of a cluster, or all.
    n_resident : int
        Of those, the first that stay in DRAM.
    npu_us, cpu_us : float
        What the dense unit takes for the hot neurons of a layer, and the CPU for the cold ones that it is expected to
        compute.
    """

    n_hot: int
    n_resident: int
    npu_us: float
    cpu_us: float

    @property
    def n_prefetched(self) -> int:
        """Hot neurons that are not resident: read in sequence while the attention before them is computed."""
        return self.n_hot - self.n_resident


@dataclass(frozen=True)
class BlockPlan:
    """The plan of one block.

    Attributes
    ----------
    n_neurons : int
    cluster_rows : int
        Neurons that enter and leave the hot region together.
    hot : mapping of int to HotCounts
        By batch size, ascending; a larger batch has at least as many hot neurons.
    """

    n_neurons: int
    cluster_rows: int
    hot: Mapping[int, HotCounts]


@dataclass(frozen=True)
class Assumption:
    """What the paper leaves open, and what is taken instead."""

    missing: str
    assumed: str


@dataclass(frozen=True)
class NeuronPlan:
    """The plan of a model.

    Attributes
    ----------
    device : str
        Whose rates it was made with.
    dram_neurons : int
        Neurons of the whole model that DRAM holds.
    blocks : mapping of str to BlockPlan
        In model order.
    settings : mapping of str to anything JSON has
        What the planner was told.
    assumptions : tuple of Assumption
    """

    device: str
    dram_neurons: int
    blocks: Mapping[str, BlockPlan]
    settings: Mapping[str, Any]
    assumptions: tuple[Assumption, ...] = ()

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Batch sizes that were planned for, ascending."""
        return tuple(next(iter(self.blocks.values())).hot)

    def batch_of(self, batch_size: int) -> int:
        """Return the planned batch size that serves another one: the largest not above it, else the smallest."""
        return max((size for size in self.batch_sizes if size <= batch_size), default=self.batch_sizes[0])

    def n_hot(self, batch_size: int) -> dict[str, int]:
        """Return the hot neurons of each block at a batch size: so many of its first slots."""
        at = self.batch_of(batch_size)
        return {name: block.hot[at].n_hot for name, block in self.blocks.items()}

    def hot_share(self, batch_size: int) -> float:
        """Return the share of the model's neurons that are hot at a batch size."""
        n_neurons = sum(block.n_neurons for block in self.blocks.values())
        return sum(self.n_hot(batch_size).values()) / n_neurons

    def cold_neurons(self, batch_size: int) -> int:
        """Return how many cold neurons DRAM has room for at a batch size."""
        at = self.batch_of(batch_size)
        return self.dram_neurons - sum(block.hot[at].n_resident for block in self.blocks.values())

    def to_json(self) -> dict[str, Any]:
        """Return the document of ``plan.json`` (docs/formats.md)."""
        return {
            "format": PLAN_FORMAT,
            "device": self.device,
            "dram_neurons": self.dram_neurons,
            "batch_sizes": list(self.batch_sizes),
            "batches": {
                str(size): {
                    "hot_share": self.hot_share(size),
                    "hot_neurons": sum(self.n_hot(size).values()),
                    "prefetched_neurons": sum(block.hot[size].n_prefetched for block in self.blocks.values()),
                    "cold_neurons_in_dram": self.cold_neurons(size),
                }
                for size in self.batch_sizes
            },
            "settings": dict(self.settings),
            "assumptions": [asdict(assumption) for assumption in self.assumptions],
            "blocks": {
                name: {
                    "n_neurons": block.n_neurons,
                    "cluster_rows": block.cluster_rows,
                    "hot": {
                        str(size): {**asdict(hot), "n_prefetched": hot.n_prefetched} for size, hot in block.hot.items()
                    },
                }
                for name, block in self.blocks.items()
            },
        }

    def to_bytes(self) -> bytes:
        """Return the content of ``plan.json``."""
        return (json.dumps(self.to_json(), indent=1) + "\n").encode()

    @classmethod
    def of(cls, where: str, placement: ModelPlacement) -> NeuronPlan | None:
        """Return the plan that a placement records; None if it was made without one.

        Raises
        ------
        PlacementError
            If the plan is malformed, or not one of the placement's blocks.
        """
        text = placement.metadata.get(METADATA_KEY)
        if text is None:
            return None
        try:
            plan = _plan_in(parse_json(text))
        except (ValueError, TypeError, KeyError, AttributeError):
            plan = None
        if plan is None or not _fits(plan, placement):
            raise PlacementError(
                f"{where}: metadata", found="a plan that is malformed, or of other blocks",
                expected="what `ripple-place reorder --plan` writes", remedy="reorder again with --plan",
            )  # fmt: skip
        return plan


def _plan_in(document: Any) -> NeuronPlan:
    """Return the plan in a document of the format; raises what indexing raises if it is of another form."""
    if document["format"] != PLAN_FORMAT:
        raise ValueError(document["format"])
    blocks = {}
    for name, block in document["blocks"].items():
        hot = {
            int(size): HotCounts(
                int(counts["n_hot"]), int(counts["n_resident"]), float(counts["npu_us"]), float(counts["cpu_us"])
            )
            for size, counts in block["hot"].items()
        }
        blocks[name] = BlockPlan(int(block["n_neurons"]), int(block["cluster_rows"]), hot)
    assumptions = tuple(Assumption(str(each["missing"]), str(each["assumed"])) for each in document["assumptions"])
    return NeuronPlan(
        str(document["device"]), int(document["dram_neurons"]), blocks, dict(document["settings"]), assumptions
    )


def _fits(plan: NeuronPlan, placement: ModelPlacement) -> bool:
    """Tell whether a plan is one of a placement's blocks, and its counts are possible."""
    # Blocks that were not planned, such as those of other layers, stay as they are.
    if not plan.blocks or not plan.blocks.keys() <= placement.blocks.keys() or plan.dram_neurons < 0:
        return False
    sizes = plan.batch_sizes
    if not sizes or sizes[0] < 1 or list(sizes) != sorted(set(sizes)):
        return False
    return all(
        tuple(block.hot) == sizes
        and block.n_neurons == placement.blocks[name].n_neurons
        and block.cluster_rows >= 1
        and all(0 <= hot.n_resident <= hot.n_hot <= block.n_neurons for hot in block.hot.values())
        for name, block in plan.blocks.items()
    )
