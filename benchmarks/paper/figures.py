"""What a reproduced figure is, and how figures are written down."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PREDICTION, CONSISTENCY = "prediction", "consistency"


@dataclass(frozen=True)
class Figure:
    """A published figure and its counterpart from the simulator.

    Parameters
    ----------
    id, source : str
    published, simulated : float
    unit : str
    kind : {"prediction", "consistency"}
        `consistency` where the device profile, the workload or an input of the simulation was made from this figure.
    explanation : str
        Why they differ, in a sentence; or how the figure comes about where they do not.
    """

    id: str
    source: str
    published: float
    simulated: float
    unit: str
    kind: str
    explanation: str

    def __post_init__(self) -> None:
        assert self.kind in (PREDICTION, CONSISTENCY), self.kind
        assert self.published, self.id

    @property
    def deviation(self) -> float:
        """Simulated over published, less one."""
        return self.simulated / self.published - 1

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``results.json``; the deviation is that of the rounded numbers beside it."""
        simulated = float(f"{self.simulated:.6g}")
        return {
            "id": self.id,
            "source": self.source,
            "published": self.published,
            "simulated": simulated,
            "unit": self.unit,
            "deviation": round(simulated / self.published - 1, 6),
            "kind": self.kind,
            "explanation": self.explanation,
        }


def write_json(path: Path, figures: Sequence[Figure]) -> None:
    """Write ``results.json``."""
    assert len({figure.id for figure in figures}) == len(figures)
    path.write_text(json.dumps([figure.to_json() for figure in figures], indent=2) + "\n")


def write_table(path: Path, sections: dict[str, tuple[str, list[Figure]]]) -> None:
    """Write ``results.md``: one table a section."""
    lines = [
        "# Published figures, reproduced",
        "",
        "Written by `make paper` (`python -m benchmarks.paper`); the same as JSON in [results.json](results.json).",
        "A *consistency* figure went into the device profile, the workload or an input of the simulation, and only",
        "shows that nothing was lost on the way; a *prediction* did not. Deviation is simulated over published, less",
        "one. v2 and v3 are versions of arXiv 2410.19274, first titled Ripple, then Neuralink. *Derived* sources are",
        "arithmetic on published figures.",
    ]
    for title, (introduction, figures) in sections.items():
        lines += ["", f"## {title}", "", introduction, ""]
        lines += [
            "| id | source | published | simulated | unit | deviation | kind |",
            "|---|---|---:|---:|---|---:|---|",
        ]
        lines += [
            f"| `{figure.id}` | {figure.source} | {_number(figure.published)} | {_number(figure.simulated)} "
            f"| {figure.unit} | {percent(figure.deviation)} | {figure.kind} |"
            for figure in figures
        ]
        lines.append("")
        by_text: dict[str, list[str]] = {}
        for figure in figures:
            by_text.setdefault(figure.explanation, []).append(f"`{figure.id}`")
        lines += [f"- {', '.join(ids)}: {text}" for text, ids in by_text.items()]
    path.write_text("\n".join(lines) + "\n")


def percent(deviation: float) -> str:
    """Write a deviation; one that rounds to nothing has no sign."""
    return f"{deviation:+.1%}" if abs(deviation) >= 0.0005 else "0.0%"


def _number(value: float) -> str:
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
