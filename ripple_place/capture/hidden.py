"""Hidden states of all windows between two layers, in a file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.inputfile import open_stream

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class HiddenStates:
    """One tensor for each batch, in one file that is read and written by extents, not mapped.

    Parameters
    ----------
    path : Path
        Made when the first batch is written.
    n_positions : sequence of int
        Positions of each batch.
    hidden_size : int
    dtype : torch.dtype
    """

    def __init__(self, path: Path, n_positions: Sequence[int], hidden_size: int, dtype: Any) -> None:
        self.path, self._hidden_size, self._dtype = path, hidden_size, dtype
        row_bytes = hidden_size * dtype.itemsize
        self._extents = np.cumsum([0, *n_positions]) * row_bytes

    def read(self, i: int, shape: Sequence[int]) -> Any:
        """Return batch i as a tensor of some shape, in memory of its own."""
        import torch

        start, end = int(self._extents[i]), int(self._extents[i + 1])
        buffer = bytearray(end - start)
        with open_stream(self.path) as file:
            file.seek(start)
            n_read = file.readinto(buffer)
        assert n_read == end - start, f"{self.path}: {n_read} bytes for batch {i}"
        return torch.frombuffer(buffer, dtype=self._dtype).view(*shape, self._hidden_size)

    def write(self, i: int, states: Any) -> None:
        """Put batch i in place."""
        import torch

        start = int(self._extents[i])
        data = states.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy()
        assert data.nbytes == int(self._extents[i + 1]) - start
        # Neither emptied nor appended to, which is what open() offers for a file that may not be there.
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o644)
        with open(descriptor, "wb") as file:
            file.seek(start)
            file.write(data)

    def remove(self) -> None:
        """Remove the file."""
        self.path.unlink(missing_ok=True)
