"""Names that most models share: of tensors outside of the FFNs, and of what stands before a text model's tensors.

No family file repeats them. None of these tensors carries the neuron axis, whatever its shape: the FFNs of towers and
of multi-token-prediction heads have neurons of their own, which stay in their order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ripple_place.checkpoint.model.patterns import FIRST, fill, matches_any

if TYPE_CHECKING:
    from collections.abc import Iterable

_USUAL_FREE = (
    # Embeddings and heads.
    "*embed_tokens.*",
    "norm.*",
    "*lm_head.*",
    "score.*",
    "classifier.*",
    # A layer's attention, what some layers have in its place, and norms over the hidden state.
    "*.self_attn.*",
    "*.linear_attn.*",
    "*.mamba.*",
    "*.input_layernorm.*",
    "*.post_attention_layernorm.*",
    "*.pre_feedforward_layernorm*",
    "*.post_feedforward_layernorm*",
    # What sees and hears, and what leads from there to the text model.
    "*vision_tower.*",
    "*vision_model.*",
    "*visual.*",
    "*audio_tower.*",
    "*multi_modal_projector.*",
    "*mm_projector.*",
    "*vision_adapter.*",
    "*vision_projection.*",
    "*connector.*",
    "*aligner.*",
    "*embed_vision.*",
    "*embed_audio.*",
    # Heads that predict several tokens. No profile sees them: transformers leaves them out.
    "mtp*",
    "*.mtp*",
)
_WRAPPERS = ("language_model.", "model.language_model.", "model.text_model.")
"""What stands before the names of a text model inside one of images and text."""


def usual_free(component_names: Iterable[str]) -> tuple[str, ...]:
    """Return the usual patterns of free tensors, without those that cover a component of a family itself.

    >>> "*vision_model.*" in usual_free(["vision_model.encoder.layers.{layer}.mlp.fc1.weight"])
    False
    """
    names = [fill(name, FIRST) for name in component_names]
    return tuple(pattern for pattern in _USUAL_FREE if not any(matches_any([pattern], name) for name in names))


def with_wrappers(prefixes: Iterable[str]) -> tuple[str, ...]:
    """Return prefixes of tensor names, and those that they become where the text model is a part of another.

    >>> with_wrappers(["model."])
    ('model.', 'language_model.model.', 'model.language_model.', 'model.text_model.')
    """
    own = tuple(prefixes)
    wrapped = [
        wrapper + (prefix.removeprefix("model.") if wrapper.startswith("model.") else prefix)
        for wrapper in _WRAPPERS
        for prefix in own
    ]
    return tuple(dict.fromkeys([*own, *wrapped]))
