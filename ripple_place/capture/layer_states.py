"""What layers hand on, of all batches, in files between the layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ripple_place.errors import UnsupportedError
from ripple_place.inputfile import open_stream

if TYPE_CHECKING:
    from pathlib import Path

WHOLE_MODEL = "profile it with --whole-model, on a machine with memory for it"


class LayerStates:
    """Values of batches, each in a file of its own.

    Parameters
    ----------
    directory : Path
    device : str
        Where tensors are put that are read.
    where : object
        The model, for messages.
    """

    def __init__(self, directory: Path, device: str, where: object) -> None:
        self._directory, self._device, self._where = directory, device, where

    def read(self, name: str, batch: int) -> Any:
        """Return a batch's value, in memory of its own."""
        import torch

        with open_stream(self._path(name, batch)) as file:
            return torch.load(file, map_location=self._device, weights_only=True)

    def write(self, name: str, batch: int, value: Any) -> None:
        """Keep a batch's value: tensors and plain values, in tuples, lists and dicts.

        Raises
        ------
        UnsupportedError
            If there is something else in it.
        """
        import torch

        torch.save(self._stored(value), self._path(name, batch))

    def remove(self) -> None:
        """Remove all files."""
        for path in self._directory.glob("hidden.*"):
            path.unlink()

    def _path(self, name: str, batch: int) -> Path:
        return self._directory / f"hidden.{name}.{batch}"

    def _stored(self, value: Any) -> Any:
        """Return a value with tensors that hold no more than they show: a file holds all that is behind a view."""
        import torch

        if isinstance(value, torch.Tensor):
            return value.detach().cpu().clone(memory_format=torch.contiguous_format)
        if value is None or isinstance(value, (bool, int, float, str)):
            return value
        if type(value) in (tuple, list):
            return type(value)(map(self._stored, value))
        if isinstance(value, Mapping) and all(isinstance(key, (str, int)) for key in value):
            return {key: self._stored(item) for key, item in value.items()}
        raise UnsupportedError(
            self._where, found=f"layers that hand on {type(value).__name__}", expected="tensors",
            remedy=WHOLE_MODEL,
        )  # fmt: skip
