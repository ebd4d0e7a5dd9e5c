"""Layer by layer: the weights of one layer in memory at a time, what the layers hand on in files between them.

The same operations on the same numbers as in the ordinary forward, so the same bits where the arithmetic is the same;
memory for one layer (or the embeddings), what lies outside of the layers, and one batch.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from ripple_place.capture.layer_calls import EMBEDDING, Call, LayerCalls, Outcomes, make_call, same
from ripple_place.capture.layer_states import WHOLE_MODEL, LayerStates
from ripple_place.capture.perplexity import LogLikelihood
from ripple_place.capture.weights import WeightSource
from ripple_place.capture.whole import batches_to_fit, forward, likelihoods_of, progress_of
from ripple_place.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from ripple_place.capture.adapter import ModelAdapter
    from ripple_place.capture.batches import Batch
    from ripple_place.capture.recorder import Recorder
    from ripple_place.capture.sites import Site
    from ripple_place.capture.writer import TraceWriter
    from ripple_place.tensorfile import TensorFile
    from ripple_place.tracking import Track


def layer_lists(model: Any, sites: Sequence[Site], where: object) -> tuple[str, ...]:
    """Return the names of the lists of layers in which the sites lie, in the order of the model.

    Raises
    ------
    UnsupportedError
        If a site is in none, or the model changes the weights of all layers before it runs.
    """
    import torch

    if any(hasattr(module, "_rescale_layers") for module in model.modules()):
        raise UnsupportedError(
            where, found=f"{type(model).__name__}, which rescales the weights of all layers before it runs",
            expected="weights that are used as they are stored", remedy=WHOLE_MODEL,
        )  # fmt: skip

    lists = dict.fromkeys(
        next(
            (path for path in _above(site.path) if isinstance(model.get_submodule(path), torch.nn.ModuleList)), None
        )
        for site in sites
    )  # fmt: skip
    if None in lists:
        raise UnsupportedError(
            where, found="an FFN outside of any list of layers", expected="layers to run one by one", remedy=WHOLE_MODEL
        )
    return tuple(path for path in lists if path is not None)


def _above(path: str) -> list[str]:
    """Return the modules above a module, the outermost first.

    >>> _above("model.layers.3")
    ['model', 'model.layers']
    """
    parts = path.split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def run_layer_by_layer(
    model: Any, shards: Sequence[TensorFile], batches: Sequence[Batch], recorder: Recorder, writer: TraceWriter, *,
    device: str, score: bool, where: object, track: Track, adapter: ModelAdapter | None = None,
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
    adapter : ModelAdapter, optional
        What is added to the weights as they are loaded.

    Raises
    ------
    UnsupportedError
        If what a layer is called with depends on more than what the one before put out.
    CheckpointError
        If the checkpoint lacks a tensor.
    """
    import torch

    for name, buffer in model.named_buffers():
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, buffer.to(device))
    calls = LayerCalls(model, layer_lists(model, recorder.sites, where), where)
    weights = WeightSource(model, shards, device, calls.embeddings, adapter)
    weights.load_when_called(apart_from=calls.paths)
    with torch.inference_mode(), _on_device(device), calls, recorder.attach(device):
        run = _LayerRun(calls, weights, batches, recorder, writer, device, score)
        for _ in track(range(run.n_layers_done, calls.n_layers), "running layer by layer"):
            if not run.run_layer():
                break
        while run.run_layer():  # Layers that are called several times.
            pass
        return run.finish(track)


@contextmanager
def _on_device(device: str) -> Iterator[None]:
    """Let models say that they are on this device, also while their first parameter has no values."""
    import torch
    from transformers import PreTrainedModel

    own = PreTrainedModel.device
    PreTrainedModel.device = torch.device(device)
    try:
        yield
    finally:
        PreTrainedModel.device = own


