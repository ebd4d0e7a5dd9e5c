"""Options of commands whose rules run inside a model: the text that it reads, and how."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from ripple_place.capture.params import DEVICES, DTYPES, CaptureParams, WindowParams
from ripple_place.cli.options import PATH
from ripple_place.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.cli.options import Common

DEFAULT_TOKENS = 24576
"""Enough for a standard error of about .0003 nats in the rise of a loss by .001, on the models that were tried."""
_NAMES = ("texts", "max_tokens", "sequence_length", "torch_device", "dtype")


def text_options(text_flag: str, tokens_flag: str, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Return what adds the options; the command gets them as `text`, for `text_params`.

    Parameters
    ----------
    text_flag, tokens_flag : str
        Names of the options for text files, and for the number of tokens.
    what : str
        What the text is for, for the help.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @click.option(text_flag, "texts", type=PATH, multiple=True, help=f"{what}; may be given several times.")
        @click.option(tokens_flag, "max_tokens", type=click.IntRange(1), default=DEFAULT_TOKENS, show_default=True,
                      help="Tokens of the text, in segments spread evenly over it.")  # fmt: skip
        @click.option("--sequence-length", type=click.IntRange(2), default=WindowParams.sequence_length,
                      show_default=True,
                      help="Tokens that the model sees at a time; windows do not overlap.")  # fmt: skip
        @click.option("--torch-device", type=click.Choice(DEVICES), default=CaptureParams.device, show_default=True,
                      help="Where the model runs; auto takes the GPU if there is one.")  # fmt: skip
        @click.option("--dtype", type=click.Choice([name for name in DTYPES if name != "float64"]),
                      default=CaptureParams.dtype, show_default=True, help="What the model computes in.")  # fmt: skip
        @functools.wraps(command)
        def with_text(*args: Any, **kwargs: Any) -> Any:
            text = {name: kwargs.pop(name) for name in _NAMES}
            if not text["texts"]:
                _refuse_given(text_flag, tokens_flag)
            return command(*args, text={**text, "flag": text_flag}, **kwargs)

        return with_text

    return decorate


def text_params(text: dict[str, Any], common: Common, **more: Any) -> CaptureParams | None:
    """Return how a model reads the text that options name; None if there is none.

    Parameters
    ----------
    text : dict
        As the command got it.
    common : Common
    **more : any
        Further fields of `CaptureParams`.
    """
    if not text["texts"]:
        return None
    return CaptureParams(
        text["texts"], WindowParams(text["max_tokens"], None, text["sequence_length"]), layer_by_layer=False,
        device=text["torch_device"], dtype=text["dtype"],
        n_threads=common.n_threads if common.n_threads_given else None, seed=common.seed, **more,
    )  # fmt: skip


def _refuse_given(text_flag: str, tokens_flag: str) -> None:
    """Raise if an option was given that means nothing without a text."""
    context = click.get_current_context()
    flags = {
        "max_tokens": tokens_flag, "sequence_length": "--sequence-length", "torch_device": "--torch-device",
        "dtype": "--dtype",
    }  # fmt: skip
    for name, flag in flags.items():
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise UsageError(
                flag, found="no text for a model to read", expected=f"{text_flag} FILE",
                remedy=f"add {text_flag}, or leave {flag} out",
            )  # fmt: skip
