"""Checkpoint directories: where they lie, what lies in them, and what their tensors are called."""

from __future__ import annotations

import gzip
import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import load_file, save_file

from ripple_place.checkpoint.model.family import Family
from ripple_place.checkpoint.model.ffn import describe_ffn, open_model
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.convert import convert
from tests.builders import llama_config, llama_tensors, opt_config, opt_tensors, write_checkpoint
from tests.checkpoint.model.test_quantised import write_quantised
from tests.remedies.bench import model_at, trace_at
from tests.remedies.cases import case, instead, run
from tests.test_foreign import HTML, LFS
from tests.torch_files import write_torch_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.remedies.cases import Attempts

INDEX = "model.safetensors.index.json"
SHARDS = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
UP = "model.layers.1.mlp.up_proj.weight"


def look(path: Path) -> None:
    """Find the FFNs of a checkpoint."""
    describe_ffn(Checkpoint.open(path))


def llama_at(path: Path, *, n_shards: int = 1, **config: object) -> Path:
    """Write a Llama, in one file or in three."""
    tensors = llama_tensors()
    shards = {name: SHARDS[i % 3] for i, name in enumerate(tensors)} if n_shards > 1 else None
    return write_checkpoint(path, tensors, llama_config() | config, shards=shards)


def edit(path: Path, **changes: object) -> None:
    """Change a JSON object in a file."""
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def place(model: Path, **places: str) -> None:
    """Have an index place tensors."""
    index = json.loads((model / INDEX).read_text())
    edit(model / INDEX, weight_map=index["weight_map"] | places)


def rename(file: Path, change: Callable[[str], str | None]) -> None:
    """Rename or leave out tensors."""
    save_file({new: tensor for name, tensor in load_file(file).items() if (new := change(name))}, file)


# Where checkpoints lie.


@case("hub.py:directory_error", "correct the path", "a path with a slip: the directory of the model")
def slip(folder: Path) -> Attempts:
    """Nothing is there."""
    yield lambda: look(folder / "mdel")
    yield lambda: look(model_at(folder / "model"))


_DIRECTORY = "hub.py:directory_error"


@case(
    "hub.py:nothing_error", "only local directories", "a name on the hub: downloaded into a directory, which is given"
)
def hub_name(folder: Path) -> Attempts:
    """Made here, as the download would make it."""
    yield lambda: look(Path("org/opt"))
    model_at(folder / "opt")
    yield lambda: look(folder / "opt")


@case(_DIRECTORY, "a file; a checkpoint directory. give the directory {}", "a file of a checkpoint: its directory")
def file_of_a_checkpoint(folder: Path) -> Attempts:
    """The weights, named by themselves."""
    model = model_at(folder / "model")
    yield lambda: look(model / "model.safetensors")
    yield lambda: look(model)


@case(
    _DIRECTORY, "a file; a checkpoint directory. give the directory that", "a file elsewhere: the directory of a model"
)
def file_elsewhere(folder: Path) -> Attempts:
    """A trace in place of a model."""
    yield lambda: look(trace_at(folder / "trace"))
    yield lambda: look(model_at(folder / "model"))


@case(_DIRECTORY, "whose snapshots", "the cache of a model: its snapshot")
def cache(folder: Path) -> Attempts:
    """As the hub's client lays it out."""
    snapshot = model_at(folder / "models--org--opt" / "snapshots" / "27dcfa")
    yield lambda: look(folder / "models--org--opt")
    yield lambda: look(snapshot)


@case(_DIRECTORY, "without a snapshot", "a cache without a snapshot: the model is downloaded, and its snapshot given")
def empty_cache(folder: Path) -> Attempts:
    """A download that was broken off at once."""
    (folder / "models--org--opt" / "blobs").mkdir(parents=True)
    yield lambda: look(folder / "models--org--opt")
    snapshot = model_at(folder / "models--org--opt" / "snapshots" / "27dcfa")
    yield lambda: look(snapshot)


@case(_DIRECTORY, "checkpoints below; a checkpoint directory. give {}", "the directory above a model: the model")
def above(folder: Path) -> Attempts:
    """One level too high."""
    model = model_at(folder / "models" / "opt")
    yield lambda: look(folder / "models")
    yield lambda: look(model)


