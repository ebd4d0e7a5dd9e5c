"""Reproduce published figures with the simulator: ``make paper``, or ``python -m benchmarks.paper``.

Writes ``benchmarks/paper/results.json`` and ``results.md``; the first lines of each section there say what was
simulated. Seeded; a few minutes on two cores, most of them for the orders of the two synthetic models.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.paper import dip, neuralink_ladder, neuralink_table2, powerinfer2_ladder, small_checks
from benchmarks.paper.figures import Figure, percent, write_json, write_table

FOLDER = Path(__file__).parent


def sections() -> dict[str, tuple[str, list[Figure]]]:
    """Return introduction and figures by section."""
    return {
        "Neuralink's Table 2": (neuralink_table2.INTRODUCTION, neuralink_table2.figures()),
        "LLM in a Flash": (
            "0.2 GB in scattered reads, and 13.4 GB in one sweep, on the `m1-max` profile.",
            small_checks.llm_in_a_flash(),
        ),
        "PowerInfer-2": (
            "On the `ufs4-oneplus12-powerinfer2` profile. Where the paper only says what is better, 1 is published.",
            small_checks.powerinfer2(),
        ),
        "PowerInfer-2's ladder": powerinfer2_ladder.section(),
        "DIP": (dip.INTRODUCTION, dip.figures()),
        "Derived": (
            "What follows from arithmetic, found by simulation.",
            [*small_checks.read_lengths(), *small_checks.break_even_gaps()],
        ),
        "Neuralink's ladder": neuralink_ladder.section(),
    }


def main() -> None:
    """Reproduce all figures, write them down, and print a line for each."""
    results = sections()
    figures = [figure for _, section in results.values() for figure in section]
    write_json(FOLDER / "results.json", figures)
    write_table(FOLDER / "results.md", results)
    for figure in figures:
        print(
            f"{figure.id:50s} {figure.published:10.4g} {figure.simulated:10.4g}  {percent(figure.deviation):>7s}  "
            f"{figure.kind:11s}  {figure.unit}"
        )
    judged = [figure for figure in figures if figure.id.startswith("neuralink-table2-") and figure.kind == "prediction"]
    off = [abs(figure.deviation) for figure in judged if figure.unit == "ms"]
    print(f"Table 2, five judged points: largest {max(off):.1%}, mean {sum(off) / len(off):.1%} (to reach: 8 %, 4 %)")


if __name__ == "__main__":
    main()
