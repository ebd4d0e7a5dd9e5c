"""The stored tensors of quantised matrices, and how the neuron axis runs through each; read by every scheme alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.checkpoint.fileio import opened, read_into
from ripple_place.checkpoint.model.quantisation_config import REORDER_FIRST, overrides
from ripple_place.errors import UnsupportedArchitectureError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.checkpoint.model.neuron_tensor import Packing
    from ripple_place.checkpoint.model.shards import Checkpoint


@dataclass(frozen=True)
class Field:
    """A stored tensor of a quantised matrix.

    Attributes
    ----------
    name : str
    neuron_axis : int or None
        Which of its axes the neurons run along, None if none does.
    granule : int
        Neurons to one place on that axis.
    packing : Packing or None
    shape : tuple of int
        As the tensor is to be taken, where not as stored.
    is_weight : bool
        Whether it is the weights rather than scales and the like.
    """

    name: str
    neuron_axis: int | None
    shape: tuple[int, ...]
    granule: int = 1
    packing: Packing | None = None
    is_weight: bool = False


@dataclass(frozen=True)
class StoredTensors:
    """The tensors of a quantised checkpoint, and the settings that say how to take them.

    Attributes
    ----------
    checkpoint : Checkpoint
    method : str or None
        None where it is not quantised.
    settings : mapping of str to anything
        As `read_quantisation` returns them.
    kept_groups : tuple of int
        Sizes of groups of neurons that must stay together, of whatever tensor.
    """

    checkpoint: Checkpoint
    method: str | None
    settings: Mapping[str, Any]
    kept_groups: tuple[int, ...] = ()

    def _field(
        self, name: str, axis: int | None, *, granule: int = 1, packing: Packing | None = None, is_weight: bool = False
    ) -> Field:
        shape = self._shape(name) if name in self.checkpoint.shard_of else ()
        return Field(name, axis, shape, 1 if axis is None else granule, packing, is_weight)

    def _shape(self, name: str) -> tuple[int, ...]:
        self._require(name, name in self.checkpoint.shard_of, f"no tensor {name}")
        return self.checkpoint.extent(name).shape

    def _read(self, name: str, dtype: type) -> np.ndarray[tuple[int, ...], Any]:
        extent = self.checkpoint.extent(name)
        values: np.ndarray[tuple[int, ...], Any] = np.empty(extent.length_bytes // np.dtype(dtype).itemsize, dtype)
        with opened(self.checkpoint.file_of(name)) as descriptor:
            read_into(descriptor, values, extent.offset_bytes)
        return values

    def _setting(self, key: str, default: int) -> int:
        return self._count(key, self.settings.get(key), default)

    def _count(self, key: str, value: Any, default: int) -> int:
        """Return a setting that counts something; where it is missing, or -1 for all there are, the default."""
        if value is None or value == -1:
            return default
        self._require(key, type(value) is int and 0 < value < 2**31, f"{key} {value!r}")
        count: int = value
        return count

    def _group_settings(self, key: str) -> Mapping[str, Any]:
        """Return what compressed-tensors says of the weights; one group of layers is all that is taken."""
        groups = self.settings.get("config_groups")
        groups = list(groups.values()) if isinstance(groups, dict) else []
        self._require("config_groups", len(groups) <= 1, f"{len(groups)} groups of layers")
        value = groups[0].get(key) if groups and isinstance(groups[0], dict) else None
        return value if isinstance(value, dict) else {}

    def _require(self, where: str, holds: bool, found: str) -> None:
        if not holds:
            raise UnsupportedArchitectureError(
                f"{self.checkpoint.path}: {where}", found=found,
                expected="quantised weights whose neurons can be moved exactly", remedy=REORDER_FIRST,
            )  # fmt: skip

    def _differs(self, key: str, default: object) -> bool:
        """Tell whether a setting of some modules is not that of the others."""
        own = self.settings.get(key, default)
        return any(values.get(key, own) != own for values in overrides(self.settings))

    def _group_size(self, module: str, n_in: int, n_groups: int) -> int:
        """Return the size of groups of inputs; where it differs by module, the one that gives as many groups."""
        sizes = {self._setting("group_size", 128)}
        if not self._differs("group_size", 128):
            return sizes.pop()
        sizes |= {self._count("group_size", values["group_size"], n_in)
                  for values in overrides(self.settings) if "group_size" in values}  # fmt: skip
        fitting = sorted(size for size in sizes if -(-n_in // size) == n_groups)
        self._require(module, len(fitting) == 1, f"{n_groups} groups, which {len(fitting)} of the group sizes fit")
        return fitting[0]
