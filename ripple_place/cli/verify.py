"""``ripple-place verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from ripple_place.cli.options import PATH, Common, common_options, family_option
from ripple_place.cli.pack import pack_verification_lines
from ripple_place.cli.rendering import ProgressBars, echo, echo_json
from ripple_place.cli.reorder_text import verification_lines
from ripple_place.printable import one_line
from ripple_place.units import format_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from ripple_place.workflows.verify import VerifyReport

_EXAMPLE = """\b
Example:
  ripple-place verify ./opt-relu ./opt-relu-flash
  ripple-place verify ./opt-relu-flash --restore ./opt-relu-again
"""


@click.command(epilog=_EXAMPLE)
@click.argument("paths", type=PATH, nargs=-1, required=True, metavar="[CHECKPOINT] OUT")
@click.option("--logits", is_flag=True, help="Run both models on random tokens too; needs the capture extra.")
@click.option("--restore", type=PATH, metavar="DIR",
              help="Write the original checkpoint to DIR, from OUT alone or after the proof.")  # fmt: skip
@click.option("--adapter", type=PATH, help="LoRA adapter that was permuted along: prove its copy in OUT too.")
@click.option("--carrier", "carriers", type=PATH, multiple=True,
              help="Importance matrix, predictors or counts that were permuted along; repeatable.")  # fmt: skip
@click.option("--profile", type=PATH, help="Profile whose predictors `reorder` wrote: prove those in OUT too.")
@family_option
@common_options
def verify(
    paths: tuple[Path, ...],
    logits: bool,
    restore: Path | None,
    adapter: Path | None,
    carriers: tuple[Path, ...],
    profile: Path | None,
    family: Path | None,
    common: Common,
) -> None:
    """Prove that OUT is the model in CHECKPOINT, permuted.

    Hashes every file, undoes the permutation of every tensor in both formats and compares it with the source byte by
    byte, opens every file with the stock safetensors reader, and computes every FFN of float weights on random input.
    Exits with 4 if anything differs, is missing, or was added. OUT may have been copied elsewhere since it was written.

    If OUT is a pack of experts (`reorder --unit expert`), CHECKPOINT may be a GGUF file, and every expert's bytes are
    read where the index says and compared with the source's.

    With --restore, writes the original checkpoint, whose files hash to what they did; CHECKPOINT may then be left out.
    """
    from ripple_place.workflows.verify import verify as run

    needs_checkpoint = logits or adapter is not None or bool(carriers) or profile is not None
    checkpoint, out = _checkpoint_and_out(paths, restore, needs_checkpoint=needs_checkpoint)
    report = run(
        checkpoint, out, ProgressBars(quiet=common.quiet), logits=logits, restore_to=restore, adapter=adapter,
        carriers=carriers, family=family, profile=profile,
    )  # fmt: skip
    if common.as_json:
        echo_json(report.to_json())
    else:
        echo("\n".join(_lines(report)))


def _lines(report: VerifyReport) -> list[str]:
    """Return what was verified and restored, as sentences."""
    lines: list[str] = []
    if report.verification is not None:
        written = pack_verification_lines if report.is_pack else verification_lines
        lines = written(report.verification)
    if (restored := report.restored) is not None:
        lines.append(
            f"Restored {one_line(report.restored_to)}: {restored.n_files} files ({format_bytes(restored.n_bytes)}), "
            "each with the hash of the original"
        )
        if restored.left_out:
            lines.append(f"Not in OUT, and so not restored: {', '.join(map(one_line, restored.left_out))}")
    return lines


def _checkpoint_and_out(
    paths: tuple[Path, ...], restore: Path | None, *, needs_checkpoint: bool
) -> tuple[Path | None, Path]:  # fmt: skip
    """Return the two arguments; the first may be missing where nothing is to be compared with it."""
    if len(paths) == 2:
        return paths[0], paths[1]
    if len(paths) == 1 and restore is not None and not needs_checkpoint:
        return None, paths[0]
    raise click.UsageError(
        "Give the original checkpoint and the output of reorder; the output alone is enough for --restore."
    )
