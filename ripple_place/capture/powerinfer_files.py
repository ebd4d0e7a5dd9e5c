"""Writes predictors as the files that PowerInfer's converter reads: ``model_{layer}.pt`` and ``config.json``."""

from __future__ import annotations

import io
import json
import re
import secrets
import shutil
from typing import TYPE_CHECKING

from ripple_place.capture.extra import require_torch
from ripple_place.checkpoint.carriers.predictor import CONFIG_FILE
from ripple_place.errors import UsageError
from ripple_place.outputs import FILE_SUFFIX_BYTES, check_place, check_replaceable
from ripple_place.predict.powerinfer import (
    SPARSE_THRESHOLD,
    powerinfer_layers,
    powerinfer_matrices,
    powerinfer_place,
)
from ripple_place.tensorfile import replacing

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from ripple_place.predict.predictor import BlockPredictor, ModelPredictor

_OURS = re.compile(r"model_(0|[1-9]\d*)\.pt|config\.json")


def check_powerinfer_directory(path: Path, *, force: bool, apart_from: Iterable[Path] = ()) -> None:
    """Refuse a directory that cannot be written, or must not be, before the work starts.

    Raises
    ------
    UnsupportedError
        If torch is missing.
    UsageError
        If something is there (with `force`: something that this function's writer would not write), or it is another
        path of the command.
    OSError
        If it cannot be made.
    """
    require_torch(path)
    if path.resolve() in [other.resolve() for other in apart_from]:
        raise UsageError(
            path, found="another path of this command", expected="a directory of its own", remedy="choose another name"
        )
    check_replaceable(path)
    if path.is_dir():
        names = sorted(entry.name for entry in path.iterdir())
        foreign = [name for name in names if not _OURS.fullmatch(name) or not (path / name).is_file()]
        if foreign or (names and not force):
            raise UsageError(
                path, found=f"{(foreign or names)[0]} in it", expected="a new directory, or an empty one",
                remedy="choose another name" if foreign else "choose another name, or replace its files with --force",
            )  # fmt: skip
        check_place(path / CONFIG_FILE, suffix_bytes=FILE_SUFFIX_BYTES)
    elif path.exists():
        raise UsageError(path, found="a file", expected="a directory to write", remedy="choose another name")
    elif not path.absolute().parent.is_dir():
        raise UsageError(
            path, found="no directory to make it in", expected=f"{path.absolute().parent} to exist",
            remedy="make that directory first",
        )  # fmt: skip
    else:
        check_place(path, suffix_bytes=FILE_SUFFIX_BYTES)


def write_powerinfer(path: Path, predictor: ModelPredictor) -> list[str]:
    """Write predictors in PowerInfer's layout; return the names of the files.

    The directory appears whole or not at all. In one that is there already, each file does, and those of other layers
    are removed.

    Parameters
    ----------
    path : Path
        See `check_powerinfer_directory`.
    predictor : ModelPredictor
        In the model's original order.

    Raises
    ------
    UnsupportedError
        As `powerinfer_layers`.
    OSError
        If storage refuses.

    Notes
    -----
    One layer is held in memory at a time. The same predictors give the same bytes with the same version of torch.
    """
    layers, place = powerinfer_layers(predictor), powerinfer_place(predictor)
    path, suffix = path.absolute(), f"{secrets.token_hex(4)}.partial"
    # Files can only be renamed within a file system, and a directory that is there may be the root of one.
    beside = path / f".{suffix}" if path.is_dir() else path.with_name(f".{path.name}.{suffix}")
    beside.mkdir()
    try:
        for layer, block in layers.items():
            with replacing(beside / f"model_{layer}.pt") as file:
                file.write(_torch_file(block, place))
        with replacing(beside / CONFIG_FILE) as file:
            file.write(json.dumps({"sparse_threshold": SPARSE_THRESHOLD}).encode() + b"\n")
        names = sorted(entry.name for entry in beside.iterdir())
        if path.is_dir():
            for name in names:
                (beside / name).replace(path / name)
            for entry in path.iterdir():
                if _OURS.fullmatch(entry.name) and entry.name not in names:
                    entry.unlink()
        else:
            beside.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return names


def _torch_file(block: BlockPredictor, place: int) -> bytes:
    import torch

    fc1, fc2 = powerinfer_matrices(block, place)
    # To memory first: given a path, torch writes the name of the file into the archive.
    content = io.BytesIO()
    torch.save({"fc1.weight": torch.from_numpy(fc1), "fc2.weight": torch.from_numpy(fc2)}, content)
    return content.getvalue()
