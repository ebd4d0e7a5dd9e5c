"""Text from storage: what can run, and what it needs. `tests/torch` walks those with a model."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from ripple_place.checkpoint.names import BUNDLED_FILE
from ripple_place.checkpoint.output.manifest import read_manifest
from ripple_place.generation.activities import check_routed
from ripple_place.generation.generator import Generator
from ripple_place.generation.known_weights import read_first_bytes
from ripple_place.generation.params import GenerationParams
from ripple_place.generation.row_form import form_of_block
from ripple_place.select.registry import parse_rule
from tests.remedies.bench import output_at
from tests.remedies.cases import case, instead

if TYPE_CHECKING:
    from pathlib import Path

    from tests.remedies.cases import Attempts

with_torch = partial(case, needs_torch=True)

# What is asked for.

_PARAMS = "generation/params.py:GenerationParams.__post_init__"
instead(
    _PARAMS, "write a positive number", "no token to be generated: some", lambda: GenerationParams(0), GenerationParams
)
instead(
    _PARAMS, "write one of them", "an activity that is none: one of them", lambda: GenerationParams(activity="guessed"),
    lambda: GenerationParams(activity="predicted"),
)  # fmt: skip
instead(
    _PARAMS, "name a rule", "a rule beside an oracle that reads all that fires: both named, or neither",
    lambda: GenerationParams(rule=parse_rule("top-k=20%")),
    lambda: GenerationParams(activity="rule", rule=parse_rule("top-k=20%")), GenerationParams,
)  # fmt: skip
instead(
    _PARAMS, "leave the check out", "a recall to be checked without predictors: left out, or with them",
    lambda: GenerationParams(check_recall=True), GenerationParams,
    lambda: GenerationParams(activity="predicted", check_recall=True),
)  # fmt: skip


instead(
    "generation/activities.py:check_routed", "", "predictors of experts: the router's choice",
    lambda: check_routed(GenerationParams(activity="predicted")), lambda: check_routed(GenerationParams()),
)  # fmt: skip


# What lies in the bundled file.


def entry(unit: str = "neuron", dtype: str = "F16") -> dict[str, Any]:
    """Return what an index says of a block."""
    parts = [
        {"role": role, "tensor": role, "dtype": dtype, "offset_bytes": 8 * at, "length_bytes": 8}
        for at, role in enumerate(("up", "down"))
    ]
    return {"unit": unit, "n_neurons": 4, "offset_bytes": 0, "stride_bytes": 16, "components": parts}


instead(
    "generation/row_form.py:form_of_block", "", "columns: neurons",
    lambda: form_of_block("layers.0", entry("column")), lambda: form_of_block("layers.0", entry()),
)  # fmt: skip
instead(
    "generation/refusal.py:other_model", "", "weights in 8 bits: an engine that knows them",
    lambda: form_of_block("layers.0", entry(dtype="F8_E4M3")), untried="The engine is another program.",
)  # fmt: skip


@case("generation/known_weights.py:_read")
def cut_short(folder: Path) -> Attempts:
    """A bundled file that was cut short: copied again, or written again."""
    out = output_at(folder / "out")
    block = read_manifest(out).document["bundled"]["layers.1"]
    path = out / BUNDLED_FILE
    content = path.read_bytes()
    path.write_bytes(content[: block["offset_bytes"] + 5])
    yield lambda: read_first_bytes(path, block, 8)
    path.write_bytes(content)
    yield lambda: read_first_bytes(path, block, 8)
    (folder / "again").mkdir()
    yield lambda: read_first_bytes(output_at(folder / "again" / "out") / BUNDLED_FILE, block, 8)


# What runs.


def output_of(folder: Path, family: str = "opt", **config: Any) -> Path:
    """Write a tiny model and an output of it."""
    from tests.torch.generation_models import write_output, write_source

    return write_output(write_source(folder / f"source-{family}", family, **config), folder / f"out-{family}")


def first_step(out: Path, prompt: tuple[int, ...] = (5, 6, 7), **params: Any) -> None:
    """Generate a token."""
    from tests.torch.generation_models import steps_of

    steps_of(out, GenerationParams(**{"max_tokens": 1} | params), prompt)


@with_torch("generation/generator.py:Generator.score")
def short_text(folder: Path) -> Attempts:
    """A text of one token to be scored: a longer one."""
    from tests.torch.generation_models import open_reader

    out = output_of(folder)

    def score(*tokens: int) -> None:
        with open_reader(out) as reader:
            list(Generator.open(out, reader).score(tokens))

    yield lambda: score(5)
    yield lambda: score(5, 6)


@with_torch("generation/generator.py:Generator._check", "take the tokenizer")
def unknown_tokens(folder: Path) -> Attempts:
    """Tokens of another model: this one's."""
    out = output_of(folder)
    yield lambda: first_step(out, (5, 4000))
    yield lambda: first_step(out, (5, 40))


