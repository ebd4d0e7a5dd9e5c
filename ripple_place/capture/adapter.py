"""A LoRA adapter in a model that runs: ``scale * B A`` is added to the weight of each adapted linear layer.

The layer's input is what it always is. Where columns of it are pruned, the adapter sees the pruned input too:
``(W + scale * B A) x' = W x' + scale * B (A x')``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.capture.loading import OWN_CODE
from ripple_place.capture.tensor_names import TensorNames
from ripple_place.capture.tensor_reading import read_tensor
from ripple_place.checkpoint.carriers.adapter_config import MERGE
from ripple_place.checkpoint.carriers.carrier import foreign_error, unsupported_error
from ripple_place.checkpoint.carriers.lora import digest_of_adapter, label_of_adapter, read_lora

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ripple_place.checkpoint.carriers.lora import LoraProduct
    from ripple_place.tensorfile import TensorFile


@dataclass(frozen=True, eq=False)
class Addition:
    """What is added to one weight.

    Attributes
    ----------
    weights : TensorFile
        The adapter's.
    product : LoraProduct
    is_transposed : bool
        The model holds the weight as [in, out], as GPT-2 does.
    """

    weights: TensorFile
    product: LoraProduct
    is_transposed: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Of the weight."""
        n_out, n_in = self.product.b.shape[0], self.product.a.shape[1]
        return (n_in, n_out) if self.is_transposed else (n_out, n_in)

    def added_to(self, weight: Any) -> Any:
        """Return a weight with the product added, summed in float32 or the weight's own dtype if that is wider."""
        import torch

        # The model may be asked for gradients later, whatever mode it is loaded in.
        with torch.inference_mode(mode=False), torch.no_grad():
            wide = torch.promote_types(weight.dtype, torch.float32)
            a, b = (
                read_tensor(self.weights, extent.name).to(weight.device, wide)
                for extent in (self.product.a, self.product.b)
            )
            left, right = (a.T, b.T) if self.is_transposed else (b, a)
            return torch.addmm(weight.detach().to(wide), left, right, alpha=self.product.scale).to(weight.dtype)


@dataclass(frozen=True, eq=False)
class ModelAdapter:
    """A LoRA adapter that fits a model.

    Attributes
    ----------
    additions : mapping of str to Addition
        By the names of the model's parameters.
    name : str
        Of its directory.
    digest : str
        SHA-256 of its files.
    """

    additions: Mapping[str, Addition]
    name: str
    digest: str

    @property
    def metadata(self) -> dict[str, str]:
        """What a trace says of it."""
        return {"adapter": label_of_adapter(self.name, self.digest)}

    def apply(self, model: Any) -> None:
        """Add all products to the weights of a model, one at a time.

        A weight that another module shares, such as the embeddings, stays as it is there.
        """
        for name in self.additions:
            self.apply_to(model, name)

    def apply_to(self, model: Any, name: str) -> None:
        """Add the product of one parameter, if there is one."""
        import torch

        if name in self.additions:
            owner, _, last = name.rpartition(".")
            module = model.get_submodule(owner)
            former = getattr(module, last)
            changed = self.additions[name].added_to(former)
            setattr(module, last, torch.nn.Parameter(changed, requires_grad=former.requires_grad))


def fit_adapter(directory: Path, model: Any) -> ModelAdapter:
    """Read an adapter, and find in a model the weights that it changes.

    Parameters
    ----------
    directory : Path
        As peft saved it.
    model : transformers.PreTrainedModel
        A skeleton will do.

    Raises
    ------
    UsageError, UnsupportedError, CheckpointError, OSError
        As `read_lora`.
    UnsupportedError
        If the model's weights are quantised, or a module is none whose weight the product can be added to.
    CheckpointError
        If it is an adapter of another model.
    """
    import torch

    lora = read_lora(directory)
    if getattr(model.config, "quantization_config", None) is not None:
        raise unsupported_error(directory, "a model with quantised weights", "weights that can be added to", MERGE)
    paths = _paths(model, [product.module for product in lora.products])
    additions: dict[str, Addition] = {}
    for product in lora.products:
        where, path = f"{lora.weights.path}: {product.module}", paths[product.module]
        module = _linear_at(path, model, where)
        addition = Addition(lora.weights, product, is_transposed=not isinstance(module, torch.nn.Linear))
        name, shape = f"{path}.weight", tuple(module.weight.shape)
        if name in additions or addition.shape != shape:
            found = "a second adapter of its weight" if name in additions else f"a product of shape {addition.shape}"
            raise foreign_error(where, found, f"one of shape {shape}")
        additions[name] = addition
    return ModelAdapter(additions, directory.resolve().name, digest_of_adapter(directory))


def _paths(model: Any, names: list[str]) -> dict[str, str]:
    """Return where an adapter's modules are in a model, also where transformers has renamed them since."""
    modules = {name for name, _ in model.named_modules()}
    missing = [name for name in names if name not in modules]
    renamed = TensorNames(model).translate(f"{name}.weight" for name in missing) if missing else {}
    paths = {name: name for name in names}
    for name in missing:
        target, is_fused = renamed[f"{name}.weight"]
        paths[name] = target if is_fused else target.rpartition(".")[0]
    return paths


def _linear_at(path: str, model: Any, where: str) -> Any:
    """Return the linear layer at a path; raise unless there is one that has its weight for itself."""
    import torch
    from transformers.pytorch_utils import Conv1D

    module = dict(model.named_modules()).get(path)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    if module is None and path not in parameters:
        ending = path.rpartition(".")[2]
        likely = next((f"one such as {name}" for name, _ in model.named_modules() if name.endswith(f".{ending}")), "")
        expected = likely or f"a module of {type(model).__name__}"
        raise foreign_error(where, "no such module in the model", expected)
    if getattr(type(module), "forward", None) not in (torch.nn.Linear.forward, Conv1D.forward):
        kind = "a matrix that the model holds fused with others" if module is None else f"a {type(module).__name__}"
        raise unsupported_error(where, kind, "a linear layer", MERGE)
    assert module is not None
    n_sharing = sum(other is module.weight for other in parameters.values())
    # The output head may share its weights with the embeddings: these are left alone.
    if n_sharing > 1 and module is not model.get_output_embeddings():
        found = f"a weight that {n_sharing} modules share"
        raise unsupported_error(where, found, "a weight of one module", OWN_CODE + ": this adapter cannot be merged")
    return module
