"""A model of transformers with stand-ins in the place of the matrices of its FFNs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ripple_place.capture.sites import activation_module
from ripple_place.capture.tensor_names import TensorNames
from ripple_place.generation.bare_model import BareModel
from ripple_place.generation.refusal import other_model
from ripple_place.generation.row_form import DOWN, GATE, UP, form_of_block

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.arrays import Float32Array
    from ripple_place.checkpoint.output.manifest import Manifest
    from ripple_place.generation.plain_activities import Function
    from ripple_place.generation.row_form import RowForm
    from ripple_place.generation.stored_ffn import StoredFfn

_KNOWN_TENSORS = {"up", "gate", "gate_up", "down", "up_bias", "gate_bias", "gate_up_bias"}
"""What the stand-ins know of an FFN; the bias of down is no tensor of its neurons."""


@dataclass(frozen=True, eq=False)
class FfnPlace:
    """Where an FFN is in a model.

    Attributes
    ----------
    form : RowForm
        Of whole rows.
    inner : mapping of str to tuple of str
        By the module that a stand-in takes the place of, the roles of what it puts out.
    down : str
        The module of the down projection.
    function : callable
        The activation function, on arrays.
    """

    form: RowForm
    inner: Mapping[str, tuple[str, ...]]
    down: str
    function: Function


class Skeleton(BareModel):
    """A model with stand-ins for up, gate and down.

    Attributes
    ----------
    places : mapping of str to FfnPlace
        By block, in model order.
    """

    def __init__(self, manifest: Manifest, dtype: str | None) -> None:
        forms = {block: form_of_block(block, manifest.document["bundled"][block]) for block in manifest.blocks}
        super().__init__(manifest, dtype)
        self.places = self._find_places(forms)
        self._replace_modules()

    def biases(self, block: str) -> dict[str, Float32Array]:
        """Return the biases of a block's up and gate, by role, float32."""
        found = {}
        for path, roles in self.places[block].inner.items():
            bias = getattr(self.model.get_submodule(path), "bias", None)
            if bias is not None:
                for role, part in zip(roles, bias.detach().float().chunk(len(roles)), strict=True):
                    found[role] = part.numpy().copy()
        return found

    def down_bias(self, block: str) -> Float32Array | None:
        """Return the bias of a block's down projection, float32; None where there is none."""
        bias = getattr(self.model.get_submodule(self.places[block].down), "bias", None)
        return None if bias is None else bias.detach().float().numpy().copy()

    def connect(self, block: str, ffn: StoredFfn) -> None:
        """Let a block's stand-ins compute by an FFN whose weights are stored."""
        place = self.places[block]
        for path, roles in place.inner.items():
            self.model.get_submodule(path).forward = _entering(ffn, roles)
        self.model.get_submodule(place.down).forward = ffn.leave

    def _find_places(self, forms: Mapping[str, RowForm]) -> dict[str, FfnPlace]:
        stored = [part.tensor for form in forms.values() for part in form.components.values()]
        names = TensorNames(self.model).translate([*self.resident.tensors, *dict.fromkeys(stored)])
        modules = dict(self.model.named_modules())
        return {block: self._find_place(block, form, names, modules) for block, form in forms.items()}

    def _find_place(
        self, block: str, form: RowForm, names: Mapping[str, tuple[str, bool]], modules: Mapping[str, Any]
    ) -> FfnPlace:
        if unknown := sorted({*self.manifest.document["blocks"][block]["tensors"]} - _KNOWN_TENSORS):
            raise other_model(block, f"{', '.join(unknown)} beside up and down")
        inner: dict[str, tuple[str, ...]] = {}
        down = ""
        for role, part in form.components.items():
            target, is_converted = names[part.tensor]
            path, _, last = target.rpartition(".")
            if is_converted or last != "weight" or path not in modules:
                raise other_model(block, f"{part.tensor}, which {type(self.model).__name__} has in another form")
            if role == DOWN:
                down = path
            else:
                inner[path] = (*inner.get(path, ()), role)
        parent = modules[down.rpartition(".")[0]]
        function = activation_module(parent)
        if function is None:
            raise other_model(block, f"{type(parent).__name__}, whose activation function is no module of its own")
        assert {role for roles in inner.values() for role in roles} >= {UP} | (form.components.keys() & {GATE})
        return FfnPlace(form, inner, down, _on_arrays(function))

    def _replace_modules(self) -> None:
        """Put stand-ins, which have biases and no weights, in the place of up, gate and down."""
        import torch

        for place in self.places.values():
            for path in [*place.inner, place.down]:
                former = self.model.get_submodule(path)
                stand_in = torch.nn.Module()
                stand_in.register_parameter("bias", getattr(former, "bias", None))
                parent, _, last = path.rpartition(".")
                setattr(self.model.get_submodule(parent), last, stand_in)


def _entering(ffn: StoredFfn, roles: Sequence[str]) -> Any:
    return lambda x: ffn.enter(x, roles)


def _on_arrays(function: Any) -> Function:
    def on_arrays(values: Float32Array) -> Float32Array:
        import torch

        with torch.inference_mode():
            result: Float32Array = function(torch.from_numpy(values)).numpy()
        return result

    return on_arrays
