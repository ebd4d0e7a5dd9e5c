"""Files that go along with a model: permuted where the neurons are, refused where they would silently break."""

from __future__ import annotations

import json
import struct
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from ripple_place.checkpoint.model.ffn import FfnModel, describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import CheckpointError, UnsupportedError, UsageError, VerificationError
from ripple_place.torchfile import read_torch_file
from tests.builders import adjust_manifest, llama_config, llama_tensors, random_placement, write_checkpoint
from tests.torch_files import write_torch_file

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.placement import ModelPlacement

ADAPTER = "ripple_place/adapter/adapter_model.safetensors"
MODULE = "base_model.model.model.layers.{}."
PEFT_CONFIG: dict[str, Any] = {
    "alora_invocation_tokens": None, "alpha_pattern": {}, "arrow_config": None, "auto_mapping": None,
    "base_model_name_or_path": "some/model", "bias": "none", "corda_config": None, "ensure_weight_tying": False,
    "eva_config": None, "exclude_modules": None, "fan_in_fan_out": False, "inference_mode": True,
    "init_lora_weights": True, "kasa_config": None, "layer_replication": None, "layers_pattern": None,
    "layers_to_transform": None, "loftq_config": {}, "lora_alpha": 8, "lora_bias": False, "lora_dropout": 0.0,
    "lora_ga_config": None, "megatron_config": None, "megatron_core": "megatron.core", "modules_to_save": None,
    "monteclora_config": None, "peft_type": "LORA", "peft_version": "0.21.2", "qalora_group_size": 16, "r": 2,
    "rank_pattern": {}, "revision": None, "target_modules": ["down_proj"], "target_parameters": None,
    "task_type": "CAUSAL_LM", "trainable_token_indices": None, "use_bdlora": None, "use_dora": True,
    "use_qalora": False, "use_rslora": False, "velora_config": None,
}  # fmt: skip
"""What peft 0.21.2 writes for a LoraConfig, all of its keys."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return a Llama of two layers, 24 neurons, hidden 8."""
    return write_checkpoint(tmp_path / "m", llama_tensors(), llama_config())


def rewrite(source: Path, out: Path, **options: Any) -> tuple[FfnModel, ModelPlacement]:
    """Rewrite a checkpoint at random, with what goes along, and verify it once more."""
    model = describe_ffn(Checkpoint.open(source))
    placement = random_placement(model)
    execute(plan_rewrite(model, placement, out, **options))
    verify(source, out)
    return model, placement


def write_adapter(path: Path, tensors: dict[str, np.ndarray], **config: Any) -> Path:
    """Write an adapter directory."""
    path.mkdir()
    (path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2, **config}))
    (path / "README.md").write_text("an adapter")
    save_file(tensors, path / "adapter_model.safetensors")
    return path


def lora(n_neurons: int = 24, hidden: int = 8, rank: int = 2) -> dict[str, np.ndarray]:
    """Return LoRA matrices, all of them, for two layers of `source`, with DoRA's vectors."""
    rng = np.random.default_rng(3)
    tensors = {}
    for layer in range(2):
        for name, n_in, n_out in (
            ("mlp.gate_proj", hidden, n_neurons),
            ("mlp.up_proj", hidden, n_neurons),
            ("mlp.down_proj", n_neurons, hidden),
            ("self_attn.q_proj", hidden, hidden),
        ):
            module = MODULE.format(layer) + name
            tensors[f"{module}.lora_A.weight"] = rng.standard_normal((rank, n_in))
            tensors[f"{module}.lora_B.weight"] = rng.standard_normal((n_out, rank))
            tensors[f"{module}.lora_magnitude_vector"] = rng.standard_normal(n_out)
    return tensors


