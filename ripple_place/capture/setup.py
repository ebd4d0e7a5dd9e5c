"""A model and a text that fit each other, checked before anything runs or is written."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import COLUMN, EXPERT
from ripple_place.capture import model as models
from ripple_place.capture.adapter import fit_adapter
from ripple_place.capture.batches import layout_of
from ripple_place.capture.ffn_inputs import with_inputs
from ripple_place.capture.layerwise import layer_lists
from ripple_place.capture.routed_sites import find_routed_sites
from ripple_place.capture.site_choice import ChosenSites, choose_sites, read_weights
from ripple_place.capture.text import CalibrationText, check_sequence_length, check_token_ids, read_texts
from ripple_place.capture.writer import STATE_FILE, read_state
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.errors import UsageError
from ripple_place.inputfile import refuse_special_files
from ripple_place.paths import as_paths

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.capture.adapter import ModelAdapter
    from ripple_place.capture.batches import Batch
    from ripple_place.capture.params import CaptureParams
    from ripple_place.capture.site_choice import Weights
    from ripple_place.capture.sites import Site


@dataclass(frozen=True, eq=False)
class Setup:
    """What a capture works on.

    Attributes
    ----------
    path : Path
        Hugging Face checkpoint directory.
    config : transformers.PreTrainedConfig
    skeleton : transformers.PreTrainedModel
        All modules, no weights.
    weights : Weights
    chosen : ChosenSites
        Where the skeleton's neurons are seen.
    text : CalibrationText
    device : str
        ``cpu`` or ``cuda``.
    by_layer : bool
        Whether to hold one layer's weights in memory at a time.
    params : CaptureParams
    adapter : ModelAdapter or None
        What is added to the weights.
    """

    path: Path
    config: Any
    skeleton: Any
    weights: Weights
    chosen: ChosenSites
    text: CalibrationText
    device: str
    by_layer: bool
    params: CaptureParams
    adapter: ModelAdapter | None = None

    @cached_property
    def batches(self) -> list[Batch]:
        """The windows of the text as the model takes them."""
        # A part of a model, such as T5's encoder, says in a config of its own how it differs from the whole.
        return self.text.batches(layout_of(self.skeleton.config, models.n_embeddings(self.skeleton)))

    @cached_property
    def whole(self) -> Any:
        """The model with its weights and the adapter's, loaded when it is first asked for."""
        model = models.load_model(
            self.path, self.config, dtype=self.params.dtype, device=self.device, needs_head=self.predicts_text
        )
        if self.adapter is not None:
            self.adapter.apply(model)
        return model

    @cached_property
    def sites_of_whole(self) -> tuple[Site, ...]:
        """Where the neurons of the model with its weights are seen."""
        return _choose(self.whole, self.path, self.weights, self.params).sites

    @cached_property
    def predicts_text(self) -> bool:
        """Whether the model says what token comes next, and the checkpoint has the weights for it."""
        return not self.lacks_logits

    @cached_property
    def lacks_logits(self) -> str:
        """Why the model does not say what token comes next; empty if it does."""
        if not self.skeleton.can_generate():
            return f"{type(self.skeleton).__name__} does not predict the next token"
        if not models.has_head(self.skeleton, self.weights.shards):
            return f"{self.path} has no weights that give logits"
        return ""


def set_up(model_path: Path, params: CaptureParams, resumed: Path | None) -> Setup:
    """Read config, headers, text and modules, and check them against each other.

    Parameters
    ----------
    model_path : Path
    params : CaptureParams
    resumed : Path or None
        Directory of the capture that is to go on.

    Raises
    ------
    UnsupportedError
        If the model's FFNs cannot be seen, `reorder` would refuse it and that is not allowed, or the adapter does more
        than add to the weights of linear layers.
    UsageError, CheckpointError, OSError
        If text, model or adapter cannot be read or do not fit each other.
    """
    refuse_special_files(model_path)
    config = models.read_config(model_path)
    check_sequence_length(model_path, config, params.windows)
    # Experts are found by how they are called: no family needs to describe their neurons.
    allows = params.allow_unsupported or params.unit == EXPERT
    weights = read_weights(model_path, params.family, allow_unsupported=allows)
    texts = read_texts(as_paths(params.texts), models.read_tokenizer(model_path))
    text = CalibrationText.of_texts(texts, params.windows)
    if params.n_threads is not None:
        import torch

        torch.set_num_threads(params.n_threads)
    device = _device(params.device)
    by_layer = _runs_by_layer(weights, params, device, resumed)
    skeleton = models.build_skeleton(model_path, config, dtype=params.dtype)
    adapter = None if params.adapter is None else fit_adapter(params.adapter, skeleton)
    chosen = _choose(skeleton, model_path, weights, params)
    check_token_ids(model_path, text, models.n_embeddings(skeleton))
    if by_layer:
        layer_lists(skeleton, chosen.sites, model_path)
        if weights.checkpoint is None:
            Checkpoint.open(model_path)  # Says what is wrong with it.
    return Setup(model_path, config, skeleton, weights, chosen, text, device, by_layer, params, adapter)


def _choose(model: Any, path: Path, weights: Weights, params: CaptureParams) -> ChosenSites:
    """Return the sites of a unit: of columns, FFN inputs as well; of experts, where tokens are routed."""
    if params.unit == EXPERT:
        return ChosenSites(find_routed_sites(model, path), ())
    chosen = choose_sites(model, path, weights, allow_unsupported=params.allow_unsupported)
    if params.unit == COLUMN:
        return replace(chosen, sites=with_inputs(model, chosen.sites, weights.ffn, path))
    return chosen


def _device(name: str) -> str:
    """Return the device that ``auto`` stands for, or the one that is named."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "--torch-device cuda", found="no GPU that torch can use", expected="one", remedy="use --torch-device cpu"
        )
    return name


def _runs_by_layer(weights: Weights, params: CaptureParams, device: str, resumed: Path | None) -> bool:
    """Tell whether to hold one layer at a time: as asked for, as the `resumed` capture did, or as memory allows."""
    if params.layer_by_layer is not None:
        return params.layer_by_layer
    if resumed is not None and (resumed / STATE_FILE).exists():
        return bool(read_state(resumed)["identity"].get("layer by layer"))
    return not models.fits_in_memory(weights.shards, device, params.dtype)
