"""A Hugging Face checkpoint directory: its config, its safetensors shards, and which tensor lies where."""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from ripple_place.errors import CheckpointError, UnsupportedError, UsageError
from ripple_place.inputfile import read_input
from ripple_place.jsontext import parse_json
from ripple_place.tensorfile import TensorExtent, TensorFile

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_OTHER_WEIGHTS = (".bin", ".pth", ".pt", ".ckpt", ".gguf", ".h5", ".msgpack")
_CONVERT = (
    'convert the weights first: python -c "from ripple_place.checkpoint.output.convert import convert; '
    "convert('{path}', '{path}-safetensors')\""
)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_OTHER_REMEDY = "download the safetensors files of this model, or save it as such with the tool that wrote it"
_DOWNLOAD = "download the checkpoint again"


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
        File name of the shard index, None for a single file.
    """

    path: Path
    config: Mapping[str, Any]
    shards: Mapping[str, TensorFile]
    shard_of: Mapping[str, str]
    index_name: str | None

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
        if not path.is_dir():
            remedy = "give the directory that holds config.json and the safetensors files"
            if not path.exists() and _HUB_NAME.fullmatch(str(path)):
                remedy = (
                    f"if that is a model of the hub, download it first (hf download {path} --local-dir {path.name}) "
                    f"and give the directory {path.name}"
                )
            raise UsageError(
                path, found="a file" if path.exists() else "nothing there", expected="a checkpoint directory",
                remedy=remedy,
            )  # fmt: skip
        if (path / "adapter_config.json").exists():
            raise UnsupportedError(
                path, found="adapter_config.json, an adapter whose matrices carry the neuron axis too",
                expected="a whole model and no adapter beside it",
                remedy="move the adapter elsewhere and give it with --adapter, or merge it into its base model first "
                "(peft: merge_and_unload)",
            )  # fmt: skip
        config = _read_json(path / "config.json")
        names, weight_map = _find_shards(path)
        shards = {name: _open_shard(path, name) for name in names}
        shard_of: dict[str, str] = {}
        for name, shard in shards.items():
            for tensor in shard.tensors:
                if tensor in shard_of:
                    raise CheckpointError(
                        f"{path}: tensor {tensor}", found=f"it in {shard_of[tensor]} and in {name}",
                        expected="each tensor in one shard", remedy=_DOWNLOAD,
                    )  # fmt: skip
                shard_of[tensor] = name
        if weight_map is not None:
            _compare_index(path / INDEX_FILE, weight_map, shard_of)
        return cls(path, config, shards, shard_of, None if weight_map is None else INDEX_FILE)

    def extent(self, tensor: str) -> TensorExtent:
        """Return where a tensor lies in its shard."""
        return self.shards[self.shard_of[tensor]].tensors[tensor]

    def file_of(self, tensor: str) -> Path:
        """Return the path of the shard in which a tensor lies."""
        return self.shards[self.shard_of[tensor]].path


def _find_shards(path: Path) -> tuple[list[str], dict[str, str] | None]:
    """Return the shard names, sorted, and the index's weight map where there is an index."""
    if (path / INDEX_FILE).exists():
        weight_map = _read_weight_map(path / INDEX_FILE)
        names = sorted(set(weight_map.values()))
        if names != [SINGLE_FILE] and (path / SINGLE_FILE).exists():
            raise CheckpointError(
                path, found=f"both {SINGLE_FILE} and an index of other shards", expected="one of the two",
                remedy="remove the stale one: loaders disagree on which of them is the model",
            )  # fmt: skip
        return names, weight_map
    if (path / SINGLE_FILE).exists():
        return [SINGLE_FILE], None
    others = sorted(file.name for file in path.iterdir() if file.name.endswith(_OTHER_WEIGHTS))
    if others:
        raise UnsupportedError(
            path, found=f"weights in {others[0]} only", expected="safetensors",
            remedy=_CONVERT.format(path=path) if others[0].endswith((".bin", ".pt", ".pth")) else _OTHER_REMEDY,
        )  # fmt: skip
    raise CheckpointError(path, found="no weights", expected=f"{SINGLE_FILE} or {INDEX_FILE}", remedy=_DOWNLOAD)


def _read_weight_map(path: Path) -> dict[str, str]:
    """Return the weight map of a shard index: tensor name -> shard name."""
    weight_map = _read_json(path).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(name, str) for name in weight_map.values())
    ):
        raise CheckpointError(
            path, found=f"weight_map {type(weight_map).__name__}", expected="an object: tensor -> shard",
            remedy=_DOWNLOAD,
        )  # fmt: skip
    for name in set(weight_map.values()):
        pure = PurePosixPath(name)
        if not name or "\\" in name or pure.is_absolute() or ".." in pure.parts or str(pure) != name:
            raise CheckpointError(
                path, found=f"shard {name!r}", expected="a plain file name inside the checkpoint",
                remedy="do not trust this index: it points outside of its directory",
            )  # fmt: skip
    return weight_map


def _open_shard(path: Path, name: str) -> TensorFile:
    if not is_file(path / name):
        raise CheckpointError(path / name, found="no such file", expected="the shard that the index names",
                              remedy=_DOWNLOAD)  # fmt: skip
    return TensorFile.open(path / name, CheckpointError)


def is_file(path: Path) -> bool:
    """Tell whether a path names a file; one that the system cannot look up, looping links included, names none."""
    try:
        return path.is_file()
    except OSError as cause:
        if cause.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            return False
        raise


def _compare_index(index: Path, weight_map: Mapping[str, str], shard_of: Mapping[str, str]) -> None:
    for tensor in sorted({*weight_map, *shard_of}):
        named, lies = weight_map.get(tensor), shard_of.get(tensor)
        if named != lies:
            raise CheckpointError(
                f"{index}: tensor {tensor}", found=f"it named in {named or 'no shard'}",
                expected=f"where it lies: {lies or 'in no shard'}", remedy=_DOWNLOAD,
            )  # fmt: skip


def _read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file."""
    try:
        document = read_input(path)
    except FileNotFoundError:
        raise CheckpointError(path, found="no such file", expected="a JSON object", remedy=_DOWNLOAD) from None
    except OSError as cause:
        if cause.errno not in (errno.ELOOP, errno.EISDIR):
            raise
        found = f"no file ({cause.strerror})"
        raise CheckpointError(path, found=found, expected="a JSON object", remedy=_DOWNLOAD) from cause
    try:
        value = parse_json(document)
        if not isinstance(value, dict):
            raise ValueError(f"a JSON {type(value).__name__}")
    except ValueError as cause:
        raise CheckpointError(path, found=str(cause), expected="a JSON object", remedy=_DOWNLOAD) from cause
    return value
