"""``ripple-place simulate``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ripple_place.cli.measuring import Measuring, measure_options, measured_text
from ripple_place.cli.options import BUDGET, PATH, SIZE, Common, common_options
from ripple_place.cli.reading import collapse_phrase, copies_phrase, reading_options, reading_params
from ripple_place.cli.rendering import ProgressBars, echo_json, echo_warnings, format_table, number, percent
from ripple_place.cli.sweeping import Sweeping, sweep_curves, sweep_options, sweep_text, transfer_text
from ripple_place.units import format_bytes, format_rate, format_time_us

if TYPE_CHECKING:
    from collections.abc import Callable

    from ripple_place.workflows.simulate import SimulateReport


def _list_devices(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    """Print the shipped device profiles and stop."""
    if not wanted or context.resilient_parsing:
        return
    from ripple_place.flash.device.files import list_devices, load_device

    devices = [load_device(name) for name in list_devices()]
    rows = [
        [device.name, device.form + (" (estimated)" if device.estimated else ""), device.description]
        for device in devices
    ]
    width = max(len(row[0]) for row in rows)
    form_width = max(len(row[1]) for row in rows)
    click.echo("\n".join(f"{row[0]:<{width}}  {row[1]:<{form_width}}  {row[2]}" for row in rows))
    context.exit()


_EXAMPLE = """\b
Example:
  ripple-place simulate held-out.trace.safetensors --layout original --layout ./opt-relu-flash
  ripple-place simulate held-out.trace.safetensors --layout greedy.placement --bundle-bytes 4KiB --dram-budget 10%