def test_a_lora_adapter(source: Path, tmp_path: Path) -> None:
    """Base plus adapter compute the same; matrices without a neuron axis are left alone."""
    before = lora()
    adapter = write_adapter(tmp_path / "adapter", before)
    _, placement = rewrite(source, tmp_path / "out", adapter=adapter)
    after = load_file(tmp_path / "out" / ADAPTER)
    weights = {True: load_file(source / "model.safetensors"), False: load_file(tmp_path / "out/model.safetensors")}
    x = np.random.default_rng(1).standard_normal((3, 8))
    for layer in range(2):
        results = []
        for is_before, tensors in ((True, before), (False, after)):

            def apply(name: str, x: np.ndarray, is_before: bool = is_before, tensors: Any = tensors) -> np.ndarray:
                base = weights[is_before][f"model.layers.{layer}.mlp.{name}_proj.weight"].astype("f8")  # noqa: B023
                module = MODULE.format(layer) + f"mlp.{name}_proj."  # noqa: B023
                merged = base + tensors[module + "lora_B.weight"] @ tensors[module + "lora_A.weight"]
                return x @ (merged * tensors[module + "lora_magnitude_vector"][:, None]).T

            results.append(apply("down", np.maximum(apply("gate", x), 0) * apply("up", x)))
        np.testing.assert_allclose(results[1], results[0], rtol=1e-9, atol=1e-9)
        order = placement.blocks[f"layers.{layer}"].order
        up = MODULE.format(layer) + "mlp.up_proj."
        np.testing.assert_array_equal(after[up + "lora_B.weight"], before[up + "lora_B.weight"][order])
        for name in ("mlp.up_proj.lora_A.weight", "mlp.down_proj.lora_B.weight", "self_attn.q_proj.lora_B.weight"):
            np.testing.assert_array_equal(after[MODULE.format(layer) + name], before[MODULE.format(layer) + name])
    assert (tmp_path / "out/ripple_place/adapter/README.md").read_text() == "an adapter"


def test_a_lora_adapter_of_fused_projections(tmp_path: Path) -> None:
    """Gate and up in one matrix: B has both halves."""
    rng = np.random.default_rng(0)
    tensors = {"model.layers.0.mlp.gate_up_proj.weight": rng.standard_normal((48, 8)),
               "model.layers.0.mlp.down_proj.weight": rng.standard_normal((8, 24))}  # fmt: skip
    config = {"model_type": "phi3", "intermediate_size": 24, "hidden_size": 8, "num_hidden_layers": 1}
    module = MODULE.format(0) + "mlp.gate_up_proj."
    before = {module + "lora_A.default.weight": rng.standard_normal((2, 8)),
              module + "lora_B.default.weight": rng.standard_normal((48, 2))}  # fmt: skip
    adapter = write_adapter(tmp_path / "adapter", before)
    _, placement = rewrite(write_checkpoint(tmp_path / "m", tensors, config), tmp_path / "out", adapter=adapter)
    after, order = load_file(tmp_path / "out" / ADAPTER), placement.blocks["layers.0"].order
    rows = np.concatenate([order, 24 + order])
    np.testing.assert_array_equal(
        after[module + "lora_B.default.weight"], before[module + "lora_B.default.weight"][rows]
    )


