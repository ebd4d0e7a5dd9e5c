"""Compare an FFN computed from the rows that are there with the dense one, at OPT-1.3B's shape.

``python -m benchmarks.bench_sparse_ffn [--hidden N] [--neurons N] [--active SHARE] [--threads N]``: one token, weights
in float32, float16 and bfloat16, median of interleaved repeats. Rows lie in memory already: reading them is not timed.
To reach: no slower than dense at 10 % active, in each dtype. Without torch it says so and ends.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec

import numpy as np

from benchmarks.timing import interleaved_seconds
from ripple_place.cli.rendering import format_table
from ripple_place.kernels.sparse_ffn import BF16, F16, F32, add_rows, dot_rows

N_REPEATS = 31
DTYPES = {"float32": F32, "float16": F16, "bfloat16": BF16}


def main() -> None:
    """Measure all dtypes, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--neurons", type=int, default=8192)
    parser.add_argument("--active", type=float, default=0.1)
    parser.add_argument("--threads", type=int, default=1, help="of the dense FFN; the sparse one takes one")
    arguments = parser.parse_args()
    if find_spec("torch") is None:
        print("torch is not installed: no dense FFN to compare with")
        return
    rows = [measure(dtype, arguments) for dtype in DTYPES]
    print(format_table(["dtype", "dense ms", "sparse ms", "dense / sparse"], rows))


def measure(dtype: str, arguments: argparse.Namespace) -> list[str]:
    """Return the row of a dtype."""
    import torch

    torch.set_num_threads(arguments.threads)
    hidden, form = arguments.hidden, DTYPES[dtype]
    torch.manual_seed(0)
    up, down = (0.02 * torch.randn(arguments.neurons, hidden) for _ in range(2))
    x = torch.randn(hidden).to(getattr(torch, dtype))
    up, down = up.to(x.dtype), down.t().contiguous().to(x.dtype)
    n_active = round(arguments.active * arguments.neurons)
    slots = np.sort(np.random.default_rng(0).choice(arguments.neurons, n_active, replace=False))
    bundles = torch.stack([up[slots], down.t()[slots]], dim=1).contiguous().view(torch.uint8).numpy()
    bundles = bundles.reshape(n_active, -1)
    every, which = np.ones((1, n_active), bool), np.arange(n_active, dtype=np.int32)

    def dense() -> object:
        with torch.inference_mode():
            return torch.nn.functional.linear(torch.relu(torch.nn.functional.linear(x, up)), down)

    def sparse() -> object:
        inputs, values = x.float()[None].numpy(), np.zeros((1, n_active), np.float32)
        dot_rows(bundles, 0, form, which, every, inputs, values)
        sums = np.zeros((1, hidden), np.float32)
        add_rows(bundles, bundles.shape[1] // 2, form, np.maximum(values, 0), sums)
        return torch.from_numpy(sums).to(x.dtype)

    seconds = interleaved_seconds({"dense": dense, "sparse": sparse}, N_REPEATS)
    ratio = seconds["dense"] / seconds["sparse"]
    return [dtype, f"{1e3 * seconds['dense']:.2f}", f"{1e3 * seconds['sparse']:.2f}", f"{ratio:.1f}"]


if __name__ == "__main__":
    main()
