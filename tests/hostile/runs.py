"""Thousands of damaged and lying files, each of which must be read or refused with one sentence.

    python -m tests.hostile.runs --mutations 2000

For each kind of file: a sound one is changed at random (`tests.hostile.mutations`), read by what reads it, and must
either be taken or raise an error of ours: one printable line of four parts, within seconds, without an allocation that
its size does not account for.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import shutil
import signal
import struct
import sys
import tempfile
import tracemalloc
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csr_array, save_npz

import ripple_place
from ripple_place.capture.writer import STATE_FILE, read_state
from ripple_place.checkpoint.carriers.imatrix import describe_imatrix
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import PREDICTORS_FILE
from ripple_place.checkpoint.output.additions import predictors_file
from ripple_place.checkpoint.output.convert import convert
from ripple_place.checkpoint.output.journal import JOURNAL_FILE, Journal, finished_files
from ripple_place.checkpoint.output.manifest import format_manifest, read_manifest
from ripple_place.checkpoint.output.plan import FORMATS, plan_rewrite
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import CheckpointError, RipplePlaceError
from ripple_place.experts.accesses import list_accesses, unit_bytes_of
from ripple_place.flash.device.files import read_device
from ripple_place.flash.simulation_params import SimulationParams
from ripple_place.graph.profile import read_profile
from ripple_place.placement import ModelPlacement, NeuronPlacement, read_placement, write_placement
from ripple_place.placing.params import PlacingParams
from ripple_place.predict.files import predictors_content, read_predictors
from ripple_place.predict.params import MAGNITUDE
from ripple_place.runtime.layout_reader import LayoutReader, ReaderParams
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.system_params import SystemParams
from ripple_place.systems.plan import METADATA_KEY
from ripple_place.systems.plan_params import PlanParams
from ripple_place.systems.system import read_system
from ripple_place.torchfile import read_torch_file
from ripple_place.trace.activation_trace import ActivationTrace
from ripple_place.trace.adapters import AdapterSource
from ripple_place.trace.arrays import read_npy, read_npz
from ripple_place.trace.counts import counts_source, read_counts
from ripple_place.trace.files import read_trace, write_trace
from ripple_place.trace.sources import read_source
from ripple_place.workflows.profile import profile
from ripple_place.workflows.profile_params import ProfileParams
from ripple_place.workflows.reorder import reorder
from ripple_place.workflows.simulate import simulate
from ripple_place.workflows.simulate_systems import simulate_systems
from tests.builders import (
    adjust_manifest,
    llama_config,
    llama_tensors,
    opt_config,
    opt_tensors,
    random_placement,
    write_checkpoint,
)
from tests.checkpoint.model.test_quantised import (
    DECLARED,
    GROUP,
    SCHEMES,
    adjust_config,
    move_to_sidecar,
    write_quantised,
)
from tests.checkpoint.test_carriers import PEFT_CONFIG, gguf, lora, write_adapter
from tests.flash.builders import linear_device
from tests.hostile.mutations import (
    invent_torch_file,
    mutate_bytes,
    mutate_container,
    mutate_json,
    mutate_lines,
    mutate_numbers,
)
from tests.hostile.special import SPECIAL, make_special, remove_special
from tests.predict.builders import add_predictor, predictor_of
from tests.torch_files import write_torch_file
from tests.trace.routes.builders import write_routes
from tests.trace_builders import block_of, planted_clusters

if TYPE_CHECKING:
    from collections.abc import Callable

    Mutate = Callable[[bytes, random.Random], bytes]

DEVICE_FILE = Path(ripple_place.__file__).parent / "flash" / "devices" / "ufs31-oneplus-ace2.toml"
ALLOCATED_BYTES = 4 << 20
"""What a reader may allocate beside the file: a chunk to hash by, and what Python itself takes."""
USED_BYTES = 256 << 20
"""What a simulation may allocate: its chunks, and numbers for each token and neuron that a small file may claim."""
PER_FILE_BYTE = 64
"""What it may allocate for each byte of the file: an empty JSON list takes 56 bytes, and 2 in the file."""
SECONDS = 20
SYSTEM_FILE = Path(ripple_place.__file__).parent / "systems" / "published" / "llm-in-a-flash.toml"
PROVED = ("manifest", "bundled", "bundled columns", "bundled gates", "predictors in an output")
"""Kinds that must be refused however little is changed."""
COMPARED = ("system in use", "plan in use")
"""Kinds that are simulated as a system."""
ADDRESS_SPACE_BYTES = 8 << 30
"""Of the whole process, with its libraries: what tracing does not see ends in a MemoryError."""


class Targets:
    """A sound file of each kind, how it is changed, and how it is read."""

    def __init__(self, root: Path) -> None:
        self.root = root
        shards = {f"model.layers.{layer}.mlp.gate_proj.weight": f"b-{layer}.safetensors" for layer in range(2)}
        self.llama = write_checkpoint(root / "llama", llama_tensors(), llama_config(), shards=shards)
        self.opt = write_checkpoint(root / "opt", opt_tensors(), opt_config())
        model = describe_ffn(Checkpoint.open(self.opt))
        self.plan = plan_rewrite(model, random_placement(model), root / "out")
        execute(self.plan)
        columns = model.of_unit("column")
        execute(plan_rewrite(columns, random_placement(columns), root / "columns"))
        gated = describe_ffn(Checkpoint.open(self.llama))
        execute(plan_rewrite(gated, random_placement(gated), root / "gates", gates="apart"))
        self.unfinished = plan_rewrite(model, random_placement(model), root / "unfinished")
        Journal(self.unfinished, root / "unfinished.partial").__exit__(None, None, None)
        rng = np.random.default_rng(0)
        dense = {f"layers.{layer}": block_of(planted_clusters(rng, n_clusters=3, cluster_size=4, n_rows=40)[0])
                 for layer in range(2)}  # fmt: skip
        experts = {"layers.2.experts.1": block_of(rng.random((5, 9)) < 0.3, [0, 3, 7, 8, 39])}
        tokens = np.arange(40, dtype=np.int32)
        for name, blocks in (("trace", dense | experts), ("dense", dense)):
            write_trace(root / name, ActivationTrace(blocks, 40, np.array([0, 20]), tokens))
        profile(root / "dense", root / "profile", ProfileParams(verdict=None))
        add_predictor(
            root / "profile", predictor_of(dict.fromkeys(dense, 12), predicts=MAGNITUDE), to=root / "predicting"
        )
        (root / "predictors").write_bytes(predictors_content(predictor_of(predicts=MAGNITUDE)))
        added = plan_rewrite(model, random_placement(model), root / "added")
        execute(replace(added, additions=predictors_file(predictor_of(), added.orders)))
        write_torch_file(root / "model_0.pt", {"weight": np.ones((24, 8), "f4"), "bias": np.ones(24, "f4")})
        write_imatrix(root / "imatrix.dat", {f"blk.{layer}.ffn_down.weight": 24 for layer in range(2)})
        (root / "imatrix.gguf").write_bytes(gguf({f"blk.{layer}.ffn_down.weight": np.ones(24) for layer in range(2)}))
        write_torch_file(root / "activation_0.pt", np.arange(9))
        torch = root / "torch"
        torch.mkdir()
        (torch / "pytorch_model.bin.index.json").write_text(
            json.dumps({"weight_map": {f"layer.{n}": f"part-{n}.bin" for n in range(2)}})
        )
        for n in range(2):
            write_torch_file(torch / f"part-{n}.bin", {f"layer.{n}": np.ones((4, 8), "f4")})
        # Of peft's keys those that matter, so that most changes meet one.
        keys = ("layer_replication", "use_bdlora", "use_qalora", "init_lora_weights", "megatron_config", "lora_alpha")
        write_adapter(root / "adapter", lora(), **{key: PEFT_CONFIG[key] for key in keys})
        write_adapter(root / "whole adapter", lora(), **PEFT_CONFIG)
        write_routes(root)
        active = rng.random((30, 24)) < 0.2
        np.save(root / "layers.0.npy", active)
        np.savez(root / "arrays.npz", **{"layers.0": active, "layers.1": active})
        save_npz(root / "layers.1.npz", csr_array(active), compressed=False)
        (root / "capture").mkdir()
        (root / "capture" / "data").write_bytes(bytes(40))
        state = {"identity": {"model": "m"}, "progress": {"texts": 3}, "sizes": {"data": 40}}
        (root / "capture" / STATE_FILE).write_text(json.dumps(state))
        (root / "device.toml").write_bytes(DEVICE_FILE.read_bytes())
        order = np.arange(12, dtype=np.int32)[::-1].copy()
        metadata = {
            "bundle_bytes": "4096", "cache": "s3fifo", "capacity_neurons": '{"layers.0": 3}',
            "dram_budget_share": "0.25", "dram_budget_bytes": "12288",
        }  # fmt: skip
        placed = {"layers.0": NeuronPlacement(order, np.array([1, 2], np.int32), np.arange(12))}
        write_placement(root / "used", ModelPlacement(placed, metadata))
        (root / "system.toml").write_bytes(SYSTEM_FILE.read_bytes())
        budget = PlacingParams("frequency", bundle_bytes=6144, dram_budget=0.5, n_threads=1)
        hot = PlanParams((1, 2), cluster_rows=2, attention_us=1.0)
        reorder(None, root / "profile", root / "planned hot", budget, neuron_plan=hot)
        as_json: Mutate = lambda data, rng: mutate_json(json.loads(data), rng)  # noqa: E731
        manifest = root / "out" / "ripple_place" / "manifest.json"
        self.kinds: dict[str, tuple[Path, Mutate, Callable[[], object]]] = {
            "trace": (root / "trace", mutate_container, lambda: read_trace(root / "trace")),
            "profile": (root / "profile", mutate_container, lambda: read_profile(root / "profile")),
            "profile with predictors": (
                root / "predicting", mutate_container, lambda: read_profile(root / "predicting")
            ),
            "predictors": (
                root / "predictors", mutate_container, lambda: read_predictors(root / "predictors", CheckpointError)
            ),
            "predictors in an output": (
                root / "added" / PREDICTORS_FILE, mutate_container, lambda: self._prove_added(root / "added")
            ),
            "placement": (
                root / "out" / "ripple_place" / "placement.safetensors", mutate_container,
                lambda: read_placement(root / "out" / "ripple_place" / "placement.safetensors"),
            ),
            "weights": (self.opt / "model.safetensors", mutate_container, lambda: self._plan(self.opt)),
            "shard": (self.llama / "b-1.safetensors", mutate_container, lambda: self._plan(self.llama)),
            "index": (self.llama / "model.safetensors.index.json", as_json, lambda: self._plan(self.llama)),
            "index bytes": (self.llama / "model.safetensors.index.json", mutate_bytes, lambda: self._plan(self.llama)),
            "config": (self.llama / "config.json", as_json, lambda: self._plan(self.llama)),
            "manifest": (manifest, mutate_bytes, lambda: read_manifest(root / "out")),
            "manifest with its hash": (manifest, _mutate_manifest, lambda: verify(self.opt, root / "out")),
            "bundled": (
                root / "out" / "ripple_place" / "bundled.safetensors", mutate_container,
                lambda: verify(self.opt, root / "out"),
            ),
            "bundled, read for real": (
                root / "out" / "ripple_place" / "bundled.safetensors", mutate_container,
                lambda: _serve_all(root / "out"),
            ),
            "manifest with its hash, read for real": (manifest, _mutate_manifest, lambda: _serve_all(root / "out")),
            "manifest of gates, read for real": (
                root / "gates" / "ripple_place" / "manifest.json", _mutate_manifest, lambda: _serve_all(root / "gates"),
            ),
            "bundled columns": (
                root / "columns" / "ripple_place" / "bundled.safetensors", mutate_container,
                lambda: verify(self.opt, root / "columns"),
            ),
            "manifest of columns with its hash": (
                root / "columns" / "ripple_place" / "manifest.json", _mutate_manifest,
                lambda: verify(self.opt, root / "columns"),
            ),
            "bundled gates": (
                root / "gates" / "ripple_place" / "bundled.safetensors", mutate_container,
                lambda: verify(self.llama, root / "gates"),
            ),
            "manifest of gates with its hash": (
                root / "gates" / "ripple_place" / "manifest.json", _mutate_manifest,
                lambda: verify(self.llama, root / "gates"),
            ),
            "torch file": (root / "model_0.pt", mutate_bytes, lambda: read_torch_file(root / "model_0.pt")),
            "torch pickle": (root / "model_0.pt", invent_torch_file, lambda: read_torch_file(root / "model_0.pt")),
            "torch index": (torch / "pytorch_model.bin.index.json", as_json, lambda: self._convert(torch)),
            "adapter config": (
                root / "adapter" / "adapter_config.json", as_json, lambda: self._plan(self.llama, root / "adapter")
            ),
            "adapter config, all keys": (
                root / "whole adapter" / "adapter_config.json", as_json,
                lambda: self._plan(self.llama, root / "whole adapter"),
            ),
            "adapter": (
                root / "adapter" / "adapter_model.safetensors", mutate_container,
                lambda: self._plan(self.llama, root / "adapter"),
            ),
            "importance matrix": (
                root / "imatrix.dat", mutate_bytes, lambda: describe_imatrix(model, root / "imatrix.dat", "imatrix.dat")
            ),
            "importance matrix in GGUF": (
                root / "imatrix.gguf", mutate_bytes, lambda: describe_imatrix(model, root / "imatrix.gguf", "i.gguf")
            ),
            "counts": (
                root / "activation_0.pt", mutate_bytes,
                lambda: read_counts(AdapterSource.parse(f"powerinfer:{root}")),
            ),
            "route trace": (root / "a.route.csv", mutate_bytes, lambda: read_source(root / "a.route.csv")),
            "route trace's numbers": (root / "a.route.csv", mutate_numbers, lambda: read_source(root / "a.route.csv")),
            "moe-trace": (root / "moe.csv", mutate_bytes, lambda: read_source(root / "moe.csv")),
            "moe-trace's numbers": (root / "moe.csv", mutate_numbers, lambda: read_source(root / "moe.csv")),
            "routes as lines": (root / "routes.jsonl", mutate_lines, lambda: read_source(root / "routes.jsonl")),
            "routes as lines, bytes": (root / "routes.jsonl", mutate_bytes, lambda: read_source(root / "routes.jsonl")),
            "routes in use": (root / "a.route.csv", mutate_numbers, self._profile_routes),
            "co-activation table": (
                root / "mbolt.json", as_json, lambda: read_counts(counts_source(root / "mbolt.json"))
            ),
            "array": (root / "layers.0.npy", mutate_bytes, lambda: read_npy(root / "layers.0.npy")),
            "arrays": (root / "arrays.npz", mutate_bytes, lambda: read_npz(root / "arrays.npz")),
            "sparse matrix": (root / "layers.1.npz", mutate_bytes, lambda: read_npz(root / "layers.1.npz")),
            "capture": (root / "capture" / STATE_FILE, as_json, lambda: read_state(root / "capture")),
            "device": (root / "device.toml", mutate_bytes, lambda: read_device(root / "device.toml")),
            "device numbers": (root / "device.toml", mutate_numbers, self._simulate),
            "device in use": (root / "device.toml", mutate_bytes, self._simulate),
            "system": (root / "system.toml", mutate_bytes, lambda: read_system(root / "system.toml")),
            "system in use": (root / "system.toml", mutate_bytes, lambda: self._compare(str(root / "system.toml"))),
            "plan in use": (
                root / "planned hot", _mutate_plan, lambda: self._compare(f"powerinfer2,layout={root / 'planned hot'}")
            ),
            "trace in use": (root / "dense", mutate_container, self._simulate),
            "placement in use": (root / "used", mutate_container, self._simulate),
            "journal": (
                root / "unfinished.partial" / JOURNAL_FILE, mutate_bytes,
                lambda: finished_files(self.unfinished, root / "unfinished.partial"),
            ),
        }  # fmt: skip
        for scheme in SCHEMES:
            source = write_quantised(root / scheme, scheme)
            read = partial(self._plan, source)
            self.kinds[f"config, {scheme}"] = source / "config.json", as_json, read
            self.kinds[f"weights, {scheme}"] = source / "model.safetensors", mutate_container, read
        for name, (scheme, settings) in DECLARED.items():
            source = write_quantised(root / name, scheme)
            adjust_config(source, settings)
            self.kinds[f"config, {name}"] = source / "config.json", as_json, partial(self._plan, source)
        source = write_quantised(root / "sidecar", "awq")
        move_to_sidecar(source, "quant_config.json", {"w_bit": 4, "q_group_size": GROUP, "version": "GEMM"})
        self.kinds["quantisation sidecar"] = source / "quant_config.json", as_json, partial(self._plan, source)
        self.sound = {kind: path.read_bytes() for kind, (path, _, _) in self.kinds.items()}

    def _plan(self, source: Path, adapter: Path | None = None) -> None:
        model = describe_ffn(Checkpoint.open(source))
        formats = ["drop-in"] if any(not block.components for block in model.blocks.values()) else FORMATS
        placement = random_placement(model) if model.checkpoint.path in (self.opt, self.llama) else ModelPlacement({})
        plan_rewrite(model, placement, self.root / "planned", formats=formats, adapter=adapter)

    def _simulate(self) -> None:
        """Simulate with a trace, a placement and a device, each of which may be changed."""
        params = SimulateParams(self.root / "device.toml", bundle_bytes=None, dram_budget="placement", n_threads=1)
        simulate([self.root / "dense"], [str(self.root / "used"), "original"], params)

    def _compare(self, system: str) -> None:
        """Simulate a system whose file, or the plan of whose layout, may be changed."""
        params = SimulateParams(bundle_bytes=6144, dram_budget=0.5, n_threads=1)
        simulate_systems([self.root / "dense"], SystemParams((system,), params, (self.root / "profile",)))

    def _profile_routes(self) -> None:
        """Profile routes, and list what they ask for."""
        profile(self.root / "a.route.csv", self.root / "routes.profile", ProfileParams(verdict=None, force=True))
        trace = read_trace(self.root / "routes.profile")
        list_accesses(trace)
        unit_bytes_of(trace)

    def _prove_added(self, out: Path) -> None:
        """Verify an output whose predictors may be changed, and whose manifest agrees."""
        path = out / PREDICTORS_FILE
        if path.is_file() and not path.is_symlink():
            adjust_manifest(out)
        verify(self.opt, out, predictor=predictor_of())

    def _convert(self, source: Path) -> None:
        try:
            convert(source, self.root / "converted")
        finally:
            shutil.rmtree(self.root / "converted", ignore_errors=True)

    def attempt(self, kind: str, rng: random.Random) -> str | None:
        """Change the file of a kind and read it; return the message, None if it was taken."""
        path, mutate, _ = self.kinds[kind]
        data = path.read_bytes()
        try:
            return self.read(kind, mutate(data, rng))
        finally:
            path.write_bytes(data)

    def attempt_special(self, kind: str, special: str) -> str | None:
        """Read what is no regular file as the file of a kind; return the message, None if it was taken."""
        path = self.kinds[kind][0]
        data = path.read_bytes()
        path.unlink()
        try:
            make_special(path, special)
            return self._read(kind, 0)
        except IsADirectoryError as error:
            return str(error)
        finally:
            remove_special(path)
            path.write_bytes(data)

    def read(self, kind: str, data: bytes) -> str | None:
        """Read other contents as the file of a kind, which they stay; return the message, None if they were taken."""
        self.kinds[kind][0].write_bytes(data)
        message = self._read(kind, len(data))
        # What is hashed must be refused however little is changed.
        assert message is not None or kind not in PROVED or data == self.sound[kind]
        return message

    def _read(self, kind: str, size_bytes: int) -> str | None:
        read, message = self.kinds[kind][2], None
        tracemalloc.start()
        signal.setitimer(signal.ITIMER_REAL, SECONDS)
        try:
            read()
        except RipplePlaceError as error:
            message = str(error)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            allocated_bytes = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        most = USED_BYTES if read in (self._simulate, self._profile_routes) or kind in COMPARED else ALLOCATED_BYTES
        assert allocated_bytes <= most + PER_FILE_BYTE * size_bytes, (kind, allocated_bytes, size_bytes)
        if message is not None:
            assert message.isprintable(), message
            assert ": found " in message, message
            assert "; expected " in message, message
            assert len(message) < 10_000, message
            message.encode()
        return message


def write_imatrix(path: Path, sizes: dict[str, int]) -> None:
    """Write an importance matrix of ones, in llama.cpp's old format."""
    data = struct.pack("<i", len(sizes))
    for name, size in sizes.items():
        data += (
            struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", 7, size) + np.ones(size, "<f4").tobytes()
        )
    path.write_bytes(data + struct.pack("<ii", 7, 4) + b"wiki")


