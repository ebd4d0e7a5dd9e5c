"""The plan of a rewrite: everything that will be written, known and checked before the first byte is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.blocks import EXPERT, NEURON, is_input_block
from ripple_place.checkpoint.carriers.plan import plan_carriers
from ripple_place.checkpoint.fileio import CHUNK_BYTES
from ripple_place.checkpoint.model.neuron_tensor import keeps_granules
from ripple_place.checkpoint.model.quantisation_config import REORDER_FIRST
from ripple_place.checkpoint.names import BUNDLED_FILE
from ripple_place.checkpoint.output.bundle import plan_bundle
from ripple_place.checkpoint.output.bundle_layout import GATES, INSIDE, BundleLayout
from ripple_place.checkpoint.output.bundle_pieces import HELD_ROWS_BYTES
from ripple_place.checkpoint.output.nesting import check_no_output_around
from ripple_place.checkpoint.output.outdir import check_output
from ripple_place.checkpoint.output.sidefiles import SideFiles, list_side_files
from ripple_place.errors import PlacementError, UnsupportedError, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping, Sequence

    from ripple_place.arrays import Int32Array
    from ripple_place.checkpoint.carriers.carrier import CarrierFile
    from ripple_place.checkpoint.model.ffn import FfnModel
    from ripple_place.checkpoint.output.additions import Addition
    from ripple_place.placement import ModelPlacement


FORMATS = ("drop-in", "bundled")
STRIDES = ("packed", "page")


@dataclass(frozen=True)
class RewritePlan:
    """What a rewrite will do.

    Attributes
    ----------
    model : FfnModel
    placement : ModelPlacement
    orders : mapping of str to ndarray of int32
        ``order[slot]`` of every block of the model, those without a placement in original order.
    out : Path
    formats : tuple of str
        Of `FORMATS`.
    stride : {"packed", "page"}
    actions : mapping of str to str
        Tensor -> ``copied``, ``rows`` or ``columns``.
    bundle : BundleLayout or None
    side_files : SideFiles
    carriers : tuple of CarrierFile
        Files from elsewhere that are permuted along.
    force : bool
        Whether an earlier output may be replaced.
    additions : mapping of str to Addition
        Content of files out of `ripple_place.checkpoint.names.ADDITIONS`, by name.
    """

    model: FfnModel
    placement: ModelPlacement
    orders: Mapping[str, Int32Array]
    out: Path
    formats: tuple[str, ...]
    stride: str
    actions: Mapping[str, str]
    bundle: BundleLayout | None
    side_files: SideFiles
    carriers: tuple[CarrierFile, ...]
    force: bool
    additions: Mapping[str, Addition] = field(default_factory=dict)

    @property
    def gates(self) -> str:
        """Where gates lie in the bundled file, one of `ripple_place.checkpoint.output.bundle_layout.GATES`."""
        return INSIDE if self.bundle is None else self.bundle.gates

    @property
    def root(self) -> Path:
        """The directory that `source_files` lie in."""
        return self.model.checkpoint.path

    @property
    def weight_files(self) -> dict[str, int]:
        """Size of each weight file that will lie in OUT, by name."""
        shards = self.model.checkpoint.shards
        sizes = {name: shard.size_bytes for name, shard in shards.items()} if "drop-in" in self.formats else {}
        return sizes | ({BUNDLED_FILE: self.bundle.size_bytes} if self.bundle else {})

    @property
    def plain_files(self) -> dict[str, int]:
        """Size of each file that is copied as it is, by name: the side files, and the shard index where shards are."""
        sizes = dict(self.side_files.copied)
        checkpoint = self.model.checkpoint
        if checkpoint.index_name is not None and "drop-in" in self.formats:
            sizes[checkpoint.index_name] = (checkpoint.path / checkpoint.index_name).stat().st_size
        return sizes

    @property
    def bundled_only(self) -> tuple[str, ...]:
        """Blocks that are ordered, and keep the checkpoint's order in the drop-in format, if that is written.

        Those of input columns: in their order, the hidden state of the whole model would be another.
        """
        return tuple(filter(is_input_block, self.placement.blocks)) if "drop-in" in self.formats else ()

    @property
    def source_files(self) -> dict[str, int]:
        """Size of each file of the source that the output is made from, by name."""
        return {name: shard.size_bytes for name, shard in self.model.checkpoint.shards.items()} | self.plain_files

    @property
    def written_bytes(self) -> int:
        """Bytes that will lie in OUT, but for manifest, placement and what comes from elsewhere."""
        return sum(self.weight_files.values()) + sum(self.plain_files.values())

    @property
    def carrier_bytes(self) -> int:
        """Bytes of the files that are not made from the checkpoint."""
        added_bytes = sum(addition.size_bytes for addition in self.additions.values())
        return sum(file.source.stat().st_size for file in self.carriers) + added_bytes

    @property
    def total_bytes(self) -> int:
        """Bytes that `execute` reports as progress: written, hashed in the source, and weights compared."""
        return self.written_bytes + sum(self.source_files.values()) + sum(self.weight_files.values())

    @property
    def peak_ram_bytes(self) -> int:
        """Estimate of the memory that tensors take: of a block's bundles while writing, of two while verifying."""
        blocks = self.model.blocks.values()
        largest = max(tensor.length_bytes for block in blocks for tensor in block.tensors)
        bundles = max(block.n_neurons * block.bundle_bytes for block in blocks) if self.bundle else 0
        return max(2 * largest, min(bundles, largest + HELD_ROWS_BYTES)) + 6 * CHUNK_BYTES