@pytest.mark.parametrize(
    ("config", "tensors", "error", "message"),
    [
        ({"peft_type": 3}, lora(), CheckpointError, "found peft_type 3; expected a config that peft saved"),
        ({"peft_type": "LOHA"}, lora(), UnsupportedError, "found LOHA; expected LoRA.*[Mm]erge the adapter"),
        ({"target_parameters": ["x"]}, lora(), UnsupportedError, "fused experts"),
        ({}, lora(n_neurons=23), CheckpointError, r"shape \[.*expected 24 neurons"),
        ({}, {MODULE.format(0) + "mlp.ffn_norm.weight": np.zeros(3)}, UnsupportedError, "that no rule covers"),
    ],
)
def test_adapters_that_would_break(
    source: Path, tmp_path: Path, config: dict[str, Any], tensors: Any, error: type[Exception], message: str
) -> None:
    """Refused before anything is written, with the way out."""
    adapter = write_adapter(tmp_path / "adapter", tensors, **config)
    with pytest.raises(error, match=message):
        rewrite(source, tmp_path / "out", adapter=adapter)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("layer_replication", [[0, 2], [1, 2]], "layer_replication: numbers of layers after replication"),
        ("use_bdlora", {"nblocks": 2, "target_modules_bd_b": ["up_proj"]}, "use_bdlora: block-diagonal"),
        ("use_bdlora", True, "use_bdlora: block-diagonal"),
        ("use_qalora", True, "use_qalora: inputs of A pooled"),
        ("kasa_config", {"beta": 1.0}, "kasa_config: a base model whose smallest"),
        ("arrow_config", {"top_k": 3}, "arrow_config: a router"),
        ("velora_config", {"num_groups": 4}, "velora_config: inputs compressed"),
        ("monteclora_config", {"num_samples": 8}, "monteclora_config: weights drawn at random"),
        ("megatron_config", {"tensor_model_parallel_size": 2}, "megatron_config: the matrices of one rank"),
        ("enable_lora", [True, False], "enable_lora: LoRA on parts"),
        ("init_lora_weights", "pissa", "init_lora_weights 'pissa', which changes the base model"),
        ("init_lora_weights", "pissa_niter_4", "init_lora_weights 'pissa_niter_4'"),
        ("init_lora_weights", "olora", "init_lora_weights 'olora'"),
        ("init_lora_weights", "corda", "init_lora_weights 'corda'"),
        ("init_lora_weights", "loftq", "init_lora_weights 'loftq'"),
        ("init_lora_weights", "lora_ga", "init_lora_weights 'lora_ga'"),
        ("init_lora_weights", ["gaussian"], r"init_lora_weights \['gaussian'\], which changes"),
        ("init_lora_weights", 1, "init_lora_weights 1"),
        ("neuron_shuffle", [1, 0], "neuron_shuffle set, a key that no rule covers"),
        ("neuron_shuffle", 0, "neuron_shuffle set"),
        ("neuron_shuffle", "x", "neuron_shuffle set"),
        ("\x1b[2J", True, r"\\x1b\[2J set"),
    ],
)
def test_adapter_keys_that_change_the_meaning(source: Path, tmp_path: Path, key: str, value: Any, message: str) -> None:
    """Refused by name when they are set, and so is any key that is not known."""
    adapter = write_adapter(tmp_path / "adapter", lora(), **PEFT_CONFIG | {key: value})
    with pytest.raises(UnsupportedError, match=rf"adapter_config.json: found {message}.*[Mm]erge the adapter"):
        rewrite(source, tmp_path / "out", adapter=adapter)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("unset", [None, False, {}, [], ""])
def test_adapter_keys_that_are_not_set(source: Path, tmp_path: Path, unset: Any) -> None:
    """A key switches nothing on with an empty value, known or not; the others may have any."""
    keys = ("layer_replication", "use_bdlora", "use_qalora", "target_parameters", "enable_lora", "of_a_later_peft")
    config = PEFT_CONFIG | dict.fromkeys(keys, unset) | {
        "alpha_pattern": {"up_proj": 4}, "layers_to_transform": [0, 1], "bias": "lora_only", "use_rslora": True,
        "init_lora_weights": "gaussian", "runtime_config": {"ephemeral_gpu_offload": True}, "eva_config": {"rho": 2.0},
        "alora_invocation_tokens": [1, 2], "trainable_token_indices": [3], "fan_in_fan_out": True,
    }  # fmt: skip
    rewrite(source, tmp_path / "out", adapter=write_adapter(tmp_path / "adapter", lora(), **config))


def test_what_is_no_adapter(source: Path, tmp_path: Path) -> None:
    """Wrong paths, and weights that are not safetensors."""
    with pytest.raises(UsageError, match=r"no adapter_config.json"):
        rewrite(source, tmp_path / "out", adapter=source / "notes")
    adapter = write_adapter(tmp_path / "adapter", lora())
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(UnsupportedError, match="Save it again with peft"):
        rewrite(source, tmp_path / "out", adapter=adapter)
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(CheckpointError, match="expected a JSON object"):
        rewrite(source, tmp_path / "out", adapter=adapter)


