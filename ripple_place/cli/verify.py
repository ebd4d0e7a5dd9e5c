"""``ripple-place verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ripple_place.cli.options import PATH, Common, common_options
from ripple_place.cli.rendering import ProgressBars, echo_json
from ripple_place.cli.reorder import verification_lines

if TYPE_CHECKING:
    from pathlib import Path


_EXAMPLE = """\b
Example:
  ripple-place verify ./opt-relu ./opt-relu-flash
"""


@click.command(epilog=_EXAMPLE)
@click.argument("checkpoint", type=PATH)
@click.argument("out", type=PATH)
@click.option("--logits", is_flag=True, help="Run both models on random tokens too; needs the capture extra.")
@common_options
def verify(checkpoint: Path, out: Path, logits: bool, common: Common) -> None:
    """Prove that OUT is the model in CHECKPOINT, permuted.

    Hashes every file, undoes the permutation of every tensor in both formats and compares it with the source byte by
    byte, opens every file with the stock safetensors reader, and computes every FFN of float weights on random input.
    Exits with 4 if anything differs. OUT may have been copied elsewhere since it was written.
    """
    from ripple_place.workflows.verify import verify as run

    report = run(checkpoint, out, track=ProgressBars(quiet=common.quiet), logits=logits)
    if common.as_json:
        echo_json(
            {
                "checkpoint": str(checkpoint),
                "out": str(out),
                "tensors_permuted": report.n_permuted,
                "tensors_untouched": report.n_untouched,
                "bytes_compared": report.n_bytes,
                "checks": report.as_json(),
            }
        )
    else:
        click.echo("\n".join(verification_lines(report)))
