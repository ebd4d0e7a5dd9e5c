"""Text that is generated with the FFNs on storage, against transformers with all of the model in memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ripple_place.errors import CheckpointError, UnsupportedError, UsageError
from ripple_place.generation.generator import Generator
from ripple_place.generation.params import GenerationParams
from ripple_place.select.registry import parse_rule
from tests.torch.capture_models import load
from tests.torch.generation_models import (
    N_TOKENS,
    PROMPT,
    capacities,
    expected_nll,
    expected_tokens,
    open_reader,
    steps_of,
    tokens_of,
    write_output,
    write_predictors,
    write_selection,
    write_source,
)
from tests.torch.models import CONFIGS, save_random


@pytest.fixture(scope="module")
def opt(tmp_path_factory):
    """Return an OPT model and what it generates."""
    source = write_source(tmp_path_factory.mktemp("opt") / "source", "opt")
    return source, expected_tokens(source)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    """Return a Llama with gated ReLU and what it generates."""
    source = write_source(tmp_path_factory.mktemp("llama") / "source", "llama")
    return source, expected_tokens(source)


@pytest.fixture(scope="module")
def opt_out(opt):
    """Return an output of the OPT model."""
    return write_output(opt[0], opt[0].parent / "out")


@pytest.fixture(scope="module")
def llama_out(llama):
    """Return an output of the Llama."""
    return write_output(llama[0], llama[0].parent / "out")


CACHES = ["none", "lru", "fifo", "lfu", "s3fifo", "sieve", "pinned", "pinned+lru", "window:4"]


@pytest.mark.parametrize("cache", CACHES)
def test_opt_generates_what_transformers_does(opt, opt_out, cache):
    """200 tokens, whatever the policy of the DRAM cache."""
    steps = steps_of(opt_out, cache=cache, capacity_neurons=capacities(opt_out, 30))
    assert tokens_of(steps) == opt[1]
    assert len(opt[1]) == N_TOKENS
    assert len(set(opt[1])) > 5  # No model that says one word.


@pytest.mark.parametrize("cache", ["none", "lru", "pinned"])
def test_llama_generates_what_transformers_does(llama, llama_out, cache):
    """200 tokens of a gated FFN."""
    steps = steps_of(llama_out, cache=cache, capacity_neurons=capacities(llama_out, 30))
    assert tokens_of(steps) == llama[1]
    assert len(set(llama[1])) > 5


@pytest.mark.parametrize(
    "how",
    [
        {"order": "original"},
        {"seed": 7},
        {"copies": 2},
        {"stride": "page"},
        {"formats": ("bundled",)},
    ],
    ids=str,
)
def test_every_layout_gives_the_same_text(opt, how, tmp_path):
    """Orders, a second copy, padded bundles; an output without drop-in weights."""
    out = write_output(opt[0], tmp_path / "out", **how)
    assert tokens_of(steps_of(out, cache="lru", capacity_neurons=capacities(out, 30))) == opt[1]


@pytest.mark.parametrize("depth", [1, 32])
def test_every_queue_depth_gives_the_same_text(opt, opt_out, depth):
    """One read at a time, or many."""
    assert tokens_of(steps_of(opt_out, depth=depth)) == opt[1]


def test_a_pool_of_all_blocks_gives_the_same_text(opt, opt_out):
    """One cache, which evicts one block's neurons for another's."""
    steps = steps_of(opt_out, cache="lru", pool_neurons=180)
    assert tokens_of(steps) == opt[1]
    assert sum(step.n_hits for step in steps) > 0


@pytest.mark.parametrize("rows", [1, 3, 10, 100])
def test_every_size_of_prompt_chunks_gives_the_same_text(opt, opt_out, rows):
    """The units of a chunk's tokens are read at once, and each token uses its own."""
    steps = steps_of(opt_out, GenerationParams(N_TOKENS, prefill_rows=rows))
    assert tokens_of(steps) == opt[1]
    prefill = [step for step in steps if step.is_prefill]
    assert sum(step.n_rows for step in prefill) == len(PROMPT)
    assert len(prefill) == -(-len(PROMPT) // rows)
    assert [step.token_id is None for step in prefill] == [True] * (len(prefill) - 1) + [False]
    assert all(step.n_rows == 1 and not step.is_prefill for step in steps[len(prefill) :])


@pytest.mark.parametrize("parts", ["whole", "rest"])
def test_gates_in_memory_say_what_fires(llama, parts, tmp_path):
    """Gated ReLU: exact. Gates that lie apart are not read again."""
    out = write_output(llama[0], tmp_path / "out", gates="apart")
    by_parts = {"parts": parts, "cache": "lru", "capacity_neurons": capacities(out, 30)}
    assert tokens_of(steps_of(out, GenerationParams(N_TOKENS, activity="gate"), **by_parts)) == llama[1]
    with open_reader(out, **by_parts) as reader, open_reader(out) as whole:
        assert reader.row_bytes("layers.0") == whole.row_bytes("layers.0") * (2 if parts == "rest" else 3) // 3


@pytest.mark.parametrize("family", ["mistral", "qwen2", "phi3", "gemma", "gpt2"])
def test_other_families(family, tmp_path):
    """Sliding windows, tied embeddings, gate and up in one matrix, scaled embeddings, transposed weights."""
    source = write_source(tmp_path / "source", family, pad_token_id=0)
    out = write_output(source, tmp_path / "out")
    assert tokens_of(steps_of(out, GenerationParams(50))) == expected_tokens(source, 50)
    text = [*PROMPT, *range(2, 50)]
    with open_reader(out) as reader:
        steps = list(Generator.open(out, reader).score(text))
    assert np.allclose([step.nll for step in steps], expected_nll(source, text), atol=1e-4)


def test_biases_of_a_gated_ffn(tmp_path):
    """Of gate, up and down; and embeddings that are tied."""
    source = write_source(tmp_path / "source", "llama", mlp_bias=True, tie_word_embeddings=True)
    out = write_output(source, tmp_path / "out")
    assert tokens_of(steps_of(out, GenerationParams(60))) == expected_tokens(source, 60)


def test_all_units_of_a_smooth_activation(tmp_path):
    """SwiGLU: every neuron puts out something, and all are read."""
    source = write_source(tmp_path / "source", "llama", hidden_act="silu")
    out = write_output(source, tmp_path / "out")
    steps = steps_of(out, GenerationParams(40, activity="all"))
    assert tokens_of(steps) == expected_tokens(source, 40)
    assert all(step.n_asked == 3 * 76 for step in steps)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("family", ["opt", "llama"])
def test_half_precision(family, dtype, tmp_path):
    """In the checkpoint's own dtype, and, the weights widened, in float32: there equal to transformers."""
    source = write_source(tmp_path / "source", family, dtype=dtype)
    out = write_output(source, tmp_path / "out")
    wide = steps_of(out, GenerationParams(60, dtype="float32"))
    assert tokens_of(wide) == expected_tokens(source, 60)
    with open_reader(out) as reader:
        generator = Generator.open(out, reader, GenerationParams(8))
        assert next(generator.model.parameters()).dtype == dtype
        own = list(generator.score(PROMPT + tokens_of(wide)))
    ours, theirs, exact = (
        np.array(nll)
        for nll in (
            [step.nll for step in own], expected_nll(source, PROMPT + tokens_of(wide), dtype),
            expected_nll(source, PROMPT + tokens_of(wide)),
        )
    )  # fmt: skip
    assert np.abs(ours - exact).mean() < 1.5 * np.abs(theirs - exact).mean()


def test_scores_are_those_of_the_model(opt, opt_out):
    """The NLL of each next token, one step a token."""
    text = PROMPT + opt[1][:40]
    with open_reader(opt_out) as reader:
        steps = list(Generator.open(opt_out, reader).score(text))
    assert [step.token_id for step in steps] == text[1:]
    assert np.allclose([step.nll for step in steps], expected_nll(opt[0], text), atol=1e-4)
    assert all(step.n_rows == 1 and not step.is_prefill for step in steps)


def test_hits_change_no_bit(opt, opt_out):
    """The same NLL, bit by bit, without a cache, with one, and with the prompt in other chunks."""
    runs = [
        steps_of(opt_out, GenerationParams(50), cache="none"),
        steps_of(opt_out, GenerationParams(50), cache="lru", capacity_neurons=capacities(opt_out, 60)),
    ]
    assert sum(step.n_hits for step in runs[1]) > 0
    assert [step.nll for step in runs[0]] == [step.nll for step in runs[1]]


def test_a_token_that_ends_the_text_is_the_last(opt, opt_out):
    """As transformers stops."""
    ending = opt[1][20]
    with open_reader(opt_out) as reader:
        generator = Generator.open(opt_out, reader, GenerationParams(N_TOKENS))
        generator.eos_token_ids = frozenset([ending])
        assert tokens_of(generator.generate(PROMPT)) == opt[1][: opt[1].index(ending) + 1]


def test_the_models_own_ending_tokens_are_known(tmp_path, opt):
    """From the generation config, or the config."""
    source = write_source(tmp_path / "source", "opt")
    config = (source / "generation_config.json").read_text()
    (source / "generation_config.json").write_text(config.replace("{", '{"eos_token_id": [3, 9],', 1))
    out = write_output(source, tmp_path / "out")
    with open_reader(out) as reader:
        assert Generator.open(out, reader).eos_token_ids == {3, 9}
        assert Generator.open(out, reader).tokenizer("w5 w61", add_special_tokens=False)["input_ids"] == [5, 61]


def test_what_is_counted_is_what_the_reader_counts(opt_out):
    """Steps add up to the counters; times are those that it measured."""
    with open_reader(opt_out, cache="lru", capacity_neurons=capacities(opt_out, 40)) as reader:
        steps = list(Generator.open(opt_out, reader, GenerationParams(20, prefill_rows=4)).generate(PROMPT))
        for count in ("n_asked", "n_hits", "n_reads", "n_requests", "bytes_read"):
            assert sum(getattr(step, count) for step in steps) == reader.counters.total(count) > 0
        for times in ("read_us", "waited_us", "predicted_us"):
            assert sum(getattr(step, times) for step in steps) == pytest.approx(reader.counters.total_us(times))
        assert all(step.elapsed_us > step.waited_us >= 0 for step in steps)


def test_ffn_weights_stay_out_of_memory(opt, opt_out):
    """What stays is the model less its FFN matrices, and the cache."""
    whole = sum(parameter.nbytes for parameter in load(opt[0], torch.float32).parameters())
    ffns = 3 * 2 * 76 * 32 * 4
    with open_reader(opt_out, cache="lru", capacity_neurons=capacities(opt_out, 10)) as reader:
        generator = Generator.open(opt_out, reader, GenerationParams(8, activity="all"))
        assert generator.resident_bytes == whole - ffns + 3 * 10 * 2 * 32 * 4
        assert not any(parameter.is_meta for parameter in generator.model.parameters())
        oracle = Generator.open(opt_out, reader, GenerationParams(8))
        assert oracle.resident_bytes == generator.resident_bytes + ffns // 2


# Predictors.


def test_a_predictor_that_misses_nothing_gives_the_same_text(opt, tmp_path):
    """It names some neurons too many, whose outputs are 0."""
    out = write_output(opt[0], tmp_path / "out")
    write_predictors(out, margin=0.02)
    steps = steps_of(out, GenerationParams(N_TOKENS, activity="predicted", check_recall=True))
    assert tokens_of(steps) == opt[1]
    assert all(step.recall == 1 for step in steps)
    assert min(step.precision for step in steps) < 1
    unchecked = steps_of(out, GenerationParams(8, activity="predicted"))
    assert unchecked[0].recall is None
    assert unchecked[0].n_asked == steps[0].n_asked


def test_a_predictor_that_misses_much_is_seen_to(opt, tmp_path):
    """Recall below 1."""
    out = write_output(opt[0], tmp_path / "out")
    write_predictors(out, margin=-0.3)
    steps = steps_of(out, GenerationParams(20, activity="predicted", check_recall=True))
    assert max(step.recall for step in steps) < 1
    assert all(step.precision == 1 for step in steps)


# Rules.


def test_a_rule_that_drops_nothing_gives_the_same_text(opt, opt_out):
    """The rule asks the cache in the reader's place; the bytes come from the reader."""
    params = GenerationParams(N_TOKENS, activity="rule", rule=parse_rule("exact"))
    steps = steps_of(opt_out, params, cache="lru", capacity_neurons=capacities(opt_out, 60))
    assert tokens_of(steps) == opt[1]
    assert sum(step.n_hits for step in steps) > 0


RULES = ["top-k=20%", "threshold=0.05", "teal=50%", "cats=50%", "flash-aware=0.001"]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_drops_what_it_says(llama, rule, tmp_path):
    """Fewer units than fire, those of a chunk one token after the other, and the same every time."""
    out = write_output(llama[0], tmp_path / "out")
    write_selection(out, rule)
    exact = steps_of(out, GenerationParams(20))
    cache = {"cache": "lru", "capacity_neurons": capacities(out, 60)}
    runs = [
        steps_of(out, GenerationParams(20, activity="rule", rule=parse_rule(rule), prefill_rows=rows), **cache)
        for rows in (100, 1)
    ]
    assert tokens_of(runs[0]) == tokens_of(runs[1])
    assert [step.n_hits for step in runs[0][-19:]] == [step.n_hits for step in runs[1][-19:]]
    assert sum(step.n_hits for step in runs[0]) > 0
    assert runs[0][-1].n_asked < exact[-1].n_asked


def test_a_rule_costs_what_it_does_in_the_whole_model(llama, tmp_path):
    """The NLL of a text, against transformers with the same outputs set to 0."""
    out = write_output(llama[0], tmp_path / "out")
    write_selection(out, "teal=50%")
    text = PROMPT + llama[1][:40]
    params = GenerationParams(activity="rule", rule=parse_rule("teal=50%"))
    with open_reader(out) as reader:
        steps = list(Generator.open(out, reader, params).score(text))
    model = load(llama[0], torch.float32)
    for layer in model.model.layers:
        layer.mlp.down_proj.register_forward_pre_hook(lambda module, inputs: (inputs[0] * (inputs[0].abs() > 0.1),))
    with torch.no_grad():
        logits = model(torch.tensor([text])).logits[0, :-1].log_softmax(-1)
    expected = [-float(row[token]) for row, token in zip(logits, text[1:], strict=True)]
    assert np.allclose([step.nll for step in steps], expected, atol=1e-4)
    assert not np.allclose(expected, expected_nll(llama[0], text), atol=1e-2)


def test_what_was_dropped_on_average_is_added(llama, tmp_path):
    """The compensation that was tuned with a rule: the same text as without, only if it is zero."""
    nll = []
    for value in (None, 0.0, 1.0):
        out = write_output(llama[0], tmp_path / f"out-{value}")
        write_selection(out, "teal=50%", value)
        rule = parse_rule("teal=50%")
        nll.append([step.nll for step in steps_of(out, GenerationParams(3, activity="rule", rule=rule))])
    assert nll[0] == nll[1] != nll[2]


def test_a_rule_that_was_tuned_for_another_reader_is_refused(llama, tmp_path):
    """Prices are of a cache."""
    out = write_output(llama[0], tmp_path / "out")
    write_selection(out, "flash-aware=0.001")
    params = GenerationParams(activity="rule", rule=parse_rule("flash-aware=0.001"))
    with pytest.raises(UsageError, match="tuned for cache lru"):
        steps_of(out, params, cache="sieve", capacity_neurons=capacities(out, 60))


def test_a_rule_may_look_at_predicted_magnitudes(opt, tmp_path):
    """A predictor of the weights and the oracle choose nearly the same."""
    out = write_output(opt[0], tmp_path / "out")
    write_predictors(out, margin=0.0)
    rule = parse_rule("top-k=20%")
    by_predictor = steps_of(out, GenerationParams(10, activity="rule", rule=rule, sees="predicted"))
    by_oracle = steps_of(out, GenerationParams(10, activity="rule", rule=rule))
    assert by_predictor[0].n_asked == pytest.approx(by_oracle[0].n_asked, rel=0.3)
    with open_reader(out) as reader:
        small = Generator.open(out, reader, GenerationParams(8, activity="rule", rule=rule, sees="predicted"))
        assert small.resident_bytes > 0


# Errors.


def test_no_token_is_made_of_a_read_that_failed(opt, tmp_path):
    """The file is cut short before the first row, and in mid-text."""
    for n_steps in (0, 5):
        out = write_output(opt[0], tmp_path / f"out-{n_steps}")
        with open_reader(out) as reader:
            steps = Generator.open(out, reader, GenerationParams(50, prefill_rows=100)).generate(PROMPT)
            seen = [next(steps) for _ in range(n_steps)]
            path = out / "ripple_place" / "bundled.safetensors"
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)
            with pytest.raises((OSError, CheckpointError), match=r"cut short|another length"):
                next(steps)
            assert len(seen) == n_steps


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("bitnet", "sub_norm beside up and down"),
        ("t5-gated", "with an encoder"),
        ("mixtral", "in another form"),
        ("gemma3n", "something else than an activation function"),
        ("bert", "no module of its own"),
        ("olmo2", None),
        ("starcoder2", None),
        ("gpt_neox", None),
    ],
)
def test_families_run_or_are_refused(name, match, tmp_path):
    """A norm over neurons, another activation rule, experts one by one; others run, whatever their names for things."""
    torch.manual_seed(0)
    config = CONFIGS[name]()
    for key in ("activation_sparsity_pattern",):
        if hasattr(config, key):
            setattr(config, key, [0.5] * config.num_hidden_layers)
    save_random(config, tmp_path / "source")
    out = write_output(tmp_path / "source", tmp_path / "out")
    params = GenerationParams(8, activity="all")
    if match is not None:
        with pytest.raises(UnsupportedError, match=match):
            steps_of(out, params)
    else:
        text = [*PROMPT, *range(2, 40)]
        with open_reader(out) as reader:
            steps = list(Generator.open(out, reader, params).score(text))
        assert np.allclose([step.nll for step in steps], expected_nll(tmp_path / "source", text), atol=1e-4)