@pytest.mark.parametrize("where", [".", "adapters/style"])
def test_an_adapter_beside_the_weights(source: Path, tmp_path: Path, where: str) -> None:
    """It would be copied as it is and no longer fit."""
    (source / where).mkdir(parents=True, exist_ok=True)
    (source / where / "adapter_config.json").write_text("{}")
    with pytest.raises(UnsupportedError, match=r"adapter elsewhere|out of the checkpoint and give it with --adapter"):
        rewrite(source, tmp_path / "out")


@pytest.mark.parametrize("described", [False, True])
def test_predictors_and_counts(source: Path, tmp_path: Path, described: bool) -> None:
    """PowerInfer's files: rows of fc2 and counts follow the neurons; the config goes along; checksums are right."""
    rng = np.random.default_rng(0)
    predictor = {"fc1.weight": rng.standard_normal((3, 8)).astype("f4"),
                 "fc2.weight": rng.standard_normal((24, 3)).astype("f2")}  # fmt: skip
    counts = rng.integers(0, 999, 24)
    (tmp_path / "predictor").mkdir()
    (tmp_path / "activation").mkdir()
    for layer in range(2):
        write_torch_file(tmp_path / f"predictor/model_{layer}.pt", predictor, with_descriptors=described)
        write_torch_file(tmp_path / f"activation/activation_{layer}.pt", counts, with_descriptors=described)
    (tmp_path / "predictor" / "config.json").write_text("{}")
    carriers = [tmp_path / "predictor", tmp_path / "activation"]
    _, placement = rewrite(source, tmp_path / "out", carriers=carriers)
    beside = tmp_path / "out" / "ripple_place" / "carriers"
    for layer in range(2):
        order = placement.blocks[f"layers.{layer}"].order
        path = beside / f"predictor/model_{layer}.pt"
        assert zipfile.ZipFile(path).testzip() is None
        for name, expected in (("fc1.weight", predictor["fc1.weight"]), ("fc2.weight", predictor["fc2.weight"][order])):
            begin = read_torch_file(path)[name].offset_bytes
            assert path.read_bytes()[begin : begin + expected.nbytes] == expected.tobytes()
        path = beside / f"activation/activation_{layer}.pt"
        assert zipfile.ZipFile(path).testzip() is None
        begin = read_torch_file(path)[""].offset_bytes
        assert path.read_bytes()[begin : begin + 8 * 24] == counts[order].astype("i8").tobytes()
    assert (beside / "predictor" / "config.json").read_text() == "{}"
    proof = verify(source, tmp_path / "out", carriers=carriers)
    assert proof.checks["files permuted along equal their sources after the inverse permutation"] == 5
    (tmp_path / "predictor" / "config.json").write_text('{"sparse_threshold": 1.0}')
    with pytest.raises(VerificationError, match=r"config\.json"):
        verify(source, tmp_path / "out", carriers=carriers)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("model_0.pt", {"fc2.weight": np.zeros((23, 3), "f4")}, r"shape \[23, 3\]; expected 24 neurons"),
        ("model_0.pt", {"fc1.weight": np.zeros((3, 8), "f4")}, "no tensor by neuron"),
        ("model_0.pt", {"fc3.weight": np.zeros((3, 8), "f4")}, "fc3.weight"),
        ("model_7.pt", {"fc2.weight": np.zeros((24, 3), "f4")}, "found layer 7"),
        ("activation_0.pt", {"x": np.zeros(24, "f4")}, "activation_0.pt: x"),
        ("activation_0.pt", np.zeros(23, "f4"), "expected 24 neurons"),
    ],
)
def test_predictors_of_another_model(source: Path, tmp_path: Path, name: str, value: Any, message: str) -> None:
    """Shapes and names tell."""
    write_torch_file(tmp_path / name, value)
    with pytest.raises(CheckpointError, match=message):
        rewrite(source, tmp_path / "out", carriers=[tmp_path / name])