@with_torch("generation/generator.py:Generator._check", "shorten the text")
def too_long(folder: Path) -> Attempts:
    """More tokens than the model has positions: a shorter text, or fewer new tokens."""
    out = output_of(folder)
    yield lambda: first_step(out, (5,) * 200, max_tokens=57)
    yield lambda: first_step(out, (5,) * 199, max_tokens=57)
    yield lambda: first_step(out, (5,) * 200, max_tokens=56)


_MAKERS = "generation/activities.py:_Makers"


@with_torch(f"{_MAKERS}.predictor")
def no_predictors(folder: Path) -> Attempts:
    """An output without predictors: one with them, or the oracle."""
    from tests.torch.generation_models import write_predictors

    out = output_of(folder)
    yield lambda: first_step(out, activity="predicted")
    yield lambda: first_step(out, activity="oracle")
    write_predictors(out, margin=0.02)
    yield lambda: first_step(out, activity="predicted")


@with_torch(f"{_MAKERS}._predictor_of", "more text")
def a_block_without(folder: Path) -> Attempts:
    """A block whose predictor is missing, since no token reached it: another activity, or one that was fitted."""
    from tests.torch.generation_models import write_predictors

    out = output_of(folder)
    write_predictors(out, margin=0.02, left_out="layers.1")
    yield lambda: first_step(out, activity="predicted")
    yield lambda: first_step(out, activity="all")
    write_predictors(out, margin=0.02)
    yield lambda: first_step(out, activity="predicted")


@with_torch(f"{_MAKERS}._predictor_of", "copy the output")
def predictors_of_another(folder: Path) -> Attempts:
    """The predictors of another model: those that were written with this output."""
    from ripple_place.checkpoint.names import PREDICTORS_FILE
    from tests.torch.generation_models import write_predictors

    out, other = output_of(folder), output_of(folder / "other", ffn_dim=40)
    write_predictors(out, margin=0.02)
    write_predictors(other, margin=0.02)
    own = (out / PREDICTORS_FILE).read_bytes()
    (out / PREDICTORS_FILE).write_bytes((other / PREDICTORS_FILE).read_bytes())
    yield lambda: first_step(out, activity="predicted")
    (out / PREDICTORS_FILE).write_bytes(own)
    yield lambda: first_step(out, activity="predicted")


@with_torch(f"{_MAKERS}.check_gates", "take --activity predicted")
def no_gate(folder: Path) -> Attempts:
    """The gates of a model without any: predictors, or the oracle."""
    from tests.torch.generation_models import write_predictors

    out = output_of(folder)
    write_predictors(out, margin=0.02)
    yield lambda: first_step(out, activity="gate")
    yield lambda: first_step(out, activity="predicted")
    yield lambda: first_step(out, activity="oracle")


@with_torch(f"{_MAKERS}.check_gates", "take --activity rule")
def smooth_gate(folder: Path) -> Attempts:
    """Gates that are never quite closed: a rule."""
    out = output_of(folder, "llama", hidden_act="silu")
    yield lambda: first_step(out, activity="gate")
    yield lambda: first_step(out, activity="rule", rule=parse_rule("top-k=20%"))
