"""What a checkpoint's files say of its quantisation: in config.json, or in a sidecar of the tool that quantised it.

Read are the method and its settings under common names, what holds for some modules alone, and which neighbours must
stay together because of what is declared: groups of N:M sparsity, and groups of activations that share a scale.

References
----------
AutoGPTQ, quantization/config.py (`quantize_config.json`). GPTQModel, quantization/config.py (`dynamic`). AutoAWQ,
models/_config.py (`w_bit`, `q_group_size`). intel/auto-round, export/export_to_autoround (`packing_format`,
`extra_config`). compressed-tensors, config/base.py and sparse_24_bitmask.py (`sparsity_config`), quant_args.py
(`strategy`), transform/transform_config.py.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ripple_place.checkpoint.model.weights import is_file
from ripple_place.errors import CheckpointError, UnsupportedArchitectureError
from ripple_place.hub import download_command
from ripple_place.jsontext import read_json_object

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

REORDER_FIRST = "reorder the checkpoint before it was quantised, then quantise the result"
_METHODS = ("gptq", "awq", "compressed-tensors", "fp8", "fbgemm_fp8", "bitsandbytes", "mxfp4")
_AUTO_ROUND = ("auto-round", "intel/auto-round", "auto_round")
_SIDECARS = {
    "quantize_config.json": "gptq", "quant_config.json": "awq", "quantization_config.json": "unnamed",
    "hf_quant_config.json": "modelopt",
}  # fmt: skip
"""Files of the tools' own, and the method where they do not name it."""
_BY_MODULE = ("dynamic", "extra_config")
_FLOAT_BITS = 16
_ALIASES = {"w_bit": "bits", "q_group_size": "group_size"}
_COMPARED = ("quant_method", "bits", "group_size", "desc_act", "version", "checkpoint_format")
"""What two files may both say, and must then agree on."""
_MIXING = {
    "transform_config": "transforms of a layer's inputs, such as rotations, which mix neurons",
    "rotation": "a rotation, which mixes neurons",
    "adapter": "a low-rank adapter of the quantised weights",
}
_NO_STRUCTURE = (None, "unstructured", "0:0")
_N_OF_M = re.compile(r"[1-9]\d{0,3}:([1-9]\d{0,3})")
_SPARSITY_TABLES = ("sparsity_config", "compression_config", "quantization_config", "text_config")
_WITHOUT_GROUPS = ("tensor", "token")
_MAX_COUNT = 2**31


