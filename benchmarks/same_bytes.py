"""The same commands give the same bytes as before: digests of all that they print and write, held against a record.

``python -m benchmarks.same_bytes --write`` records `benchmarks/results/same_bytes.json`; without it, every command runs
again and the digests are compared. The commands on larger models run where RIPPLE_PLACE_DATA is set. A change that is
meant to change bytes records them anew and says so in its message.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

RECORD = Path(__file__).parent / "results" / "same_bytes.json"
EXAMPLES = Path(__file__).parent.parent / "examples"
TRAIN = "examples/tiny-relu-lm-data/train.trace.safetensors"
HELD_OUT = "examples/tiny-relu-lm-data/heldout.trace.safetensors"

EXAMPLE_COMMANDS = {
    "profile": f"profile {TRAIN} --out tiny.profile --html profile.html --graphml tiny.graphml",
    "profile union": f"profile {TRAIN} --out tiny-union.profile --union 4 --bundle-bytes 4KiB",
    "frequency": "reorder --profile tiny.profile --ordering frequency --out frequency.placement",
    "random": "reorder --profile tiny.profile --ordering random --seed 3 --out random.placement",
    "original": "reorder --profile tiny.profile --ordering original --out original.placement",
    "path": "reorder --profile tiny.profile --ordering path --effort 3 --out path.placement",
    "auto without cost": "reorder --profile tiny.profile --out auto.placement",
    "rewrite": "reorder examples/tiny-relu-lm --profile tiny.profile --break-even-gap 3.15 --effort 3 --out flash",
    "rewrite by device": "reorder examples/tiny-relu-lm --profile tiny.profile --effort 1 --out flash-device",
    "rewrite bundled": "reorder examples/tiny-relu-lm --profile tiny.profile --ordering greedy --format bundled "
    "--stride page --layers 1-2 --out bundled",
    "apply": "reorder examples/tiny-relu-lm --placement path.placement --out applied",
    "compare": "reorder --profile tiny.profile --ordering greedy --compare --bundle-bytes 4KiB --effort 1 "
    "--out compare.placement",
    "refit": "reorder --profile tiny.profile --bundle-bytes 4KiB --effort 1 --no-refit --out unrefitted.placement",
    "granule": "reorder --profile tiny.profile --granule 32 --bundle-bytes 4KiB --effort 1 --out granule.placement",
    "copies": "reorder examples/tiny-relu-lm --profile tiny.profile --break-even-gap 5 --effort 1 --copies 2 --out two",
    "copies of greedy": "reorder --profile tiny.profile --ordering greedy --copies 2 --refit --break-even-gap 5 "
    "--effort 1 --out two-greedy.placement",
    "dram of greedy": "reorder --profile tiny.profile --ordering greedy --dram-budget 10% --break-even-gap 5 "
    "--out dram-greedy.placement",
    "dram and copies": "reorder --profile tiny.profile --dram-budget 1MiB --cache pinned+lru --bundle-bytes 4KiB "
    "--effort 1 --copies 2 --out dram-two.placement",
    "dram auto": "reorder --profile tiny.profile --dram-budget 10% --cache auto --bundle-bytes 4KiB --effort 1 "
    "--out dram-auto.placement",
    "simulate": f"simulate {HELD_OUT} --bundle-bytes 4KiB --layout original --layout frequency.placement "
    "--layout flash --html report.html --svg reads.svg --sweep dram-budget=0%,10%",
    "simulate placed dram": f"simulate {HELD_OUT} --bundle-bytes 4KiB --layout dram-auto.placement --layout two "
    "--dram-budget placement",
    "simulate planners": f"simulate {HELD_OUT} --bundle-bytes 4KiB --layout original --collapse optimal --bound "
    "--dram-budget 5% --cache sieve --reset-at-segments",
    "simulate token time": f"simulate {HELD_OUT} {TRAIN} --layout original --layout flash-device --layout two "
    "--device ufs4-oneplus12-neuralink --compute-us-per-layer 200us --overlap cluster --transfer",
    "simulate admission": f"simulate {HELD_OUT} --bundle-bytes 6912 --layout original --device m1-max "
    "--collapse adaptive --dram-budget 20% --admission linking:4,0.5 --seed 7",
    "verify": "verify examples/tiny-relu-lm flash",
    "restore": "verify flash --restore restored",
}  # fmt: skip
"""By name; later ones use what earlier ones wrote."""

OPT = "data/models/opt-relu"
DATA_COMMANDS = {
    "opt profile": "profile data/traces/opt-relu.wikitext2-train.trace.safetensors --out opt.profile",
    "opt greedy": f"reorder {OPT} --profile opt.profile --ordering greedy --out opt-greedy",
    "opt path": "reorder --profile opt.profile --ordering path --out opt-path.placement",
    "opt flash-time 5": f"reorder {OPT} --profile opt.profile --break-even-gap 5 --out opt-5",
    "opt flash-time 20": "reorder --profile opt.profile --break-even-gap 20 --ordering flash-time "
    "--out opt-20.placement",
}
VOLATILE = ("seconds", "estimated_seconds", "bytes_free")
"""Keys of JSON documents that differ from run to run."""


def main() -> None:
    """Run the commands, and record or compare their digests."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="record the digests")
    parser.add_argument("--examples", action="store_true", help="only the commands on the example model")
    options = parser.parse_args()
    recorded: dict[str, dict[str, str]] = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    data = None if options.examples else os.environ.get("RIPPLE_PLACE_DATA")
    if data is None:
        print("Without RIPPLE_PLACE_DATA: the commands on the example model alone.")
    wrong = []
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "examples").symlink_to(EXAMPLES)
        if data is not None:
            (Path(scratch) / "data").symlink_to(data)
        for name, command in (EXAMPLE_COMMANDS | (DATA_COMMANDS if data is not None else {})).items():
            started = time.perf_counter()
            found = run(command.split(), Path(scratch))
            if options.write:
                recorded[name] = found
                RECORD.write_text(json.dumps(recorded, indent=1) + "\n")
            differs = sorted(
                key for key in found.keys() | recorded.get(name, {}).keys() if found.get(key) != recorded[name].get(key)
            )
            wrong += [f"{name}: {key}" for key in differs]
            print(f"{time.perf_counter() - started:7.1f} s  {name}: {', '.join(differs) or 'same'}", flush=True)
    print("\n".join(["", *wrong, f"{len(wrong)} differences"]))
    sys.exit(bool(wrong))


def run(arguments: list[str], directory: Path) -> dict[str, str]:
    """Return the digests of what a command prints, and of each file that it writes."""
    before = files_of(directory)
    done = subprocess.run(
        [sys.executable, "-m", "ripple_place", *arguments, "--json", "-q"],
        cwd=directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return {"exit code": f"{done.returncode} {done.stderr}"}
    printed = json.dumps(stable(json.loads(done.stdout)), sort_keys=True)
    written = {str(path.relative_to(directory)): digest(path) for path in files_of(directory) - before}
    return {"stdout": hashlib.sha256(printed.encode()).hexdigest(), **dict(sorted(written.items()))}


def stable(document: Any) -> Any:
    """Return a JSON document without what differs from run to run."""
    if isinstance(document, dict):
        return {key: stable(value) for key, value in document.items() if key not in VOLATILE}
    return [stable(value) for value in document] if isinstance(document, list) else document


def files_of(directory: Path) -> set[Path]:
    """Return the regular files that commands wrote; links to inputs are not followed."""
    return {path for path in directory.rglob("*") if path.is_file() and not path.is_symlink()}


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