@case(_DIRECTORY, "give one of", "the directory above two models: one of them")
def above_two(folder: Path) -> Attempts:
    """Which is meant, only the user knows."""
    models = [model_at(folder / "models" / name) for name in ("a", "b")]
    yield lambda: look(folder / "models")
    yield lambda: look(models[1])


# What lies in a file's place.


def replaced(words: str, story: str, content: bytes, *, beside: str = "", untried: str = "") -> None:
    """List a case of a shard with other contents, perhaps beside some file: it is put in place again."""

    @case(f"foreign.py:{words.partition('|')[0]}", words.partition("|")[2], story, untried=untried)
    def scene(folder: Path) -> Attempts:
        model = model_at(folder / "model")
        file = model / "model.safetensors"
        whole = file.read_bytes()
        file.write_bytes(content)
        if beside:
            (model / beside).write_bytes(b"")
        yield lambda: look(model)
        file.write_bytes(whole)


replaced("_pointer|git lfs pull", "a Git LFS pointer: what git lfs pull puts in its place", LFS)
replaced("_pointer|a git-annex pointer", "a pointer of git-annex: what it gets", b"/annex/objects/SHA256E-s42--9f\n")
replaced("_pointer|an empty file. download", "a shard of no bytes: downloaded again", b"")
replaced("_pointer|zeros in its", "space for a download: the download ends", bytes(2048))
replaced("_unfinished|", "a download that has not ended: it ends", bytes(2048), beside="model.safetensors.aria2")
replaced("_answer|", "an error page: downloaded again after a login", HTML)
replaced(
    "_other_format|under another format", "weights of another format: the file that belongs there", b"GGUF\3\0\0\0"
)


@case("foreign.py:_pointer", "an empty file. copy or download", "a placement of no bytes: copied again")
def empty_placement(folder: Path) -> Attempts:
    """No checkpoint is around it, so that no command can be given."""
    trace = trace_at(folder / "trace")
    (folder / "copy.safetensors").write_bytes(b"")
    yield lambda: run("profile", folder / "copy.safetensors", "--out", folder / "p")
    shutil.copy(trace, folder / "copy.safetensors")


@case("foreign.py:_other_format", "a {} archive", "an archive: unpacked, and put in its place")
def archive(folder: Path) -> Attempts:
    """By gzip."""
    model = model_at(folder / "model")
    file = model / "model.safetensors"
    whole = file.read_bytes()
    file.write_bytes(gzip.compress(whole))
    yield lambda: look(model)
    file.write_bytes(gzip.decompress(file.read_bytes()))


def linked(words: str, story: str, target: str) -> None:
    """List a case of a link that leads nowhere: what it leads to is put in place."""

    @case("foreign.py:_absent", words, story)
    def scene(folder: Path) -> Attempts:
        model = model_at(folder / "model")
        file = model / "model.safetensors"
        (model / target).parent.mkdir(parents=True)
        file.rename(folder / "elsewhere")
        file.symlink_to(target)
        yield lambda: look(model)
        (folder / "elsewhere").rename(model / target)


linked("run the download again", "a link to a blob that is gone: downloaded again", "blobs/9f")
linked("git annex get", "a link of git-annex: what it gets", ".git/annex/objects/9f")


# Which files are the weights.

_WEIGHTS = "checkpoint/model/weights.py"


def without_weights(words: str, story: str, name: str, *, untried: str = "") -> None:
    """List a case of a model in another format: safetensors are put in its place."""

    @case(f"{_WEIGHTS}:no_weights_error", words, story, untried=untried)
    def scene(folder: Path) -> Attempts:
        model = model_at(folder / "model")
        (model / "model.safetensors").rename(folder / "elsewhere")
        (model / name).write_bytes(b"x")
        yield lambda: look(model)
        (folder / "elsewhere").rename(model / "model.safetensors")


without_weights("gguf_file=", "GGUF alone: the model's safetensors are downloaded", "model.gguf")
without_weights("from_flax=True", "a msgpack of flax: the model's safetensors are downloaded", "flax_model.msgpack")
without_weights("with the tool that wrote it", "a pth file: the model is saved as safetensors", "consolidated.00.pth")
without_weights("from which {} was made", "an ONNX graph: the safetensors of its model", "model.onnx")
without_weights("only {}; {}, or shards and {}. download the weights", "a config alone: the weights too", "notes.txt")


