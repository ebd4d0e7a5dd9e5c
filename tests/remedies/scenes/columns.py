"""Columns: models whose inputs cannot be pruned, rules of the other unit, and rules that are written otherwise."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ripple_place.capture.params import CaptureParams
from ripple_place.flash.device.conditions import ReadConditions, under
from ripple_place.flash.layout import BlockExtent, BlockLayout, Layout
from ripple_place.flash.simulator import SimulationParams
from ripple_place.placement import NeuronPlacement
from ripple_place.scoring.params import SimulateParams
from ripple_place.scoring.rules import RuleScorer
from ripple_place.select.registry import parse_rule
from ripple_place.select.simulate import simulate_selected
from ripple_place.trace.activity_rules import ActivityRule
from tests.flash.builders import linear_device
from tests.remedies.cases import instead
from tests.remedies.scenes.captures import WINDOWS, beside, captured, trace_by, with_torch
from tests.remedies.scenes.running import model_of, recorded
from tests.remedies.scenes.selection import served_otherwise, simulated_with, written_otherwise
from tests.remedies.scenes.trace import ACTIVE, named_otherwise
from tests.select.builders import known_of, outputs_of, trace_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.remedies.cases import Attempts

# Rules as they are written.

written_otherwise(
    "select/space.py:keep_of", "", "a density that is none: one above 0", "dip-ca,gamma=0.2", "dip-ca=0.5,gamma=0.2"
)
_DIP_CA = "select/dip_ca.py:DipCacheAware"
written_otherwise(
    f"{_DIP_CA}.from_text", "", "a gamma in percent: a number", "dip-ca=0.5,gamma=20%", "dip-ca=0.5,gamma=0.2"
)
written_otherwise(
    f"{_DIP_CA}.__post_init__", "gamma=0.2", "a gamma above 1: one from 0 to 1", "dip-ca=0.5,gamma=2",
    "dip-ca=0.5,gamma=0.2",
)  # fmt: skip
written_otherwise(
    f"{_DIP_CA}.__post_init__", "leave one out", "two ways to favour what is in DRAM: one",
    "dip-ca=0.5,blend=yes,top_m=200%", "dip-ca=0.5,top_m=200%", "dip-ca=0.5,blend=yes",
)  # fmt: skip
served_otherwise(
    f"{_DIP_CA}.of_block", "", "more exempt units than are kept: half of what is kept",
    {"rule": "dip-ca=0.1,fixed_top_n=20"}, {"rule": "dip-ca=0.1,fixed_top_n=50%,top_m=200%"},
)  # fmt: skip
written_otherwise(
    "select/partial_glu.py:PartialGlu.from_text", "", "a projection that comes too late: the gate, or up",
    "partial-glu=0.3,by=down", "partial-glu=0.3,by=gate", "partial-glu=0.3,by=up",
)  # fmt: skip
written_otherwise(
    "select/chunk.py:Chunk.from_text", "", "a board that is not published: one that is, however it is split",
    "chunk=0.5,board=phone", "chunk=0.5,board=nano", "chunk=0.5,split=even",
)  # fmt: skip


# Rules of the other unit.


def served(rule: str, unit: str = "column") -> None:
    """Simulate a rule on a trace in memory."""
    rng = np.random.default_rng(0)
    sizes = {"layers.0.input": 40, "layers.0": 40} if unit == "column" else {"layers.0": 40}
    trace = trace_of({name: outputs_of(rng) for name in sizes}, metadata={"unit": unit})
    blocks = {name: BlockLayout(NeuronPlacement(rng.permutation(40)), BlockExtent.packed(4096)) for name in sizes}
    simulate_selected(
        trace, Layout("tested", blocks), linear_device(), SimulationParams(), parse_rule(rule), known_of(rng, sizes)
    )


instead(
    "select/registry.py:check_units", "or another rule", "a rule of columns, and neurons: columns, or another rule",
    partial(served, "dip=0.5", "neuron"), partial(served, "dip=0.5"), partial(served, "top-k=50%", "neuron"),
)  # fmt: skip
instead(
    "select/registry.py:check_units", "leave sees out", "reading to decide about columns: nothing needs to be read",
    partial(served, "top-k=50%,sees=output"), partial(served, "top-k=50%"),
)  # fmt: skip
instead(
    "select/priced.py:PricedRule.priced", "no sensitivity of tokens in {}; how what dropping costs differs from token "
    "to token. write sensitive=no", "a sensitivity of inputs, which nothing measures: none",
    partial(served, "flash-aware,price=0.1,sensitive=yes"), partial(served, "flash-aware,price=0.1,sensitive=no"),
)  # fmt: skip


def scored(noise: float) -> None:
    """Prepare to score a rule on columns."""
    rows = outputs_of(np.random.default_rng(0))
    trace = trace_of({"layers.0.input": rows, "layers.0": rows}, metadata={"unit": "column"})
    params = SimulateParams(select=("top-k=5",), magnitude_noise=noise)
    RuleScorer(trace, under(linear_device(), ReadConditions()), SimulationParams(), params, None)


instead(
    "scoring/rules.py:RuleScorer.__init__", "", "noise of a predictor that columns do not need: without",
    partial(scored, 0.5), partial(scored, 0.0),
)  # fmt: skip


def recording(rule: str, unit: str) -> CaptureParams:
    """Return parameters of a capture."""
    return CaptureParams(("text",), WINDOWS, ActivityRule.parse(rule), unit=unit)


instead(
    "trace/activity_rules.py:ActivityRule.check_unit", "", "a rule of neurons, and columns: neurons, or another rule",
    partial(recording, "cats=70%", "column"), partial(recording, "cats=70%", "neuron"),
    partial(recording, "dip=0.5", "column"),
)  # fmt: skip
named_otherwise(
    "trace/adapters.py:AdapterSource.rule", "such as top-k", "a rule of columns for recorded numbers: top-k",
    "dense:{}/0.npy,active=dip=0.5", "dense:{}/0.npy,active=top-k=50%", array=ACTIVE * 1.0,
)  # fmt: skip


@beside("capture_source|one of {}s", "a profile of columns to add neurons to: columns, or another profile")
def another_unit(folder: Path) -> Attempts:
    """Their blocks have the same names."""
    from tests.remedies.bench import model_at

    model, earlier = model_at(folder / "model"), trace_by("dip=0.5", unit="column")
    yield lambda: captured(model, earlier=earlier, append=True)
    yield lambda: captured(model, params=recording("dip=0.5", "column"), earlier=earlier, append=True)
    yield lambda: captured(model)


# Models.

_INPUTS = "capture/ffn_inputs.py"
PERSIMMON = """
model_types = ["persimmon"]
prefixes = ["model.", ""]
n_layers_keys = ["num_hidden_layers"]
hidden_keys = ["hidden_size"]
free = ["embed_tokens.*", "final_layernorm.*", "lm_head.*", "layers.{layer}.self_attn.*"]

