"""Which files of a checkpoint directory hold its weights: by its index, by their names, or none that can be read.

As transformers has it, `transformers_weights` in the config comes first, then `model.safetensors`, then its index.
Files under other names count where there is no doubt which of them are the model; a note says so.

References
----------
huggingface/transformers 5.24, modeling_utils.py (`_get_resolved_checkpoint_files`).
"""

from __future__ import annotations

import errno
import os
import re
from collections import defaultdict
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ripple_place.errors import CheckpointError, RipplePlaceError, UnsupportedError
from ripple_place.foreign import file_error
from ripple_place.hub import CONFIG_FILE, checkpoints_below, download_command, unfinished_downloads
from ripple_place.jsontext import read_json_object
from ripple_place.printable import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_ENDING = ".safetensors"
_INDEX = re.compile(r".+\.safetensors\.index(\.[\w-]+)?\.json")
"""An index; that of a variant has its name before the last ending."""
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
_NOT_THE_MODEL = re.compile(r"(consolidated|adapter_model|adapters)\b.*\.safetensors")
"""The same weights under the names of Mistral's own code, and adapters, which may lie beside a model."""
_WEIGHTS_KEY = "transformers_weights"
_EXPECTED = f"{SINGLE_FILE}, or shards and {INDEX_FILE}"
_CONVERT = (
    'convert the weights first: python -c "from ripple_place.checkpoint.output.convert import convert; '
    "convert('{path}', '{path}-safetensors')\""
)
_OTHER_FORMATS = (
    r"pytorch_model\.bin(\.index\.json)?", r".+\.gguf", r".+\.(npz|onnx|onnx_data|tflite|engine|mlmodel|pte)",
    r".+\.(h5|msgpack)", r".+\.(bin|pth|pt|ckpt|distcp)",
)  # fmt: skip
"""Names of files of weights in other formats: first what ripple-place converts itself, then what transformers does."""
_OF_TRAINING = re.compile(r"(training_args|optimizer|scheduler|rng_state|scaler)\b")
"""Files of a trainer, which are no weights."""


@dataclass(frozen=True)
class WeightFiles:
    """The safetensors files of a checkpoint.

    Attributes
    ----------
    names : tuple of str
        Relative to the directory, sorted.
    index_name : str or None
        Of their index, None where there is none.
    weight_map : mapping of str to str
        The index's: tensor -> file. Empty without index.
    notes : tuple of str
        What the user should know of how they were found.
    """

    names: tuple[str, ...]
    index_name: str | None = None
    weight_map: Mapping[str, str] | None = None
    notes: tuple[str, ...] = ()


def find_weights(path: Path, config: Mapping[str, Any]) -> WeightFiles:
    """Find the files that hold the weights of a checkpoint.

    Parameters
    ----------
    path : Path
        The directory.
    config : mapping of str to anything
        Its config.json.

    Raises
    ------
    CheckpointError
        If there are none, some are missing, or it is not clear which of them are the model.
    UnsupportedError
        If there are weights in other formats alone.
    OSError
        If the directory or the index cannot be read.
    """
    entries = sorted(os.listdir(path))
    named = config.get(_WEIGHTS_KEY)
    if isinstance(named, str):
        _check_plain(path / CONFIG_FILE, named)
        return _by_index(path, named, entries) if named.endswith(".json") else WeightFiles((named,))
    if INDEX_FILE in entries:
        return _by_index(path, INDEX_FILE, entries)
    if SINGLE_FILE in entries:
        return WeightFiles((SINGLE_FILE,))
    indices = [name for name in entries if _INDEX.fullmatch(name) and not _NOT_THE_MODEL.match(name)]
    if len(indices) == 1:
        return _by_index(path, indices[0], entries)
    files = [name for name in entries if name.endswith(_ENDING)]
    files = [name for name in files if not _NOT_THE_MODEL.fullmatch(name)] or files
    if not files:
        raise no_weights_error(path)
    if len(files) == 1:
        note = f"{path} has no {SINGLE_FILE}: {files[0]}, its only safetensors file, is taken for the model"
        return WeightFiles((files[0],), notes=(note,))
    return _by_names(path, files)


def no_weights_error(path: Path) -> RipplePlaceError:
    """Return the error for a directory without safetensors files, which says what there is instead."""
    entries = sorted(os.listdir(path))
    for pattern in _OTHER_FORMATS:
        if found := [name for name in entries if re.fullmatch(pattern, name) and not _OF_TRAINING.match(name)]:
            return UnsupportedError(
                path, found=f"weights in {listed(found)} only", expected="safetensors",
                remedy=_remedy_for_format(path, found[0]),
            )  # fmt: skip
    if unfinished := unfinished_downloads(path):
        return CheckpointError(
            path, found=f"no weights, but downloads that have not ended ({len(unfinished)} files)", expected=_EXPECTED,
            remedy=f"wait until they have ended, or run the download again: {download_command(path)}",
        )  # fmt: skip
    if below := [directory for directory in checkpoints_below(path) if directory != path]:
        return CheckpointError(
            path, found="no weights, but checkpoints below", expected=_EXPECTED, remedy=f"give one of {listed(below)}"
        )
    return CheckpointError(
        path, found=f"no weights, only {listed(entries)}" if entries else "nothing", expected=_EXPECTED,
        remedy=f"download the weights: {download_command(path)}",
    )  # fmt: skip