def plan_rewrite(
    model: FfnModel,
    placement: ModelPlacement,
    out: str | os.PathLike[str],
    *,
    formats: Collection[str] = FORMATS,
    stride: str = "packed",
    adapter: Path | None = None,
    carriers: Sequence[Path] = (),
    force: bool = False,
    gates: str = INSIDE,
) -> RewritePlan:
    """Plan the rewrite of a checkpoint in another neuron order.

    Parameters
    ----------
    model : FfnModel
    placement : ModelPlacement
        Blocks that it lacks stay in their original order.
    out : path-like
        Directory to be written.
    formats : collection of str
        ``drop-in`` for the checkpoint that any tool loads, ``bundled`` for the flash-contiguous file, or both.
    stride : {"packed", "page"}
        Distance of bundles in the bundled file: their size, or that rounded up to 4096 bytes.
    adapter : Path, optional
        Directory of a LoRA adapter to permute along.
    carriers : sequence of Path
        Importance matrices, predictors and counts to permute along; see `ripple_place.checkpoint.carriers.plan`.
    force : bool
        Replace an earlier output.
    gates : {"inside", "apart"}
        Whether the bundled file has the gates of a block in a region of their own. Blocks without gates lie as ever.

    Raises
    ------
    UsageError
        If a format, the stride or the place of gates is unknown, there is no bundled file for gates to lie apart in,
        OUT exists (without `force`), OUT and the source are not apart, OUT lies in another output, or the source is an
        output or has one inside.
    PlacementError
        If the placement has a block that the model lacks, or one of another number of neurons.
    CheckpointError
        If an entry of the source directory cannot be copied, or a carrier is malformed or of another model.
    UnsupportedError
        If the bundled file's index outgrows its header, weights are packed so that they cannot be bundled, the
        placement parts neurons that share a scale, or it is of columns and they do; if gates are to lie apart and no
        neuron has one, units are columns, or there are two copies.
    """
    if not formats or set(formats) - set(FORMATS):
        raise UsageError("formats", found=repr(sorted(formats)), expected=" or ".join(FORMATS), remedy="name those")
    if stride not in STRIDES:
        raise UsageError("stride", found=repr(stride), expected=" or ".join(STRIDES), remedy="name one of those")
    out, model = Path(out), model.of_unit(placement.unit)
    check_output(model.checkpoint.path, out, force=force)
    check_no_output_around(out)
    orders = resolve_orders(model, placement)
    _check_granules(model, orders)
    if "bundled" in formats:
        _check_bundles(model)
    check_gates(model, placement, formats, gates)
    return RewritePlan(
        model=model,
        placement=placement,
        orders=orders,
        out=out,
        formats=tuple(name for name in FORMATS if name in formats),
        stride=stride,
        actions=tensor_actions(model, orders),
        bundle=plan_bundle(model, orders, stride, second_orders(placement), gates) if "bundled" in formats else None,
        side_files=list_side_files(model.checkpoint),
        carriers=tuple(plan_carriers(model, adapter, carriers)),
        force=force,
    )