@case(f"{_WEIGHTS}:no_weights_error", "convert the weights first", "a torch file: converted by the command")
def torch_file(folder: Path) -> Attempts:
    """The function that the command runs."""
    model = model_at(folder / "model")
    write_torch_file(model / "pytorch_model.bin", load_file(model / "model.safetensors"))
    (model / "model.safetensors").unlink()
    yield lambda: look(model)
    convert(model, f"{model}-safetensors")
    yield lambda: look(folder / "model-safetensors")


@case(f"{_WEIGHTS}:no_weights_error", "have not ended", "weights that are being downloaded: the download ends")
def weights_on_their_way(folder: Path) -> Attempts:
    """The hub's client keeps them in a directory of its own."""
    model = model_at(folder / "model")
    parts = model / ".cache" / "huggingface" / "download"
    parts.mkdir(parents=True)
    (model / "model.safetensors").rename(parts / "a1.9f.incomplete")
    yield lambda: look(model)
    (parts / "a1.9f.incomplete").rename(model / "model.safetensors")


@case(f"{_WEIGHTS}:no_weights_error", "give one of", "weights in a directory below: that directory")
def weights_below(folder: Path) -> Attempts:
    """A config above, and a checkpoint for each precision."""
    below = model_at(folder / "model" / "fp16")
    shutil.copy(below / "config.json", folder / "model")
    yield lambda: look(folder / "model")
    yield lambda: look(below)


@case(f"{_WEIGHTS}:_by_index", "remove the stale one", "one file and an index of others: the stale one goes")
def file_and_index(folder: Path) -> Attempts:
    """Either may be the one that is meant."""
    model = llama_at(folder / "model", n_shards=3)
    save_file(llama_tensors(), model / "model.safetensors")
    yield lambda: look(model)
    (model / "model.safetensors").rename(folder / "elsewhere")
    yield lambda: look(model)
    (folder / "elsewhere").rename(model / "model.safetensors")
    (model / INDEX).unlink()
    yield lambda: look(model)


@case(
    f"{_WEIGHTS}:_missing_error",
    "{} shards; the shard that the index names. download it",
    "a missing shard: downloaded",
)
def missing_shard(folder: Path) -> Attempts:
    """The others are there."""
    model = llama_at(folder / "model", n_shards=3)
    (model / SHARDS[1]).rename(folder / "elsewhere")
    yield lambda: look(model)
    (folder / "elsewhere").rename(model / SHARDS[1])


@case(
    f"{_WEIGHTS}:_missing_error", "remove {} if those are", "an index of another build: removed, or its shards are got"
)
def index_of_another_build(folder: Path) -> Attempts:
    """The shards that are there are the whole model."""
    model = llama_at(folder / "model", n_shards=3)
    other = {f"x{n}": f"model-0000{n}-of-00005.safetensors" for n in range(1, 6)}
    whole = (model / INDEX).read_text()
    (model / INDEX).write_text(json.dumps({"weight_map": other}))
    yield lambda: look(model)
    (model / INDEX).unlink()
    yield lambda: look(model)
    (model / INDEX).write_text(whole)
    yield lambda: look(model)


def damaged_index(words: str, story: str, content: str) -> None:
    """List a case of an index that cannot be read: it is removed, or downloaded."""

    @case(f"{_WEIGHTS}:_read_weight_map", words, story)
    def scene(folder: Path) -> Attempts:
        model = llama_at(folder / "model", n_shards=3)
        whole = (model / INDEX).read_text()
        (model / INDEX).write_text(content)
        yield lambda: look(model)
        (model / INDEX).unlink()
        yield lambda: look(model)
        (model / INDEX).write_text(whole)
        yield lambda: look(model)


damaged_index("so that the shards'", "an index that is cut short: removed, or downloaded", "{")
damaged_index("headers then count", "an index without its map: removed, or downloaded", "{}")


@case(f"{_WEIGHTS}:_check_plain", "", "an index that points outside: the model is downloaded elsewhere")
def index_that_points_outside(folder: Path) -> Attempts:
    """Whoever wrote it may have more in mind."""
    model = llama_at(folder / "model", n_shards=3)
    place(model, **{UP: "../x.safetensors"})
    yield lambda: look(model)
    yield lambda: look(llama_at(folder / "elsewhere", n_shards=3))


