"""The page that `bench_flash_time` writes: means, what was to be reached, every cell, and the field's question."""

from __future__ import annotations

import math

from ripple_place.placing.comparison import DRAM_SHARES

LEAST_RATIO = 1 / 1.01


def geometric_mean(values) -> float:
    values = list(values)
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def markdown(cells: list[dict], answers: list[dict], lambdas: list[float], budgets: list[float], command: str) -> str:
    """Return the results as a page: means, acceptance lines, every cell, and totals over blocks."""
    judged = [cell for cell in cells if cell["trace"] == "wikitext2-test"]
    columns = [*budgets, None]
    means = []
    for gap in [*lambdas, None]:
        of_gap = [cell for cell in judged if gap in (None, cell["lambda"])]
        row = [geometric_mean(c["ratio"] for c in of_gap if budget in (None, c["budget"])) for budget in columns]
        means.append(["all" if gap is None else f"{gap:g}", *(f"{value:.3f}" for value in row)])
    before = geometric_mean(cell["ratio_before_refit"] for cell in judged)
    return "\n".join(
        [
            "# Flash time against Ripple's pipeline", "", f"`{command}`", "",
            "Baseline cost / our cost (above 1, ours is faster) on wikitext2-test; geometric means over models and "
            "blocks.", "",
            *table(["lambda", *("all" if b is None else f"DRAM {b:g} %" for b in columns)], means), "",
            f"All, before the last search on the whole training trace: {before:.3f}.", "",
            *acceptance(cells), "",
            *table(
                ["model", "trace", "block", "lambda", "DRAM", "baseline", "its cost", "ours", "cost", "ratio",
                 "before refit"],
                [
                    [c["model"], c["trace"], c["block"], f"{c['lambda']:g}", f"{c['budget']:g} %", c["baseline"],
                     f"{c['baseline_cost']:.1f}", f"{c['cache']}, {c['order']}", f"{c['cost']:.1f}",
                     f"{c['ratio']:.3f}", f"{c['ratio_before_refit']:.3f}"]
                    for c in cells
                ],
            ), "",
            "Totals over blocks, baseline / ours:", "",
            *table(["model", "trace", "lambda", "DRAM", "ratio"], totals(cells)), "",
            "The field's question: cost per token, all blocks, with the hottest neurons pinned.", "",
            *table(
                ["model", "trace", "lambda", "order", *(f"hottest {100 * share:g} %" for share in DRAM_SHARES)],
                [
                    [found["model"], found["trace"], f"{found['lambda']:g}", name, *(f"{cost:.1f}" for cost in costs)]
                    for found in answers for name, costs in found["cost_per_token"].items()
                ],
            ), "",
        ]
    )  # fmt: skip


def table(headers: list[str], rows: list[list[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (headers, ["---"] * len(headers), *rows)]


def acceptance(cells: list[dict]) -> list[str]:
    """Return what was to be reached, and what was."""
    lines = []
    wanted = ("opt-relu", "wikitext2-test", 0)
    bare = [cell for cell in cells if (cell["model"], cell["trace"], cell["budget"]) == wanted]
    for gap, limit in ((5, "at most .96 with at most .85 of the reads"), (20, "at most .85")):
        found = [
            f"{c['cost'] / c['baseline_cost']:.3f} ({c['reads'] / c['baseline_reads']:.3f})"
            for c in bare if c["lambda"] == gap
        ]  # fmt: skip
        if found:
            lines += [f"No cache, opt-relu, lambda {gap}, cost (reads) over greedy's, to reach {limit}: "
                      f"{', '.join(found)}.", ""]  # fmt: skip
    worst = min(cells, key=lambda cell: cell["ratio"])
    verdict = "holds" if worst["ratio"] >= LEAST_RATIO else "does NOT hold"
    where = f"{worst['model']} {worst['trace']} {worst['block']}, lambda {worst['lambda']:g}"
    return [
        *lines,
        f"Never more than 1 % worse than the best baseline on any judged trace: {verdict}; the least ratio is "
        f"{worst['ratio']:.3f} ({where}, DRAM {worst['budget']:g} %).",
    ]


def totals(cells: list[dict]) -> list[list[str]]:
    groups: dict[tuple, list[dict]] = {}
    for cell in cells:
        groups.setdefault((cell["model"], cell["trace"], cell["lambda"], cell["budget"]), []).append(cell)
    return [
        [model, part, f"{gap:g}", f"{budget:g} %", f"{sum_of(group, 'baseline_cost') / sum_of(group, 'cost'):.3f}"]
        for (model, part, gap, budget), group in groups.items()
    ]


def sum_of(group: list[dict], key: str) -> float:
    return sum(cell[key] for cell in group)
