"""Records what enters FFNs, beside what their neurons put out: predictors are fitted on it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ripple_place.capture.ffn_inputs import first_argument, own_input_names, rows_of_expert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from ripple_place.capture.sites import Site
    from ripple_place.capture.writer import TraceWriter
    from ripple_place.checkpoint.model.ffn import FfnModel


def input_modules(model: Any, sites: Sequence[Site], ffn: FfnModel | None) -> dict[str, Any]:
    """Return, by `Site.block`, the module whose first argument is the input of the FFN: of `own_input_names`."""
    return {block: model.get_submodule(name) for block, name in own_input_names(model, sites, ffn).items()}


class InputRecorder:
    """Keeps the input of each FFN until its neurons are recorded, and then writes the same rows.

    Parameters
    ----------
    modules : mapping of str to torch.nn.Module
        Of `input_modules`.
    writer : TraceWriter
    """

    def __init__(self, modules: Mapping[str, Any], writer: TraceWriter) -> None:
        self._modules, self._writer = modules, writer
        self._seen: dict[str, Any] = {}

    def attach(self) -> Iterator[Callable[[], None]]:
        """Watch the modules; yield what ends it."""
        for block, module in self._modules.items():
            yield module.register_forward_pre_hook(partial(self._see, block), with_kwargs=True).remove

    def forget(self) -> None:
        """Forget the inputs of the forward before, of which experts may come one after the other."""
        self._seen.clear()

    def append(self, site: Site, block: str, positions: Any, n_positions: int) -> None:
        """Write the inputs of rows that are recorded; nothing where the input of the FFN is not known.

        Parameters
        ----------
        site : Site
        block : str
            Of the site.
        positions : torch.Tensor of shape (n_rows,), int64
            Of the flattened batch.
        n_positions : int
            Of the flattened batch.
        """
        if site.block not in self._seen:
            return
        if site.n_experts:
            expert = int(block.rpartition(".")[2])
            inputs = rows_of_expert(self._seen[site.block], site, expert, n_positions)
        else:
            inputs = self._seen.pop(site.block)
        self._writer.append_inputs(block, inputs[positions].float().cpu().numpy())

    def _see(self, block: str, module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._seen[block] = first_argument(arguments, named).detach().flatten(0, -2)
