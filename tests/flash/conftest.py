"""Named tiny cases for the tests of the flash package."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from tests.flash.builders import block_trace, linear_device, trace_of

if TYPE_CHECKING:
    from ripple_place.flash.device import DeviceProfile
    from ripple_place.trace.activation_trace import ActivationTrace


@pytest.fixture
def device() -> DeviceProfile:
    """Return the linear device with pages of 4 KiB and requests of at most 64 KiB."""
    return linear_device()


@pytest.fixture
def four_neurons() -> ActivationTrace:
    """Return three tokens over four neurons: {0, 2}, nothing, {0, 1, 3}."""
    return trace_of({"layers.0": block_trace(np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]]))}, 3)
