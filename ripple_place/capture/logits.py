"""The proof of ``verify --logits``: source and output, run by transformers, give the same logits on random tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.capture.extra import missing_packages
from ripple_place.capture.run_errors import explained
from ripple_place.errors import UnsupportedError, VerificationError
from ripple_place.extras import install_command
from ripple_place.inputfile import refuse_special_files

if TYPE_CHECKING:
    from pathlib import Path

N_TOKENS = 32
"""Tokens that both models read."""
_TOLERANCE = 1e-6
"""Share of the largest logit. A few models compute norms in float32 whatever the dtype: their last digits change."""


def check_can_run(out: Path) -> None:
    """Raise unless torch and transformers are installed and `out` has weights that they load.

    Raises
    ------
    UnsupportedError
        If either is missing; says what to do about it.
    """
    if missing := missing_packages():
        raise UnsupportedError(
            "--logits", found=f"no {' and no '.join(missing)}", expected="the capture extra",
            remedy=install_command("capture"),
        )  # fmt: skip
    if not any(out.glob("*.safetensors")):
        raise UnsupportedError(
            out, found="no weights that transformers loads", expected="the drop-in format for --logits",
            remedy="reorder with --format both",
        )  # fmt: skip


def compare_logits(checkpoint: Path, out: Path) -> int:
    """Return the number of logits compared, all of them equal up to the order of sums.

    Both models are loaded in float64, one after the other, from their own files and without remote code.

    Raises
    ------
    UnsupportedError
        If transformers does not load the model.
    VerificationError
        If the logits differ by more than 1e-6 of the largest.
    """
    import torch

    expected, found = _logits(checkpoint), _logits(out)
    difference, largest = float((found - expected).abs().max()), float(expected.abs().max())
    if not difference <= _TOLERANCE * largest or not bool(torch.isfinite(expected).all()):
        raise VerificationError(
            out, found=f"logits that differ by {difference:.2g} of {largest:.2g}",
            expected="what the source says to the same tokens", remedy="do not use this output; report this model",
        )  # fmt: skip
    return int(expected.numel())


def _logits(path: Path) -> Any:
    """Return a checkpoint's logits on tokens that depend on the size of its vocabulary alone."""
    import torch
    import transformers

    refuse_special_files(path)
    try:
        config = transformers.AutoConfig.from_pretrained(path)
        names = [*(config.architectures or []), "AutoModelForCausalLM"]
        model_class = next(found for name in names if (found := getattr(transformers, name, None)) is not None)
        try:
            # Grouped matrix products have no float64.
            model = model_class.from_pretrained(path, dtype=torch.float64, experts_implementation="eager")
        except (TypeError, ValueError):
            model = model_class.from_pretrained(path, dtype=torch.float64)
    except (OSError, ValueError, TypeError, KeyError, ImportError, RuntimeError) as cause:
        raise UnsupportedError(
            path, found=f"a model that transformers does not load ({cause})", expected="one that it does",
            remedy="leave --logits out: the other checks do not need it",
        ) from cause  # fmt: skip
    text = config.get_text_config()
    length = min(N_TOKENS, getattr(text, "max_position_embeddings", None) or N_TOKENS)
    tokens = torch.randint(text.vocab_size, (1, length), generator=torch.Generator().manual_seed(0))
    inputs = {"decoder_input_ids": tokens} if config.is_encoder_decoder else {}
    with torch.no_grad(), explained(model):
        return model.eval()(tokens, **inputs).logits