[[blocks]]
name = "layers.{layer}"
n_neurons_keys = ["intermediate_size"]
module = ["layers.{layer}.mlp.*"]
components = [
    { role = "up", tensor = "layers.{layer}.mlp.dense_h_to_4h.weight", axes = ["neuron", "hidden"] },
    { role = "down", tensor = "layers.{layer}.mlp.dense_4h_to_h.weight", axes = ["hidden", "neuron"] },
]
carriers = [{ role = "up_bias", tensor = "layers.{layer}.mlp.dense_h_to_4h.bias", axes = ["neuron"] }]
free = ["layers.{layer}.mlp.dense_4h_to_h.bias"]
"""


def columns_of(model: Path, **options: Any) -> None:
    """Record a trace of columns."""
    recorded(model, "dip=0.5", unit="column", **options)


@with_torch(f"{_INPUTS}:with_inputs", "a mixture of experts", "columns of a mixture of experts: its neurons")
def columns_of_experts(folder: Path) -> Attempts:
    """Experts share the input that would be pruned."""
    model = model_of(folder, "mixtral")
    yield lambda: columns_of(model)
    yield lambda: recorded(model)


@with_torch(f"{_INPUTS}:with_inputs", "unknown module", "columns of a model without a family: with one, or its neurons")
def columns_of_the_unknown(folder: Path) -> Attempts:
    """Its down projection is found by name, and nothing says what leads to it."""
    import transformers

    from tests.torch.capture_models import write_model, write_text

    write_text(folder / "text", 100)
    sizes = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 80, "num_hidden_layers": 2}
    model = write_model(folder / "model", transformers.PersimmonConfig(**sizes, num_attention_heads=4))
    (folder / "family.toml").write_text(PERSIMMON)
    yield lambda: columns_of(model, allow_unsupported=True)
    yield lambda: columns_of(model, family=folder / "family.toml")
    yield lambda: recorded(model, "top-k=5", allow_unsupported=True)


@with_torch(f"{_INPUTS}:watch_input.look", "", "up and gate that read different inputs: neurons")
def two_inputs(folder: Path) -> Attempts:
    """One mask cannot be that of both."""
    import torch

    from ripple_place.capture.ffn_inputs import watch_input
    from ripple_place.capture.sites import Site

    up, gate = torch.nn.Linear(4, 8), torch.nn.Linear(4, 8)
    down = torch.nn.Linear(8, 4)
    watch_input(Site("layers.0", "", "mlp.down", down, 8, 0, None, True, (up, gate)), lambda values: None)
    up(torch.ones(1, 4))
    yield lambda: gate(torch.zeros(1, 4))
    model = model_of(folder)
    yield lambda: recorded(model)


simulated_with(
    "cli/simulate.py:simulate", "leave {} out", "a unit of a trace, which knows its own: without", ("--unit", "column"),
    (),
)  # fmt: skip
