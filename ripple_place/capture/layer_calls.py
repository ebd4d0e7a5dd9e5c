"""The forward of a model, in which one layer after the other is called, of which only one must be in memory.

Masks, rotary embeddings, and what else layers are called with differ from family to family; the model makes them. Its
own forward runs up to the layer in question, with the outcomes of earlier layers in their place, and ends there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from ripple_place.capture.layer_states import WHOLE_MODEL
from ripple_place.capture.run_errors import explained
from ripple_place.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

EMBEDDING = ""
"""Stands for the list of a module that is in none."""


class _ReachedError(Exception):
    """The layer in question was called; the rest of the forward is not needed."""


@dataclass
class Outcomes:
    """What earlier calls of one forward have led to.

    Attributes
    ----------
    calls : sequence of str
        For each call, the list in which the layer lies; `EMBEDDING` for embeddings.
    embedded : dict of int to torch.Tensor
        By number of the call: what the embeddings put out.
    last : dict of str to anything
        By list of layers: what the last one that was called put out.
    written : dict of str to dict
        By argument: what layers wrote into it for later ones, such as keys and values that these share.
    """

    calls: Sequence[str]
    embedded: dict[int, Any] = field(default_factory=dict)
    last: dict[str, Any] = field(default_factory=dict)
    written: dict[str, dict[Any, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Call:
    """A call that a forward has come to.

    Attributes
    ----------
    path : str
        Of the module that is called.
    source : str
        The list that it lies in, or `EMBEDDING`.
    run : callable
        The module's own forward.
    args, kwargs
        What it is called with.
    """

    path: str
    source: str
    run: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


class LayerCalls:
    """Stands in for the layers and the embeddings of a model within a ``with`` block.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    lists : sequence of str
        The lists of layers.
    where : object
        The model, for messages.

    Attributes
    ----------
    paths, embeddings : tuple of str
        The modules that are stood in for, and which of these lie in no list.
    n_layers : int
    """

    def __init__(self, model: Any, lists: Sequence[str], where: object) -> None:
        import torch

        self.model, self.where = model, where
        self._sources = {f"{path}.{i}": path for path in lists for i in range(len(model.get_submodule(path)))}
        self.n_layers = len(self._sources)
        inside = tuple(f"{path}." for path in self._sources)
        self._sources |= {
            path: EMBEDDING for path, module in model.named_modules()
            if isinstance(module, torch.nn.Embedding) and not path.startswith(inside)
        }  # fmt: skip
        self.paths = tuple(self._sources)
        self.embeddings = tuple(path for path, source in self._sources.items() if source == EMBEDDING)
        self._outcomes = Outcomes(())
        self._n_called = 0

    def __enter__(self) -> LayerCalls:
        # A layer that lies in several places is stood in for once.
        self._replaced = {id(module): (path, module) for path, module in self._modules()}
        for path, module in self._replaced.values():
            module.forward = partial(self._called, path, module.forward)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _, module in self._replaced.values():
            del module.forward

    def _modules(self) -> list[tuple[str, Any]]:
        return [(path, self.model.get_submodule(path)) for path in reversed(self.paths)]

    def next(
        self, forward: Callable[[], Any], outcomes: Outcomes, make: Callable[[Call], None], *, random: bool = False
    ) -> Any:
        """Run a forward up to the first call whose outcome is not known.

        Parameters
        ----------
        forward : callable
        outcomes : Outcomes
        make : callable
            Receives that call.
        random : bool
            Put random numbers in the place of what all but the last layers put out, rather than the last one's. Models
            whose layers hand on all that later ones need come to the same.

        Returns
        -------
        anything
            What the forward returns, if it comes to no such call; else None.

        Raises
        ------
        UnsupportedError
            If earlier calls come in another order than they did.
        """
        self._outcomes, self._make, self._random = outcomes, make, random
        self._n_called, self._n_left = 0, Counter(outcomes.calls)
        try:
            with explained(self.model):
                return forward()
        except _ReachedError:
            return None

    def _called(self, path: str, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        n, source = self._n_called, self._sources[path]
        self._n_called += 1
        outcomes = self._outcomes
        if n == len(outcomes.calls):
            self._make(Call(path, source, run, args, kwargs))
            raise _ReachedError
        if outcomes.calls[n] != source:
            raise UnsupportedError(
                self.where, found="layers that are called in another order by each batch", expected="always the same",
                remedy=WHOLE_MODEL,
            )  # fmt: skip
        if source == EMBEDDING:
            return outcomes.embedded[n]
        self._n_left[source] -= 1
        output = outcomes.last[source]
        return _random_like(output) if self._random and self._n_left[source] else output


def make_call(call: Call, outcomes: Outcomes) -> None:
    """Make a call for which earlier ones have prepared, and add to the outcomes what it leads to."""
    shared = {name: value for name, value in call.kwargs.items() if isinstance(value, MutableMapping)}
    for name, value in shared.items():
        value.update(outcomes.written.get(name, {}))
    before = {name: dict(value) for name, value in shared.items()}
    output = call.run(*call.args, **call.kwargs)
    if call.source == EMBEDDING:
        outcomes.embedded[len(outcomes.calls)] = output
        return
    outcomes.last[call.source] = output
    for name, value in shared.items():
        news = {key: item for key, item in value.items() if before[name].get(key) is not item}
        outcomes.written[name] = outcomes.written.get(name, {}) | news


def _random_like(value: Any) -> Any:
    """Return random numbers in the place of those in a layer's output."""
    import torch

    if isinstance(value, torch.Tensor):
        return torch.randn_like(value) if value.is_floating_point() else value
    return type(value)(map(_random_like, value)) if type(value) in (tuple, list) else value


def same(first: Any, second: Any) -> bool:
    """Tell whether two values are the same, tensors in them bit for bit."""
    import torch

    if isinstance(first, torch.Tensor) or isinstance(second, torch.Tensor):
        return (
            isinstance(first, torch.Tensor)
            and isinstance(second, torch.Tensor)
            and first.dtype == second.dtype
            and first.shape == second.shape
            and torch.allclose(first, second, rtol=0, atol=0, equal_nan=True)
        )
    if isinstance(first, Mapping) and isinstance(second, Mapping):
        return first.keys() == second.keys() and all(same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)) and isinstance(second, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return type(first) is type(second) and (not isinstance(first, (int, float, str)) or first == second)
