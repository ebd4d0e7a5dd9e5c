"""Opens a Hugging Face model: its config, its tokenizer, all of it at once, or only its skeleton."""

from __future__ import annotations

import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ripple_place.capture.loading import has_vocabulary, loading_error, missing_tensor, tokenizer_error
from ripple_place.capture.run_errors import explained
from ripple_place.checkpoint.model.weights import INDEX_FILE, SINGLE_FILE, find_weights
from ripple_place.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ripple_place.tensorfile import TensorFile

_VARIANT = re.compile(r"model\.safetensors\.index\.([\w-]+)\.json|model\.([\w-]+)\.safetensors")
"""Names of a variant's index, or of its one file."""
ALIGNMENT_BYTES = 64
ROOM_SHARE = 0.6
"""Share of the free memory that the weights of a whole model may take; the rest is for activations and counting."""


@contextmanager
def _loading(path: Path, what: str) -> Iterator[None]:
    """Turn any exception of transformers into an error that says what is wrong, and what helps."""
    try:
        yield
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as cause:
        raise loading_error(path, what, cause) from cause


def read_config(path: Path) -> Any:
    """Return the model's config.

    Raises
    ------
    CheckpointError, UnsupportedError
        If transformers cannot read it.
    """
    from transformers import AutoConfig

    with _loading(path, "config.json"):
        return AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)


