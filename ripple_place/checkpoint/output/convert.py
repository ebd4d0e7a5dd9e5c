"""A checkpoint of torch files (`pytorch_model.bin`) as one of safetensors files, byte for byte, without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ripple_place.checkpoint.fileio import chunks, opened
from ripple_place.checkpoint.model.weights import INDEX_FILE, SINGLE_FILE, is_file
from ripple_place.checkpoint.names import OWN_DIRECTORY
from ripple_place.checkpoint.output.nesting import check_no_output_around
from ripple_place.checkpoint.output.outdir import check_free_space, check_output, replacing_directory
from ripple_place.checkpoint.output.sidefiles import copy_file
from ripple_place.errors import CheckpointError, UsageError
from ripple_place.foreign import file_error
from ripple_place.hub import download_command
from ripple_place.jsontext import read_json_object
from ripple_place.tensorfile import TensorSource, replacing, tensor_bytes, write_tensor_file
from ripple_place.torchfile import read_torch_file

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping

    from ripple_place.arrays import UInt8Array
    from ripple_place.torchfile import TorchTensor

_SINGLE_TORCH_FILE, _TORCH_INDEX_FILE = "pytorch_model.bin", "pytorch_model.bin.index.json"
_WEIGHTS = (".bin", ".pt", ".pth", ".safetensors", ".index.json", ".h5", ".msgpack", ".gguf", ".ckpt")


def convert(path: str | os.PathLike[str], out: str | os.PathLike[str]) -> None:
    """Write a checkpoint's torch files as safetensors files, and copy config, tokenizer and the like.

    Parameters
    ----------
    path : path-like
        Directory with `pytorch_model.bin`, or with its index and shards.
    out : path-like
        New directory.

    Raises
    ------
    UsageError
        If there are no torch files, or `out` exists, or lies inside `path` or an output of `reorder`.
    CheckpointError
        If a file holds anything but contiguous tensors, is damaged or compressed.
    UnsupportedError
        If torch before 1.6 saved it.
    OSError
        If storage refuses. As after any error, there is no `out` then.

    Notes
    -----
    Nothing in the files is run: their pickles may name tensors and nothing else. A few megabytes are held in memory.
    Tensors that share memory become equal tensors.
    """
    path, out = Path(path), Path(out)
    check_output(path, out, force=None)
    check_no_output_around(out)
    names = _torch_files(path)
    # All that can be refused is refused before any writing.
    described = {name: read_torch_file(path / name, CheckpointError) for name in names}
    weights_bytes = sum(
        tensor_bytes(tensor.dtype, tensor.shape) for tensors in described.values() for tensor in tensors.values()
    )
    side_files = [file for file in sorted(path.iterdir()) if file.is_file() and not file.name.endswith(_WEIGHTS)]
    check_free_space(out, weights_bytes + sum(file.stat().st_size for file in side_files))
    with replacing_directory(out) as directory:
        for file in side_files:
            copy_file(file, directory / file.name)
        _write_weights(path, directory, described, weights_bytes)
        (directory / OWN_DIRECTORY).rmdir()


def _write_weights(
    path: Path, directory: Path, described: Mapping[str, Mapping[str, TorchTensor]], weights_bytes: int
) -> None:
    """Write the tensors of each torch file to a safetensors file, and the index if there are several."""
    weight_map: dict[str, str] = {}
    for name, tensors in described.items():
        stem = Path(name).stem.replace("pytorch_model", "model")
        target = f"{stem}.safetensors" if len(described) > 1 else SINGLE_FILE
        with opened(path / name) as descriptor:
            sources = [
                TensorSource(tensor_name, tensor.dtype, tensor.shape, _pieces(descriptor, tensor))
                for tensor_name, tensor in sorted(tensors.items(), key=lambda item: item[1].offset_bytes)
            ]
            write_tensor_file(directory / target, sources, {"format": "pt"})
        weight_map |= dict.fromkeys(tensors, target)
    if len(described) > 1:
        with replacing(directory / INDEX_FILE) as file:
            index = {"metadata": {"total_size": weights_bytes}, "weight_map": weight_map}
            file.write(json.dumps(index, indent=2).encode())


def _torch_files(path: Path) -> list[str]:
    """Return the names of a checkpoint's torch files."""
    if (path / _SINGLE_TORCH_FILE).is_file():
        return [_SINGLE_TORCH_FILE]
    if not (path / _TORCH_INDEX_FILE).is_file():
        raise UsageError(
            path, found=f"neither {_SINGLE_TORCH_FILE} nor {_TORCH_INDEX_FILE}", expected="one of them",
            remedy="give the directory that holds the torch files",
        )  # fmt: skip
    index = path / _TORCH_INDEX_FILE
    again = download_command(path, [_TORCH_INDEX_FILE], force=True)
    document = read_json_object(index, CheckpointError, remedy=f"download the index: {again}")
    weight_map = document.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(
            index, found="no weight_map", expected="an object: tensor -> shard",
            remedy=f"download an index that has one: {again}",
        )  # fmt: skip
    names = {str(name) for name in weight_map.values()}
    for name in sorted(names):
        if Path(name).name != name:
            raise CheckpointError(
                index, found=f"shard {name!r}", expected="a file beside the index",
                remedy="do not trust this file, which points outside of its directory; download the model elsewhere",
            )  # fmt: skip
        if not is_file(path / name):
            raise file_error(
                CheckpointError, path / name, found="no such file", expected="the shard that the index names",
                remedy=f"download it: {download_command(path, [name])}",
            )  # fmt: skip
    return sorted(names)


def _pieces(descriptor: int, tensor: TorchTensor) -> Iterator[UInt8Array]:
    yield from chunks(descriptor, tensor.offset_bytes, tensor_bytes(tensor.dtype, tensor.shape))
