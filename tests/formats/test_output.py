"""A whole output of an earlier version, its manifest, and the journal of a killed run: read, and written anew."""

from __future__ import annotations

import json
import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.names import BUNDLED_FILE, MANIFEST_FILE, PLACEMENT_FILE
from ripple_place.checkpoint.output.journal import JOURNAL_FILE, finished_files
from ripple_place.checkpoint.output.manifest import ManifestBlock, read_manifest
from ripple_place.checkpoint.output.plan import RewritePlan, plan_rewrite
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.restore import restore
from ripple_place.checkpoint.rewrite import execute
from ripple_place.errors import UsageError
from tests.builders import contents
from tests.failing_call import FailingCall
from tests.formats.contents import pico_opt
from tests.formats.documents import differences
from tests.formats.kept import FORMATS, check_still_written, kept
from tests.formats.test_bundled import assert_bundles

if TYPE_CHECKING:
    from pathlib import Path

CHECKPOINT, OUTPUT = FORMATS / "checkpoint", FORMATS / "output"
TOOL_VERSION = "0.1.0"
CHANGED_NS = 1_700_000_000 * 10**9
"""When the files of the source were last changed, as the journal records it."""
FINISHED = [PLACEMENT_FILE, "model.safetensors"]
"""What the killed run had written: it was killed while it wrote the bundled file."""


@pytest.fixture(autouse=True)
def _as_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Manifest and journal name the version that writes them: here the one that wrote the golden files."""
    monkeypatch.setattr("ripple_place.checkpoint.output.manifest.__version__", TOOL_VERSION)
    monkeypatch.setattr("ripple_place.checkpoint.output.journal.__version__", TOOL_VERSION)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Return the checkpoint, changed when the journal says."""
    path = pico_opt(copies=True).write(tmp_path / "checkpoint")
    for file in path.iterdir():
        os.utime(file, ns=(CHANGED_NS, CHANGED_NS))
    return path


def planned(source: Path, out: Path) -> RewritePlan:
    """Return the plan of the output."""
    return plan_rewrite(describe_ffn(Checkpoint.open(source)), pico_opt(copies=True).placement, out)


