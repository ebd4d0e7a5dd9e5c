"""Quantised weights: which stored tensors stand for a matrix, and how the neuron axis runs through each of them.

Moving outputs (the neurons of up and gate) is exact under every scheme here: scales and zeros by output move along.
Moving inputs (the neurons of down) is exact where scales do not depend on the input, or where an index (GPTQ's `g_idx`)
says which group an input belongs to; else inputs may only move with their group. That is recorded as the granule of the
tensors concerned, and an order that does not keep granules whole is refused. Groups that a config declares, although
each neuron has weights of its own, are kept whole by `kept_groups`.

References
----------
GPTQ: AutoGPTQ, nn_modules/qlinear/qlinear_cuda.py. AWQ: casper-hansen/AutoAWQ, modules/linear/gemm.py.
compressed-tensors: compressors/quantized_compressors/pack_quantized.py. bitsandbytes: functional.py (QuantState).
MXFP4: transformers, integrations/mxfp4.py. FP8: transformers, integrations/finegrained_fp8.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ripple_place.checkpoint.model.neuron_tensor import Packing
from ripple_place.checkpoint.model.quantisation_config import (
    kept_groups,
    overrides,
    read_quantisation,
)
from ripple_place.checkpoint.model.stored_tensors import Field, StoredTensors
from ripple_place.jsontext import parse_json

if TYPE_CHECKING:
    from ripple_place.checkpoint.model.shards import Checkpoint

AWQ_LANES = (0, 2, 4, 6, 1, 3, 5, 7)
NIBBLES_HIGH_FIRST = (1, 0)
_STORED_AS = {".qweight": ".weight", ".weight_packed": ".weight", "_blocks": ""}
_FREE_COMPANIONS = ("weight_format", "weight_shape", "input_scale_ub")
_OF_INPUTS = ("input_scale", "input_zero_point", "activation_scale", "smooth_scale")
"""Of a layer's inputs: one for all, or one for each."""

_PACKED_DEFAULTS = (("num_bits", 4), ("group_size", 128))


