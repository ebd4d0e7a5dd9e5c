"""Puts the weights of some modules of a skeleton in place, and takes them away again."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING, Any

from ripple_place.capture.loading import missing_tensor
from ripple_place.capture.model import quiet_transformers
from ripple_place.errors import CheckpointError, UnsupportedError
from ripple_place.inputfile import open_stream

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ripple_place.tensorfile import TensorFile

_TORCH_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64", "I32": "int32",
    "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


class WeightSource:
    """The tensors of a checkpoint, by the names that the model gives them.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A skeleton (`ripple_place.capture.model.build_skeleton`).
    shards : sequence of TensorFile
    device : str
        Where weights are put.

    Notes
    -----
    Weights are read with pread, one tensor at a time, so that neither the files nor copies of them pile up in memory.
    Names on disk are translated, and experts fused, by transformers' own tables.
    """

    def __init__(self, model: Any, shards: Sequence[TensorFile], device: str) -> None:
        self.model, self.device = model, device
        self._places = {name: shard for shard in shards for name in shard.tensors}
        self._targets: dict[str, list[tuple[str, bool]]] = {}
        self._mapping = _conversions(model)
        state = model.state_dict()
        for name in self._places:
            target, converted = _rename(model, name, self._mapping, state)
            self._targets.setdefault(target, []).append((name, converted))

    def has(self, parameter: str) -> bool:
        """Tell whether the checkpoint holds a parameter (a tied one it may not)."""
        return parameter in self._targets

    def load(self, wanted: Callable[[str], bool]) -> list[str]:
        """Give values to the parameters whose names are `wanted`; return the names.

        Raises
        ------
        CheckpointError
            If the checkpoint lacks one, or has another shape.
        """
        import torch

        parameters = dict(self.model.named_parameters())
        names = [name for name, parameter in parameters.items() if wanted(name) and parameter.is_meta]
        converted: dict[str, Any] = {}
        for name in names:
            sources = self._targets.get(name, [])
            if len(sources) == 1 and not sources[0][1]:
                self._place(name, self._read(sources[0][0]))
            else:
                converted |= {source: self._read(source) for source, _ in sources}
        # One converter may fill several parameters; its sources are listed under the first of them.
        converted |= {
            source: self._read(source)
            for target, sources in self._targets.items()
            if wanted(target) and target not in parameters
            for source, is_converted in sources
            if is_converted
        }
        if converted:
            self._convert(converted)
        for name in names:
            parameter = self.model.get_parameter(name)
            if parameter.is_meta:
                raise missing_tensor(next(iter(self._places.values())).path.parent, name, self._places)
            if parameter.device.type != self.device:
                self._set(name, torch.nn.Parameter(parameter.to(self.device), requires_grad=False))
        return names

    def unload(self, names: Sequence[str]) -> None:
        """Take the values of parameters away again, and give their memory back to the system."""
        import torch

        for name in names:
            self._set(name, torch.nn.Parameter(self.model.get_parameter(name).to("meta"), requires_grad=False))
        _trim_heap()

    def _read(self, name: str) -> Any:
        """Return one tensor of the checkpoint."""
        import torch

        shard = self._places[name]
        extent = shard.tensors[name]
        if extent.dtype not in _TORCH_DTYPES:
            raise UnsupportedError(
                f"{shard.path}: {name}", found=extent.dtype, expected=", ".join(_TORCH_DTYPES),
                remedy="profile the unquantised model",
            )  # fmt: skip
        dtype = getattr(torch, _TORCH_DTYPES[extent.dtype])
        if extent.length_bytes == 0:
            return torch.empty(extent.shape, dtype=dtype)
        buffer = bytearray(extent.length_bytes)
        with open_stream(shard.path) as file:
            done = 0
            while done < extent.length_bytes:
                n_read = os.preadv(file.fileno(), [memoryview(buffer)[done:]], extent.offset_bytes + done)
                if n_read == 0:
                    raise CheckpointError(
                        f"{shard.path}: {name}", found=f"an end after {done} bytes",
                        expected=f"{extent.length_bytes} bytes",
                        remedy="leave the checkpoint alone while it is read, and start again",
                    )  # fmt: skip
                done += n_read
        return torch.frombuffer(buffer, dtype=dtype).view(extent.shape)

    def _place(self, name: str, value: Any) -> None:
        import torch

        parameter = self.model.get_parameter(name)
        if value.shape != parameter.shape:
            raise CheckpointError(
                f"{name}", found=f"shape {list(value.shape)}", expected=f"{list(parameter.shape)} by the config",
                remedy="make sure that config.json and the weights belong to the same model",
            )  # fmt: skip
        value = value.to(device=self.device, dtype=parameter.dtype)
        self._set(name, torch.nn.Parameter(value, requires_grad=False))

    def _set(self, name: str, parameter: Any) -> None:
        path, _, last = name.rpartition(".")
        setattr(self.model.get_submodule(path), last, parameter)

    def _convert(self, tensors: dict[str, Any]) -> None:
        """Let transformers fuse the tensors that its modules hold fused."""
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        config = LoadStateDictConfig(weight_mapping=self._mapping, dtype=self.model.dtype, device_map={"": "cpu"})
        with quiet_transformers():
            convert_and_load_state_dict_in_model(self.model, tensors, config)
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)


def _trim_heap() -> None:
    """Let the C library return freed memory where it would keep it: glibc keeps 4 % of a model for each layer."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _conversions(model: Any) -> list[Any]:
    """Return transformers' table of renamings and fusions for a model; empty where it has none."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
    except ImportError as cause:
        raise UnsupportedError(
            "--layer-by-layer", found="a transformers without weight conversion tables", expected="transformers 5",
            remedy="update transformers, or profile with --whole-model",
        ) from cause  # fmt: skip
    return list(get_model_conversion_mapping(model))


def _rename(model: Any, name: str, mapping: list[Any], state: dict[str, Any]) -> tuple[str, bool]:
    """Return the model's name for a tensor of the checkpoint, and whether it is converted on the way."""
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    target, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, state)
    if target not in state and name in state:
        return name, False
    return target, pattern is not None
