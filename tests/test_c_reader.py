"""The reader in C gives the rows and counts of the Python runtime. If it cannot, it says why in a sentence."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from ripple_place.checkpoint.model.experts import open_experts
from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.expert_plan import plan_pack
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.pack import execute_pack
from ripple_place.checkpoint.rewrite import execute
from ripple_place.flash.caches.pinned import hottest
from ripple_place.flash.gate_reader import gap_of_part
from ripple_place.flash.layout import BlockExtent
from ripple_place.flash.simulation_params import SimulationParams
from ripple_place.runtime.layout_reader import LayoutReader, ReaderParams
from tests.builders import llama_config, llama_tensors, opt_config, opt_tensors, random_placement, write_checkpoint
from tests.expert_builders import expert_placement, gguf_mixture, qwen3_moe
from tests.flash.builders import linear_device
from tests.runtime.builders import layout_of_output, write_output

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.flash.device.profile import DeviceProfile

BUNDLED = "ripple_place/bundled.safetensors"
ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples" / "c"
DEVICE = replace(linear_device(max_request_bytes=8192), overhead_us=0.2)
COUNTS = {"rows": "n_rows", "asked": "n_asked", "hits": "n_hits", "reads": "n_reads", "requests": "n_requests"} | {
    "bytes": "bytes_read"
}
pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")

Requests = list[tuple[str, np.ndarray]]


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the reader, built without a warning; it stops at the first access that is wrong."""
    build = tmp_path_factory.mktemp("c-reader")
    done = subprocess.run(["make", "-C", FOLDER, f"BUILD={build}", "all", "sanitized"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (build / "reader").is_file()
    return build / "reader-sanitized"


@dataclass(frozen=True)
class Served:
    """What a run of the reader gave."""

    code: int
    rows: bytes
    counts: dict[str, dict[str, int]]
    message: str


def write_requests(path: Path, requests: Requests) -> Path:
    """Write requests as the reader takes them."""
    path.write_text("".join(" ".join([block, *map(str, slots.tolist())]) + "\n" for block, slots in requests))
    return path


def run(program: Path, bundled: Path, requests: Path, *options: str, **environment: str) -> Served:
    """Run the reader; whatever it is given, it must not crash."""
    rows = requests.with_suffix(".rows")
    rows.unlink(missing_ok=True)
    line = [program, bundled, requests, "--rows", rows, *options]
    done = subprocess.run(
        line, capture_output=True, text=True, env={**os.environ, "ASAN_OPTIONS": "exitcode=99", **environment}
    )
    assert "Sanitizer" not in done.stderr, done.stderr
    assert "runtime error" not in done.stderr, done.stderr
    table = [line.split("\t") for line in done.stdout.splitlines()]
    counts = {row[0]: {key: int(row[table[0].index(key)]) for key in COUNTS} for row in table[1:]}
    return Served(done.returncode, rows.read_bytes() if rows.exists() else b"", counts, done.stderr)


def requests_for(out: Path, n_tokens: int = 40) -> Requests:
    """Return requests in which clusters of slots fire, so that reads merge, and some tokens fire nothing."""
    rng, requests = np.random.default_rng(2), []
    for token in range(n_tokens):
        for name, block in layout_of_output(out).blocks.items():
            n = block.n_neurons
            is_wanted, first = rng.random(n) < 0.1, int(rng.integers(0, n))
            is_wanted[first : first + 8] |= rng.random(min(8, n - first)) < 0.8
            requests.append((name, np.flatnonzero(is_wanted & (token % 11 > 0))))
    return requests


def check_as_python(
    program: Path, out: Path, tmp_path: Path, params: SimulationParams, *options: str,
    device: DeviceProfile = DEVICE,
) -> None:  # fmt: skip
    """Serve the same requests by both; compare rows and counts."""
    requests = requests_for(out)
    with LayoutReader.open(out, device, params, ReaderParams(depth=4)) as reader:
        rows = b"".join(reader.serve(block, slots).tobytes() for block, slots in requests)
        counters = {
            name: {key: getattr(block, count) for key, count in COUNTS.items()}
            for name, block in reader.counters.blocks.items()
        }
    gap = [f"--gap={params.gap}"] if isinstance(params.gap, int) else []
    limits = ["--page", str(device.page_bytes), "--max-request", str(device.max_request_bytes), "--depth", "4"]
    capacities = [f"--capacity={name}={units}" for name, units in params.capacity_neurons.items()]
    served = run(
        program, out / BUNDLED, write_requests(tmp_path / "requests", requests),
        *gap, *limits, *capacities, *options,
    )  # fmt: skip
    assert served.code == 0, served.message
    assert len(rows) > 0
    assert served.rows == rows
    assert served.counts == counters


def output_of(
    path: Path, tensors: dict[str, Any], config: dict[str, Any], unit: str = "neuron", **options: Any
) -> Path:
    """Write a checkpoint and an output of it in a random order."""
    model = describe_ffn(Checkpoint.open(write_checkpoint(path / "source", tensors, config))).of_unit(unit)
    execute(plan_rewrite(model, random_placement(model), path / "out", **options))
    return path / "out"


@pytest.mark.parametrize("gap", [0, 1, 5, 95])
@pytest.mark.parametrize("capacity", [0, 1, 7, 40, 200])
def test_neurons(program: Path, opt_out: Path, tmp_path: Path, gap: int, capacity: int) -> None:
    """Caches smaller than a row, than a block, and larger."""
    params = SimulationParams("lru", {"layers.0": capacity, "layers.1": 20}, gap=gap)
    check_as_python(program, opt_out, tmp_path, params)


@pytest.fixture(scope="session")
def opt_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an output without gates."""
    return write_output(tmp_path_factory.mktemp("opt"))


@pytest.mark.parametrize("stride", ["packed", "page"])
@pytest.mark.parametrize("gates", ["inside", "apart"])
def test_gates(program: Path, tmp_path: Path, stride: str, gates: str) -> None:
    """Gates in the bundles, and apart (format 3)."""
    options = {"gates": "apart"} if gates == "apart" else {}
    out = write_output(tmp_path, gated=True, stride=stride, **options)
    check_as_python(program, out, tmp_path, SimulationParams("lru", {"layers.0": 20, "layers.1": 7}, gap=2))


def test_gates_have_their_own_gap(program: Path, tmp_path: Path) -> None:
    """What the runtime takes from the device: two gaps that differ."""
    out = write_output(tmp_path, gated=True, gates="apart")
    gates, rest = (gap_of_part(BlockExtent(n_bytes, n_bytes), DEVICE) for n_bytes in (400, 800))
    assert gates > rest > 0
    gaps = ["--gap", str(rest), "--gate-gap", str(gates)]
    check_as_python(program, out, tmp_path, SimulationParams("lru", {"layers.0": 20, "layers.1": 7}), *gaps)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("dtype", ["<f2", "<f4"])
def test_dtypes(program: Path, tmp_path: Path, dtype: str, gated: bool) -> None:
    """Weights are bytes to a reader; bundles of other lengths."""
    tensors, config = (llama_tensors, llama_config) if gated else (opt_tensors, opt_config)
    out = output_of(tmp_path, tensors(n_neurons=48, hidden=72, dtype=dtype), config(n_neurons=48))
    check_as_python(program, out, tmp_path, SimulationParams("lru", {"layers.1": 10}, gap=3))


@pytest.mark.parametrize("gated", [False, True])
def test_columns(program: Path, tmp_path: Path, gated: bool) -> None:
    """Two blocks an FFN, whose units are columns (format 2)."""
    tensors, config = (llama_tensors, llama_config) if gated else (opt_tensors, opt_config)
    out = output_of(tmp_path, tensors(n_neurons=48, hidden=72), config(n_neurons=48), "column")
    assert {block for block, _ in requests_for(out)} == {
        f"layers.{layer}{end}" for layer in (0, 1) for end in ("", ".input")
    }
    params = SimulationParams("lru", {"layers.0": 12, "layers.1.input": 30}, gap=1)
    check_as_python(program, out, tmp_path, params)


@pytest.mark.parametrize("make", [qwen3_moe, gguf_mixture])
def test_experts(program: Path, tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """Experts, each in one piece; all of its bytes."""
    model = open_experts(make(tmp_path / "m.gguf"))
    execute_pack(plan_pack(model, expert_placement(model), tmp_path / "out"))
    params = SimulationParams("lru", dict.fromkeys(model.blocks, 2), gap=0)
    check_as_python(program, tmp_path / "out", tmp_path, params)


@pytest.mark.parametrize("gap", [0, 2, 6])
@pytest.mark.parametrize("stride", ["packed", "page"])
def test_two_copies(program: Path, tmp_path: Path, stride: str, gap: int) -> None:
    """The same units from the same copies."""
    out = write_output(tmp_path, copies=2, stride=stride)
    break_even_gap = repr(DEVICE.break_even_gap(800))
    params = SimulationParams("lru", {"layers.0": 20}, gap=gap)
    check_as_python(program, out, tmp_path, params, "--lambda", break_even_gap)


@pytest.mark.parametrize("page_bytes", [4096, 16384])
def test_longer_pages(program: Path, opt_out: Path, tmp_path: Path, page_bytes: int) -> None:
    """Pages that reach beyond the file's end are cut there."""
    device = linear_device(page_bytes, 16384)
    check_as_python(program, opt_out, tmp_path, SimulationParams("lru", {"layers.1": 9}, gap=1), device=device)


def test_pinned(program: Path, opt_out: Path, tmp_path: Path) -> None:
    """A set that is read before the first row, and never evicted."""
    layout, capacities = layout_of_output(opt_out), {"layers.0": 20, "layers.1": 7}
    pinned: Requests = []
    for name, capacity in capacities.items():
        placement = layout.blocks[name].placement
        assert placement.frequency is not None
        units = hottest(placement.frequency, capacity)
        pinned.append((name, np.flatnonzero(np.isin(placement.order, units))))
    pin = write_requests(tmp_path / "pinned", pinned)
    check_as_python(program, opt_out, tmp_path, SimulationParams("pinned", capacities, gap=1), "--pin", str(pin))
    bundled = opt_out / BUNDLED
    served = run(program, bundled, tmp_path / "requests", "--pin", str(pin), "--capacity", "6")
    assert (served.code, served.rows) == (2, b"")
    assert "raise --capacity" in served.message


def test_many_turns(program: Path, opt_out: Path, tmp_path: Path) -> None:
    """Rows are written once, counted each time."""
    requests = write_requests(tmp_path / "requests", requests_for(opt_out))
    bundled = opt_out / BUNDLED
    once, thrice = (run(program, bundled, requests, "--repeat", str(times)) for times in (1, 3))
    assert once.rows == thrice.rows
    assert thrice.counts["layers.0"]["reads"] == 3 * once.counts["layers.0"]["reads"] > 0


def rewritten(out: Path, target: Path, change: Callable[[bytes], bytes]) -> Path:
    """Write a copy of the bundled file with another header, whose length is right."""
    data = (out / BUNDLED).read_bytes()
    (n_bytes,) = struct.unpack("<Q", data[:8])
    header = change(data[8 : 8 + n_bytes])
    target.write_bytes(struct.pack("<Q", len(header)) + header + data[8 + n_bytes :])
    return target


def replaced(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    """Return what replaces some bytes that are there, and padding, so that data stay where they are."""

    def change(header: bytes) -> bytes:
        assert old in header
        longer = header.replace(old, new, 1)
        return longer[: max(len(header), len(longer.rstrip()))].ljust(len(header))

    return change


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        (replaced(b"bundled/1", b"bundled/4"), 3, "later format"),
        (replaced(b"bundled/1", b"bundled/12"), 3, "later format"),
        (replaced(b"ripple-place.bundled/1", b"ripple-place.bundlex/1"), 1, "no bundled file"),
        (replaced(b'"index"', b'"indez"'), 1, "no bundled file"),
        (replaced(b"stride_bytes", b"strife_bytes"), 1, "damaged index"),
        (replaced(b'stride_bytes\\":800', b'stride_bytes\\":799'), 1, "damaged index"),
        (replaced(b'stride_bytes\\":800', b'stride_bytes\\":80000000'), 1, "damaged index"),
        (replaced(b'offset_bytes\\":4096', b'offset_bytes\\":99999999'), 1, "damaged index"),
        (replaced(b'offset_bytes\\":4096', b'offset_bytes\\":8'), 1, "damaged index"),
        (replaced(b'offset_bytes\\":4096', b'offset_bytes\\":18446744073709551615'), 1, "damaged index"),
        (replaced(b'offset_bytes\\":4096', b'offset_bytes\\":-1'), 1, "damaged index"),
        (replaced(b'offset_bytes\\":4096', b'offset_bytes\\":4096.5'), 1, "damaged index"),
        (replaced(b'n_neurons\\":96', b'n_neurons\\":97'), 1, "damaged index"),
        (replaced(b'n_neurons\\":96', b'n_neurons\\":0'), 1, "damaged index"),
        (replaced(b'n_neurons\\":96', b'n_neurons\\":4294967295'), 1, "damaged index"),
        (replaced(b'order\\":[', b'order\\":[96,'), 1, "damaged index"),
        (replaced(b'order\\":[', b'order\\":[],\\"order\\":['), 1, "damaged index"),
        (replaced(b'\\"layers.0\\"', b'\\"layers.\\\\u001b\\"'), 1, "damaged index"),
        (replaced(b'\\"layers.0\\"', b'\\"' + b"l" * 127 + b'\\"'), 1, "damaged index"),
        (replaced(b'\\"layers.0\\"', b'\\"' + b"l" * 126 + b'\\"'), 0, ""),
        (replaced(b'"index"', b'"deep":' + b"[" * 5000 + b"]" * 5000 + b',"index"'), 1, "damaged header"),
        (replaced(b'"__metadata__":{', b'"__metadata__":{"a":'), 1, "damaged header"),
        (lambda header: header.rstrip() + b" x", 1, "damaged header"),
        (lambda header: b"", 1, "damaged header"),
        (lambda header: b"{}", 1, "no bundled file"),
    ],
)  # fmt: skip
def test_hostile_headers(
    program: Path, opt_out: Path, tmp_path: Path, change: Callable[[bytes], bytes], code: int, message: str
) -> None:
    """What a header may lie about, and a name as long as there is room for."""
    path = rewritten(opt_out, tmp_path / "changed", change)
    served = run(program, path, write_requests(tmp_path / "requests", [("layers.1", np.array([0, 95]))]))
    assert served.code == code, served.message
    assert message in served.message
    assert (served.code == 0) == (served.rows != b"")


def test_any_json(program: Path, opt_out: Path, tmp_path: Path) -> None:
    """Whitespace, key order, escapes and unknown keys make no difference."""
    longer = 1 << 16

    def change(header: bytes) -> bytes:
        document = json.loads(header)
        metadata = document.pop("__metadata__")
        index = {}
        for name, block in json.loads(metadata["index"]).items():
            block["offset_bytes"] += longer
            index[name] = {"new": [{"a": [1.5e-3, True, None, '\\"']}, [], {}], **dict(reversed(block.items()))}
        metadata["index"] = json.dumps(index, indent=1).replace("layers", "\\u006cayers")
        document["__metadata__"] = {"\u20ac": "\U0001f600", **metadata}
        text = json.dumps(document, indent="\t").replace("F16", "\\u00e96").ljust(len(header) + longer)
        assert len(text) == len(header) + longer
        return text.encode()

    path = rewritten(opt_out, tmp_path / "changed", change)
    requests = write_requests(tmp_path / "requests", requests_for(opt_out))
    served, expected = (run(program, bundled, requests) for bundled in (path, opt_out / BUNDLED))
    assert served.code == 0, served.message
    assert served == expected


def test_any_flipped_byte(program: Path, opt_out: Path, tmp_path: Path) -> None:
    """Whatever byte of the header is another one, the reader ends in order, and in a sentence if it refuses."""
    rng, data = np.random.default_rng(5), (opt_out / BUNDLED).read_bytes()
    end = data.index(b"layers.0.bundles")
    requests = write_requests(tmp_path / "requests", [("layers.1", np.arange(96))])
    codes = set()
    for at in [*range(8), *rng.integers(8, end, 60).tolist()]:
        changed = bytearray(data)
        changed[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "changed").write_bytes(changed)
        served = run(program, tmp_path / "changed", requests)
        assert (served.code == 0) == (served.message == ""), at
        codes.add(served.code)
    assert 1 in codes
    assert codes <= {0, 1, 2, 3}


@pytest.mark.parametrize("n_bytes", [0, 7, 8, 100, 4096, 8192, -1])
def test_truncated(program: Path, opt_out: Path, tmp_path: Path, n_bytes: int) -> None:
    """A file that was cut short is refused before anything is read from it; so is one that is longer."""
    data = (opt_out / BUNDLED).read_bytes()
    requests = write_requests(tmp_path / "requests", [("layers.0", np.array([0]))])
    for text in (data[:n_bytes], data + b"\0"):
        (tmp_path / "changed").write_bytes(text)
        served = run(program, tmp_path / "changed", requests)
        assert (served.code, served.rows) == (1, b"")
        assert served.message.startswith("reader: ")
        assert served.message.count("\n") == 1


def test_without_direct_reads(program: Path, opt_out: Path, tmp_path: Path, bad_storage: str) -> None:
    """Where storage refuses direct reads, the page cache serves the same, after a warning."""
    requests, plain = write_requests(tmp_path / "requests", requests_for(opt_out)), program.with_name("reader")
    expected = run(plain, opt_out / BUNDLED, requests, "--capacity", "9")
    served = run(plain, opt_out / BUNDLED, requests, "--capacity", "9", LD_PRELOAD=bad_storage, NO_DIRECT="1")
    assert (
        served.message == "reader: warning: no O_DIRECT here; reads go through the page cache, and times say little\n"
    )
    assert (served.code, served.rows, served.counts) == (0, expected.rows, expected.counts)


def test_interrupted(program: Path, opt_out: Path, tmp_path: Path, bad_storage: str) -> None:
    """Signals that interrupt a read are no failure."""
    requests, plain = write_requests(tmp_path / "requests", requests_for(opt_out)), program.with_name("reader")
    expected = run(plain, opt_out / BUNDLED, requests)
    assert run(plain, opt_out / BUNDLED, requests, LD_PRELOAD=bad_storage, INTERRUPTED="1").rows == expected.rows != b""


def test_failing_storage(program: Path, opt_out: Path, tmp_path: Path, bad_storage: str) -> None:
    """An error of one read ends the run with what the system says; rows that were written before go."""
    requests = write_requests(tmp_path / "requests", [("layers.0", np.array([0])), ("layers.0", np.arange(0, 96, 7))])
    plain = program.with_name("reader")
    served = run(plain, opt_out / BUNDLED, requests, LD_PRELOAD=bad_storage, FAILS_AT="40960")
    assert (served.code, served.rows) == (5, b"")
    assert "at byte 40960 Input/output error; no token was made of it" in served.message


@pytest.mark.parametrize("how", ["cut", "written"])
def test_changed_while_it_is_open(program: Path, opt_out: Path, tmp_path: Path, how: str) -> None:
    """No row is made of a file that is not what it was: requests come after it has been opened and changed."""
    bundled, requests = tmp_path / "bundled", tmp_path / "requests"
    shutil.copy(opt_out / BUNDLED, bundled)
    os.mkfifo(requests)
    line = [program, bundled, requests, "--rows", tmp_path / "rows"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        with requests.open("w") as stream:  # Waits until the reader opens it, which it does last.
            with bundled.open("r+b") as file:
                file.seek(bundled.stat().st_size - 1)
                file.truncate(8192) if how == "cut" else file.write(b"\0")
            stream.write("layers.0 1 90\n")
        _, message = process.communicate()
    assert process.returncode == (5 if how == "cut" else 1), message
    assert ("was cut short; no token was made of it" if how == "cut" else "was written to") in message
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("layers.2 0", "no block layers.2"),
        ("layers.0 96", "out of order, or beyond 95"),
        ("layers.0 5 5", "out of order"),
        ("layers.0 5 4", "out of order"),
        ("layers.0 -1", "no slot"),
        ("layers.0 99999999999999999999", "no slot"),
        ("layers.0 " + "7 " * 500, "out of order"),
    ],
)
def test_wrong_requests(program: Path, opt_out: Path, tmp_path: Path, line: str, message: str) -> None:
    """Blocks and slots that are not there; rows that were written before go."""
    (tmp_path / "requests").write_text(f"layers.0 1 2\n\n{line}\n")
    served = run(program, opt_out / BUNDLED, tmp_path / "requests")
    assert (served.code, served.rows) == (2, b"")
    assert message in served.message


