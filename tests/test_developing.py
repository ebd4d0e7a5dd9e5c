"""docs/developing.md: each recipe is followed with the code that it shows; the floors are those that are enforced."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from scipy.sparse import csr_array

from ripple_place.cli.main import cli
from ripple_place.flash.caches.registry import POLICIES
from ripple_place.flash.device import conditions
from ripple_place.flash.device.conditions import under
from ripple_place.flash.planners.registry import PLANNERS
from ripple_place.flash.simulator import SimulationParams, simulate
from ripple_place.ordering.ordering import Ordering
from ripple_place.ordering.registry import ORDERINGS
from ripple_place.placement import read_placement
from ripple_place.placing.params import PlacingParams
from ripple_place.scoring.collapse import parse_collapse
from ripple_place.select.registry import RULES, parse_rule
from ripple_place.select.rule import Tuning
from ripple_place.select.simulate import simulate_selected
from ripple_place.systems.system import read_system
from ripple_place.trace import activity_rules
from ripple_place.trace.activation_trace import Magnitudes
from ripple_place.trace.activity_rules import ActivityRule
from ripple_place.workflows.reorder import reorder
from tests.flash.builders import block_trace, layout_of, linear_device, trace_of
from tests.test_imports import LAYERS

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "developing.md").read_text()
RECIPES = dict(re.findall(r"^### (.*?)\n(.*?)(?=^### |\Z)", TEXT, re.MULTILINE | re.DOTALL))


def code_of(recipe: str) -> list[str]:
    """Return the blocks of code that a recipe shows."""
    return re.findall(r"```python\n(.*?)```", RECIPES[recipe], re.DOTALL)


@pytest.fixture
def module_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return what makes the first block of a recipe a module, under the path that its first line names."""

    def make(recipe: str) -> ModuleType:
        code = code_of(recipe)[0]
        path = re.match(r"# (ripple_place/\S+)\.py\n", code)[1]  # type: ignore[index]
        assert (ROOT / path).parent.is_dir()
        assert not (ROOT / f"{path}.py").exists()
        (tmp_path / "recipe.py").write_text(code)
        name = path.replace("/", ".")
        spec = importlib.util.spec_from_file_location(name, tmp_path / "recipe.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return make


def test_the_floors_are_those_that_are_enforced() -> None:
    """The table has the rows of `tests/test_imports.py`, in their order."""
    rows = re.findall(r"^\| \d+ \| (.*?) \|", TEXT, re.MULTILINE)
    named = [set(re.findall(r"`(\w+)`", row)) for row in rows]
    for shown, enforced in zip(named, LAYERS, strict=True):
        assert shown <= enforced
        assert shown == enforced or "..." in rows[named.index(shown)]


def test_an_ordering(
    module_of: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile_path: Path
) -> None:
    """It orders, is compared, and the search starts from it."""
    module_of("An ordering")
    ordering: Ordering = eval(code_of("An ordering")[1], {"Ordering": Ordering})
    monkeypatch.setitem(ORDERINGS, ordering.name, ordering)
    reorder(None, profile_path, tmp_path / "p", PlacingParams(ordering="backwards"))
    assert read_placement(tmp_path / "p").blocks["layers.0"].order.tolist() == list(range(23, -1, -1))
    params = PlacingParams(ordering="flash-time", break_even_gap=2.0, effort=0)
    compared = reorder(None, profile_path, tmp_path / "q", params).comparison
    assert compared is not None
    assert "backwards" in compared.cost_per_token


def test_a_cache_policy(module_of: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    """Two of four neurons fit; they stay, and hit from then on."""
    policy: Any = module_of("A cache policy").FirstCome
    monkeypatch.setitem(POLICIES, policy.policy, policy)
    trace = trace_of({"layers.0": block_trace(np.array([[1, 0, 1, 0], [1, 1, 1, 0], [0, 1, 1, 1]]))}, 3)
    layout = layout_of({"layers.0": [0, 1, 2, 3]})
    totals = simulate(trace, layout, linear_device(), SimulationParams("first-come", {"layers.0": 2})).totals
    assert (totals.n_active, totals.n_hits) == (8, 3)


def test_a_planner(module_of: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    """One read a token, from the first active slot to the last; none where nothing is active."""
    planner: Any = module_of("A planner").OneReadPlanner
    monkeypatch.setitem(PLANNERS, planner.name, planner)
    trace = trace_of({"layers.0": block_trace(np.array([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 0, 1]]))}, 3)
    layout = layout_of({"layers.0": [0, 1, 2, 3]})
    totals = simulate(trace, layout, linear_device(), SimulationParams(gap=parse_collapse("one-read"))).totals
    assert (totals.n_reads, totals.n_neurons_read) == (2, 7)


def test_a_device_effect(monkeypatch: pytest.MonkeyPatch) -> None:
    """A one-page read takes twice as long."""
    monkeypatch.setattr(conditions, "EFFECTS", dict(conditions.EFFECTS))
    for code in code_of("A device effect"):
        exec(code, vars(conditions))
    monkeypatch.delattr(conditions, "half_speed_effect", raising=False)
    fast, slow = (under(replace(linear_device(), name=name)) for name in ("fast", "slow"))
    assert float(slow.request_us(4096)) == 2 * float(fast.request_us(4096))
    assert slow.one_page_throughput == {"half speed": 0.5}


def test_an_activity_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed, written and applied like those that ship."""
    monkeypatch.setattr(activity_rules, "RULES", dict(activity_rules.RULES))
    exec(code_of("An activity rule")[0], vars(activity_rules))
    rule = ActivityRule.parse("above-mean")
    assert str(rule) == "above-mean"
    assert rule.active(np.array([[1.0, -5.0, 2.0], [3.0, 3.0, 3.0]])).tolist() == [[False, True, False], [False] * 3]


def test_a_selection_rule(module_of: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> None:
    """Parsed, written and applied like those that ship: of each row, what is above its mean is served."""
    rule_class: Any = module_of("A selection rule").AboveMean
    for name, parse in eval(f"{{{code_of('A selection rule')[1]}}}", {"AboveMean": rule_class}).items():
        monkeypatch.setitem(RULES, name, parse)
    rule = parse_rule("above-mean,sees=output")
    assert str(rule) == "above-mean,sees=output"
    outputs = np.array([[1.0, -5.0, 2.0, 0.0], [3.0, 3.0, 3.0, 3.0]], np.float32)
    values = csr_array(outputs)
    magnitudes = Magnitudes(values.indptr.astype(np.int64), values.indices.astype(np.int32), values.data)
    trace = trace_of({"layers.0": replace(block_trace(outputs != 0), magnitudes=magnitudes)}, 2)
    layout = layout_of({"layers.0": [0, 1, 2, 3]})
    result = simulate_selected(
        trace, layout, linear_device(), SimulationParams(), parse_rule("above-mean"), Tuning.nothing()
    )
    assert result.totals.n_active == 1
    assert result.selection is not None
    assert result.selection.to_json()["kept_share"] == pytest.approx(1 / 7)


def test_a_system(tmp_path: Path) -> None:
    """The file is read, and is none that ships."""
    (text,) = re.findall(r"```toml\n(.*?)```", RECIPES["A system"], re.DOTALL)
    path = re.match(r"# (ripple_place/\S+\.toml)\n", text)[1]  # type: ignore[index]
    assert (ROOT / path).parent.is_dir()
    assert not (ROOT / path).exists()
    (tmp_path / "bypass.toml").write_text(text)
    system = read_system(tmp_path / "bypass.toml")
    assert system.name == Path(path).stem
    assert system.knobs.cache == "none"


def test_a_command(
    module_of: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, trace_path: Path, capsys: Any
) -> None:
    """As a table, and as JSON."""
    command: Any = module_of("A command").blocks
    monkeypatch.setattr(cli, "commands", {**cli.commands, "blocks": command})
    cli.main(["blocks", str(trace_path)], standalone_mode=False)
    assert capsys.readouterr().out == "layers.0  24 neurons\nlayers.1  24 neurons\n"
    cli.main(["blocks", str(trace_path), "--json"], standalone_mode=False)
    assert json.loads(capsys.readouterr().out) == {"layers.0": 24, "layers.1": 24}


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_recipes_name_is_there(recipe: str) -> None:
    """Files and documents that a recipe sends its reader to."""
    text = re.sub(r"```.*?```", "", RECIPES[recipe], flags=re.DOTALL)
    for path in re.findall(r"`((?:ripple_place|tests|cli|flash)/[\w/.]+)`", text):
        if "NAME" not in path:
            assert (ROOT / path).exists() or (ROOT / "ripple_place" / path).exists(), path
    for link in re.findall(r"\]\(([\w.]+)\)", text):
        assert (ROOT / "docs" / link).exists()