def _serve_all(out: Path) -> None:
    """Read every unit of an output, whose bytes nobody compares with their hash."""
    with LayoutReader.open(out, linear_device(), SimulationParams("lru"), ReaderParams(2, check="header")) as reader:
        for name, block in reader.layout.blocks.items():
            reader.serve(name, np.arange(block.n_neurons))


def _mutate_manifest(data: bytes, rng: random.Random) -> bytes:
    """Return a manifest of another content, and with the hash that goes with it where it can be computed."""
    with suppress(ValueError, TypeError, AttributeError, KeyError, RecursionError):
        document = json.loads(mutate_json(json.loads(data), rng))
        covered = {key: value for key, value in document.items() if key != "manifest_sha256"}
        document["manifest_sha256"] = hashlib.sha256(format_manifest(covered).encode()).hexdigest()
        return format_manifest(document).encode()
    return b"{}"


def _mutate_plan(data: bytes, rng: random.Random) -> bytes:
    """Return a placement in whose plan alone something has become something else."""
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    plan = header["__metadata__"][METADATA_KEY]
    header["__metadata__"][METADATA_KEY] = mutate_json(json.loads(plan), rng).decode()
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + length :]


def _too_slow(*_: object) -> None:
    raise TimeoutError(f"more than {SECONDS} s for one file")


def run(n_mutations: int, seed: int, root: Path) -> Counter[str]:
    """Read `n_mutations` changed files of each kind; return how many were refused, by kind."""
    signal.signal(signal.SIGALRM, _too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    refused: Counter[str] = Counter()
    targets = Targets(root)
    for kind in targets.kinds:
        print(kind, flush=True, file=sys.stderr)
        for special in SPECIAL:
            # Without a journal, there is nothing to go on with.
            assert targets.attempt_special(kind, special) is not None or kind == "journal", special
        for number in range(n_mutations):
            rng = random.Random(f"{seed} {kind} {number}")
            try:
                refused[kind] += targets.attempt(kind, rng) is not None
            except BaseException:
                print(f"{kind}: seed {seed}, number {number}", file=sys.stderr)
                raise
    return refused


def main() -> None:
    """Run the loop and say how many files were refused."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutations", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        refused = run(options.mutations, options.seed, Path(name))
    for kind, count in refused.items():
        print(f"{kind}: {options.mutations} files, {count} refused with a sentence, the others taken")


if __name__ == "__main__":
    main()