def _check_granules(model: FfnModel, orders: Mapping[str, Int32Array]) -> None:
    """Raise if an order takes neurons out of the granule whose scale they share."""
    for name, block in model.blocks.items():
        for tensor in block.tensors:
            for granule in (tensor.granule, *tensor.kept_groups):
                if keeps_granules(orders[name], granule):
                    continue
                what = "values for" if granule == tensor.granule else "declared groups (sparsity, activations) of"
                raise UnsupportedError(
                    f"{model.checkpoint.path}: tensor {tensor.name}",
                    found=f"{what} {granule} neurons each, and a placement of {name} that parts those",
                    expected=f"{granule} neighbours to stay together",
                    remedy=f"order with --granule {block.granule}, or {REORDER_FIRST}",
                )  # fmt: skip


def _check_bundles(model: FfnModel) -> None:
    """Raise if a neuron's weights cannot be put side by side."""
    for name, block in model.blocks.items():
        if not block.components:
            raise UnsupportedError(
                f"{model.checkpoint.path}: {name}", found="packed weights, several to a word",
                expected="whole bytes for each neuron in the bundled file", remedy="add --format drop-in",
            )  # fmt: skip


def check_gates(model: FfnModel, placement: ModelPlacement, formats: Collection[str], gates: str) -> None:
    """Raise unless gates can lie where they are to.

    Raises
    ------
    UsageError, UnsupportedError
        As `plan_rewrite`.
    """
    if gates not in GATES:
        raise UsageError("gates", found=repr(gates), expected=" or ".join(GATES), remedy="name one of those")
    if gates == INSIDE:
        return
    if "bundled" not in formats:
        raise UsageError(
            "--gates apart", found="no bundled file, the only one in which they can", expected="one",
            remedy="leave --format drop-in out, or --gates",
        )  # fmt: skip
    where = f"{model.checkpoint.path}: --gates apart"
    if model.unit != NEURON or second_orders(placement):
        raise UnsupportedError(
            where, found="a placement of columns" if model.unit != NEURON else "a placement with two copies",
            expected="one of neurons, with one copy", remedy="leave --gates out",
        )  # fmt: skip
    if not any(block.has_gate for block in model.blocks.values()):
        raise UnsupportedError(
            where, found="FFNs without a gate", expected="gated ones, as in Llama", remedy="leave --gates out",
        )  # fmt: skip


def resolve_orders(model: FfnModel, placement: ModelPlacement) -> dict[str, Int32Array]:
    """Return the order of every block of a model, the original one where the placement has none.

    Raises
    ------
    PlacementError
        If the placement has a block that the model lacks, or one of another number of neurons.
    """
    sizes = {name: block.n_neurons for name, block in model.blocks.items()}
    return orders_of(placement, sizes, model.checkpoint.path)


def orders_of(placement: ModelPlacement, sizes: Mapping[str, int], where: Path) -> dict[str, Int32Array]:
    """Return the order of each of some blocks, given how many units they have; the model is `where`.

    Raises
    ------
    PlacementError
        As `resolve_orders`.
    """
    for name, block in placement.blocks.items():
        n_units = sizes.get(name, 0)
        if block.n_neurons != n_units:
            raise PlacementError(
                f"placement: {name}", found=f"{block.n_neurons} {'experts' if placement.unit == EXPERT else 'neurons'}",
                expected=f"{n_units}, as {where} has" if n_units else "a block that the model has",
                remedy="use a placement that was computed for this model",
            )  # fmt: skip
    return {
        name: placement.blocks[name].order if name in placement.blocks else np.arange(n_units, dtype=np.int32)
        for name, n_units in sizes.items()
    }


def second_orders(placement: ModelPlacement) -> dict[str, Int32Array]:
    """Return the order of the second copy of every block that the placement gives one."""
    return {name: block.order_2 for name, block in placement.blocks.items() if block.order_2 is not None}


def tensor_actions(model: FfnModel, orders: Mapping[str, Int32Array]) -> dict[str, str]:
    """Return what happens to every tensor: ``copied``, or its ``rows``, ``columns`` or ``packed`` integers permuted."""
    actions = dict.fromkeys(model.checkpoint.shard_of, "copied")
    for name, block in model.blocks.items():
        if not np.array_equal(orders[name], np.arange(block.n_neurons)):
            actions.update({tensor.name: tensor.action for tensor in block.tensors})
    return actions