@case(f"{_WEIGHTS}:_by_names", "sets of shards", "two sets of shards and no index: one is moved away")
def two_sets(folder: Path) -> Attempts:
    """Two builds of a model."""
    model = llama_at(folder / "model", n_shards=3)
    (model / INDEX).unlink()
    save_file({"x": np.zeros(1)}, model / "model-00001-of-00001.safetensors")
    yield lambda: look(model)
    (model / "model-00001-of-00001.safetensors").rename(folder / "elsewhere")


@case(f"{_WEIGHTS}:_by_names", "download the rest", "no index, and a shard is missing: downloaded")
def missing_shard_without_index(folder: Path) -> Attempts:
    """The names tell how many there should be."""
    model = llama_at(folder / "model", n_shards=3)
    (model / INDEX).unlink()
    (model / SHARDS[2]).rename(folder / "elsewhere")
    yield lambda: look(model)
    (folder / "elsewhere").rename(model / SHARDS[2])


_SHARDS = "checkpoint/model/shards.py"


@case(
    f"{_SHARDS}:Checkpoint.open",
    "",
    "a tensor in two files: the one of another model goes, or the model is saved again",
)
def tensor_twice(folder: Path) -> Attempts:
    """Two files without numbers."""
    model = llama_at(folder / "model")
    (model / "model.safetensors").rename(model / "a.safetensors")
    save_file({UP: np.zeros((24, 8), "f2")}, model / "b.safetensors")
    yield lambda: look(model)
    (model / "b.safetensors").rename(folder / "elsewhere")
    yield lambda: look(model)
    yield lambda: look(llama_at(folder / "saved"))


@case(
    f"{_SHARDS}:read_config", "in its publisher's own format", "a model as its publisher has it: as transformers has it"
)
def own_format(folder: Path) -> Attempts:
    """Mistral's repositories have both."""
    model = llama_at(folder / "model")
    whole = (model / "config.json").read_text()
    (model / "config.json").rename(model / "params.json")
    yield lambda: look(model)
    (model / "config.json").write_text(whole)


@case(f"{_SHARDS}:read_config", "download it", "no config: downloaded")
def no_config(folder: Path) -> Attempts:
    """Weights alone."""
    model = llama_at(folder / "model")
    (model / "config.json").rename(folder / "elsewhere")
    yield lambda: look(model)
    (folder / "elsewhere").rename(model / "config.json")


@case(f"{_SHARDS}:_adapter_error", "move the adapter elsewhere", "an adapter beside its model: moved, or merged")
def adapter_beside(folder: Path) -> Attempts:
    """It would no longer fit."""
    model = llama_at(folder / "model")
    (model / "adapter_config.json").write_text("{}")
    yield lambda: look(model)
    yield lambda: look(llama_at(folder / "merged"))
    (model / "adapter_config.json").rename(folder / "elsewhere")
    yield lambda: look(model)


@case(f"{_SHARDS}:_adapter_error", "give the model that it adapts", "an adapter alone: its model, or the two merged")
def adapter_alone(folder: Path) -> Attempts:
    """What training writes."""
    adapter = folder / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    yield lambda: look(adapter)
    yield lambda: look(llama_at(folder / "model"))
    yield lambda: look(llama_at(folder / "merged"))


@case(f"{_SHARDS}:_open_shard", "", "a file of weights that the config names and is not there: downloaded")
def named_weights(folder: Path) -> Attempts:
    """Under a name of its own."""
    model = llama_at(folder / "model", transformers_weights="mine.safetensors")
    yield lambda: look(model)
    (model / "model.safetensors").rename(model / "mine.safetensors")


@case(f"{_SHARDS}:_compare_index", "", "an index of another model: removed")
def index_of_another_model(folder: Path) -> Attempts:
    """It names the files, and none of their tensors."""
    model = llama_at(folder / "model", n_shards=3)
    (model / INDEX).write_text(json.dumps({"weight_map": {f"x{n}": name for n, name in enumerate(SHARDS)}}))
    yield lambda: look(model)
    (model / INDEX).unlink()


# What their tensors are.

_DESCRIBE, _FFN, _PREFIX = (f"checkpoint/model/{name}.py" for name in ("describe", "ffn", "prefix"))


@case(f"{_DESCRIBE}:_missing_error", "download both again", "shard and index of two revisions: of one")
def two_revisions(folder: Path) -> Attempts:
    """The index names a matrix that the shard lacks."""
    model = llama_at(folder / "model", n_shards=3)
    file = model / json.loads((model / INDEX).read_text())["weight_map"][UP]
    whole = file.read_bytes()
    rename(file, lambda name: None if name == UP else name)
    yield lambda: look(model)
    file.write_bytes(whole)


