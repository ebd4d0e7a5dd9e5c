"""A checkpoint of more shards than a process may have files open: rewritten, verified and restored.

python -m tests.hostile.shards --shards 10000
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from ripple_place.checkpoint.model.ffn import describe_ffn
from ripple_place.checkpoint.model.shards import Checkpoint
from ripple_place.checkpoint.output.plan import plan_rewrite
from ripple_place.checkpoint.proof.verify import verify
from ripple_place.checkpoint.restore import restore
from ripple_place.checkpoint.rewrite import execute
from tests.builders import contents, llama_config, llama_tensors, random_placement, write_checkpoint

N_OPEN_FILES = 200


def run(n_shards: int, root: Path) -> None:
    """Rewrite a checkpoint of a tensor a shard, prove the output, and restore the original from it."""
    tensors = llama_tensors()
    tensors |= {f"model.extra.{i}": np.full(3, i, "<f4") for i in range(n_shards - len(tensors))}
    shards = {name: f"model-{i + 1:05}-of-{n_shards:05}.safetensors" for i, name in enumerate(tensors)}
    source = write_checkpoint(root / "model", tensors, llama_config(), shards=shards)
    model = describe_ffn(Checkpoint.open(source))
    assert len(model.checkpoint.shards) == n_shards
    execute(plan_rewrite(model, random_placement(model), root / "out"))
    verify(source, root / "out")
    restore(root / "out", root / "restored")
    assert contents(root / "restored") == contents(source)


def main() -> None:
    """Run it and say how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shards", type=int, default=10_000)
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_NOFILE, (N_OPEN_FILES, N_OPEN_FILES))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        run(options.shards, Path(name))
    seconds = time.perf_counter() - start
    print(
        f"{options.shards} shards, {N_OPEN_FILES} files open at most: rewritten, verified, restored in {seconds:.0f} s"
    )


if __name__ == "__main__":
    main()
