"""What a model raises while it runs, as a sentence: in which of its modules, why, and what to do."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.errors import RipplePlaceError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_OUR_CODE = str(Path(__file__).parents[1])
_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")
_NO_KERNEL = (
    "not implemented for",
    "no kernel image",
    "not supported on",
    "unsupported dtype",
    "unsupported scalartype",
)
_MAX_CHARACTERS = 300


class ModelRunError(UnsupportedError):
    """A model's own code failed on text."""


@contextmanager
def explained(model: Any, *, is_gradient: bool = False) -> Iterator[None]:
    """Turn what a model's code raises into an error that names its module; the cause stays with it.

    What our own code raises, in hooks of the model, passes: that is either a sentence already, or a fault of ours.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    is_gradient : bool
        Whether it runs for gradients, which need all layers at once.

    Raises
    ------
    UnsupportedError
        If there is not enough memory.
    ModelRunError
        After any other exception in a module of the model.
    """
    try:
        yield
    except RipplePlaceError:
        raise
    except Exception as cause:
        where = getattr(model.config, "_name_or_path", "") or type(model).__name__
        if _is_lack_of_memory(cause):
            raise UnsupportedError(
                where, found=f"too little memory to run the model ({_reason(cause)})",
                expected="room for the weights in use and what a batch of text takes",
                remedy="leave --importance and --sensitivity out, or measure them on a machine with more memory"
                if is_gradient else "run it with --layer-by-layer, or with a smaller --sequence-length",
            ) from cause  # fmt: skip
        module = _module_at_fault(model, cause.__traceback__)
        if module is None:
            raise
        raise _run_error(f"{where}: {module}", cause) from cause


def _run_error(where: str, cause: Exception) -> ModelRunError:
    """Return the error for what a module raised."""
    reason = _reason(cause)
    if isinstance(cause, ImportError):
        return ModelRunError(
            where, found=f"code that imports a package that is not there ({reason})",
            expected="all packages that the model's code uses",
            remedy=f"install {cause.name}" if cause.name else "install the package that the message names",
        )  # fmt: skip
    if any(words in reason.lower() for words in _NO_KERNEL):
        return ModelRunError(
            where, found=f"an operation that torch lacks for this dtype or device ({reason})",
            expected="operations that it has", remedy="compute with --dtype float32, or on another --torch-device",
        )  # fmt: skip
    return ModelRunError(
        where, found=f"an error in the model's own code ({reason})", expected="a model that runs on text",
        remedy="run it on some text by transformers alone: if that fails too, config.json or the weights do not fit "
        "its code; if it does not, record a trace with your own code (docs/formats.md)",
    )  # fmt: skip


def _reason(cause: Exception) -> str:
    return f"{type(cause).__name__}: {' '.join(str(cause).split())}"[:_MAX_CHARACTERS]


def _is_lack_of_memory(cause: Exception) -> bool:
    """Tell whether an allocation failed; torch says so by a RuntimeError, of a subclass on GPUs only."""
    return isinstance(cause, MemoryError) or (
        isinstance(cause, RuntimeError) and any(words in str(cause).lower() for words in _OUT_OF_MEMORY)
    )


def _module_at_fault(model: Any, trace: TracebackType | None) -> str | None:
    """Return the innermost module in whose code an error was raised; None if it was raised in ours."""
    names = {id(module): name for name, module in model.named_modules()}
    found = None
    while trace is not None:
        frame = trace.tb_frame
        name = names.get(id(frame.f_locals.get("self")))
        if name is not None:
            found = name or type(model).__name__
        elif frame.f_code.co_filename.startswith(_OUR_CODE):
            found = None
        trace = trace.tb_next
    return found