@case(f"{_DESCRIBE}:_missing_error", "give a copy", "an FFN without a matrix: a copy that has it")
def incomplete_ffn(folder: Path) -> Attempts:
    """Saved without it."""
    model = llama_at(folder / "model")
    rename(model / "model.safetensors", lambda name: None if name == UP else name)
    yield lambda: look(model)
    yield lambda: look(llama_at(folder / "copy"))


def wrapped(where: str, story: str, change: Callable[[str], str], back: Callable[[str], str]) -> None:
    """List a case of names with a part that training left: the tensors are renamed."""

    @case(where, "its names have a part", story)
    def scene(folder: Path) -> Attempts:
        model = llama_at(folder / "model")
        rename(model / "model.safetensors", change)
        yield lambda: look(model)
        rename(model / "model.safetensors", back)


wrapped(
    f"{_PREFIX}:names_error", "one layer that peft wrapped: renamed as by merging",
    lambda name: name.replace("up_proj.weight", "up_proj.base_layer.weight"),
    lambda name: name.replace(".base_layer", ""),
)  # fmt: skip
wrapped(
    f"{_PREFIX}:names_error", "layers that were compiled: renamed",
    lambda name: name.replace(".mlp.", ".mlp._orig_mod."),
    lambda name: name.replace("._orig_mod", ""),
)  # fmt: skip


@case(f"{_PREFIX}:find_prefix", "FFN tensors under", "two models in one file: one of them")
def two_models(folder: Path) -> Attempts:
    """A second decoder without the usual prefix."""
    model = llama_at(folder / "model")
    file = model / "model.safetensors"
    save_file(load_file(file) | llama_tensors(prefix=""), file)
    yield lambda: look(model)
    rename(file, lambda name: name if name.startswith(("model.", "lm_head")) else None)


@case(f"{_PREFIX}:find_prefix", "give a whole checkpoint", "a config of another model: its own")
def config_of_another_type(folder: Path) -> Attempts:
    """Names of OPT, and a Llama's config."""
    model = write_checkpoint(folder / "model", opt_tensors(), llama_config())
    yield lambda: look(model)
    (model / "config.json").write_text(json.dumps(opt_config()))


@case(f"{_DESCRIBE}:_check_form", "", "weights of 4 bits a number: those before they were quantised")
def half_bytes(folder: Path) -> Attempts:
    """F4, in which two neurons may share a byte."""
    model = llama_at(folder / "model")
    file = model / "model.safetensors"
    file.write_bytes(as_half_bytes(file.read_bytes()))
    yield lambda: look(model)
    yield lambda: look(llama_at(folder / "original"))


def as_half_bytes(data: bytes) -> bytes:
    """Call numbers of 16 bits four times as many of 4, along the hidden axis."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    for entry in header.values():
        entry["dtype"], entry["shape"] = "F4", [*entry["shape"][:-1], 4 * entry["shape"][-1]]
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


@case(f"{_DESCRIBE}:_config_error", "", "a mixture whose config lacks the width of its experts: the model's own config")
def no_expert_width(folder: Path) -> Attempts:
    """The experts of DBRX lie in one matrix."""
    shapes = {name: (48, 8) for name in ("w1", "v1", "w2")}
    tensors = {f"transformer.blocks.0.ffn.experts.mlp.{name}": np.ones(shape, "f2") for name, shape in shapes.items()}
    model = write_checkpoint(folder / "model", tensors, {"model_type": "dbrx", "n_layers": 1, "d_model": 8})
    yield lambda: look(model)
    edit(model / "config.json", ffn_config={"ffn_hidden_size": 24})


@case(
    f"{_DESCRIBE}:_shape_error", "otherwise make sure", "one width in the config, several in the layers: a list, or "
    "the right config",
)  # fmt: skip
def widths_by_layer(folder: Path) -> Attempts:
    """A model that was pruned."""
    tensors = llama_tensors() | {name: t for name, t in llama_tensors(n_neurons=16).items() if "layers.1." in name}
    model = write_checkpoint(folder / "model", tensors, llama_config())
    yield lambda: look(model)
    edit(model / "config.json", intermediate_size=[24, 16])
    yield lambda: look(model)
    yield lambda: look(llama_at(folder / "other"))


@case(f"{_DESCRIBE}:_shape_error", "{}. make sure", "a config of another hidden width: the right one")
def other_hidden(folder: Path) -> Attempts:
    """It was edited, or is another model's."""
    model = llama_at(folder / "model", hidden_size=16)
    yield lambda: look(model)
    edit(model / "config.json", hidden_size=8)