@pytest.mark.parametrize(
    "words",
    [["--gap", "x"], ["--depth", "0"], ["--page", "3000"], ["--max-request", "5000"], ["--capacity", "layers.9=3"],
     ["--capacity", "many"], ["--lambda", "-1"], ["--pin", "nowhere"], ["--pin", "x", "--capacity", "3"], ["more"]],
)  # fmt: skip
def test_wrong_options(program: Path, opt_out: Path, tmp_path: Path, words: list[str]) -> None:
    """Usage ends in code 2."""
    requests = write_requests(tmp_path / "requests", [("layers.0", np.array([0]))])
    assert run(program, opt_out / BUNDLED, requests, *words).code == 2
    assert run(program, tmp_path / "nowhere", requests).code == 2
    assert run(program, tmp_path, requests).code == 2


def test_the_documented_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/porting.md: its commands print what it shows, but for times, and its Python reads the same bytes."""
    text = (ROOT / "docs/porting.md").read_text()
    commands, table, script = (
        re.search(rf"```{kind}\n(.*?)```", text, re.DOTALL)[1] for kind in ("sh", "text", "python")
    )  # type: ignore[index]
    shutil.copytree(FOLDER, tmp_path / "examples/c", ignore=shutil.ignore_patterns("build"))
    model = describe_ffn(Checkpoint.open(ROOT / "examples/tiny-relu-lm"))
    execute(plan_rewrite(model, random_placement(model), tmp_path / "demo-out/tiny-relu-lm-flash"))
    monkeypatch.chdir(tmp_path)
    done = subprocess.run(["bash", "-euc", commands], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    printed = done.stdout[done.stdout.index("block\t") :]
    shown = [[line.split("\t")[:7] for line in lines.splitlines()] for lines in (printed, table)]
    assert shown[0] == shown[1]
    exec(compile(script, "docs/porting.md", "exec"), {})
    digest, counts = capsys.readouterr().out.splitlines()
    assert digest == hashlib.sha256((tmp_path / "rows.raw").read_bytes()).hexdigest()
    assert counts.split() == next(line for line in shown[0] if line[0] == "layers.1")[3:]


def test_every_option_is_documented(program: Path) -> None:
    """The usage, and the table of options in docs/porting.md."""
    usage = subprocess.run([program], capture_output=True, text=True).stderr
    options = set(re.findall(r"--[a-z-]+", usage))
    rows = re.findall(r"^\| `(--[a-z-]+)", (ROOT / "docs/porting.md").read_text(), re.MULTILINE)
    assert len(options) == 10
    assert options == set(rows)