def read_quantisation(path: Path, config: Mapping[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """Return how a checkpoint is quantised: the method, None where it is not, and its settings.

    Parameters
    ----------
    path : Path
        The checkpoint.
    config : mapping of str to anything
        Its config.json.

    Raises
    ------
    UnsupportedArchitectureError
        If no rule covers the method, inputs are transformed, or files contradict each other.
    CheckpointError
        If a sidecar is malformed.
    """
    found = list(_declared(path, config))
    if not found:
        return None, {}
    _, settings, method = found[0]
    _check_agreement(path, found)
    _check_unmixed(path, settings)
    if not isinstance(method, str):
        raise _refused(path, f"a quantization_config ({method})", "the name of a method")
    if method in _AUTO_ROUND:
        method = _auto_round(path, settings)
    if method not in _METHODS:
        expected = f"weights that are not quantised, or by {', '.join(_METHODS)}"
        raise _refused(path, f"a quantization_config ({method})", expected)
    return method, settings


def overrides(settings: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return what a config says of some quantised modules alone; modules that stay in 16 bits have nothing to say.

    >>> overrides({"dynamic": {"+:.*down_proj": {"bits": 8}, "-:.*up_proj": {}}, "extra_config": {"a": {"bits": 16}}})
    [{'bits': 8}]
    """
    values = [value for key in _BY_MODULE for value in (settings.get(key) or {}).values() if value]
    return [value for value in values if type(value.get("bits")) is not int or value["bits"] < _FLOAT_BITS]


def kept_groups(path: Path, config: Mapping[str, Any], settings: Mapping[str, Any]) -> tuple[int, ...]:
    """Return of how many neighbours each group is that must stay together, although each neuron has its own weights.

    Sparse weights of the pattern N:M have N of M neighbouring inputs at most, and the inputs of down are neurons; its
    kernels need that. Activations that are quantised in groups share a scale with their neighbours.

    Raises
    ------
    UnsupportedArchitectureError
        If no group says what is declared.
    """
    groups = {_of_sparsity(path, sparsity) for sparsity in _sparsities(config)}
    for group in _tables(path, settings.get("config_groups")):
        groups |= {_of_activations(path, group.get(key)) for key in ("input_activations", "output_activations")}
    everywhere = [settings, *overrides(settings)]
    if any(values.get("act_bits") not in (None, *range(_FLOAT_BITS, 65)) for values in everywhere):
        groups |= {_count(path, "act_group_size", values.get("act_group_size")) for values in everywhere}
    return tuple(sorted(groups - {1}))


def _check_agreement(path: Path, found: Sequence[tuple[str, Mapping[str, Any], Any]]) -> None:
    """Raise if files say different things of the same weights."""
    where, settings, _ = found[0]
    for other, values, _ in found[1:]:
        for key in _COMPARED:
            if key in settings and key in values and _plain(settings[key]) != _plain(values[key]):
                raise _refused(
                    path, f"{key} {settings[key]!r} in {where}, and {values[key]!r} in {other}", "one of the two"
                )


def _check_unmixed(path: Path, settings: Mapping[str, Any]) -> None:
    """Raise if settings, or those of some modules, mix the neurons with each other."""
    for key in _BY_MODULE:
        table = settings.get(key) or {}
        if not isinstance(table, dict) or any(value and not isinstance(value, dict) for value in table.values()):
            raise _refused(path, f"{key} that names no settings", "settings by module")
    for each in (settings, *overrides(settings)):
        for key, what in _MIXING.items():
            if each.get(key):
                raise _refused(path, f"{key}: {what}", "weights whose neurons can be moved")


def _declared(path: Path, config: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield what each file declares, and by what method: config.json first, where all loaders look."""
    text = config.get("text_config")
    for name in ("quantization_config", "compression_config"):
        for table in (config, text if isinstance(text, dict) else {}):
            settings = table.get(name)
            if settings is None or _is_sparsity_alone(settings):
                continue
            if not isinstance(settings, dict):
                raise _refused(path, f"a quantization_config ({settings})", "an object")
            yield f"config.json: {name}", _renamed(settings), settings.get("quant_method", "unnamed")
    for name, method in _SIDECARS.items():
        if not is_file(path / name):
            continue
        again = f"remove it if nothing reads it, or download it: {download_command(path, [name], force=True)}"
        settings = read_json_object(path / name, CheckpointError, remedy=again)
        yield name, _renamed(settings), settings.get("quant_method", "gptq" if "desc_act" in settings else method)


def _renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings under the keys that most tools have."""
    return {_ALIASES.get(key, key): value for key, value in settings.items()}


def _auto_round(path: Path, settings: Mapping[str, Any]) -> str:
    """Return the method whose layout auto-round took; it stores weights as others do."""
    layout = str(settings.get("packing_format", settings.get("backend", "auto_round:gptq")))
    for method in ("awq", "gptq"):
        if method in layout:
            return method
    if "exllama" in layout:
        return "gptq"
    raise _refused(path, f"auto-round weights packed as {layout}", "weights packed as GPTQ's or AWQ's")


def _sparsities(table: Any) -> Iterator[Any]:
    """Yield what is said of sparsity, wherever tools have put it in a config."""
    if not isinstance(table, dict):
        return
    if "sparsity_structure" in table:
        yield table
    for key, value in table.items():
        if key == "sparsity_config" and value and not (isinstance(value, dict) and "sparsity_structure" in value):
            yield value
        elif key in _SPARSITY_TABLES:
            yield from _sparsities(value)


def _is_sparsity_alone(settings: Any) -> bool:
    """Tell whether a config describes sparse weights that are not quantised."""
    return (
        isinstance(settings, dict)
        and not settings.keys().isdisjoint({"sparsity_config", "sparsity_structure"})
        and "quant_method" not in settings
        and not settings.get("config_groups")
    )


def _of_sparsity(path: Path, sparsity: Any) -> int:
    """Return M of a pattern N:M, 1 where there is no pattern."""
    if not isinstance(sparsity, dict):
        raise _refused(path, f"sparsity_config {sparsity!r}", "an object")
    if re.search("sparse|24", str(sparsity.get("format"))):
        raise _refused(path, f"sparse weights, compressed as {sparsity['format']}", "dense weights")
    structure = sparsity.get("sparsity_structure")
    if structure in _NO_STRUCTURE:
        return 1
    match = _N_OF_M.fullmatch(structure) if isinstance(structure, str) else None
    if match is None:
        raise _refused(path, f"sparsity_structure {structure!r}", "unstructured, or N:M such as 2:4")
    return int(match[1])


def _of_activations(path: Path, activations: Any) -> int:
    """Return how many neighbouring activations share a scale, 1 where a token has one scale or all tokens have."""
    if activations is None:
        return 1
    if not isinstance(activations, dict):
        raise _refused(path, f"activations quantised as {activations!r}", "an object")
    strategy, size = activations.get("strategy"), activations.get("group_size")
    if strategy in _WITHOUT_GROUPS or (strategy is None and size is None):
        return 1
    if strategy not in (None, "group", "tensor_group"):
        raise _refused(path, f"activations quantised by {strategy}", "one scale for a token, or groups")
    return _count(path, "group_size of activations", size)


def _count(path: Path, key: str, value: Any) -> int:
    """Return a group's size, 1 where it is the whole token."""
    if value is None or (type(value) is int and value in (-1, 0)):
        return 1
    if type(value) is not int or not 0 < value < _MAX_COUNT:
        raise _refused(path, f"{key} {value!r}", "a number")
    count: int = value
    return count


def _tables(path: Path, groups: Any) -> list[dict[str, Any]]:
    """Return the groups of layers that a config describes."""
    tables = list(groups.values()) if isinstance(groups, dict) else [] if groups is None else [groups]
    if not all(isinstance(group, dict) for group in tables):
        raise _refused(path, "config_groups that describe no layers, such as presets", "objects")
    return tables


def _plain(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


def _refused(path: Path, found: str, expected: str) -> UnsupportedArchitectureError:
    return UnsupportedArchitectureError(path, found=found, expected=expected, remedy=REORDER_FIRST)