def killed(plan: RewritePlan, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Kill a run while it writes the bundled file; return what it leaves."""
    with monkeypatch.context() as patched:
        kill = FailingCall(lambda: None, 1, KeyboardInterrupt())
        patched.setattr("ripple_place.checkpoint.rewrite._write_bundled", kill)
        with pytest.raises(KeyboardInterrupt):
            execute(plan)
    return plan.out.with_name(f"{plan.out.name}.partial")


def test_the_output_is_written_as_ever(source: Path, tmp_path: Path) -> None:
    """The same checkpoint and orders give the same files: both formats, placement, manifest, and what is copied."""
    for name, data in contents(source).items():
        check_still_written(f"checkpoint/{name}", data)
    execute(planned(source, tmp_path / "out"))
    written = contents(tmp_path / "out")
    # Its sentences may be worded better, and more may be checked: of the manifest, keys and values are held.
    manifest = written.pop(MANIFEST_FILE)
    golden = json.loads(kept(f"output/{MANIFEST_FILE}", manifest).read_bytes())
    assert differences(golden, json.loads(manifest)) == []
    for name, data in written.items():
        check_still_written(f"output/{name}", data)
    assert written.keys() | {MANIFEST_FILE} == contents(OUTPUT).keys()


def test_the_output_is_verified_for_ever(tmp_path: Path) -> None:
    """It is still the checkpoint, permuted, from where it lies and from elsewhere."""
    report = verify(CHECKPOINT, OUTPUT)
    assert (report.n_permuted, report.n_untouched) == (6, 11)
    verify(CHECKPOINT, shutil.copytree(OUTPUT, tmp_path / "copy"))


def test_the_output_is_restored_for_ever(tmp_path: Path) -> None:
    """The original comes back from the output alone, byte for byte."""
    restore(OUTPUT, tmp_path / "restored")
    assert contents(tmp_path / "restored") == contents(CHECKPOINT)


def test_the_manifest_is_read_for_ever() -> None:
    """Its hash holds, and it says what was done to each tensor and where each block lies."""
    manifest = read_manifest(OUTPUT)
    size_bytes = {name: len(data) for name, data in contents(OUTPUT).items()}
    document = dict(manifest.document)
    assert {name: entry["size_bytes"] for name, entry in document.pop("files").items()} == {
        name: n for name, n in size_bytes.items() if name != MANIFEST_FILE
    }
    assert {name: entry["size_bytes"] for name, entry in document.pop("source")["files"].items()} == {
        name: len(data) for name, data in contents(CHECKPOINT).items()
    }
    assert {name for name, action in document.pop("tensors").items() if action != "copied"} == {
        f"model.decoder.layers.{layer}.{part}"
        for layer in range(2)
        for part in ("fc1.weight", "fc1.bias", "fc2.weight")
    }
    assert {key: document[key] for key in ("format", "tool_version", "family", "model_type", "formats", "stride")} == {
        "format": "ripple-place.manifest/1", "tool_version": "0.1.0", "family": "opt", "model_type": "opt",
        "formats": ["drop-in", "bundled"], "stride": "packed",
    }  # fmt: skip
    assert all(check["result"] == "passed" for check in document["checks"])
    offsets = [document["bundled"][f"layers.{layer}"]["offset_bytes"] for layer in range(2)]
    assert manifest.blocks == {
        f"layers.{layer}": ManifestBlock(24, 16, 16, offset_bytes, placed=True)
        for layer, offset_bytes in enumerate(offsets)
    }
    assert manifest.weight_bytes == size_bytes["model.safetensors"] + size_bytes[BUNDLED_FILE]
    assert manifest.bundled_path == OUTPUT / BUNDLED_FILE
    assert_bundles(OUTPUT / BUNDLED_FILE, pico_opt(copies=True))


def test_the_journal_is_written_as_ever(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was killed leaves the same lines."""
    partial = killed(planned(source, tmp_path / "out"), monkeypatch)
    check_still_written("journal.jsonl", (partial / JOURNAL_FILE).read_bytes())


def journal_lines() -> list[dict[str, Any]]:
    """Return the golden journal, parsed."""
    return [json.loads(line) for line in (FORMATS / "journal.jsonl").read_text().splitlines()]


def leave_partial(out: Path) -> None:
    """Leave beside `out` what the killed run had left: the golden journal and the files that it says are finished."""
    partial = out.with_name(f"{out.name}.partial")
    for name in FINISHED:
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(OUTPUT / name, partial / name)
    shutil.copy(FORMATS / "journal.jsonl", partial / JOURNAL_FILE)


def test_a_killed_run_is_continued_for_ever(source: Path, tmp_path: Path) -> None:
    """`--resume` keeps what the journal says is finished, and ends with the same output."""
    out = tmp_path / "out"
    leave_partial(out)
    plan, partial = planned(source, out), tmp_path / "out.partial"
    assert list(finished_files(plan, partial)) == ["model.safetensors", PLACEMENT_FILE]
    inodes = {name: (partial / name).stat().st_ino for name in FINISHED}
    execute(plan, resume=True)
    assert contents(out) == contents(OUTPUT)
    assert {name: (out / name).stat().st_ino for name in FINISHED} == inodes


def test_the_journal_by_value() -> None:
    """A head that says which run it is, then a line for each file, with the size and hash that the manifest records."""
    head, *entries = journal_lines()
    files = read_manifest(OUTPUT).document["files"]
    assert [entry["file"] for entry in entries] == FINISHED
    for entry in entries:
        assert {key: entry[key] for key in ("size_bytes", "sha256")} == files[entry["file"]]
    assert head == {
        "format": "ripple-place.journal/1", "tool_version": "0.1.0", "formats": ["drop-in", "bundled"],
        "stride": "packed", "placement_sha256": files[PLACEMENT_FILE]["sha256"],
        "source": {name: [len(data), CHANGED_NS] for name, data in sorted(contents(CHECKPOINT).items())},
    }  # fmt: skip


def test_a_run_of_another_version_is_not_continued(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bytes might not be those of this version: it is said, and what is there stays."""
    leave_partial(tmp_path / "out")
    before = contents(tmp_path / "out.partial")
    monkeypatch.setattr("ripple_place.checkpoint.output.journal.__version__", "99.0")
    with pytest.raises(UsageError, match=r"another tool_version \(0\.1\.0\); expected 99\.0"):
        execute(planned(source, tmp_path / "out"), resume=True)
    assert contents(tmp_path / "out.partial") == before
