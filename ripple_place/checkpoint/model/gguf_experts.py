"""The experts of a GGUF file: slices of its three-dimensional expert tensors, which are contiguous in any quantisation.

References
----------
ggml-org/ggml, GGUF specification; ggml-org/llama.cpp, gguf-py/gguf/constants.py (names of tensors), and
docs of gguf-split (names of files).
"""

from __future__ import annotations

import importlib.util
import math
import re
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from ripple_place.blocks import sorted_blocks
from ripple_place.checkpoint.model.expert_block import ExpertBlock, ExpertModel
from ripple_place.checkpoint.model.expert_tensors import Role, StoredTensor, block_of_own, block_of_shared, role_of
from ripple_place.errors import CheckpointError, UnsupportedError
from ripple_place.extras import install_command
from ripple_place.foreign import file_error
from ripple_place.outputs import check_input

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

GGUF = "gguf"
"""What stands for the family of such models."""
_SPLIT = re.compile(r"(?P<stem>.+)-\d{5}-of-(?P<count>\d{5})\.gguf")
_STEMS = (("gate", "gate"), ("up", "up"), ("gate_up", "gate_up"), ("down", "down"))
_PROJECTION = r"blk\.(0|[1-9][0-9]{0,8})\.ffn_(gate_up|gate|up|down)"
_SHARED = re.compile(rf"{_PROJECTION}_exps(\.\w+)")
_OWN = re.compile(rf"{_PROJECTION}\.(0|[1-9][0-9]{{0,8}})(\.\w+)")
"""Of files before March 2024, which have a tensor for each expert."""
_MAX_HEADER_BYTES = 64 << 20
"""A vocabulary of 262,144 tokens and its merges take about 15 MB."""
_MAX_READS = 1 << 24
"""Of header fields, each of which gguf's reader keeps as an array: that vocabulary has two million."""


def is_gguf(path: Path) -> bool:
    """Tell whether a path is named as a GGUF file."""
    return path.suffix.lower() == ".gguf" and not path.is_dir()


def describe_gguf(path: Path) -> ExpertModel:
    """Find the experts of a GGUF file, or of all files of a split of which one is given.

    Raises
    ------
    UsageError
        If there is no such file.
    CheckpointError
        If a file of the split is missing, or one is no sound GGUF file.
    UnsupportedError
        If the gguf package is missing, there are no experts, or they differ from each other.
    OSError
        If a file cannot be read.
    """
    check_input(path, "a GGUF file", "correct the path")
    if importlib.util.find_spec("gguf") is None:
        raise UnsupportedError(
            path, found="no gguf package to read it with", expected="the gguf extra", remedy=install_command("gguf")
        )
    files = _files_of_split(path)
    tensors: list[StoredTensor] = []
    architecture = ""
    for file in files:
        in_file, named = _read_header(file)
        tensors += in_file
        architecture = architecture or named
    blocks, shared = _blocks(path, tensors)
    if not blocks:
        raise no_experts_error(path, f"architecture {architecture}")
    notes = []
    if shared:
        notes.append(f"{len(shared)} tensors such as {shared[0]} are of no one expert: they stay in the GGUF file")
    sizes = {file.name: file.stat().st_size for file in files}
    names = tuple(tensor.name for tensor in tensors)
    return ExpertModel(path, path.parent, GGUF, architecture, blocks, sizes, names, notes=tuple(notes))


def no_experts_error(where: object, what: str) -> UnsupportedError:
    """Return the error for a model without experts; `what` says how it was read."""
    return UnsupportedError(
        where, found=f"no experts, by the tensor names of {what}", expected="a mixture of experts",
        remedy="leave --unit out: neurons are the unit of dense models",
    )  # fmt: skip


def _files_of_split(path: Path) -> list[Path]:
    """Return the files of a model that is split into several, or the one file."""
    match = _SPLIT.fullmatch(path.name)
    if match is None:
        return [path]
    count = int(match["count"])
    files = [path.with_name(f"{match['stem']}-{number:05d}-of-{count:05d}.gguf") for number in range(1, count + 1)]
    if missing := [file for file in files if not file.is_file()]:
        raise file_error(
            CheckpointError, missing[0], found=f"no such file; {len(missing)} of {count} are missing",
            expected=f"all files of the split beside {path.name}", remedy="download the missing ones there",
        )  # fmt: skip
    return files