def _remedy_for_format(path: Path, name: str) -> str:
    """Return what to do about a file of weights in another format."""
    if re.fullmatch(_OTHER_FORMATS[0], name):
        return _CONVERT.format(path=path)
    if name.endswith(".gguf"):
        return (
            "download the safetensors files of the model; where there are none, transformers writes some: "
            f"AutoModelForCausalLM.from_pretrained('{path}', gguf_file='{name}').save_pretrained('{path}-safetensors')"
        )
    if name.endswith((".h5", ".msgpack")):
        return (
            "load it with transformers 4 (from_tf=True for .h5, from_flax=True for .msgpack) and save_pretrained, or "
            "download its safetensors files"
        )
    if re.fullmatch(_OTHER_FORMATS[-1], name):
        return "load it with the tool that wrote it and save_pretrained of transformers, or download safetensors files"
    return f"download the safetensors files of the model from which {name} was made"


def is_file(path: Path) -> bool:
    """Tell whether a path names a file; one that the system cannot look up, looping links included, names none."""
    try:
        return path.is_file()
    except OSError as cause:
        if cause.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            return False
        raise


def _by_index(path: Path, index_name: str, entries: Sequence[str]) -> WeightFiles:
    """Return the files that an index names, all of which must be there."""
    index = path / index_name
    weight_map = _read_weight_map(index)
    names = tuple(sorted(set(weight_map.values())))
    if index_name == INDEX_FILE and names != (SINGLE_FILE,) and SINGLE_FILE in entries:
        raise CheckpointError(
            path, found=f"both {SINGLE_FILE} and an index of other shards", expected="one of the two",
            remedy="remove the stale one: loaders disagree on which of them is the model",
        )  # fmt: skip
    missing = [name for name in names if not is_file(path / name)]
    if missing:
        raise _missing_error(path, index_name, names, missing, entries)
    return WeightFiles(names, index_name, weight_map)


def _missing_error(
    path: Path, index_name: str, names: Sequence[str], missing: Sequence[str], entries: Sequence[str]
) -> CheckpointError:
    """Return the error for shards that an index names and that are not there."""
    others = [name for name in entries if name.endswith(_ENDING) and name not in names]
    found = f"no such file, nor {len(missing) - 1} others of {len(names)} shards" if missing[1:] else "no such file"
    remedy = f"download it: {download_command(path, missing)}"
    if others:
        found += f"; {listed(others)}, which the index does not name"
        remedy = (
            f"remove {index_name} if those are the model, whose own headers then count, or download the missing ones: "
            f"{download_command(path, missing)}"
        )
    return file_error(
        CheckpointError, path / missing[0], found=found, expected="the shard that the index names", remedy=remedy
    )


def _read_weight_map(index: Path) -> dict[str, str]:
    """Return the weight map of a shard index: tensor name -> shard name. Its `total_size`, often wrong, is not used."""
    again = f"remove it, so that the shards' own headers count, or download it: {_download_index(index)}"
    weight_map = read_json_object(index, CheckpointError, remedy=again).get("weight_map")
    if (
        not isinstance(weight_map, dict)
        or not weight_map
        or not all(isinstance(name, str) for name in weight_map.values())
    ):
        raise CheckpointError(
            index, found=f"weight_map {type(weight_map).__name__}", expected="an object: tensor -> shard",
            remedy=f"remove it (the shards' own headers then count), or download it: {_download_index(index)}",
        )  # fmt: skip
    for name in set(weight_map.values()):
        _check_plain(index, name)
    return weight_map


def _download_index(index: Path) -> str:
    return download_command(index.parent, [index.name], force=True)


def _check_plain(where: Path, name: str) -> None:
    """Raise unless the name of a file of weights is one within the checkpoint."""
    pure = PurePosixPath(name)
    if not name or "\\" in name or pure.is_absolute() or ".." in pure.parts or str(pure) != name:
        raise CheckpointError(
            where, found=f"shard {name!r}", expected="a plain file name inside the checkpoint",
            remedy="do not trust this file, which points outside of its directory; download the model elsewhere",
        )  # fmt: skip


def _by_names(path: Path, files: Sequence[str]) -> WeightFiles:
    """Return which of several files without index are the model: the one numbered set of shards, or all of them."""
    sets: dict[tuple[str, int], list[str]] = defaultdict(list)
    for name in files:
        if match := _SHARD.fullmatch(name):
            sets[match["stem"], int(match["count"])].append(name)
    if len(sets) > 1:
        raise CheckpointError(
            path, found=f"no index, and {len(sets)} sets of shards, such as {min(sets.values())[0]} and "
            f"{max(sets.values())[0]}",
            expected="the shards of one model", remedy="move the shards of all others elsewhere",
        )  # fmt: skip
    names = tuple(files)
    for (stem, count), held in sets.items():
        whole = [f"{stem}-{number:05d}-of-{count:05d}.safetensors" for number in range(1, min(count, 100_000) + 1)]
        # Some count from 0.
        if missing := [name for name in whole if name not in held] if len(held) < count else []:
            raise file_error(
                CheckpointError, path / missing[0], found=f"no such file; there are {len(held)} of {count} shards",
                expected="all of them", remedy=f"download the rest: {download_command(path, missing)}",
            )  # fmt: skip
        names = tuple(held)
    note = (
        f"{path} has no {INDEX_FILE}: its {len(names)} files {names[0]} to {names[-1]} are taken for the model; "
        "loaders that need an index open neither it nor its output"
    )
    return WeightFiles(names, notes=(note,))
