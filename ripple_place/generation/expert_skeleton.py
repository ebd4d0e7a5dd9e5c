"""A mixture of transformers whose experts stay on storage; routers, shared experts and dense layers are in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.capture.tensor_names import TensorNames
from ripple_place.generation.bare_model import BareModel
from ripple_place.generation.expert_form import form_of_experts
from ripple_place.generation.refusal import other_model

if TYPE_CHECKING:
    from ripple_place.checkpoint.output.manifest import Manifest
    from ripple_place.generation.expert_form import ExpertForm


class ExpertSkeleton(BareModel):
    """A mixture without the weights of its experts.

    Attributes
    ----------
    forms : mapping of str to ExpertForm
        By block, in model order.
    modules : mapping of str to torch.nn.Module
        By block, the experts: their weights are gone.
    """

    def __init__(self, manifest: Manifest, dtype: str | None) -> None:
        self.forms = {block: form_of_experts(block, manifest.document["bundled"][block]) for block in manifest.blocks}
        super().__init__(manifest, dtype)
        one_each = [part.tensor.format(expert=0) for form in self.forms.values() for part in form.parts.values()]
        self._names = TensorNames(self.model).translate([*self.resident.tensors, *one_each])
        self.modules = {block: self._bare_module(form) for block, form in self.forms.items()}

    def _bare_module(self, form: ExpertForm) -> Any:
        """Return the module of a block's experts, after taking their weights away."""
        paths = {self._names[part.tensor.format(expert=0)][0].rpartition(".")[0] for part in form.parts.values()}
        modules = dict(self.model.named_modules())
        module = modules.get(paths.pop()) if len(paths) == 1 else None
        if module is None or not hasattr(module, "_apply_gate") or not hasattr(module, "is_transposed"):
            raise other_model(form.block, f"experts that {type(self.model).__name__} runs in a way of its own")
        if getattr(module, "has_post_expert_norm", False) or module.has_gate != (form.inner != ("up",)):
            raise other_model(form.block, f"{type(module).__name__}, with a norm behind each expert or another gate")
        if form.is_single and form.inner == ("gate", "up") and not module.is_concatenated:
            raise other_model(form.block, f"{type(module).__name__}, which interleaves gate and up")
        for name, _ in [*module.named_parameters(recurse=False)]:
            module.register_parameter(name, None)
        return module