@dataclass(frozen=True)
class Scheme(StoredTensors):
    """How a checkpoint is quantised: for each method, which tensors a matrix is stored as."""

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Scheme:
        """Return the scheme of a checkpoint.

        Raises
        ------
        UnsupportedArchitectureError
            If no rule covers its method, or something else that it declares.
        CheckpointError
            If a sidecar that declares it is malformed.
        """
        method, settings = read_quantisation(checkpoint.path, checkpoint.config)
        return cls(checkpoint, method, settings, kept_groups(checkpoint.path, checkpoint.config, settings))

    def fields(self, name: str, *, outputs: bool) -> list[Field]:
        """Return the stored tensors of a matrix ``[out, in]``; empty if it is stored as it is, or not at all.

        Parameters
        ----------
        name : str
            Of the matrix in a checkpoint that is not quantised.
        outputs : bool
            Whether its outputs are neurons (up, gate), or its inputs (down).

        Raises
        ------
        UnsupportedArchitectureError
            If its neurons cannot be moved exactly.
        """
        return [field for field in self._all_fields(name, outputs) if field.name in self.checkpoint.shard_of]

    def _all_fields(self, name: str, outputs: bool) -> list[Field]:
        """Return the stored tensors of a matrix, among them optional ones that may not be there."""
        module = name.removesuffix(".weight")
        stored = self.checkpoint.shard_of
        if f"{module}.qweight" in stored:
            return self._awq(module, outputs) if self.method == "awq" else self._gptq(module, outputs)
        if f"{module}.weight_packed" in stored:
            return self._packed(module, outputs)
        if f"{name}_blocks" in stored:
            return self._mxfp4(name, outputs)
        if f"{name}.absmax" in stored:
            return self._bitsandbytes_4bit(name, outputs)
        if name in stored:
            return self._scaled(name, module, outputs)
        return []

    def _gptq(self, module: str, outputs: bool) -> list[Field]:
        """Return ``qweight`` [in bits / 32, out], ``qzeros`` [in / G, out bits / 32], ``scales`` [in / G, out]."""
        self._require(module, self.method == "gptq", f"{module}.qweight without GPTQ or AWQ in quantization_config")
        self._check_gptq(module)
        qweight, qzeros, scales, g_idx = (f"{module}.{part}" for part in ("qweight", "qzeros", "scales", "g_idx"))
        bits = self._setting("bits", 4)
        if self._differs("bits", 4):
            # A zero for each output and group, packed as the weights are.
            bits = self._shape(qzeros)[-1] * 32 // max(1, self._shape(scales)[-1])
        self._require(module, bits in (2, 3, 4, 8), f"{bits} bits")
        packing = Packing(bits)
        if outputs:
            return [self._field(qweight, 1, is_weight=True), self._field(qzeros, 1, packing=packing),
                    self._field(scales, 1), self._field(g_idx, None)]  # fmt: skip
        n_groups = self._shape(scales)[0]
        weight = self._field(qweight, 0, packing=packing, is_weight=True)
        n_in = weight.shape[0] * 32 // bits
        if self.settings.get("desc_act") and g_idx in self.checkpoint.shard_of:
            return [weight, self._field(g_idx, 0), self._field(scales, None), self._field(qzeros, None)]
        group = n_in if n_groups == 1 else self._group_size(module, n_in, n_groups)
        if g_idx in self.checkpoint.shard_of:
            found = self._read(g_idx, np.int32)
            in_order = np.array_equal(found, np.arange(n_in) // group)
            self._require(module, in_order, "a g_idx out of order, but desc_act not set")
        by_group = None if n_groups == 1 else 0
        return [weight, self._field(scales, by_group, granule=group), self._field(qzeros, by_group, granule=group),
                self._field(g_idx, None)]  # fmt: skip

    def _check_gptq(self, module: str) -> None:
        """Raise unless words are of 32 bits in GPTQ's own layout, and one rule says whether `g_idx` counts."""
        for values in (self.settings, *overrides(self.settings)):
            layout, words = values.get("checkpoint_format"), values.get("pack_dtype")
            self._require(module, layout in (None, "gptq", "gptq_v2"), f"GPTQ weights in the format {layout}")
            self._require(module, not values.get("is_marlin_format"), "GPTQ weights in the format marlin")
            self._require(module, words in (None, "int32"), f"GPTQ weights packed into {words}")
        self._require(module, not self._differs("desc_act", False), "desc_act that differs by module")

    def _awq(self, module: str, outputs: bool) -> list[Field]:
        """Return ``qweight`` [in, out / 8], ``qzeros`` [in / G, out / 8], ``scales`` [in / G, out]."""
        version = str(self.settings.get("version", "gemm")).lower()
        bits = self._setting("bits", 4)
        self._require(module, version == "gemm" and bits == 4, f"AWQ {version} of {bits} bits")
        as_wide = self._shape(f"{module}.qweight")[-1] * 32 == self._shape(f"{module}.scales")[-1] * bits
        self._require(module, as_wide or not self._differs("bits", 4), f"AWQ of other than {bits} bits in some modules")
        qweight, qzeros, scales = (f"{module}.{part}" for part in ("qweight", "qzeros", "scales"))
        packing = Packing(4, AWQ_LANES)
        if outputs:
            return [self._field(qweight, 1, packing=packing, is_weight=True), self._field(qzeros, 1, packing=packing),
                    self._field(scales, 1)]  # fmt: skip
        n_groups, n_in = self._shape(scales)[0], self._shape(qweight)[0]
        group = n_in if n_groups == 1 else self._group_size(module, n_in, n_groups)
        by_group = None if n_groups == 1 else 0
        return [self._field(qweight, 0, is_weight=True), self._field(qzeros, by_group, granule=group),
                self._field(scales, by_group, granule=group)]  # fmt: skip

    def _packed(self, module: str, outputs: bool) -> list[Field]:
        """Return compressed-tensors' ``weight_packed`` [out, in bits / 32] and what belongs to it."""
        stored_as = self.settings.get("format")
        self._require(module, stored_as == "pack-quantized", f"packed weights of the format {stored_as}")
        bits, group = self._packed_settings(module)
        self._require(module, bits in (2, 4, 8), f"{bits} bits")
        weight, scale, zero, g_idx = (
            f"{module}.{part}" for part in ("weight_packed", "weight_scale", "weight_zero_point", "weight_g_idx")
        )
        rest = [self._field(f"{module}.weight_shape", None)]
        if outputs:
            return [self._field(weight, 0, is_weight=True), self._field(scale, 0),
                    self._field(zero, 0, packing=Packing(bits)), self._field(g_idx, None), *rest]  # fmt: skip
        fields = [self._field(weight, 1, packing=Packing(bits), is_weight=True), *rest]
        if g_idx in self.checkpoint.shard_of:
            return [*fields, self._field(g_idx, 0), self._field(scale, None), self._field(zero, None)]
        by_group = None if self._shape(scale)[-1] == 1 else 1
        return [*fields, self._field(scale, by_group, granule=group), self._field(zero, by_group, granule=group)]

    def _packed_settings(self, module: str) -> tuple[int, int]:
        """Return bits and group size of packed weights; of several groups of layers, those that shapes agree with."""
        groups = self.settings.get("config_groups")
        if not isinstance(groups, dict) or len(groups) <= 1:
            weights = self._group_settings("weights")
            bits, group = (self._count(key, weights.get(key), default) for key, default in _PACKED_DEFAULTS)
            return bits, group
        n_in = self._logical_inputs(module)
        packed, scale = (self._shape(f"{module}.{part}")[-1] for part in ("weight_packed", "weight_scale"))
        fitting = set()
        for table in groups.values():
            weights = table.get("weights") or {} if isinstance(table, dict) else {}
            weights = weights if isinstance(weights, dict) else {}
            bits = self._count("num_bits", weights.get("num_bits"), 4)
            group = self._count("group_size", weights.get("group_size"), n_in if "strategy" in weights else 128)
            if packed * 32 == n_in * bits and scale == -(-n_in // group):
                fitting.add((bits, group))
        self._require(module, len(fitting) == 1, f"{len(groups)} groups of layers, {len(fitting)} of which fit it")
        return fitting.pop()

    def _logical_inputs(self, module: str) -> int:
        """Return the number of inputs that packed weights say they have."""
        name = f"{module}.weight_shape"
        self._require(module, self._shape(name) == (2,), f"{name} that is no shape")
        dtype = {"I64": np.int64, "I32": np.int32}.get(self.checkpoint.extent(name).dtype)
        self._require(module, dtype is not None, f"{name} that is no shape")
        assert dtype is not None
        n_in = int(self._read(name, dtype)[1])
        self._require(module, 0 < n_in < 2**31, f"{n_in} inputs")
        return n_in

    def _mxfp4(self, name: str, outputs: bool) -> list[Field]:
        """Return ``_blocks`` [E, out, in / 32, 16] and ``_scales`` [E, out, in / 32]: 32 inputs to a scale."""
        blocks, scales = f"{name}_blocks", f"{name}_scales"
        if outputs:
            return [self._field(blocks, 1, is_weight=True), self._field(scales, 1)]
        n_experts, n_out, n_blocks, n_bytes = self._shape(blocks)
        merged = (n_experts, n_out, n_blocks * n_bytes)
        return [Field(blocks, 2, merged, packing=Packing(4), is_weight=True), self._field(scales, 2, granule=32)]

    def _bitsandbytes_4bit(self, name: str, outputs: bool) -> list[Field]:
        """Return the flat bytes of a matrix, two weights each, and a scale for each block of the flat weights."""
        stored = self.checkpoint.shard_of
        nested = f"{name}.nested_absmax" in stored
        self._require(name, not nested, "bitsandbytes' double quantisation: its scales are quantised in blocks of 256")
        states = [tensor for tensor in stored if tensor.startswith(f"{name}.quant_state.bitsandbytes__")]
        self._require(name, len(states) == 1, "a 4-bit weight without its quant_state")
        try:
            state = parse_json(self._read(states[0], np.uint8).tobytes())
            (n_out, n_in), block = state["shape"], state["blocksize"]
            if any(type(size) is not int or size < 1 for size in (n_out, n_in, block)):
                raise ValueError(f"shape {state['shape']}, blocksize {block}")
        except (ValueError, KeyError, TypeError) as cause:
            self._require(name, False, f"a quant_state that says no shape ({cause})")
            raise
        self._require(name, n_in % block == 0, f"blocks of {block} that do not fill rows of {n_in}")
        rest = [self._field(states[0], None), self._field(f"{name}.quant_map", None)]
        if outputs:
            return [Field(name, 0, (n_out, n_in // 2), is_weight=True),
                    Field(f"{name}.absmax", 0, (n_out, n_in // block)), *rest]  # fmt: skip
        return [Field(name, 1, (n_out, n_in // 2), packing=Packing(4, NIBBLES_HIGH_FIRST), is_weight=True),
                Field(f"{name}.absmax", 1, (n_out, n_in // block), granule=block), *rest]  # fmt: skip

    def _scaled(self, name: str, module: str, outputs: bool) -> list[Field]:
        """Return a weight of whole bytes and its scale: one, one for each output, or one for each block of both."""
        shape = self._shape(name)
        axis = len(shape) - 2 if outputs else len(shape) - 1
        fields = [Field(name, axis, shape, is_weight=True)]
        for part in (*_FREE_COMPANIONS, *_OF_INPUTS, "SCB", "weight_scale", "weight_scale_inv", "weight_zero_point"):
            companion = f"{module}.{part}"
            if companion not in self.checkpoint.shard_of:
                continue
            scale = self._shape(companion)
            if part in _FREE_COMPANIONS or int(np.prod(scale)) == 1:
                fields.append(self._field(companion, None))
            elif part in _OF_INPUTS:
                self._require(
                    companion, outputs or scale == (shape[-1],), f"shape {list(scale)} for {shape[-1]} inputs"
                )
                fields.append(self._field(companion, None if outputs else 0))
            elif scale in ((shape[0],), (shape[0], 1)):
                fields.append(self._field(companion, 0 if outputs else None))
            else:
                fields.append(self._by_block(companion, shape, outputs))
        return fields if len(fields) > 1 else []

    def _by_block(self, companion: str, shape: tuple[int, ...], outputs: bool) -> Field:
        """Return a scale [out / B, in / B]."""
        block = self.settings.get("weight_block_size", self._group_settings("weights").get("block_structure"))
        block = [128, 128] if block is None else block
        self._require(companion, isinstance(block, list) and len(block) == 2, f"blocks of {block!r}")
        block = [self._count("weight_block_size", size, 128) for size in block]
        expected = tuple(-(-size // b) for size, b in zip(shape, block, strict=False))
        self._require(companion, self._shape(companion) == expected, f"shape {list(self._shape(companion))}")
        axis = 0 if outputs else 1
        return self._field(companion, axis, granule=block[axis])


def logical_name(tensor: str) -> str:
    """Return the name that a stored tensor's matrix has in a checkpoint that is not quantised.

    >>> logical_name("layers.0.mlp.up_proj.qweight")
    'layers.0.mlp.up_proj.weight'
    """
    for ending, plain in _STORED_AS.items():
        if tensor.endswith(ending):
            return tensor.removesuffix(ending) + plain
    return tensor
