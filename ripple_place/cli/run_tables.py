"""What ``run`` prints at the end: what each output's tokens took, measured and predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.cli.rendering import format_table, number, percent
from ripple_place.printable import one_line
from ripple_place.units import format_bytes, format_time_us

if TYPE_CHECKING:
    from ripple_place.generation.report import RunReport

_HEADERS = (
    "output", "tokens/s", "I/O", "p50", "p90", "p99", "predicted", "waited", "computed", "reads", "fetched", "hits",
)  # fmt: skip


def run_text(report: RunReport) -> str:
    """Return the figures of all outputs."""
    document = report.to_json()
    outputs = document["outputs"]
    parts = [_header(document)]
    if any(output["io_us"] is not None for output in outputs):
        parts.append(format_table(_HEADERS, [_row(output) for output in outputs]))
    parts += [line for output in outputs for line in [_sentences(output)] if line]
    return "\n\n".join(parts)


def _header(document: dict[str, Any]) -> str:
    first = document["outputs"][0]
    n_tokens = len(first["token_ids"])
    rule = f", chosen by {document['select']}" if document["select"] else ""
    return (
        f"{n_tokens} tokens, activity {document['activity']}{rule}, cache {document['cache']}, "
        f"{document['queue_depth']} reads in flight; predicted for {one_line(document['device'])}"
    )


def _row(output: dict[str, Any]) -> list[str]:
    io = output["io_us"]
    if io is None:
        return [output["name"], *["-"] * (len(_HEADERS) - 1)]
    return [
        output["name"], number(output["tokens_per_s"], 1), *(format_time_us(io[key]) for key in
        ("mean", "p50", "p90", "p99")), format_time_us(output["io_predicted_us"]["mean"]),
        format_time_us(output["io_waited_us"]["mean"]), format_time_us(output["compute_us"]["mean"]),
        number(output["reads_per_token"], 1), format_bytes(round(output["bytes_read_per_token"])),
        percent(output["cache_hit_ratio"]),
    ]  # fmt: skip


def _sentences(output: dict[str, Any]) -> str:
    """Return what else is known of one output."""
    said = [f"{one_line(output['name'])}: {format_bytes(output['resident_bytes'])} in memory"]
    if output["dram_bytes"]:
        said[0] += f", {format_bytes(output['dram_bytes'])} of them neurons"
    prefill, errors = output["prefill"], output["io_prediction_error"]
    if prefill["n_tokens"]:
        said.append(
            f"the prompt's {prefill['n_tokens']} tokens took {format_time_us(prefill['us'])}, of which "
            f"{format_time_us(prefill['io_us'])} I/O (predicted {format_time_us(prefill['io_predicted_us'])})"
        )
    if errors is not None:
        said.append(f"a token's prediction is off by {percent(errors['p50'])} at the median, {percent(errors['p90'])} "
                    "at p90")  # fmt: skip
    if output["nll"] is not None:
        said.append(f"loss {output['nll']:.4f} nats a token")
    if output["recall"] is not None:
        said.append(f"recall {percent(output['recall'], 2)}, precision {percent(output['precision'], 2)}")
    agreement = output["agreement"]
    if agreement is not None:
        said.append(f"{agreement['n_equal']} of {agreement['n_compared']} tokens as in memory")
        if agreement["nll"] is not None:
            said.append(f"where the loss is {agreement['nll']:.4f}")
    return "; ".join(said) + "."
