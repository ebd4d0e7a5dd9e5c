"""What reads cost: by the break-even gap lambda, or by the times of a device."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.bundle_sizes import one_size, sizes_to_metadata
from ripple_place.errors import UsageError
from ripple_place.units import whole_gap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ripple_place.arrays import Float64Array
    from ripple_place.flash.device.profile import DeviceProfile

MAX_BREAK_EVEN_GAP = 1e9
"""In neurons: more than any block has, and costs that can be added up."""


@dataclass(frozen=True)
class ReadCost:
    """What reading the neurons of a block costs.

    Parameters
    ----------
    break_even_gap : float
        lambda: a read costs as much to start as lambda neurons take to read.
    gap : int
        Unwanted neurons that are read through.
    device : DeviceProfile, optional
        Where lambda comes from.
    bundle_bytes : int, optional
        Bytes of a neuron's weights.
    unit : {"neurons", "us"}
        ``neurons``: a read of n neurons costs ``lambda + n``. ``us``: it costs its time on the device.

    Raises
    ------
    UsageError
        If lambda is not a number from 0 to `MAX_BREAK_EVEN_GAP`, or times are wanted without a device and bundle size.
    """

    break_even_gap: float
    gap: int
    device: DeviceProfile | None = None
    bundle_bytes: int | None = None
    unit: str = "neurons"

    def __post_init__(self) -> None:
        check_break_even_gap(self.break_even_gap)
        if self.is_time and (self.device is None or self.bundle_bytes is None):
            raise UsageError(
                "read cost", found="no device, or no bundle size", expected="both, for costs in microseconds",
                remedy="give both, or a break-even gap",
            )  # fmt: skip

    @classmethod
    def by_line(cls, break_even_gap: float, bundle_bytes: int | None = None) -> ReadCost:
        """Return the cost ``lambda x reads + neurons read``; gaps of up to floor(lambda) are read through."""
        check_break_even_gap(break_even_gap)
        return cls(break_even_gap, whole_gap(break_even_gap), None, bundle_bytes)

    @classmethod
    def on_device(cls, device: DeviceProfile, bundle_bytes: int, gap: int | None = None) -> ReadCost:
        """Return the cost in the device's times, at the device's own gap unless another one is given."""
        break_even_gap = min(device.break_even_gap(bundle_bytes), MAX_BREAK_EVEN_GAP)
        return cls(break_even_gap, whole_gap(break_even_gap) if gap is None else gap, device, bundle_bytes, "us")

    def as_line(self) -> ReadCost:
        """Return the same lambda as a cost in neurons."""
        return replace(self, unit="neurons")

    @property
    def is_time(self) -> bool:
        """Whether costs are flash times in microseconds."""
        return self.unit == "us"

    @property
    def neuron_cost(self) -> float:
        """Cost of one neuron more in a long read, in `unit`: the slope of the device's line."""
        if not self.is_time:
            return 1.0
        assert self.device is not None
        assert self.bundle_bytes is not None
        return self.bundle_bytes * 1e6 / self.device.line(self.bundle_bytes).bandwidth_bytes_per_s

    def run_cost(self, n_neurons: int) -> Float64Array:
        """Return the cost of a read by its length.

        Returns
        -------
        ndarray of shape (n_neurons + 1,), float64
            In `unit`; entry 0 is 0.

        Examples
        --------
        >>> ReadCost.by_line(2.5).run_cost(3)
        array([0. , 3.5, 4.5, 5.5])
        """
        if self.is_time:
            assert self.device is not None
            assert self.bundle_bytes is not None
            return self.device.run_cost_us(self.bundle_bytes, n_neurons)
        cost = self.break_even_gap + np.arange(n_neurons + 1, dtype=np.float64)
        cost[0] = 0.0
        return cost


@dataclass(frozen=True)
class ReadCosts:
    """What reads of a model's blocks cost, as far as that is known.

    Parameters
    ----------
    device : DeviceProfile, optional
    break_even_gap : float, optional
        lambda of all blocks, instead of a device's.
    bundle_bytes : mapping of str to int
        By block; empty if the sizes are unknown.
    """

    device: DeviceProfile | None = None
    break_even_gap: float | None = None
    bundle_bytes: Mapping[str, int] = field(default_factory=dict)

    def of_block(self, name: str) -> ReadCost | None:
        """Return what reads of a block cost; None if nothing says it."""
        bundle_bytes = self.bundle_bytes.get(name)
        if self.device is not None and bundle_bytes is not None:
            return ReadCost.on_device(self.device, bundle_bytes)
        return None if self.break_even_gap is None else ReadCost.by_line(self.break_even_gap, bundle_bytes)

    @property
    def unit(self) -> str:
        """Unit of all blocks' costs."""
        return "us" if self.device is not None and self.bundle_bytes else "neurons"

    @property
    def one_size(self) -> int | None:
        """Bytes of a bundle, if all blocks have bundles of the same known size."""
        return one_size(self.bundle_bytes)

    def to_metadata(self) -> dict[str, str]:
        """Return what a placement records of the costs that it was made for."""
        size, metadata = self.one_size, sizes_to_metadata(self.bundle_bytes)
        if self.device is not None:
            metadata["device"] = self.device.name
        lambda_ = self.break_even_gap
        if self.device is not None and size is not None:
            lambda_ = self.device.break_even_gap(size)
        if lambda_ is not None:
            metadata |= {"break_even_gap": repr(lambda_), "gap": str(whole_gap(lambda_))}
        return metadata


def check_break_even_gap(break_even_gap: float) -> None:
    """Raise UsageError unless lambda is a number from 0 to `MAX_BREAK_EVEN_GAP`."""
    if not 0 <= break_even_gap <= MAX_BREAK_EVEN_GAP:
        raise UsageError(
            "--break-even-gap", found=str(break_even_gap), expected=f"a number from 0 to {MAX_BREAK_EVEN_GAP:.0e}",
            remedy="give the neurons that take as long to read as a read takes to start",
        )  # fmt: skip
