"""A model of transformers whose FFN weights are never in memory: stand-ins in their place, all else from the bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ripple_place.capture.model import build_skeleton, read_config
from ripple_place.capture.sites import activation_module
from ripple_place.capture.tensor_names import TensorNames
from ripple_place.capture.weights import WeightSource
from ripple_place.checkpoint.names import BUNDLED_FILE
from ripple_place.errors import CheckpointError
from ripple_place.generation.refusal import other_model
from ripple_place.generation.row_form import DOWN, GATE, UP, form_of_block
from ripple_place.tensorfile import TensorFile

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ripple_place.arrays import Float32Array
    from ripple_place.checkpoint.output.manifest import Manifest
    from ripple_place.generation.plain_activities import Function
    from ripple_place.generation.row_form import RowForm
    from ripple_place.generation.stored_ffn import StoredFfn

TORCH_OF_DTYPE = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
_KNOWN_TENSORS = {"up", "gate", "gate_up", "down", "up_bias", "gate_bias", "gate_up_bias"}
"""What the stand-ins know of an FFN; the bias of down is no tensor of its neurons."""
_PARTS = ("bundles", "bundles_2", "gates", "padding", "padding_2", "padding_gates")


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


class Skeleton:
    """A model with stand-ins.

    Attributes
    ----------
    model : transformers.PreTrainedModel
    config : transformers.PreTrainedConfig
    places : mapping of str to FfnPlace
        By block, in model order.
    """

    def __init__(self, manifest: Manifest, dtype: str | None) -> None:
        self._manifest = manifest
        self.config = read_config(manifest.out)
        if getattr(self.config, "is_encoder_decoder", False) or getattr(self.config, "quantization_config", None):
            raise other_model(manifest.out, f"{self.config.model_type}, with an encoder or with quantised weights")
        forms = {block: form_of_block(block, manifest.document["bundled"][block]) for block in manifest.blocks}
        self.model = build_skeleton(manifest.out, self.config, dtype=dtype or _dtype_of(manifest))
        if not hasattr(self.model, "prepare_inputs_for_generation") or self.model.get_output_embeddings() is None:
            raise other_model(manifest.out, f"{type(self.model).__name__}, which puts out no text")
        bundled = TensorFile.open(manifest.out / BUNDLED_FILE, CheckpointError)
        ours = {f"{block}.{part}" for block in forms for part in _PARTS}
        self._resident = replace(
            bundled, tensors={name: extent for name, extent in bundled.tensors.items() if name not in ours}
        )
        self.places = self._find_places(forms)
        self._replace_modules()

    def load(self) -> None:
        """Read every tensor that is no part of an FFN's bundles.

        Raises
        ------
        CheckpointError
            If one is missing.
        """
        WeightSource(self.model, [self._resident], "cpu").load_all()
        self.model.tie_weights()

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

    @property
    def n_bytes(self) -> int:
        """Memory of parameters and buffers, shared ones once."""
        held = {}
        for tensor in [*self.model.parameters(), *self.model.buffers()]:
            held[tensor.data_ptr()] = tensor.nbytes
        return sum(held.values())

    def _find_places(self, forms: Mapping[str, RowForm]) -> dict[str, FfnPlace]:
        stored = [part.tensor for form in forms.values() for part in form.components.values()]
        names = TensorNames(self.model).translate([*self._resident.tensors, *dict.fromkeys(stored)])
        modules = dict(self.model.named_modules())
        return {block: self._find_place(block, form, names, modules) for block, form in forms.items()}

    def _find_place(
        self, block: str, form: RowForm, names: Mapping[str, tuple[str, bool]], modules: Mapping[str, Any]
    ) -> FfnPlace:
        if unknown := sorted({*self._manifest.document["blocks"][block]["tensors"]} - _KNOWN_TENSORS):
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


def _dtype_of(manifest: Manifest) -> str:
    """Return the dtype of most of the bundles."""
    dtypes = [entry["dtype"] for entry in manifest.document["bundled"].values()]
    return TORCH_OF_DTYPE.get(max(set(dtypes), key=dtypes.count), "float32") if dtypes else "float32"