def test_torch_files_that_are_none(source: Path, tmp_path: Path) -> None:
    """Nothing in a pickle is run; old and odd files are refused."""
    path = tmp_path / "activation_0.pt"
    path.write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
    with pytest.raises(UnsupportedError, match=r"torch before 1.6.*torch.save"):
        rewrite(source, tmp_path / "out", carriers=[path])
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(CheckpointError, match=r"os.system in the pickle"):
        rewrite(source, tmp_path / "out", carriers=[path])
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"N.")
    with pytest.raises(CheckpointError, match="no plain archive"):
        rewrite(source, tmp_path / "out", carriers=[path])


def dat(entries: dict[str, np.ndarray]) -> bytes:
    """Return an importance matrix in the old format."""
    data = struct.pack("<i", len(entries))
    for name, values in entries.items():
        data += struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 7, values.size)
        data += values.astype("<f4").tobytes()
    return data + struct.pack("<ii", 7, 4) + b"wiki"


def gguf(entries: dict[str, np.ndarray], alignment: int = 64) -> bytes:
    """Return an importance matrix as GGUF, with metadata of many types."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    pairs = [
        text("general.type") + struct.pack("<I", 8) + text("imatrix"),
        text("general.alignment") + struct.pack("<II", 4, alignment),
        text("imatrix.datasets") + struct.pack("<IIQ", 9, 8, 2) + text("a") + text("b"),
        text("imatrix.sizes") + struct.pack("<IIQ3h", 9, 3, 3, 1, 2, 3),
        text("imatrix.flag") + struct.pack("<IB", 7, 1),
    ]
    tensors, body = b"", b""
    for name, values in entries.items():
        tensors += text(f"{name}.in_sum2") + struct.pack("<IQQIQ", 2, values.size, 1, 0, len(body))
        body += values.astype("<f4").tobytes() + b"\0" * (-4 * values.size % alignment)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(entries), len(pairs)) + b"".join(pairs) + tensors
    return head + b"\0" * (-len(head) % alignment) + body


@pytest.mark.parametrize("write", [dat, gguf])
def test_an_importance_matrix(source: Path, tmp_path: Path, write: Any) -> None:
    """Entries of down projections follow the neurons, those of others stay."""
    rng = np.random.default_rng(0)
    before = {f"blk.{layer}.ffn_{name}.weight": rng.random(24 if name == "down" else 8, "f4")
              for layer in range(2) for name in ("gate", "up", "down")}  # fmt: skip
    (tmp_path / "m.imatrix").write_bytes(write(before))
    _, placement = rewrite(source, tmp_path / "out", carriers=[tmp_path / "m.imatrix"])
    after = dict(before)
    for layer in range(2):
        name = f"blk.{layer}.ffn_down.weight"
        after[name] = before[name][placement.blocks[f"layers.{layer}"].order]
    assert (tmp_path / "out/ripple_place/carriers/m.imatrix").read_bytes() == write(after)


def test_an_importance_matrix_of_experts(tmp_path: Path) -> None:
    """All experts of a layer stand in one entry, expert by expert."""
    rng = np.random.default_rng(0)
    base = "model.layers.0.mlp.experts."
    tensors = {
        base + "gate_up_proj": rng.standard_normal((3, 48, 8)),
        base + "down_proj": rng.standard_normal((3, 8, 24)),
    }
    config = {"model_type": "qwen3_moe", "moe_intermediate_size": 24, "hidden_size": 8, "num_hidden_layers": 1}
    source = write_checkpoint(tmp_path / "m", tensors, config)
    values = rng.random(72, "f4")
    (tmp_path / "m.dat").write_bytes(dat({"blk.0.ffn_down_exps.weight": values}))
    _, placement = rewrite(source, tmp_path / "out", carriers=[tmp_path / "m.dat"])
    orders = [24 * e + placement.blocks[f"layers.0.experts.{e}"].order for e in range(3)]
    expected = dat({"blk.0.ffn_down_exps.weight": values[np.concatenate(orders)]})
    assert (tmp_path / "out/ripple_place/carriers/m.dat").read_bytes() == expected
    write_torch_file(tmp_path / "model_0.pt", {"fc2.weight": np.zeros((24, 3), "f4")})
    with pytest.raises(UnsupportedError, match="a layer with experts"):
        rewrite(source, tmp_path / "again", carriers=[tmp_path / "model_0.pt"])


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "an empty file"),
        (bytes(3), "no entries"),
        (struct.pack("<i", -1), "-1 entries"),
        (dat({"blk.0.ffn_down.weight": np.zeros(24)})[:40], "24 values"),
        (gguf({"blk.0.ffn_down.weight": np.zeros(24)})[:-90], "behind the file's end"),
        (
            gguf({"blk.0.ffn_down.weight": np.zeros(24)}).replace(struct.pack("<II", 4, 64), bytes([4, *bytes(7)])),
            "an alignment of 0 bytes",
        ),
        (b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, 2**63), "no entries"),
        (b"GGUF" + struct.pack("<IQQQI", 3, 0, 1, 0, 9) + struct.pack("<IQ", 9, 1) * 100_000, "recursion"),
        (dat({"blk.0.ffn_up.weight": np.zeros(8)}), "no entry of a down projection"),
        (dat({"blk.0.ffn_down.weight": np.zeros(23)}), "23 values; expected 24"),
        (dat({"blk.9.ffn_down.weight": np.zeros(24)}), "24 values; expected 0"),
    ],
)
def test_importance_matrices_that_are_wrong(source: Path, tmp_path: Path, data: bytes, message: str) -> None:
    """Malformed files, and those of other models."""
    (tmp_path / "m.dat").write_bytes(data)
    with pytest.raises(CheckpointError, match=message):
        rewrite(source, tmp_path / "out", carriers=[tmp_path / "m.dat"])


def test_verify_checks_what_went_along(source: Path, tmp_path: Path) -> None:
    """A carrier in another order is found behind a manifest that agrees with it."""
    rewrite(source, tmp_path / "out", adapter=write_adapter(tmp_path / "adapter", lora()))
    assert read_manifest(tmp_path / "out").document["carriers"][ADAPTER]["kind"] == "adapter"
    tensors = load_file(tmp_path / "out" / ADAPTER)
    name = MODULE.format(0) + "mlp.up_proj.lora_B.weight"
    save_file(tensors | {name: tensors[name][::-1].copy()}, tmp_path / "out" / ADAPTER)
    adjust_manifest(tmp_path / "out")
    with pytest.raises(VerificationError, match=r"adapter_model.safetensors: found other contents"):
        verify(source, tmp_path / "out")


@pytest.mark.parametrize(("names", "message"), [(["nowhere"], "nothing there"), (["empty"], "nothing that follows")])
def test_paths_that_hold_no_carrier(source: Path, tmp_path: Path, names: list[str], message: str) -> None:
    """A typing error is no reason to write a model without its predictor."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=message):
        rewrite(source, tmp_path / "out", carriers=[tmp_path / name for name in names])


def test_two_carriers_of_one_name(source: Path, tmp_path: Path) -> None:
    """They would overwrite each other."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.dat").write_bytes(dat({"blk.0.ffn_down.weight": np.zeros(24)}))
    with pytest.raises(UsageError, match="two of the same name"):
        rewrite(source, tmp_path / "out", carriers=[tmp_path / "a/m.dat", tmp_path / "b/m.dat"])


def test_stale_files_in_the_checkpoint(source: Path, tmp_path: Path) -> None:
    """Importance matrices, counts and GPU splits are by neuron: left out, and the manifest says why."""
    for name in ("imatrix.dat", "activation_0.pt", "m.gpuidx"):
        (source / name).write_bytes(b"")
    rewrite(source, tmp_path / "out")
    left_out = read_manifest(tmp_path / "out").document["source"]["left_out"]
    assert set(left_out) == {"imatrix.dat", "activation_0.pt", "m.gpuidx"}
    assert "--carrier" in left_out["imatrix.dat"]