class _LayerRun:
    """One pass over the layers. Passes over the text are ``plain`` (every neuron counts) and ``ruled``."""

    def __init__(
        self, calls: LayerCalls, weights: WeightSource, batches: Sequence[Batch], recorder: Recorder,
        writer: TraceWriter, device: str, score: bool,
    ) -> None:  # fmt: skip
        self.calls, self.weights, self.batches = calls, weights, batches
        self.recorder, self.writer, self.device, self.score = recorder, writer, device, score
        self.model = calls.model
        self.states = LayerStates(writer.directory, device, calls.where)
        self.progress = dict(writer.progress)
        recorder.thresholds.update(self.progress.get("thresholds", {}))
        self.passes = ["plain", "ruled"] if score or recorder.rule.is_fitted else ["ruled"]
        self.fitted_on = batches_to_fit(recorder.rule, batches)
        self._held = ""
        self._held_names: list[str] = []

    @property
    def calls_made(self) -> list[str]:
        return list(self.progress.get("calls", []))

    @property
    def n_layers_done(self) -> int:
        return int(self.progress.get("layers", 0))

    def run_layer(self) -> bool:
        """Run the next layer, and embeddings before it, over all batches; return whether there was one."""
        while not self.progress.get("ended", False):
            source = self._make_next_call()
            if source is None:
                self._hold(None)
                self._commit(ended=True)
            else:
                is_layer = source != EMBEDDING
                self._commit(calls=[*self.calls_made, source], layers=self.n_layers_done + is_layer)
                if is_layer:
                    return True
        return False

    def _make_next_call(self) -> str | None:
        """Make the next call of each batch's forward, in each pass; return what is called, or None if nothing is."""
        source = None
        for name in self.passes:
            for i, batch in enumerate(self.batches):
                self._set_recorder(name, i, batch)
                source = self._call_of_batch(name, i)
                if source is None:
                    return None
            if source == EMBEDDING:
                break  # Embeddings read token ids, which are the same in each pass.
            if name == "plain":
                self.recorder.fit()
        return source

    def _set_recorder(self, name: str, i: int, batch: Batch) -> None:
        if name == "ruled":
            self.recorder.recording(batch.rows())
        elif i in self.fitted_on:
            self.recorder.fitting(batch.rows())
        else:
            self.recorder.off()

    def _call_of_batch(self, name: str, i: int) -> str | None:
        """Make the next call of one forward, and keep its outcome; return where the module lies."""
        outcomes = self._outcomes(name, i)
        run = partial(forward, self.model, self.batches[i], self.device, logits=False)
        if i == 0:
            self._check_dependence(run, outcomes)
        sources: list[str] = []

        def make(call: Call) -> None:
            self._hold(call.path)
            make_call(call, outcomes)
            sources.append(call.source)

        self.calls.next(run, outcomes, make)
        if not sources:
            return None
        if sources[0] == EMBEDDING:
            n_calls = len(outcomes.calls)
            self.states.write(f"embedded.{n_calls}", i, outcomes.embedded[n_calls])
        else:
            self.states.write(self._name(name, self.n_layers_done + 1), i, [outcomes.last, outcomes.written])
        return sources[0]

    def _check_dependence(self, run: Callable[[], Any], outcomes: Outcomes) -> None:
        """Raise unless the next call is the same whatever earlier layers than the last ones have put out."""
        reached: list[Any] = []
        for random in (False, True):
            at: list[Call] = []
            result = self.calls.next(run, outcomes, at.append, random=random)
            reached.append((at[0].args, at[0].kwargs) if at else result)
        if not same(*reached):
            raise UnsupportedError(
                self.calls.where, found="layers that depend on more than the layer before them",
                expected="layers that hand on all that later ones need", remedy=WHOLE_MODEL,
            )  # fmt: skip

    def _hold(self, path: str | None) -> None:
        """Have the weights of this module in memory, and of no other that is stood in for."""
        if path != self._held:
            self.weights.unload(self._held_names)
            self._held, self._held_names = path or "", [] if path is None else self.weights.load([path])

    @staticmethod
    def _name(name: str, n_layers: int) -> str:
        return f"{name}.{n_layers % 2}"

    def _outcomes(self, name: str, i: int) -> Outcomes:
        """Return what a batch's earlier calls have led to."""
        calls = self.calls_made
        embedded = {n: self.states.read(f"embedded.{n}", i) for n, source in enumerate(calls) if source == EMBEDDING}
        last, written = {}, {}
        if self.n_layers_done:
            last, written = self.states.read(self._name(name, self.n_layers_done), i)
        return Outcomes(calls, embedded, last, written)

    def finish(self, track: Track) -> dict[str, LogLikelihood]:
        """Return the likelihoods of the text, without and with the rule; empty unless they are wanted."""
        likelihoods = likelihoods_of(self.progress)
        if self.score and not likelihoods:
            self.recorder.off()
            likelihoods = {"without": LogLikelihood(), "with": LogLikelihood()}
            scored = [i for i in range(len(self.batches)) if i not in self.fitted_on]
            for i in track(scored, "scoring the text"):
                for name, likelihood in zip(("plain", "ruled"), likelihoods.values(), strict=True):
                    run = partial(forward, self.model, self.batches[i], self.device, logits=True)
                    logits = self.calls.next(run, self._outcomes(name, i), self._surprise)
                    likelihood.add(logits, *self.batches[i].targets())
                    likelihood.check()
            self._commit(likelihoods=progress_of(self.recorder, likelihoods)["likelihoods"])
        self.states.remove()
        return likelihoods

    def _surprise(self, call: Call) -> None:
        raise UnsupportedError(
            self.calls.where, found=f"{call.path}, which is called for logits alone", expected="no such layer",
            remedy="profile it with --no-perplexity",
        )  # fmt: skip

    def _commit(self, **news: Any) -> None:
        self.progress |= news | {"thresholds": self.recorder.thresholds}
        self.writer.commit(self.progress)
