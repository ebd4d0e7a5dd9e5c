"""``ripple-place run``."""

from __future__ import annotations

from pathlib import Path  # noqa: TC003
from typing import Any

import click

from ripple_place.cli.options import BUDGET, COLLAPSE, PATH, Common, common_options
from ripple_place.cli.rendering import ProgressBars, echo, echo_json, echo_warnings
from ripple_place.cli.run_screen import RunScreen
from ripple_place.cli.run_tables import run_text

_EXAMPLE = """\b
Example:
  ripple-place run ./opt-relu-flash --prompt "The history of" --dram-budget 10%
  ripple-place run ./opt-relu-flash --compare ./opt-relu-frequency --text held-out.txt --device disk.toml
  ripple-place run ./opt-relu-flash --prompt "The history of" --select flash-aware=0.001 --activity predicted
"""


@click.command(epilog=_EXAMPLE)
@click.argument("out", metavar="OUT", type=PATH)
@click.option("--prompt", metavar="TEXT", help="Text to go on with, greedily.")
@click.option("--text", metavar="FILE", type=PATH, help="Text to read token by token; says what it loses.")
@click.option("--max-tokens", type=click.IntRange(1), help="Tokens to generate, or of the text.  "
              "[default: 64; of a text 256]")  # fmt: skip
@click.option("--compare", metavar="OUT", type=PATH, multiple=True,
              help="Another output of the same model, run token by token in turn; repeatable.")  # fmt: skip
@click.option("--against", metavar="MODEL", type=PATH, help="Also run this checkpoint in memory, by transformers, and "
              "count the tokens that agree.")  # fmt: skip
@click.option("--activity", type=click.Choice(["oracle", "predicted", "gate", "all"]), default="oracle",
              show_default=True, help="Who says which neurons a token uses: oracle, weights held in memory, for proof; "
              "predicted, OUT's predictors; gate, gates held in memory (exact where they are ReLU); all, nobody. With "
              "--select, what the rule sees.")  # fmt: skip
@click.option("--select", metavar="RULE", help="Choose among them by one of simulate's rules (docs/selection.md).")
@click.option("--recall", type=click.FloatRange(0, 1, min_open=True, max_open=True), metavar="SHARE",
              help="Recall of the predictors, one that thresholds were set for.  [default: 0.99, or the "
              "highest]")  # fmt: skip
@click.option("--check-recall", is_flag=True, help="Count what predictors miss; holds all weights in memory.")
@click.option("--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="What is computed in.  "
              "[default: the checkpoint's]")  # fmt: skip
@click.option("--prefill-rows", type=click.IntRange(1), default=32, show_default=True,
              help="Tokens of a prompt whose neurons are read together.")  # fmt: skip
@click.option("--device", default="ufs4-oneplus12-neuralink", show_default=True, help="Device profile that reads are "
              "planned for and predicted with: a name or a TOML file, as calibrate writes it.")  # fmt: skip
@click.option("--dram-budget", type=BUDGET, help="DRAM for neurons: 10% of each block, 512MiB in all; placement: what "
              "OUT was made for.")  # fmt: skip
@click.option("--dram-pool", is_flag=True, help="One cache for all blocks, of the same size in all.")
@click.option("--cache", metavar="POLICY", help="One of simulate's policies that does not know the future.  "
              "[default: s3fifo with a budget]")  # fmt: skip
@click.option("--admission", metavar="RULE", default="all", show_default=True,
              help="Which misses may enter the cache, as of simulate.")  # fmt: skip
@click.option("--collapse", "gap", metavar="auto|off|N|adaptive|optimal", default="auto", show_default=True,
              type=COLLAPSE, help="Read through gaps of up to N unwanted neurons, as of simulate.")  # fmt: skip
@click.option("--queue-depth", type=click.IntRange(1, 1024), help="Reads in flight.  [default: what saturates the "
              "device, as far as its profile says]")  # fmt: skip
@click.option("--check", type=click.Choice(["full", "header"]), default="full", show_default=True,
              help="Compare the whole bundled file with its hash first, or length and index only.")  # fmt: skip
@common_options
def run(out: Path, compare: tuple[Path, ...], common: Common, **options: Any) -> None:
    """Generate text from OUT, whose FFN weights stay on storage; needs the capture extra.

    Attention and embeddings are in memory. For each token, neurons are chosen, looked for in DRAM, read from the
    bundled file past the page cache, and computed. Text is streamed to stdout. At the end stand, by output, the
    measured times of a token's reads and of the rest, and what the simulator predicts for the same reads.
    """
    from ripple_place.workflows.run import run as run_outputs
    from ripple_place.workflows.run_params import RunParams

    n_threads = common.n_threads if common.n_threads_given else None
    params = RunParams(**options, seed=common.seed, n_threads=n_threads)
    with RunScreen(quiet=common.quiet, shows_text=not common.as_json and params.text is None) as screen:
        report = run_outputs([out, *compare], params, ProgressBars(quiet=common.quiet), screen.hear)
    if common.as_json:
        echo_json(report.to_json())
    else:
        echo(run_text(report))
    echo_warnings(report.warnings, quiet=common.quiet)