"""


@click.command(epilog=_EXAMPLE)
@click.argument("traces", metavar="TRACE...", nargs=-1, required=True, type=PATH)
@click.option("--layout", "layouts", metavar="LAYOUT", multiple=True, required=True,
              help="An output of reorder, a placement file, or `original`; repeat to compare.")  # fmt: skip
@click.option(
    "--device", default="ufs4-oneplus12-neuralink", show_default=True, help="Device profile: a name or a TOML file."
)
@click.option("--layers", metavar="0-3,7", help="Simulate only these layers.")
@click.option("--bundle-bytes", type=SIZE, help="Bytes of a neuron's weights, where no layout knows.")
@reading_options
@click.option("--dram-budget", type=BUDGET, help="DRAM for neurons: 10% of each block, or 512MiB in all; placement: "
              "what the layouts were made for.")  # fmt: skip
@click.option("--cache", metavar="POLICY", help="none, lru, fifo, lfu, s3fifo, sieve, greedydual, pinned, pinned+lru, "
              "window:K (the last K tokens') or belady (the bound).  [default: s3fifo with a budget]")  # fmt: skip
@click.option("--admission", metavar="RULE", default="all", show_default=True,
              help="Which misses may enter the cache: all, or linking[:CUTOFF,PROBABILITY]: those in runs of CUTOFF or "
              "more active slots only with PROBABILITY.")  # fmt: skip
@click.option("--reset-at-segments", is_flag=True, help="Empty the cache where a segment of the trace begins.")
@click.option("--bound", is_flag=True, help="Show how many hits the best replacement (Belady's) would have had; takes "
              "about twice as long.")  # fmt: skip
@click.option("--profile", type=PATH, help="Profile whose firing counts decide what is pinned.  "
              "[default: the counts that the layouts record]")  # fmt: skip
@click.option("--baseline", metavar="LAYOUT", help="What speedup is against.  [default: the first layout]")
@click.option("--html", type=PATH, help="Write a page with scores and pictures.")
@click.option("--svg", type=PATH, help="Write the page's first picture alone: where one token's reads fall.")
@sweep_options
@measure_options
@click.option("--list-devices", is_flag=True, is_eager=True, expose_value=False, callback=_list_devices,
              help="List the shipped device profiles.")  # fmt: skip
@click.option("--force", is_flag=True, help="Overwrite existing output.")
@common_options
def simulate(
    traces: tuple[Path, ...],
    layouts: tuple[str, ...],
    html: Path | None,
    svg: Path | None,
    force: bool,
    measuring: Measuring,
    sweeping: Sweeping,
    common: Common,
    **params: Any,
) -> None:
    """Score layouts on a trace: what each token's reads cost on a flash device.

    Scores are means per token over all blocks: flash time; reads of the plan and their length in neurons; requests
    (reads rounded out to pages and split at the device's largest request) and the bytes they fetch; amplification,
    bytes fetched for each byte of an active neuron; and effective bandwidth, which counts only those.
    """
    from ripple_place.outputs import check_output_file
    from ripple_place.pages.simulation_page import report_html
    from ripple_place.pages.svg import standalone
    from ripple_place.pages.token_picture import token_picture
    from ripple_place.tensorfile import replacing
    from ripple_place.workflows.simulate import SimulateParams
    from ripple_place.workflows.simulate import simulate as run

    inputs = [*traces, *map(Path, layouts), *([params["profile"]] if params["profile"] else [])]
    for path, others in ((html, inputs), (svg, [*inputs, *([html] if html else [])])):
        if path is not None:
            check_output_file(path, force=force, apart_from=others)
    measuring.check(layouts, inputs, force=force)
    sweeping.check()
    simulate_params = SimulateParams(**reading_params(params), n_threads=common.n_threads, seed=common.seed)
    report = run(traces, layouts, simulate_params, track=ProgressBars(quiet=common.quiet))
    swept, transfer = sweeping.run(traces, layouts, simulate_params, quiet=common.quiet)
    if html is not None:
        picture = report.picture(shlex.join(["ripple-place", *sys.argv[1:]]), sweep_curves(swept))
        with replacing(html) as file:
            file.write(report_html(picture).encode())
    if svg is not None:
        with replacing(svg) as file:
            file.write(standalone(token_picture(report.token_reads())).encode())
    measured = measuring.run(report, common, force=force)
    document = report.to_json()
    if common.as_json:
        document = measured.add_to(document) if measured else document
        more = {"sweep": swept, "transfer": transfer}
        echo_json({**document, **{key: value.to_json() for key, value in more.items() if value}})
    else:
        click.echo(_header(report, document) + "\n")
        click.echo(_table(document["layouts"], "layout"))
        if common.verbose:
            click.echo("\n" + _form_table(document["layouts"]))
            for layout in document["layouts"]:
                rows = [{"name": name, **block} for name, block in layout["blocks"].items()]
                click.echo(f"\n{layout['name']}:\n{_table(rows, 'block')}")
                if report.params.cache != "none":
                    tenths = " ".join(percent(ratio) for ratio in layout["cache_hit_ratio_by_tenth"])
                    click.echo(f"DRAM hits by tenth of the trace: {tenths}")
        if swept:
            click.echo(f"\n{sweep_text(swept)}")
        if transfer:
            click.echo(f"\n{transfer_text(transfer)}")
        if measured:
            click.echo(f"\n{measured_text(measured)}")
    echo_warnings([*report.warnings, *(measured.warnings if measured else ())], quiet=common.quiet)


def _header(report: SimulateReport, document: dict[str, Any]) -> str:
    gap, lambda_ = document["gap"], document["break_even_gap"]
    parts = [
        f"{report.device.name}",
        f"{report.trace.n_tokens:,} tokens, {len(report.trace.blocks)} blocks",
        collapse_phrase(report, gap),
    ]
    if lambda_ is not None:
        parts[-1] += f" (break-even {lambda_:.2f})"
    if copies := copies_phrase(report):
        parts.append(copies)
    if report.params.cache != "none":
        share = sum(report.params.capacity_neurons.values()) / sum(b.n_neurons for b in report.trace.blocks.values())
        admission = "" if document["admission"] == "all" else f", admission {document['admission']}"
        split = "" if report.split_by is None else f", split as {report.split_by} records"
        parts.append(f"{report.params.cache} cache of {percent(share)} of the neurons{split}{admission}")
    return "; ".join(parts)


def _table(rows: list[dict[str, Any]], first: str) -> str:
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        first: lambda row: str(row["name"]),
        "flash time/token": lambda row: format_time_us(row["flash_time_us_per_token"]),
        "p99": lambda row: format_time_us(row["flash_time_us_percentiles"]["99"]),
        "token time": lambda row: format_time_us(row["token_time_us_per_token"]),
        "token p99": lambda row: format_time_us(row["token_time_us_percentiles"]["99"]),
        "reads": lambda row: number(row["reads_per_token"]),
        "length": lambda row: number(row["read_length_mean"]),
        "fetched": lambda row: format_bytes(row["bytes_read_per_token"]),
        "amplification": lambda row: number(row["read_amplification"]),
        "eff. bandwidth": lambda row: _rate(row["effective_bandwidth_bytes_per_s"]),
        "DRAM hits": lambda row: percent(row["cache_hit_ratio"]),
        "best hits": lambda row: percent(row["cache_hit_ratio_belady"]),
        "speedup": lambda row: "-" if row["speedup"] is None else f"{row['speedup']:.2f}x",
    }
    if not any(row["cache_hit_ratio"] for row in rows):
        del columns["DRAM hits"]
    if not any(row["cache_hit_ratio_belady"] for row in rows):
        del columns["best hits"]
    if any(row.get("token_time_us_per_token") is None for row in rows):
        del columns["token time"], columns["token p99"]
    return format_table(list(columns), [[cell(row) for cell in columns.values()] for row in rows])


def _form_table(rows: list[dict[str, Any]]) -> str:
    """Return the flash time in the device's own form beside that on its line and under its ceiling."""
    forms = {
        "flash time/token, own form": "flash_time_us_per_token",
        "additive line": "flash_time_linear_us_per_token",
        "ceiling of IOPS and bandwidth": "flash_time_ceiling_us_per_token",
    }
    own = "flash_time_us_per_token"

    def cell(row: dict[str, Any], key: str) -> str:
        share = "" if key == own or not row[own] else f" ({row[key] / row[own] - 1:+.1%})"
        return format_time_us(row[key]) + share

    return format_table(
        ["layout", *forms], [[row["name"], *(cell(row, key) for key in forms.values())] for row in rows]
    )


def _rate(bytes_per_s: float | None) -> str:
    return "-" if bytes_per_s is None else format_rate(bytes_per_s)
