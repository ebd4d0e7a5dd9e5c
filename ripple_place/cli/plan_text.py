"""What ``reorder --plan`` prints: how many neurons are hot at each batch size, and what was assumed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ripple_place.cli.rendering import format_table, percent
from ripple_place.units import format_time_us

if TYPE_CHECKING:
    from collections.abc import Mapping


def plan_text(plan: Mapping[str, Any]) -> str:
    """Return a plan (the document of ``plan.json``) as a table and sentences."""
    rows = []
    for size, batch in plan["batches"].items():
        counts = [block["hot"][size] for block in plan["blocks"].values()]
        npu_us, cpu_us = (sum(each[key] for each in counts) / len(counts) for key in ("npu_us", "cpu_us"))
        rows.append(
            [
                size, f"{batch['hot_neurons']:,}", percent(batch["hot_share"]), f"{batch['prefetched_neurons']:,}",
                f"{batch['cold_neurons_in_dram']:,}", format_time_us(npu_us), format_time_us(cpu_us),
            ]
        )  # fmt: skip
    headings = ["batch", "hot", "share", "read ahead", "cold in DRAM", "dense unit, a layer", "CPU, a layer"]
    assumed = [f"- {each['missing']}: {each['assumed']}." for each in plan["assumptions"]]
    return "\n".join(
        [format_table(headings, rows), "", "The paper leaves open, and the plan takes (docs/systems.md):", *assumed]
    )
