"""Stand-ins for a model's layers, so that the model's own forward prepares what one layer is called with.

Masks, rotary embeddings, sliding windows and position ids differ from family to family; the model makes them. Its
forward runs with all layers but one passing their input on, and ends when it has reached that one.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ripple_place.capture.run_errors import explained
from ripple_place.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

_REMEDY = "profile it with --whole-model, on a machine with memory for it"


class _ReachedError(Exception):
    """The layer in question has run; the rest of the forward is not needed."""


class LayerStubs:
    """Stands in for the layers of a model within a ``with`` block.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    layers : torch.nn.ModuleList
    where : object
        The model, for messages.
    """

    def __init__(self, model: Any, layers: Any, where: object) -> None:
        self.model, self.layers, self.where = model, layers, where
        self.tuple_length: int | None = None
        self._act: Callable[[int, tuple[Any, ...], dict[str, Any]], Any] = self._pass_on

    def __enter__(self) -> LayerStubs:
        self._real = [layer.forward for layer in self.layers]
        for i, layer in enumerate(self.layers):
            layer.forward = partial(self._called, i)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for layer in self.layers:
            del layer.forward

    def _called(self, i: int, *args: Any, **kwargs: Any) -> Any:
        return self._act(i, args, kwargs)

    def _pass_on(self, i: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self._as_output(_hidden(args, kwargs))

    def _as_output(self, hidden: Any) -> Any:
        return hidden if self.tuple_length is None else (hidden,)

    def _as_hidden(self, output: Any) -> Any:
        """Return the hidden states in a layer's output, and remember its form."""
        self.tuple_length = len(output) if isinstance(output, tuple) else None
        hidden = output[0] if isinstance(output, tuple) else output
        if self.tuple_length not in (None, 1) or not hasattr(hidden, "shape"):
            raise UnsupportedError(
                self.where, found="layers that put out more than hidden states", expected="hidden states alone",
                remedy=_REMEDY,
            )  # fmt: skip
        return hidden

    def input_of_first(self, inputs: dict[str, Any]) -> Any:
        """Return the hidden states that enter layer 0."""
        seen: list[Any] = []

        def act(i: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            seen.append(_hidden(args, kwargs))
            raise _ReachedError

        self._run(act, self.model.base_model, inputs)
        return seen[0]

    def run_layer(self, layer: int, hidden: Any, inputs: dict[str, Any]) -> Any:
        """Return the output of a layer for some hidden states, called as the model calls it."""
        results: list[Any] = []

        def act(i: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if i < layer:
                return self._pass_on(i, args, kwargs)
            results.append(self._as_hidden(self._real[i](*_with_hidden(hidden, args, kwargs)[0], **kwargs)))
            raise _ReachedError

        self._run(act, self.model.base_model, inputs)
        return results[0]

    def finish(self, hidden: Any, inputs: dict[str, Any]) -> Any:
        """Return the logits that follow from the last layer's output."""

        def act(i: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            return self._as_output(hidden) if i == len(self.layers) - 1 else self._pass_on(i, args, kwargs)

        return self._run(act, self.model, inputs).logits

    def probe(self, hidden: Any, inputs: dict[str, Any]) -> list[dict[str, Any]]:
        """Return what each layer is called with besides hidden states; layer 0 runs, the others pass its output on.

        Raises
        ------
        UnsupportedError
            If the model does not run its layers once each, in order, the output of one being the input of the next.
        """
        calls: list[tuple[int, Any, dict[str, Any]]] = []
        first: list[Any] = []

        def act(i: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            calls.append((i, _hidden(args, kwargs), {**{str(n): v for n, v in enumerate(args[1:], 1)}, **kwargs}))
            if i > 0:
                return self._pass_on(i, args, kwargs)
            first.append(self._as_hidden(self._real[0](*args, **kwargs)))
            return self._as_output(first[0])

        self._run(act, self.model.base_model, inputs)
        in_order = [i for i, _, _ in calls] == list(range(len(self.layers)))
        if not in_order or any(state.data_ptr() != first[0].data_ptr() for _, state, _ in calls[1:]):
            raise UnsupportedError(
                self.where, found=f"{len(calls)} layer calls, or work between layers",
                expected="each layer once, in order, on the output of the one before", remedy=_REMEDY,
            )  # fmt: skip
        return [{key: value for key, value in call.items() if key != "hidden_states"} for _, _, call in calls]

    def _run(self, act: Any, run: Any, inputs: dict[str, Any]) -> Any:
        self._act = act
        try:
            with explained(self.model):
                return run(**inputs, use_cache=False)
        except _ReachedError:
            return None
        finally:
            self._act = self._pass_on


def same_calls(first: Any, second: Any) -> bool:
    """Tell whether two layers' arguments are the same, bit for bit."""
    import torch

    if isinstance(first, torch.Tensor) or isinstance(second, torch.Tensor):
        return (
            isinstance(first, torch.Tensor)
            and isinstance(second, torch.Tensor)
            and first.dtype == second.dtype
            and torch.equal(first, second)
        )
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(same_calls(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(same_calls, first, second))
    return type(first) is type(second) and (not isinstance(first, (int, float, str)) or first == second)


def _hidden(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return args[0] if args else kwargs["hidden_states"]


def _with_hidden(hidden: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Put hidden states in the place of those in a call; `kwargs` in place."""
    if args:
        return (hidden, *args[1:]), kwargs
    kwargs["hidden_states"] = hidden
    return args, kwargs