def _blocks(where: object, tensors: Iterable[StoredTensor]) -> tuple[dict[str, ExpertBlock], list[str]]:
    """Return the layers with experts, and names of expert tensors that are of no one expert."""
    shared: dict[str, list[tuple[Role, StoredTensor]]] = defaultdict(list)
    own: dict[str, dict[int, dict[str, tuple[Role, StoredTensor]]]] = defaultdict(lambda: defaultdict(dict))
    for tensor in tensors:
        if match := _SHARED.fullmatch(tensor.name):
            role = role_of(match[2] + match[3], _STEMS)
            assert role is not None
            shared[f"layers.{match[1]}"].append((role, tensor))
        elif match := _OWN.fullmatch(tensor.name):
            role = role_of(match[2] + match[4], _STEMS)
            assert role is not None
            name = f"blk.{match[1]}.ffn_{match[2]}.{{expert}}{match[4]}"
            own[f"layers.{match[1]}"][int(match[3])][name] = role, tensor._replace(name=name)
    blocks = {name: block_of_own(name, where, experts) for name, experts in own.items()}
    rest = []
    for name, of_layer in shared.items():
        n_experts = max(of_layer, key=lambda entry: entry[1].length_bytes)[1].shape[0]
        blocks[name], of_none = block_of_shared(name, where, n_experts, of_layer)
        rest += of_none
    return {name: blocks[name] for name in sorted_blocks(blocks)}, rest


def _read_header(path: Path) -> tuple[list[StoredTensor], str]:
    """Return the tensors of a GGUF file, slowest axis first, and its architecture.

    Raises
    ------
    CheckpointError
        If it is malformed, or ends before its tensors do.
    """
    size_bytes = path.stat().st_size
    try:
        reader = _bounded_reader()(path)
        tensors = [_tensor_of(path, entry, size_bytes) for entry in reader.tensors]
        named = reader.fields.get("general.architecture")
        architecture = "" if named is None else bytes(named.parts[named.data[0]]).decode()
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, RecursionError, MemoryError) as cause:
        raise file_error(
            CheckpointError, path, found=f"no GGUF header that holds ({cause})", expected="a whole GGUF file",
            remedy="copy or download it again", formats=("GGUF",),
        ) from cause  # fmt: skip
    return sorted(tensors, key=lambda tensor: tensor.offset_bytes), architecture


def _tensor_of(path: Path, entry: Any, size_bytes: int) -> StoredTensor:
    """Return what a header says of a tensor, checked against the file's size in exact integers."""
    from gguf.constants import GGML_QUANT_SIZES

    axes = tuple(int(size) for size in reversed(entry.shape.tolist()))
    per_group, group_bytes = GGML_QUANT_SIZES[entry.tensor_type]
    n_groups, n_over = divmod(math.prod(axes), per_group)
    offset_bytes, length_bytes = int(entry.data_offset), n_groups * group_bytes
    if n_over or not axes or axes[-1] % per_group or offset_bytes + length_bytes > size_bytes:
        raise ValueError(f"tensor {entry.name} of shape {list(axes)} behind the file's end, or in broken groups")
    return StoredTensor(entry.name, entry.tensor_type.name, axes, path, offset_bytes, length_bytes)


def _bounded_reader() -> type[Any]:
    """Return gguf's reader of headers, made to stop where a header lies: a count in a file may be any number."""
    from gguf import GGUFReader

    class BoundedReader(GGUFReader):
        """A reader that refuses to look behind the file's end, or for a header longer than any."""

        n_reads = 0

        def _get(self, offset: int, dtype: Any, count: int = 1, override_order: Any = None) -> Any:
            import numpy as np

            end = int(offset) + int(count) * np.dtype(dtype).itemsize
            self.n_reads += 1
            limit = self.data.size
            is_header = "data_offset" not in self.__dict__
            if is_header and (end > _MAX_HEADER_BYTES or self.n_reads > _MAX_READS):
                raise ValueError(f"a header of more than {_MAX_HEADER_BYTES} bytes or {_MAX_READS} fields")
            if not 0 <= int(offset) <= end <= limit:
                raise ValueError(f"something at byte {end}, behind the file's end at {limit}")
            return super()._get(offset, dtype, count, override_order)

    return BoundedReader