def test_what_cannot_run_is_refused(opt_out, llama, llama_out, tmp_path):
    """Each before anything is generated."""
    with open_reader(opt_out) as reader:
        with pytest.raises(UnsupportedError, match="without a gate"):
            Generator.open(opt_out, reader, GenerationParams(activity="gate"))
        with pytest.raises(UsageError, match="no predictors"):
            Generator.open(opt_out, reader, GenerationParams(activity="predicted"))
        generator = Generator.open(opt_out, reader)
        for prompt, match in (([], "no tokens"), ([96], "does not have"), ([5] * 200, "at most 256")):
            with pytest.raises(UsageError, match=match):
                next(generator.generate(prompt))
        with pytest.raises(UsageError, match="single token"):
            next(generator.score([5]))
    with open_reader(opt_out, cache="lru", pool_neurons=20) as reader, pytest.raises(UsageError, match="one DRAM pool"):
        Generator.open(opt_out, reader, GenerationParams(activity="rule", rule=parse_rule("top-k=20%")))
    smooth = write_output(
        write_source(tmp_path / "silu", "llama", hidden_act="silu"), tmp_path / "silu-out"
    )  # fmt: skip
    with open_reader(smooth) as reader, pytest.raises(UnsupportedError, match="without zeros"):
        Generator.open(smooth, reader, GenerationParams(activity="gate"))
