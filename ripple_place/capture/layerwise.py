"""Layer by layer: the weights of one layer in memory at a time, hidden states of all windows in files between layers.

The same operations on the same numbers as in the ordinary forward, so the same bits where the arithmetic is the same
(float32 on a CPU); memory for one layer, the embeddings while they are needed, and one batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.capture.hidden import HiddenStates
from ripple_place.capture.perplexity import LogLikelihood
from ripple_place.capture.run_errors import ModelRunError
from ripple_place.capture.stubs import LayerStubs, same_calls
from ripple_place.capture.weights import WeightSource
from ripple_place.capture.whole import batches_to_fit, likelihoods_of, progress_of, to_device
from ripple_place.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ripple_place.capture.batches import Batch
    from ripple_place.capture.recorder import Recorder
    from ripple_place.capture.sites import Site
    from ripple_place.capture.writer import TraceWriter
    from ripple_place.tensorfile import TensorFile
    from ripple_place.tracking import Track

_REMEDY = "profile it with --whole-model, on a machine with memory for it"


def layers_path(model: Any, sites: Sequence[Site], where: object) -> str:
    """Return the name of the list of layers in which all sites lie.

    Raises
    ------
    UnsupportedError
        If there is more than one, as in an encoder-decoder model.
    """
    paths = {site.path.split(f".{site.layer}.")[0] for site in sites}
    if len(paths) != 1 or getattr(model.config, "is_encoder_decoder", False):
        raise UnsupportedError(
            where, found=f"layers in {', '.join(sorted(paths))}", expected="one list of layers", remedy=_REMEDY
        )
    return paths.pop()


def run_layer_by_layer(
    model: Any, shards: Sequence[TensorFile], batches: Sequence[Batch], recorder: Recorder, writer: TraceWriter, *,
    device: str, score: bool, where: object, track: Track,
) -> dict[str, LogLikelihood]:  # fmt: skip
    """Run all layers that the writer does not have yet, each over all batches.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A skeleton.
    shards : sequence of TensorFile
        The checkpoint's weights.
    batches, recorder, writer, device, score, track
        As for `ripple_place.capture.whole.run_whole_model`.
    where : object
        The model, for messages.

    Raises
    ------
    UnsupportedError
        If the model does more between its layers than to hand on hidden states.
    CheckpointError
        If the checkpoint lacks a tensor.
    """
    import torch

    path = layers_path(model, recorder.sites, where)
    weights = WeightSource(model, shards, device)
    for name, buffer in model.named_buffers():
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, buffer.to(device))
    with torch.inference_mode(), LayerStubs(model, model.get_submodule(path), where) as stubs, recorder.attach(device):
        run = _LayerRun(stubs, weights, path, batches, recorder, writer, device, score)
        run.prepare()
        for layer in track(range(run.layers_done, len(stubs.layers)), "running layer by layer"):
            run.run_layer(layer)
        return run.finish(track)


class _LayerRun:
    """One pass over the layers. Passes over the text are ``plain`` (every neuron counts) and ``ruled``."""

    def __init__(
        self, stubs: LayerStubs, weights: WeightSource, path: str, batches: Sequence[Batch], recorder: Recorder,
        writer: TraceWriter, device: str, score: bool,
    ) -> None:  # fmt: skip
        self.stubs, self.weights, self.path, self.batches = stubs, weights, path, batches
        self.recorder, self.writer, self.device, self.score = recorder, writer, device, score
        self.model = stubs.model
        self.progress = dict(writer.progress)
        recorder.thresholds.update(self.progress.get("thresholds", {}))
        stubs.tuple_length = self.progress.get("tuple_length")
        self.passes = ["plain", "ruled"] if score or recorder.rule.is_fitted else ["ruled"]
        shapes = [batch.inputs()["input_ids"].shape for batch in batches]
        self.shapes = [(int(rows), int(width)) for rows, width in shapes]
        self.hidden_size = int(self.model.config.get_text_config().hidden_size)
        self.fitted_on = batches_to_fit(recorder.rule, batches)

    @property
    def layers_done(self) -> int:
        return int(self.progress.get("layers", 0))

    def _hidden(self, name: str) -> HiddenStates:
        positions = [rows * width for rows, width in self.shapes]
        return HiddenStates(self.writer.directory / f"hidden.{name}", positions, self.hidden_size, self.model.dtype)

    def _states(self, name: str, layer: int) -> HiddenStates:
        """Return the hidden states that enter a layer in one of the passes."""
        return self._hidden("start" if layer == 0 else f"{name}.{layer % 2}")

    def _is_embedding(self, name: str) -> bool:
        embeddings = (self.model.get_input_embeddings(), self.model.get_output_embeddings())
        return any(parameter is self.model.get_parameter(name) for module in embeddings if module is not None
                   for parameter in module.parameters())  # fmt: skip

    def _in_layer(self, layer: int | None = None) -> Callable[[str], bool]:
        prefix = f"{self.path}." if layer is None else f"{self.path}.{layer}."
        return lambda name: name.startswith(prefix)

    def prepare(self) -> None:
        """Load what lies outside of the layers, and make the hidden states that enter the first."""
        in_layers = self._in_layer()
        embeddings = {name for name, _ in self.model.named_parameters(remove_duplicate=False)
                      if not in_layers(name) and self._is_embedding(name)}  # fmt: skip
        self.weights.load(lambda name: not in_layers(name) and name not in embeddings)
        if "uses_ids" in self.progress and not self.progress["uses_ids"]:
            return
        loaded = self._load_input_embedding()
        if "uses_ids" in self.progress:
            return
        start = self._hidden("start")
        for i in range(len(self.batches)):
            start.write(i, self.stubs.input_of_first(self._inputs(i, with_ids=True)))
        layer_weights = self.weights.load(self._in_layer(0))
        self.recorder.off()
        calls = self.stubs.probe(None, self._inputs(0, with_ids=True))
        try:
            uses_ids = not same_calls(calls, self.stubs.probe(None, self._inputs(0, with_ids=False)))
        except (ModelRunError, TypeError, ValueError, RuntimeError, AttributeError):
            uses_ids = True  # It cannot do without.
        self.weights.unload(layer_weights)
        if not uses_ids:
            self.weights.unload(loaded)
        self._commit(uses_ids=uses_ids, tuple_length=self.stubs.tuple_length, layers=0)

    def _load_input_embedding(self) -> list[str]:
        embedding = self.model.get_input_embeddings()
        mine = {id(parameter) for parameter in embedding.parameters()}
        return self.weights.load(lambda name: id(self.model.get_parameter(name)) in mine)

    def _inputs(self, i: int, *, with_ids: bool) -> dict[str, Any]:
        """Return the arguments of a batch; zeros in place of embeddings where nothing depends on them."""
        import torch

        inputs = to_device(self.batches[i].inputs(), self.device)
        if not with_ids:
            del inputs["input_ids"]
            width = int(self.model.get_input_embeddings().weight.shape[1])
            inputs["inputs_embeds"] = torch.zeros(
                *self.shapes[i], width, dtype=self.model.dtype, device=self.device
            )  # fmt: skip
        return inputs

    def run_layer(self, layer: int) -> None:
        """Load a layer, run it over all batches in each pass, and note that it is done."""
        loaded = self.weights.load(self._in_layer(layer))
        for name in self.passes:
            before, after = self._states(name, layer), self._states(name, layer + 1)
            for i, batch in enumerate(self.batches):
                if name == "ruled":
                    self.recorder.recording(batch.rows())
                elif i in self.fitted_on:
                    self.recorder.fitting(batch.rows())
                else:
                    self.recorder.off()
                hidden = before.read(i, self.shapes[i]).to(self.device)
                inputs = self._inputs(i, with_ids=self.progress["uses_ids"])
                after.write(i, self.stubs.run_layer(layer, hidden, inputs))
            if name == "plain":
                self.recorder.fit()
        self.weights.unload(loaded)
        self._commit(layers=layer + 1)
        if layer == 0:
            self._hidden("start").remove()

    def finish(self, track: Track) -> dict[str, LogLikelihood]:
        """Return the likelihoods of the text, without and with the rule; empty unless they are wanted."""
        likelihoods = likelihoods_of(self.progress)
        n_layers = len(self.stubs.layers)
        if self.score and not likelihoods:
            self.recorder.off()
            self._load_output_embedding()
            likelihoods = {"without": LogLikelihood(), "with": LogLikelihood()}
            scored = [i for i in range(len(self.batches)) if i not in self.fitted_on]
            for i in track(scored, "scoring the text"):
                for name, likelihood in zip(("plain", "ruled"), likelihoods.values(), strict=True):
                    self._score(i, self._states(name, n_layers), likelihood)
            self._commit(likelihoods=progress_of(self.recorder, likelihoods)["likelihoods"])
        for name in ("start", *(f"{name}.{parity}" for name in ("plain", "ruled") for parity in (0, 1))):
            self._hidden(name).remove()
        return likelihoods

    def _load_output_embedding(self) -> None:
        head = self.model.get_output_embeddings()
        mine = {id(parameter) for parameter in head.parameters()}
        names = {name for name, parameter in self.model.named_parameters(remove_duplicate=False)
                 if id(parameter) in mine}  # fmt: skip
        if any(self.weights.has(name) for name in names):
            self.weights.load(lambda name: name in names)
        else:  # Tied, and stored as the input's.
            self._load_input_embedding()
        self.model.tie_weights()

    def _score(self, i: int, states: HiddenStates, likelihood: LogLikelihood) -> None:
        """Score a batch one window at a time: the logits of one are large enough."""
        rows, width = self.shapes[i]
        hidden = states.read(i, self.shapes[i]).to(self.device)
        inputs = self._inputs(i, with_ids=self.progress["uses_ids"])
        positions, targets = self.batches[i].targets()
        for row in range(rows):
            here = positions // width == row
            one = {name: value[row : row + 1] for name, value in inputs.items()}
            logits = self.stubs.finish(hidden[row : row + 1], one)
            likelihood.add(logits, positions[here] - row * width, targets[here])

    def _commit(self, **news: Any) -> None:
        self.progress |= news | {"thresholds": self.recorder.thresholds}
        self.writer.commit(self.progress)
