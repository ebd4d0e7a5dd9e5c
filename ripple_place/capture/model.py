"""Opens a Hugging Face model: its config, its tokenizer, all of it at once, or only its skeleton."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.errors import CheckpointError, UnsupportedError
from ripple_place.tensorfile import TensorFile

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOM_SHARE = 0.6
"""Share of the free memory that the weights of a whole model may take; the rest is for activations and counting."""


@contextmanager
def _loading(path: Path, what: str) -> Iterator[None]:
    """Turn any exception of transformers into an error that names the part of the checkpoint."""
    try:
        yield
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as cause:
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise CheckpointError(
            f"{path}: {what}", found=reason[:300], expected="a checkpoint that transformers loads without remote code",
            remedy="check the directory with transformers' own from_pretrained",
        ) from cause  # fmt: skip


def read_config(path: Path) -> Any:
    """Return the model's config.

    Raises
    ------
    CheckpointError
        If transformers cannot read it.
    """
    from transformers import AutoConfig

    with _loading(path, "config.json"):
        return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)


def read_tokenizer(path: Path) -> Any:
    """Return the model's tokenizer.

    Raises
    ------
    CheckpointError
        If there is none, or transformers cannot read it.
    """
    from transformers import AutoTokenizer

    with _loading(path, "tokenizer"):
        return AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)


def _auto_class(config: Any) -> Any:
    import transformers

    if getattr(config, "is_encoder_decoder", False):
        return transformers.AutoModelForSeq2SeqLM
    return transformers.AutoModelForCausalLM


def load_model(path: Path, config: Any, *, dtype: str, device: str) -> Any:
    """Return the whole model, ready to run.

    Parameters
    ----------
    path : Path
    config : transformers.PreTrainedConfig
    dtype : str
        One of `ripple_place.capture.params.DTYPES`; the model computes in it.
    device : str
        ``cpu`` or ``cuda``.

    Raises
    ------
    CheckpointError
        If transformers cannot load it, or a tensor is missing.
    """
    import torch

    with _loading(path, "weights"), quiet_transformers():
        model, loading = _auto_class(config).from_pretrained(
            path, config=config, dtype=getattr(torch, dtype), local_files_only=True, trust_remote_code=False,
            output_loading_info=True,
        )  # fmt: skip
    # Where a tensor is missing transformers draws one at random, and says so in a log.
    for name in sorted(loading["missing_keys"]):
        raise missing_tensor(path, name)
    return model.eval().to(device)


def build_skeleton(path: Path, config: Any, *, dtype: str) -> Any:
    """Return the model with all of its modules and buffers, and parameters that have shapes but no values.

    Raises
    ------
    CheckpointError
        If transformers cannot build it.
    """
    import torch

    register = torch.nn.Module.register_parameter

    def without_values(module: Any, name: str, parameter: Any) -> None:
        if parameter is not None:
            parameter = torch.nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
        register(module, name, parameter)

    torch.nn.Module.register_parameter = without_values
    try:
        with _loading(path, "config.json"), quiet_transformers():
            return _auto_class(config).from_config(config, dtype=getattr(torch, dtype), trust_remote_code=False).eval()
    finally:
        torch.nn.Module.register_parameter = register


def missing_tensor(path: Path, name: str) -> CheckpointError:
    """Return the error for a checkpoint that lacks a tensor."""
    return CheckpointError(
        f"{path}: {name}", found="no such tensor", expected="every parameter of the model",
        remedy="download the checkpoint again",
    )  # fmt: skip


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Keep transformers' progress bars off stderr; ours say the same."""
    from transformers.utils import logging

    was_on = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_on:
            logging.enable_progress_bar()


def open_shards(path: Path) -> list[TensorFile]:
    """Return the safetensors files of a checkpoint with their headers.

    Raises
    ------
    UnsupportedError
        If there are none.
    CheckpointError
        If one is damaged.
    """
    files = sorted(path.glob("*.safetensors"))
    if not files:
        raise UnsupportedError(
            path, found="no safetensors files", expected="weights that can be read a layer at a time",
            remedy="convert the checkpoint with save_pretrained, or profile it with --whole-model",
        )  # fmt: skip
    return [TensorFile.open(file, CheckpointError) for file in files]


def fits_in_memory(path: Path, device: str, dtype: str) -> bool:
    """Tell whether the whole model has room; true where that cannot be known."""
    import torch

    files = sorted(path.glob("*.safetensors"))
    if not files:
        return True
    item_bytes = torch.empty(0, dtype=getattr(torch, dtype)).element_size()
    n_bytes = sum(
        item_bytes * _n_elements(extent.shape) for file in open_shards(path) for extent in file.tensors.values()
    )
    free = torch.cuda.mem_get_info()[0] if device == "cuda" else _free_memory_bytes()
    return free is None or n_bytes <= ROOM_SHARE * free


def _n_elements(shape: tuple[int, ...]) -> int:
    n = 1
    for size in shape:
        n *= size
    return n


def _free_memory_bytes() -> int | None:
    """Return the memory that could be had without swapping, where the system says."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return None
