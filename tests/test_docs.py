"""What the documentation says is what the program does."""

import ast
import json
import re
import shlex
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import ripple_place
from ripple_place.checkpoint.names import SELECTION_FILE
from ripple_place.cli.main import cli
from ripple_place.flash.device.files import DEFAULT_DEVICE, list_devices, load_device, read_device
from ripple_place.flash.device.profile import DeviceProfile
from ripple_place.flash.device.ranges import RANGES
from ripple_place.scoring.selection_columns import COLUMNS
from ripple_place.scoring.system_columns import COLUMNS as SYSTEM_COLUMNS
from ripple_place.select.knowledge import SEES
from ripple_place.select.registry import RULES
from ripple_place.select.result import LOSS_KEYS, SelectionResult
from ripple_place.select.rule import Tuning
from ripple_place.select.selected_block import WorthCount
from ripple_place.select.tuned import ReaderNote, TunedRule, TunedRules
from ripple_place.systems.knobs import _CHOICES, Knobs
from ripple_place.systems.plan import Assumption, BlockPlan, HotCounts, NeuronPlan
from ripple_place.systems.plan_params import _OPTIONS, PlanParams
from ripple_place.systems.planner import make_plan
from ripple_place.systems.system import SYSTEMS, System, read_system
from ripple_place.trace.adapters import KINDS

ROOT = Path(__file__).parents[1]
DOCS = {path.name: path.read_text() for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]}