@case(f"{_FFN}:_check_layers", "", "layers that were cut out: the config says how many are left, or they are got back")
def cut_layers(folder: Path) -> Attempts:
    """Two of four are there."""
    model = llama_at(folder / "model", num_hidden_layers=4)
    yield lambda: look(model)
    edit(model / "config.json", num_hidden_layers=2)
    yield lambda: look(model)
    yield lambda: look(write_checkpoint(folder / "whole", llama_tensors(n_layers=4), llama_config(n_layers=4)))


@case(
    f"{_FFN}:refuse_unstored",
    "",
    "an index that names a bias too many: removed, or of the same revision as its shards",
)
def bias_too_many(folder: Path) -> Attempts:
    """Loaders would make it up."""
    model = llama_at(folder / "model", n_shards=3)
    whole = (model / INDEX).read_text()
    place(model, **{UP.replace("weight", "bias"): SHARDS[0]})
    yield lambda: look(model)
    (model / INDEX).unlink()
    yield lambda: look(model)
    (model / INDEX).write_text(whole)
    yield lambda: look(model)


@case("checkpoint/model/coverage.py:refuse_unmapped", "in a copy of that file")
def unknown_tensor(folder: Path) -> Attempts:
    """A norm over the neurons that no family file knows: a copy of the file with it."""
    model = llama_at(folder / "model")
    save_file(llama_tensors() | {"model.layers.0.mlp.x": np.ones(24)}, model / "model.safetensors")
    yield lambda: look(model)
    norm = '{ role = "sub_norm", tensor = "layers.{layer}.mlp.x", axes = ["neuron"] },'
    shipped = files("ripple_place.checkpoint").joinpath("families", "llama.toml").read_text()
    (folder / "mine.toml").write_text(shipped.replace("carriers = [", f"carriers = [{norm}"))
    yield lambda: open_model(model, folder / "mine.toml")


def quantised(where: str, words: str, story: str, tensors: dict[str, np.ndarray], **settings: object) -> None:
    """List a case of quantised weights that no rule covers: the model before it was quantised."""

    @case(where, words, story)
    def scene(folder: Path) -> Attempts:
        config = llama_config() | ({"quantization_config": settings} if settings else {})
        model = write_checkpoint(folder / "model", llama_tensors() | tensors, config)
        yield lambda: look(model)
        yield lambda: look(llama_at(folder / "original"))


_ODD = np.zeros((2, 2), np.int32)
quantised(
    "checkpoint/model/coverage.py:refuse_unmapped", "of a quantised", "zeros without their weights: the original",
    {UP.replace("weight", "qzeros"): _ODD},
)  # fmt: skip
quantised(
    "checkpoint/model/quantisation_config.py:_refused", "", "a method that no rule covers: the original", {},
    quant_method="hqq",
)  # fmt: skip
quantised(
    "checkpoint/model/stored_tensors.py:StoredTensors._require", "", "packed weights of no format: the original",
    {UP.replace("weight", "weight_packed"): _ODD},
)  # fmt: skip


@case(f"{_DESCRIBE}:_check_quantised_shape", "", "neurons that do not fill the words of their weights: the original")
def odd_words(folder: Path) -> Attempts:
    """23 neurons, of which eight share a word."""
    model = write_quantised(folder / "model", "awq")
    config = json.loads((model / "config.json").read_text())
    edit(model / "config.json", intermediate_size=config["intermediate_size"] - 1)
    yield lambda: look(model)
    yield lambda: look(llama_at(folder / "original"))


@case("checkpoint/model/ffn.py:FfnModel.of_unit")
def packed_columns(folder: Path) -> Attempts:
    """Columns of weights that are packed: their neurons."""
    model = open_model(write_quantised(folder / "model", "awq"))
    yield lambda: model.of_unit("column")
    yield lambda: model.of_unit("neuron")


@case("checkpoint/model/quantisation_config.py:_declared", "", "a tool's own file, cut short: downloaded, or removed")
def damaged_sidecar(folder: Path) -> Attempts:
    """Nothing but the tool reads it."""
    model = llama_at(folder / "model")
    sidecar = model / "quantize_config.json"
    sidecar.write_text("{")
    yield lambda: look(model)
    sidecar.unlink()
    yield lambda: look(model)