def read_tokenizer(path: Path) -> Any:
    """Return the model's tokenizer.

    Raises
    ------
    CheckpointError, UnsupportedError
        If there is none, or transformers cannot read it.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True, trust_remote_code=False)
        # Without a vocabulary transformers makes a tokenizer without words, and says nothing.
        if not has_vocabulary(path) and not tokenizer("a", add_special_tokens=False)["input_ids"]:
            raise ValueError("a tokenizer without words")
    except MemoryError:
        raise
    except Exception as cause:
        raise tokenizer_error(path, cause) from cause
    return tokenizer


def _model_class(config: Any) -> Any:
    """Return the class that the config names, which has the heads that the checkpoint has; else one for its type."""
    import transformers

    for name in getattr(config, "architectures", None) or []:
        found = getattr(transformers, name, None)
        if isinstance(found, type) and issubclass(found, transformers.PreTrainedModel):
            return found
    kinds = ["ImageTextToText", "CausalLM", "MaskedLM"]
    if getattr(config, "is_encoder_decoder", False):
        kinds.insert(0, "Seq2SeqLM")
    for kind in kinds:
        auto = getattr(transformers, f"AutoModelFor{kind}")
        found = auto._model_mapping.get(type(config), None)  # noqa: SLF001 - the table has no public name
        if found is not None:
            return found[0] if isinstance(found, tuple) else found
    raise ValueError(f"Unrecognized configuration class {type(config).__name__}")  # As transformers says it.


def load_model(path: Path, config: Any, *, dtype: str, device: str, needs_head: bool = True) -> Any:
    """Return the whole model, ready to run.

    Parameters
    ----------
    path : Path
    config : transformers.PreTrainedConfig
    dtype : str
        One of `ripple_place.capture.params.DTYPES`; the model computes in it.
    device : str
        ``cpu`` or ``cuda``.
    needs_head : bool
        Whether the weights that give logits must be there.

    Raises
    ------
    CheckpointError, UnsupportedError
        If transformers cannot load it, or a tensor is missing.
    """
    import torch

    named = _named_weights(path, config)
    with _loading(path, "weights"), quiet_transformers():
        model, loading = _model_class(config).from_pretrained(
            path, config=config, dtype=getattr(torch, dtype), local_files_only=True, output_loading_info=True, **named
        )
    # Where a tensor is missing transformers draws one at random, and says so in a log.
    head = head_path(model)
    for name in sorted(loading["missing_keys"]):
        if needs_head or head is None or not name.startswith(f"{head}."):
            raise missing_tensor(path, name, loading["unexpected_keys"])
    with explained(model):
        model = model.eval().to(device)
    align_weights(model)
    return model


def align_weights(model: Any) -> None:
    """Move parameters to memory that begins on a multiple of 64 bytes, as torch's own does.

    Matrix products of some processors round differently where a weight begins elsewhere, as it does in a safetensors
    file that is mapped: a model would give other last bits than the same model read layer by layer.
    """
    import torch

    # A model may be loaded in inference mode, and asked for gradients later.
    with torch.inference_mode(mode=False):
        for parameter in model.parameters():
            if parameter.data_ptr() % ALIGNMENT_BYTES:
                parameter.data = parameter.data.clone()


def _named_weights(path: Path, config: Any) -> dict[str, str]:
    """Return the argument by which transformers finds weights under other names than its own.

    Raises
    ------
    UnsupportedError
        If it needs an index, and there is none.
    """
    try:
        files = find_weights(path, config.to_dict())
    except UnsupportedError:
        return {}  # Of another format, which transformers may load.
    if files.index_name is None and len(files.names) > 1:
        raise UnsupportedError(
            path, found=f"{len(files.names)} shards without an index", expected="one, to load the whole model at once",
            remedy="profile it with --layer-by-layer, which reads the shards' own headers",
        )  # fmt: skip
    name = files.index_name or files.names[0]
    if name in (SINGLE_FILE, INDEX_FILE):
        return {}
    if variant := _VARIANT.fullmatch(name):
        return {"variant": variant[1] or variant[2]}
    config.transformers_weights = name
    return {}


def head_path(model: Any) -> str | None:
    """Return the name of the module that gives the logits, None if there is none."""
    head = model.get_output_embeddings()
    return next((name for name, module in model.named_modules() if module is head), None) if head is not None else None


def has_head(skeleton: Any, shards: Sequence[TensorFile]) -> bool:
    """Tell whether a checkpoint has the weights that give logits; models for embeddings are stored without them.

    Parameters
    ----------
    skeleton : transformers.PreTrainedModel
    shards : sequence of TensorFile
        The weights; empty where they are in a format that only transformers reads: it will say what is missing.
    """
    head = head_path(skeleton)
    if head is None:
        return False
    if getattr(skeleton.config.get_text_config(), "tie_word_embeddings", False) or not shards:
        return True
    part = f".{head.rpartition('.')[2]}."
    return any(part in f".{name}" for shard in shards for name in shard.tensors)


def build_skeleton(path: Path, config: Any, *, dtype: str) -> Any:
    """Return the model with all of its modules and buffers, and parameters that have shapes but no values.

    Raises
    ------
    CheckpointError, UnsupportedError
        If transformers cannot build it.
    """
    import torch

    register = torch.nn.Module.register_parameter

    def without_values(module: Any, name: str, parameter: Any) -> None:
        # One that has no values already may be shared: it must stay one.
        if parameter is not None and not parameter.is_meta:
            parameter = torch.nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
        register(module, name, parameter)

    torch.nn.Module.register_parameter = without_values
    try:
        with _loading(path, "config.json"), quiet_transformers():
            return _model_class(config)._from_config(config, dtype=getattr(torch, dtype)).eval()  # noqa: SLF001
    finally:
        torch.nn.Module.register_parameter = register


def n_embeddings(model: Any) -> int:
    """Return how many tokens a model has embeddings of; more than any tokenizer has where it does not say."""
    weight = getattr(model.get_input_embeddings(), "weight", None)
    return 2**31 if weight is None else int(weight.shape[0])


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


def fits_in_memory(shards: Sequence[TensorFile], device: str, dtype: str) -> bool:
    """Tell whether the whole model has room; true where that cannot be known.

    Parameters
    ----------
    shards : sequence of TensorFile
        The weights; empty where they are in another format.
    device, dtype : str
        As for `load_model`.
    """
    import torch

    item_bytes = torch.empty(0, dtype=getattr(torch, dtype)).element_size()
    n_bytes = sum(item_bytes * _n_elements(extent.shape) for file in shards for extent in file.tensors.values())
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