def run(line):
    """Run a ``ripple-place`` command line and return what it prints on stdout."""
    result = CliRunner().invoke(cli, shlex.split(line)[1:], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stdout


@pytest.fixture
def in_copy(tmp_path, monkeypatch):
    """Work in a directory with the example and nothing else of the repository."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "demo-out").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readme_shows_real_output(in_copy):
    """Every command in the README runs, in order, and prints what the README says (``...`` stands for anything)."""
    sessions = re.findall(r"```console\n(.*?)```", DOCS["README.md"], re.DOTALL)
    commands = 0
    for session in sessions:
        for command, shown in re.findall(r"^\$ (ripple-place .*)\n((?:(?!\$ ).*\n)*)", session, re.MULTILINE):
            printed = run(command)
            for passage in re.split(r"^\.\.\.\n", shown, flags=re.MULTILINE):
                assert passage in printed
            commands += 1
    assert commands >= 3


def test_the_readme_picture_is_what_simulate_draws(in_copy):
    """The picture at the top is `make demo`'s, not a retouched one."""
    line = re.search(r"ripple-place (simulate .*?--force)", (ROOT / "Makefile").read_text(), re.DOTALL)[1]
    line = line.replace("\\\n", " ").replace("$(DATA)", "examples/tiny-relu-lm-data").replace("$(OUT)", "demo-out")
    data, model = "examples/tiny-relu-lm-data", "examples/tiny-relu-lm"
    run(f"ripple-place profile {data}/train.trace.safetensors --out demo-out/tiny.profile")
    run("ripple-place reorder --profile demo-out/tiny.profile --ordering frequency --out demo-out/frequency.placement")
    run(
        f"ripple-place reorder {model} --profile demo-out/tiny.profile --break-even-gap 3.15 "
        "--out demo-out/tiny-relu-lm-flash"
    )
    run(f"ripple-place {line}")
    assert (in_copy / "demo-out/reads.svg").read_bytes() == (ROOT / "docs/reads.svg").read_bytes()


def test_every_command_is_in_the_readme():
    """A command that the README does not name will not be found."""
    for name in cli.commands:
        assert f"ripple-place {name}" in DOCS["README.md"]


def test_links_between_documents_lead_somewhere():
    """Relative links name files that exist."""
    for name, text in DOCS.items():
        base = ROOT if name == "README.md" else ROOT / "docs"
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (base / target).exists(), f"{name}: {target}"


def test_documents_that_messages_name_exist():
    """Error messages and help point to files of the repository."""
    for path in (ROOT / "ripple_place").rglob("*.py"):
        for document in re.findall(r"docs/[a-z]+\.md|benchmarks/[a-z0-9_]+\.(?:py|md)", path.read_text()):
            assert (ROOT / document).exists(), f"{path}: {document}"


def test_the_documented_device_file_is_valid(tmp_path):
    """The example in docs/devices.md can be copied as it is, and the table of keys names every key."""
    example = re.search(r"```toml\n(.*?)```", DOCS["devices.md"], re.DOTALL)[1]
    (tmp_path / "device.toml").write_text(example)
    assert read_device(tmp_path / "device.toml").name == "my-phone"
    for key in {field.name for field in fields(DeviceProfile)} - {"sources"}:
        assert f"`{key}`" in DOCS["devices.md"]
    for name in list_devices():
        assert f"`{name}`" in DOCS["devices.md"]
    rows = dict(re.findall(r"^\| (`.*?) \| (.*?) \|", DOCS["devices.md"], re.MULTILINE))
    for key, numbers in RANGES.items():
        keys, ranges = next((keys, ranges) for keys, ranges in rows.items() if f"`{key}`" in keys)
        assert ranges.split("; ")[keys.split(", ").index(f"`{key}`")].split(",")[0] == str(numbers), key


def test_the_default_device_of_the_commands_is_the_library_s():
    """The command line names it as text, because importing the library there would be slow."""
    options = {option.name: option for option in cli.commands["simulate"].params}
    assert options["device"].default == DEFAULT_DEVICE
    assert DEFAULT_DEVICE in {option.name: option for option in cli.commands["reorder"].params}["device"].help


def test_the_generating_page_names_every_option_of_run():
    """And every word of --activity."""
    shared = ("out", "--json", "--seed", "--threads", "-q", "-v", "--quiet", "--verbose")
    for option in cli.commands["run"].params:
        for flag in option.opts:
            assert flag in shared or f"`{flag}" in DOCS["generating.md"], flag
    (activity,) = (option for option in cli.commands["run"].params if option.name == "activity")
    for word in activity.type.choices:
        assert f"| `{word}`" in DOCS["generating.md"]


def test_the_profiling_page_names_every_option_of_a_capture():
    """What `profile` offers beside traces is explained, and each rule and source in the tables can be written so."""
    text = DOCS["profiling.md"]
    for option in cli.commands["profile"].params:
        for flag in [*option.opts, *option.secondary_opts]:
            if flag not in ("sources", "--graphml", "--neighbors", "--json", "--seed", "--threads", "-q", "-v",
                            "--quiet", "--verbose"):  # fmt: skip
                assert f"{flag}" in text, flag
    rules = re.findall(r"^\| `([a-z-]+)(?:=[A-Z]+%?)?`", text, re.MULTILINE)
    assert set(rules) == {"relu", "threshold", "top-k", "cats", "teal", "dip", "glu-pruning", "routed"}
    for kind, options in KINDS.items():
        assert f"`{kind}:" in text
        for option in options:
            assert f"{option}=" in text


def test_the_selection_page_has_every_rule_and_option():
    """The rows of the table are the rules that there are, and every option that selection brings is explained."""
    text = DOCS["selection.md"]
    table = text[text.index("## The rules") : text.index("### Who could run it")]
    rows = set(re.findall(r"^\| `([a-z-]+)(?:=[A-Z]+%?)?`", table, re.MULTILINE))
    keys = {"keep", "drop", "price", "sees", "by", "gamma", "board"}
    assert rows - keys == {*RULES}
    assert set(re.findall(r"^\| `([a-z]+)` ", text[text.index("### Who could run it") :], re.MULTILINE)) >= {*SEES}
    for flag in ("--select", "--text", "--max-tokens", "--magnitude-noise", "--tune-text", "--tune-tokens",
                 "--sequence-length", "--torch-device", "--dtype", "--importance", "--sensitivity"):  # fmt: skip
        assert flag in text
    for heading, (key, _) in COLUMNS.items():
        if key in ("kept_share", "kept_value", "predicted_loss", "needs", *LOSS_KEYS):
            assert f"| {heading} | `{key}` |" in text


def test_the_selection_page_s_example_of_python_has_parameters_that_are_sound():
    """Its parameters can be made; what it runs needs a model (tests/torch)."""
    code = re.search(r"```python\n(.*?)```", DOCS["selection.md"], re.DOTALL)[1]
    made = r"import|from|select|\w+ = (rp\.\w+Params|TuneParams)"
    lines = [line for line in code.splitlines() if re.match(made, line)]
    assert len(lines) == 9
    scope = {}
    exec("\n".join(lines), scope)
    assert scope["params"].select == scope["select"]
    assert scope["rules"].rules == (scope["select"][1],)


def test_the_formats_page_has_the_keys_of_rules():
    """Of the files that tuning writes, and of the documents that commands print."""
    text = DOCS["formats.md"]
    reader = ReaderNote("device", "auto", "none", {})
    written = TunedRules({"top-k=1": TunedRule("top-k=1", reader, Tuning.nothing(), "size")})
    printed = SelectionResult("exact", "nothing", WorthCount(), 1, has_importance=False).to_json()
    for key in (*written.to_json()[0], *json.loads(written.files()[SELECTION_FILE]), *printed, "additions"):
        assert f"`{key}`" in text, key


def rows_of(text, heading):
    """Return the first cells of a table's rows, by what is in backticks there, and the rest of each row."""
    section = text[text.index(f"\n{heading}\n") :].split("\n## ", 2)[0 if heading.startswith("###") else 1]
    return {name: rest for cell, rest in re.findall(r"^\| (`.*?) \| (.*) \|$", section, re.MULTILINE)
            for name in re.findall(r"`([^`]+)`", cell)}  # fmt: skip


def test_the_systems_page_has_every_knob_with_its_default_and_values():
    """And every system that ships, and every column of the table."""
    text = DOCS["systems.md"]
    knobs = rows_of(text, "## Knobs")
    assert [*knobs] == [field.name for field in fields(Knobs)]
    for field in fields(Knobs):
        default, values = knobs[field.name].split(" | ") if field.default else ("", knobs[field.name])
        assert default == (f"`{field.default}`" if field.default else "")
        if field.name != "ordering":
            assert all(f"`{value}`" in default + values for value in _CHOICES.get(field.name, ()))
    assert [*rows_of(text, "## The shipped systems")] == [*SYSTEMS]
    columns = text[text.index("## The columns") : text.index("## Equal DRAM")]
    for heading, (key, _) in SYSTEM_COLUMNS.items():
        key = "flash_time_us_percentiles" if heading == "p99" else key
        assert re.search(rf"^\| .*{heading}.* \| .*`{key}`", columns, re.MULTILINE), heading


def test_the_documented_system_is_valid(tmp_path):
    """The file of docs/systems.md can be copied as it is, and the systems that its commands name are ones."""
    text = DOCS["systems.md"]
    (tmp_path / "window.toml").write_text(re.search(r"```toml\n(.*?)```", text, re.DOTALL)[1])
    system = read_system(tmp_path / "window.toml")
    assert (system.knobs.cache, system.dense.uses) == ("window:5", "top-k=20%")
    named = [quoted or plain for quoted, plain in re.findall(r"--system (?:'(.*?)'|([^\s`|]+))", text)]
    assert len(named) > 10
    for name in named:
        if not name.startswith(("FILE", "SYSTEM")):
            System.parse(name.removesuffix("."))


def test_the_systems_page_shows_what_the_readme_shows():
    """The README's session is run by another test."""
    session = re.search(r"\$ ripple-place simulate [^\n]* --system .*?(?=```)", DOCS["README.md"], re.DOTALL)[0]
    assert session in DOCS["systems.md"]


def test_the_systems_page_has_every_option_of_a_plan():
    """With its default; and the plan that it shows is what the planner makes of the example."""
    options = rows_of(DOCS["systems.md"], "### Options")
    assert [*options] == [*_OPTIONS]
    defaults = PlanParams()
    shown = [options[key].split(" | ")[0].strip("`") for key in ("batches", "cold-share", "over-predict")]
    assert PlanParams.parse("powerinfer2,batches={},cold-share={},over-predict={}".format(*shown)) == defaults


def test_the_formats_page_has_the_keys_of_a_plan():
    """All that a plan writes."""
    hot = HotCounts(1, 1, 1.0, 1.0)
    device = load_device(DEFAULT_DEVICE)
    plan = NeuronPlan("d", 1, {"layers.0": BlockPlan(2, 1, {1: hot})}, {}, (Assumption("a", "b"),)).to_json()
    settings = make_plan({"layers.0": np.full(4, 0.5)}, {"layers.0": 4096}, 2, device).settings
    text = DOCS["formats.md"]
    section = text[text.index("### plan.json") : text.index("### PowerInfer's predictors")]
    (block,) = plan["blocks"].values()
    for key in (*plan, *plan["batches"]["1"], *plan["assumptions"][0], *block, *block["hot"]["1"], *settings):
        assert f"`{key}`" in section, key


def test_the_documented_bundle_reader_works(in_copy, monkeypatch):
    """The ten lines in docs/formats.md that read one neuron with pread give that neuron's weights."""
    from safetensors.numpy import load_file

    data = "examples/tiny-relu-lm-data"
    run(f"ripple-place profile {data}/train.trace.safetensors --out demo-out/tiny.profile")
    run("ripple-place reorder examples/tiny-relu-lm --profile demo-out/tiny.profile --out OUT")
    code = [text for text in re.findall(r"```python\n(.*?)```", DOCS["formats.md"], re.DOTALL) if "pread" in text]
    scope = {}
    exec(code[0], scope)
    source = load_file(ROOT / "examples/tiny-relu-lm/model.safetensors")
    up = source["model.decoder.layers.1.fc1.weight"][17]
    down = source["model.decoder.layers.1.fc2.weight"][:, 17]
    assert scope["weights"] == up.tobytes() + down.tobytes()


def module_of(dependency):
    """Return the name that a listed dependency is imported by, as ``tomli-w>=1.0`` is by ``tomli_w``."""
    return re.match(r"[a-z0-9-]+", dependency)[0].replace("-", "_")


def test_packaging_names_what_the_package_imports():
    """Every dependency is used, and every third-party import is a dependency or an extra."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    listed = project["dependencies"] + project["optional-dependencies"]["capture"]
    declared = {module_of(text) for text in listed}
    imported = set()
    for path in (ROOT / "ripple_place").rglob("*.py"):
        imported |= set(re.findall(r"^\s*(?:from|import) ([a-z0-9_]+)", path.read_text(), re.MULTILINE))
    third_party = imported - set(sys.stdlib_module_names) - {"ripple_place", "__future__"}
    extras = {module_of(text) for name in ("capture", "gguf") for text in project["optional-dependencies"][name]}
    assert declared <= third_party
    assert third_party - {"llvmlite", "markupsafe"} <= declared | extras, "they come with numba and jinja2"


def defined_in(path):
    """Return the names that a module defines at its top."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {target.id for target in targets if isinstance(target, ast.Name)}
    return names


def is_there(name):
    """Tell whether a dotted name is a module of ours, or something that one defines."""
    if name.removeprefix("ripple_place.") in ripple_place.__all__:
        return True
    path = ROOT.joinpath(*name.split("."))
    if path.with_suffix(".py").exists() or (path / "__init__.py").exists():
        return True
    for owner, _, attribute in (name.rpartition("."), name.rpartition(".")[0].rpartition(".")):
        module = ROOT.joinpath(*owner.split(".")).with_suffix(".py")
        if module.exists():
            return attribute in defined_in(module)
    return False


def test_references_in_prose_lead_somewhere():
    """Modules, functions and classes that docstrings, comments and documents name in backticks."""
    files = [
        *(ROOT / "ripple_place").rglob("*.py"),
        *(ROOT / "benchmarks").rglob("*.py"),
        *(ROOT / "docs").glob("*.md"),
    ]
    named = {name: file for file in files for name in re.findall(r"`(ripple_place(?:\.\w+)+)`", file.read_text())}
    assert len(named) > 50
    assert not {name: str(file) for name, file in named.items() if not is_there(name)}