# Families.

FAMILY = """
model_types = ["mine"]
prefixes = ["model.", ""]
n_layers_keys = []
hidden_keys = []
free = []
[[blocks]]
name = "layers.{layer}"
n_neurons_keys = []
module = []
components = [
    { role = "up", tensor = "layers.{layer}.up", axes = ["neuron", "hidden"] },
    { role = "down", tensor = "layers.{layer}.down", axes = ["hidden", "neuron"] },
]
"""
_FAMILY = "checkpoint/model/family.py"


def corrected(where: str, words: str, story: str, old: str, new: str) -> None:
    """List a case of a family file with a mistake: corrected."""
    instead(
        f"{_FAMILY}:{where}", words, f"{story}: corrected", lambda: Family.parse("mine", FAMILY.replace(old, new)),
        lambda: Family.parse("mine", FAMILY),
    )  # fmt: skip


corrected("Family.parse", "", "no TOML", "[[blocks]]", "[blocks")
corrected("_check_keys", "unknown or missing", "a key with a slip", "prefixes", "prefix")
corrected("_check_keys", "{}; a {}", "a name in place of a list", "n_layers_keys = []", 'n_layers_keys = "n"')
corrected("_check_patterns", "", "a placeholder twice", "free = []", 'free = ["a.{layer}.b.{layer}"]')
corrected("_parse_block", "", "a block by no block's name", 'name = "layers.{layer}"', 'name = "rows.{layer}"')
corrected("_parse_tensor", "", "an axis that is none", '"neuron", "hidden"', '"rows", "hidden"')
corrected("_parse_router", "", "a router of no layer", "[[b", 'routers = [{ tensor = "gate", axes = ["expert"] }]\n[[b')


def model_of_mine(folder: Path) -> Path:
    """Write a model that only `FAMILY` describes, and that file."""
    (folder / "mine.toml").write_text(FAMILY)
    tensors = {"model.layers.0.up": np.ones((24, 8)), "model.layers.0.down": np.ones((8, 24))}
    return write_checkpoint(folder / "model", tensors, {"model_type": "mine"})


_UNKNOWN = "checkpoint/model/nearest_family.py:unknown_type_error"


@case(_UNKNOWN, ". write a family file")
def unknown_type(folder: Path) -> Attempts:
    """A model type that no family has: a file that names its tensors."""
    model = model_of_mine(folder)
    yield lambda: look(model)
    yield lambda: open_model(model, folder / "mine.toml")


@case(_UNKNOWN, "its tensors have the names")
def type_of_a_known_kind(folder: Path) -> Attempts:
    """A Llama by another name: the family by its name, or a file."""
    model = llama_at(folder / "model", model_type="mine")
    yield lambda: look(model)
    yield lambda: open_model(model, "llama")
    shipped = files("ripple_place.checkpoint").joinpath("families", "llama.toml").read_text()
    (folder / "mine.toml").write_text(shipped.replace('"llama",', '"mine",', 1))
    yield lambda: open_model(model, folder / "mine.toml")


_KNOWN = "checkpoint/model/known_families.py"


@case(f"{_KNOWN}:read_family", "correct the path")
def no_such_family(folder: Path) -> Attempts:
    """No file by that name: the right one."""
    model = model_of_mine(folder)
    yield lambda: open_model(model, folder / "yours.toml")
    yield lambda: open_model(model, folder / "mine.toml")


@case(f"{_KNOWN}:read_family", "no UTF-8")
def family_in_another_encoding(folder: Path) -> Attempts:
    """A family file in Latin-1: in UTF-8."""
    model = model_of_mine(folder)
    (folder / "mine.toml").write_bytes(b"# \xfc\n" + FAMILY.encode())
    yield lambda: open_model(model, folder / "mine.toml")
    (folder / "mine.toml").write_text(FAMILY)


@case(f"{_KNOWN}:check_described")
def family_of_other_types(folder: Path) -> Attempts:
    """A file that lists other types: with this one."""
    model = model_of_mine(folder)
    (folder / "mine.toml").write_text(FAMILY.replace('["mine"]', '["yours"]'))
    yield lambda: open_model(model, folder / "mine.toml")
    (folder / "mine.toml").write_text(FAMILY)
