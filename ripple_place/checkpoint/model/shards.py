"""A Hugging Face checkpoint directory: its config, its safetensors shards, and which tensor lies where."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.checkpoint.model.weights import WeightFiles, find_weights, is_file, no_weights_error
from ripple_place.errors import CheckpointError, UnsupportedError
from ripple_place.foreign import file_error
from ripple_place.hub import CONFIG_FILE, directory_error, download_command
from ripple_place.jsontext import read_json_object
from ripple_place.tensorfile import TensorExtent, TensorFile

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

_ADAPTER_FILE = "adapter_config.json"
_ORIGINAL_FORMAT = "params.json"
"""Config of the format in which Meta and Mistral publish models beside that of transformers."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose headers were read and agree with each other. No tensor data is read until asked for.

    Attributes
    ----------
    path : Path
        The directory.
    config : mapping of str to anything
        `config.json`.
    shards : mapping of str to TensorFile
        By file name relative to `path`, sorted.
    shard_of : mapping of str to str
        Tensor name -> shard name, in the order in which the data lies in the files.
    index_name : str or None
        File name of the shard index, None where there is none.
    unstored : mapping of str to str
        Tensors that the index names and no shard has, each with the shard in which it should be.
    notes : tuple of str
        What the user should know of how the weights were found.
    """

    path: Path
    config: Mapping[str, Any]
    shards: Mapping[str, TensorFile]
    shard_of: Mapping[str, str]
    index_name: str | None
    unstored: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Checkpoint:
        """Read config, index and headers of the checkpoint directory at `path`.

        Raises
        ------
        UsageError
            If `path` is no directory.
        CheckpointError
            If config or weights are missing or malformed, or index and shards contradict each other.
        UnsupportedError
            If the weights are in another format, or are an adapter's.
        OSError
            If a file cannot be read.
        """
        path = Path(path)
        if (error := directory_error(path)) is not None:
            raise error
        if (path / _ADAPTER_FILE).exists():
            raise _adapter_error(path)
        config = read_config(path)
        files = find_weights(path, config)
        shards = {name: _open_shard(path, name) for name in files.names}
        shard_of: dict[str, str] = {}
        for name, shard in shards.items():
            for tensor in shard.tensors:
                if tensor in shard_of:
                    raise CheckpointError(
                        f"{path}: tensor {tensor}", found=f"it in {shard_of[tensor]} and in {name}",
                        expected="each tensor in one shard",
                        remedy="move the file that does not belong to this model elsewhere, or, if both do, load it "
                        "with transformers and save it again with save_pretrained",
                    )  # fmt: skip
                shard_of[tensor] = name
        return cls(path, config, shards, shard_of, files.index_name, *_compare_index(path, files, shard_of))

    def extent(self, tensor: str) -> TensorExtent:
        """Return where a tensor lies in its shard."""
        return self.shards[self.shard_of[tensor]].tensors[tensor]

    def file_of(self, tensor: str) -> Path:
        """Return the path of the shard in which a tensor lies."""
        return self.shards[self.shard_of[tensor]].path


def read_config(path: Path) -> dict[str, Any]:
    """Return the config.json of a checkpoint directory.

    Raises
    ------
    CheckpointError
        If there is none, or it is no JSON object.
    UnsupportedError
        If there is none, and weights in another format alone.
    OSError
        If it cannot be read.
    """
    file = path / CONFIG_FILE
    if not file.exists() and not file.is_symlink():
        if (path / _ORIGINAL_FORMAT).exists():
            raise UnsupportedError(
                file, found=f"no such file, but {_ORIGINAL_FORMAT}: the model in its publisher's own format",
                expected="the format of transformers", remedy="download config.json and the files model*.safetensors "
                f"of the model: {download_command(path)}",
            )  # fmt: skip
        if not any(path.glob("*.safetensors")) and isinstance(error := no_weights_error(path), UnsupportedError):
            raise error
    return read_json_object(file, CheckpointError, remedy=f"download it: {download_command(path, [CONFIG_FILE])}")


def _adapter_error(path: Path) -> UnsupportedError:
    """Return the error for an adapter, alone or beside a model."""
    is_beside = (path / CONFIG_FILE).exists()
    return UnsupportedError(
        path, found="adapter_config.json, an adapter whose matrices carry the neuron axis too"
        if is_beside else "an adapter, and no model", expected="a whole model and no adapter beside it",
        remedy="move the adapter elsewhere and give it with --adapter, or merge it into its base model first (peft: "
        "merge_and_unload)" if is_beside else "give the model that it adapts, and this directory with --adapter, or "
        "merge the two first (peft: merge_and_unload)",
    )  # fmt: skip


def _open_shard(path: Path, name: str) -> TensorFile:
    if not is_file(path / name):
        raise file_error(
            CheckpointError, path / name, found="no such file", expected="a file of weights",
            remedy=f"download it: {download_command(path, [name])}",
        )  # fmt: skip
    return TensorFile.open(path / name, CheckpointError)


def _compare_index(
    path: Path, files: WeightFiles, shard_of: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return what the index names in vain, and notes: loaders take what is in the shards, whatever an index says.

    Raises
    ------
    CheckpointError
        If it names none of the tensors that are there.
    """
    if files.index_name is None or files.weight_map is None:
        return {}, files.notes
    weight_map, index = files.weight_map, path / files.index_name
    unstored = {tensor: name for tensor, name in weight_map.items() if tensor not in shard_of}
    if len(unstored) == len(weight_map):
        raise CheckpointError(
            index, found=f"none of the tensors in its shards, but others such as {min(unstored)}",
            expected="an index of these shards", remedy="remove it, so that the shards' own headers count",
        )  # fmt: skip
    unnamed = sorted(shard_of.keys() - weight_map.keys())
    elsewhere = sorted(tensor for tensor, name in weight_map.items() if shard_of.get(tensor, name) != name)
    notes = []
    for tensors, what in (
        (sorted(unstored), "names {n} tensors that no shard has, such as {first}: loaders leave them out"),
        (unnamed, "does not name {n} tensors of its shards, such as {first}: they are taken as the shards have them"),
        (elsewhere, "places {n} tensors in other shards than those that have them, such as {first}: loaders that go by "
         "the index alone do not find them, in the output as in the source"),
    ):  # fmt: skip
        if tensors:
            notes.append(f"{index} {what.format(n=len(tensors), first=tensors[0])}")
    return unstored, (*files.notes, *notes)
