"""Puts the weights of some modules of a skeleton in place, and takes them away again."""

from __future__ import annotations

import ctypes
import re
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from ripple_place.capture.loading import missing_tensor
from ripple_place.capture.model import quiet_transformers
from ripple_place.capture.tensor_names import TensorNames
from ripple_place.capture.tensor_reading import read_tensor
from ripple_place.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ripple_place.capture.adapter import ModelAdapter
    from ripple_place.tensorfile import TensorFile


class WeightSource:
    """The tensors of a checkpoint, by the names that the model gives them.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A skeleton (`ripple_place.capture.model.build_skeleton`).
    shards : sequence of TensorFile
    device : str
        Where weights are put.
    shells : iterable of str
        Modules whose parameters are on the device even while they have no values, since models ask for it.
    adapter : ModelAdapter, optional
        What is added to weights when they are loaded.

    Notes
    -----
    Weights are read with pread, one tensor at a time, so that neither the files nor copies of them pile up in memory.
    Names on disk are translated, and experts fused, by transformers' own tables. Buffers that a checkpoint holds (such
    as the biases by which DeepSeek-V3 routes) are weights like the others.
    """

    def __init__(
        self, model: Any, shards: Sequence[TensorFile], device: str, shells: Iterable[str] = (),
        adapter: ModelAdapter | None = None,
    ) -> None:  # fmt: skip
        self.model, self.device, self.adapter = model, device, adapter
        self._places = {name: shard for shard in shards for name in shard.tensors}
        names = TensorNames(model)
        self._mapping = names.mapping
        self._sources: dict[str, list[tuple[str, bool]]] = {}
        for name, (target, converted) in names.translate(self._places).items():
            self._sources.setdefault(target, []).append((name, converted))
        self._plan = model._get_dtype_plan(model.dtype)  # noqa: SLF001 - of `from_pretrained`, which does the same
        self._parameters = dict(model.named_parameters(remove_duplicate=False))
        self._buffers = _persistent_buffers(model)
        sharing: dict[int, list[str]] = {}
        for name, parameter in self._parameters.items():
            sharing.setdefault(id(parameter), []).append(name)
        self._names_of = {name: same for same in sharing.values() for name in same}
        self._loaded: set[str] = set()
        self._shells = frozenset(name for name in self._parameters if name.rpartition(".")[0] in set(shells))
        for name in self._shells:
            self._take_away(name)

    def load(self, modules: Iterable[str]) -> list[str]:
        """Give values to all tensors in some modules, by their names; return those of the tensors.

        Raises
        ------
        CheckpointError
            If the checkpoint lacks one, or has another shape.
        """
        prefixes = tuple(f"{name}." for name in modules)
        return self._load(lambda name: name.startswith(prefixes))

    def load_all(self) -> None:
        """Give values to all tensors, in one memory where modules share them; errors as of `load`."""
        firsts = {name: self._names_of[name][0] for name in self._parameters}
        self._load(lambda name: firsts.get(name, name) == name)
        for name, first in firsts.items():
            if name != first:
                self._set(name, self.model.get_parameter(first))
                self._loaded.add(name)

    def load_when_called(self, apart_from: Iterable[str]) -> None:
        """Give values to a module's own tensors when it is called for the first time.

        Parameters
        ----------
        apart_from : iterable of str
            Modules that are left alone, with all that is in them.
        """
        apart = tuple(f"{name}." for name in apart_from)
        own: dict[str, set[str]] = {}
        for name in [*self._parameters, *self._buffers]:
            if not name.startswith(apart):
                own.setdefault(name.rpartition(".")[0], set()).add(name)
        for path, names in own.items():
            self.model.get_submodule(path).register_forward_pre_hook(partial(self._load_once, names))

    def _load_once(self, names: set[str], module: Any, inputs: Any) -> None:
        if names:
            self._load(frozenset(names).__contains__)
            names.clear()

    def unload(self, names: Sequence[str]) -> None:
        """Take the values of parameters away again, and give their memory back to the system."""
        for name in names:
            self._take_away(name)
        _trim_heap()

    def _load(self, wanted: Callable[[str], bool]) -> list[str]:
        names = [name for name in [*self._parameters, *self._buffers] if wanted(name) and name not in self._loaded]
        for name in self._shells.intersection(names):
            self._set(name, self._parameters[name])
        converted: dict[str, Any] = {}
        targets = dict(zip(names, map(self._target, names), strict=True))
        for name, target in targets.items():
            sources = self._sources.get(target, [])
            if len(sources) == 1 and not sources[0][1]:
                self._place(name, self._read(sources[0][0]))
            else:
                converted |= {source: self._read(source) for source, _ in sources}
        # One converter may fill several parameters; its sources are listed under the first of them.
        converted |= {
            source: self._read(source)
            for target, sources in self._sources.items()
            if wanted(target) and target not in self._parameters
            for source, is_converted in sources
            if is_converted
        }
        if converted:
            self._convert(converted)
        for name, target in targets.items():
            self._finish(name, target)
            if self.adapter is not None:
                self.adapter.apply_to(self.model, name)
        self._loaded.update(names)
        return names

    def _target(self, name: str) -> str:
        """Return the name, of all that a tensor has in the model, under which the checkpoint holds it."""
        names = [name, *self._names_of.get(name, ())]
        return next((other for other in names if other in self._sources), name)

    def _finish(self, name: str, target: str) -> None:
        """Move a converted parameter where it belongs; raise if it is still without values."""
        import torch

        if name in self._buffers:
            if target not in self._sources and not self._may_lack(name):
                raise self._missing(name)
            return
        parameter = self.model.get_parameter(name)
        if parameter.is_meta and target != name:
            parameter = self.model.get_parameter(target)
            self._take_away(target)
        if parameter.is_meta:
            parameter = self._initial(name)
        self._set(name, torch.nn.Parameter(parameter.to(self.device), requires_grad=False))

    def _initial(self, name: str) -> Any:
        """Return a parameter as transformers makes it where a checkpoint may do without, such as tables of sines."""
        import torch

        path, _, last = name.rpartition(".")
        owner = self.model.get_submodule(path)
        if not self._may_lack(name) or list(owner._parameters) != [last]:  # noqa: SLF001 - of it alone
            raise self._missing(name)
        self._set(name, torch.nn.Parameter(torch.empty_like(owner.get_parameter(last), device="cpu"), False))
        self.model._init_weights(owner)  # noqa: SLF001 - what `from_pretrained` calls
        return owner.get_parameter(last)

    def _missing(self, name: str) -> CheckpointError:
        return missing_tensor(next(iter(self._places.values())).path.parent, name, self._places)

    def _may_lack(self, name: str) -> bool:
        """Tell whether transformers does without a tensor in the checkpoint."""
        patterns = self.model._keys_to_ignore_on_load_missing or ()  # noqa: SLF001 - theirs
        return any(re.search(pattern, name) for pattern in patterns)

    def _take_away(self, name: str) -> None:
        """Put what has a shape and no values in the place of a parameter; buffers are small, and stay."""
        import torch

        self._loaded.discard(name)
        if name in self._shells:
            parameter = self._parameters[name]
            one = torch.full((), torch.nan, dtype=parameter.dtype, device=self.device)
            self._set(name, torch.nn.Parameter(one.expand(parameter.shape), requires_grad=False))
        elif name in self._parameters:
            self._set(name, self._parameters[name])

    def _read(self, name: str) -> Any:
        """Return one tensor of the checkpoint."""
        return read_tensor(self._places[name], name)

    def _place(self, name: str, value: Any) -> None:
        import torch

        is_buffer = name in self._buffers
        former = self.model.get_buffer(name) if is_buffer else self.model.get_parameter(name)
        if value.shape != former.shape:
            raise CheckpointError(
                f"{name}", found=f"shape {list(value.shape)}", expected=f"{list(former.shape)} by the config",
                remedy="make sure that config.json and the weights belong to the same model",
            )  # fmt: skip
        value = value.to(device=self.device, dtype=self._dtype(name, former.dtype))
        self._set(name, value if is_buffer else torch.nn.Parameter(value, requires_grad=False))

    def _dtype(self, name: str, dtype: Any) -> Any:
        """Return the dtype that transformers gives a tensor: some stay float32 in a model of half width."""
        patterns = (pattern for pattern in self._plan if re.search(pattern.replace("*", ".*"), name))
        return self._plan.get(next(patterns, None), dtype)

    def _set(self, name: str, tensor: Any) -> None:
        path, _, last = name.rpartition(".")
        setattr(self.model.get_submodule(path), last, tensor)

    def _convert(self, tensors: dict[str, Any]) -> None:
        """Let transformers fuse the tensors that its modules hold fused."""
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        config = LoadStateDictConfig(
            weight_mapping=self._mapping, dtype=self.model.dtype, dtype_plan=self._plan, device_map={"": "cpu"}
        )
        with quiet_transformers():
            convert_and_load_state_dict_in_model(self.model, tensors, config)
        for parameter in self.model.parameters():
            parameter.requires_grad_(False)


def _persistent_buffers(model: Any) -> frozenset[str]:
    """Return the names of the buffers that a checkpoint holds; the others follow from the config."""
    buffers = {name for name, _ in model.named_buffers(remove_duplicate=False)}
    return frozenset(buffers & model.state_dict().keys())


def _trim_heap() -> None:
    """Let the C library return freed memory where it would keep it: glibc keeps 4 % of a model for each layer."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
