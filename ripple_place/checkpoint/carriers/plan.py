"""Which files go along with a model, found by what lies at the paths that were given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.checkpoint.carriers.adapter import describe_adapter
from ripple_place.checkpoint.carriers.carrier import CarrierFile, foreign_error
from ripple_place.checkpoint.carriers.imatrix import describe_imatrix
from ripple_place.checkpoint.carriers.predictor import CONFIG_FILE, LAYER_FILE, describe_layer_file
from ripple_place.checkpoint.names import OWN_DIRECTORY
from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ripple_place.checkpoint.model.ffn import FfnModel

ADAPTER_DIRECTORY = f"{OWN_DIRECTORY}/adapter"
CARRIER_DIRECTORY = f"{OWN_DIRECTORY}/carriers"


def plan_carriers(model: FfnModel, adapter: Path | None, carriers: Sequence[Path]) -> list[CarrierFile]:
    """Describe the files that are to be permuted along with a model.

    Parameters
    ----------
    model : FfnModel
    adapter : Path or None
        Directory of a LoRA adapter.
    carriers : sequence of Path
        Importance matrices (files), and directories of predictors or counts (``model_3.pt``, ``activation_3.pt``),
        with the ``config.json`` beside them.

    Raises
    ------
    UsageError
        If there is nothing of the kind at a path, or two of them have the same name.
    CheckpointError, UnsupportedError
        If one is malformed, of another model, or cannot be permuted.
    OSError
        If one cannot be read.
    """
    files = [] if adapter is None else describe_adapter(model, adapter, ADAPTER_DIRECTORY)
    for path in carriers:
        name = f"{CARRIER_DIRECTORY}/{path.name}"
        layer_files = sorted(path.iterdir()) if path.is_dir() else [path]
        found = [file for file in layer_files if LAYER_FILE.fullmatch(file.name)]
        if found:
            beside = f"{name}/" if path.is_dir() else f"{CARRIER_DIRECTORY}/"
            described = [describe_layer_file(model, file, beside + file.name) for file in found]
            files += described
            names_beside = {file.name for file in layer_files}
            if CONFIG_FILE in names_beside and any(file.kind == "predictor" for file in described):
                files.append(CarrierFile(path / CONFIG_FILE, beside + CONFIG_FILE, "predictor"))
        elif path.is_file():
            files.append(describe_imatrix(model, path, name))
        else:
            raise UsageError(
                path, found="nothing that follows the neurons" if path.exists() else "nothing there",
                expected="an importance matrix, or a directory with model_0.pt or activation_0.pt and so on",
                remedy="correct the path, or give it with --adapter if it is an adapter",
            )  # fmt: skip
    names = [file.name for file in files]
    if len(set(names)) < len(names):
        raise UsageError(
            "--carrier", found="two of the same name", expected="names of their own", remedy="rename one of them"
        )
    return files


def redescribe(model: FfnModel, out: Path, name: str, kind: str) -> CarrierFile:
    """Describe a file in an output as it was described when it was written there.

    Raises
    ------
    CheckpointError, UnsupportedError, OSError
        As `plan_carriers`.
    """
    path = out / name
    if kind == "adapter":
        for file in describe_adapter(model, out / ADAPTER_DIRECTORY, ADAPTER_DIRECTORY):
            if file.name == name:
                return file
    elif name.startswith(f"{CARRIER_DIRECTORY}/"):
        if kind == "imatrix":
            return describe_imatrix(model, path, name)
        if LAYER_FILE.fullmatch(path.name):
            return describe_layer_file(model, path, name)
        if kind == "predictor" and path.name == CONFIG_FILE:
            return CarrierFile(path, name, kind)
    raise foreign_error(path, f"a file of kind {kind}", f"an adapter's in {ADAPTER_DIRECTORY}, others elsewhere")
