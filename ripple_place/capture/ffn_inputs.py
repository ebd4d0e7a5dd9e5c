"""Where in a model the input of an FFN is seen: at the modules that hold its up and gate projections."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from ripple_place.capture.tensor_names import TensorNames
from ripple_place.checkpoint.model.quantised import logical_name
from ripple_place.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ripple_place.capture.sites import Site
    from ripple_place.checkpoint.model.ffn import FfnModel

_ROLES = ("up", "gate_up", "gate")
"""Of the matrices that are multiplied with the FFN's input."""


def ffn_input_names(model: Any, sites: Sequence[Site], ffn: FfnModel | None) -> dict[str, tuple[str, ...]]:
    """Return the names of the modules whose first argument is the input of an FFN.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A skeleton will do.
    sites : sequence of Site
        Of `model`.
    ffn : FfnModel or None
        What the model's family says; None where no family describes it.

    Returns
    -------
    dict of str to tuple of str
        By `Site.block`, as ``model.get_submodule`` takes them; at least one each. Experts get their input through the
        module that is their site. A dense FFN is missing where the family does not say which module reads its input.
    """
    modules = {name for name, _ in model.named_modules()}
    names = {} if ffn is None else TensorNames(model).translate(map(logical_name, ffn.checkpoint.shard_of))
    found: dict[str, tuple[str, ...]] = {}
    for site in sites:
        if site.n_experts:
            found[site.block] = (site.path,)
        elif ffn is not None and site.block in ffn.blocks:
            tensors = {tensor.role.partition(".")[0]: tensor.name for tensor in ffn.blocks[site.block].tensors}
            paths = [names[logical_name(tensors[role])][0].rpartition(".")[0] for role in _ROLES if role in tensors]
            if paths and all(path and path in modules for path in paths):
                found[site.block] = tuple(dict.fromkeys(paths))
    return found


def own_input_names(model: Any, sites: Sequence[Site], ffn: FfnModel | None) -> dict[str, str]:
    """Return, by `Site.block`, the name of the first module that reads the input of an FFN.

    FFNs of which that is not known are missing, and those whose weights several layers share: each has inputs of its
    own.
    """
    n_sites = Counter(site.block for site in sites)
    names = ffn_input_names(model, [site for site in sites if n_sites[site.block] == 1], ffn)
    return {block: first for block, (first, *_) in names.items()}


def first_argument(arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Return what a module was called with first, by place or by name."""
    return arguments[0] if arguments else next(iter(named.values()))


def with_inputs(model: Any, sites: Sequence[Site], ffn: FfnModel | None, where: object) -> tuple[Site, ...]:
    """Return the sites with the modules that read the input of each, so that its input columns are a block, too.

    Parameters
    ----------
    model, sites, ffn
        As for `ffn_input_names`.
    where : object
        The model, for messages.

    Raises
    ------
    UnsupportedError
        If the model has experts, or nothing says where the input of an FFN is read.
    """
    names = ffn_input_names(model, sites, ffn)
    found = []
    for site in sites:
        if site.n_experts:
            raise UnsupportedError(
                f"{where}: {site.path}", found="a mixture of experts", expected="dense FFNs for --unit column: experts "
                "share the input that is pruned", remedy="use --unit neuron",
            )  # fmt: skip
        if site.block not in names:
            raise UnsupportedError(
                f"{where}: {site.path}", found="an FFN whose input is read by an unknown module",
                expected="a family that says which, for --unit column",
                remedy="describe the model in a family file (--family), or use --unit neuron",
            )  # fmt: skip
        found.append(site.with_inputs(tuple(model.get_submodule(name) for name in names[site.block])))
    return tuple(found)


def watch_input(site: Site, see: Callable[[Any], Any]) -> Callable[[], None]:
    """Let a function look at the input of an FFN, and put another one in its place for all modules that read it.

    Parameters
    ----------
    site : Site
        Of `with_inputs`.
    see : callable
        Called once for each time that the FFN runs, with its input; returns what the modules shall get instead, or
        None to leave it.

    Returns
    -------
    callable
        Ends it.

    Raises
    ------
    UnsupportedError
        While the model runs, if the modules do not get the same input.
    """
    held: list[Any] = [None, None]

    def look(module: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        came = first_argument(arguments, named)
        if not _is_same(came, held[0]):
            if held[0] is not None:
                raise UnsupportedError(
                    f"{site.path}", found="up and gate projections that read different inputs", expected="one input",
                    remedy="use --unit neuron",
                )  # fmt: skip
            held[:] = [came, see(came)]
            n_left[0] = len(site.inputs)
        n_left[0] -= 1
        instead = held[1]
        if n_left[0] == 0:
            held[:] = [None, None]
        if instead is None:
            return None
        if arguments:
            return (instead, *arguments[1:]), named
        return arguments, {**named, next(iter(named)): instead}

    n_left = [0]
    ends = [module.register_forward_pre_hook(look, with_kwargs=True).remove for module in site.inputs]

    def end() -> None:
        for remove in ends:
            remove()

    return end


def rows_of_expert(inputs: Any, site: Site, expert: int, n_positions: int) -> Any:
    """Return the inputs of one expert by position, of what the module of all experts was called with.

    Parameters
    ----------
    inputs : torch.Tensor of shape (n_rows, hidden)
    site : Site
        Of experts.
    expert : int
    n_positions : int
        Of the flattened batch.
    """
    # Llama 4 hands a copy of all positions to each of its experts, one expert's after the other's.
    is_copied = inputs.shape[0] == site.n_experts * n_positions
    return inputs.view(site.n_experts, -1, inputs.shape[-1])[expert] if is_copied else inputs


def _is_same(came: Any, held: Any) -> bool:
    """Tell whether two tensors are the same memory."""
    return held is not None and came.shape == held.shape and came.data_ptr() == held.data_ptr()
