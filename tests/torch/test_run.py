"""``ripple-place run``: what it prints, and that its tokens are those of the model in memory."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from ripple_place.checkpoint.names import BUNDLED_FILE
from ripple_place.cli.main import cli
from ripple_place.errors import CheckpointError, UsageError
from ripple_place.workflows.run import run as run_outputs
from ripple_place.workflows.run_params import RunParams
from tests.torch.capture_models import write_text
from tests.torch.generation_models import expected_tokens, write_output, write_predictors, write_source

ROOT = Path(__file__).parents[2]
PROMPT = "w5 w61 w7 w30 w9 w44"
DEVICE = """
name = "small"
description = "made up"
page_bytes = 4096
max_request_bytes = 65536
form = "linear"
overhead_us = 10
bandwidth_bytes_per_s = 1e9
[sources]
page_bytes = "remembered: made up for tests"
max_request_bytes = "remembered: made up for tests"
overhead_us = "remembered: made up for tests"
bandwidth_bytes_per_s = "remembered: made up for tests"
"""
OUTPUT_KEYS = [
    "name", "text", "token_ids", "nll", "tokens_per_s", "token_us", "io_us", "io_waited_us", "io_predicted_us",
    "io_prediction_error", "compute_us", "units_per_token", "reads_per_token", "requests_per_token",
    "bytes_read_per_token", "cache_hit_ratio", "recall", "precision", "prefill", "dram_bytes", "resident_bytes",
    "direct", "agreement",
]  # fmt: skip


def run(*arguments):
    """Run the command line; return what it prints, or raise what it raises."""
    result = CliRunner().invoke(cli, ["run", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a directory with a model, two outputs of it in different orders, a text and a device."""
    path = tmp_path_factory.mktemp("run")
    write_source(path / "model", "opt")
    write_output(path / "model", path / "a")
    write_output(path / "model", path / "b", seed=2)
    write_predictors(path / "b", margin=0.05)
    write_text(path / "text.txt", 120)
    (path / "small.toml").write_text(DEVICE)
    return path


@pytest.fixture(autouse=True)
def _there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def test_a_prompt_is_gone_on_with(folder):
    """The text on stdout as it comes, and below it the figures; every token is that of the model in memory."""
    result = run("a", "--prompt", PROMPT, "--max-tokens", "20", "--against", "model", "--device", "small.toml",
                 "--dram-budget", "20%")  # fmt: skip
    text, _, figures = result.stdout.partition("\n20 tokens, activity oracle, cache s3fifo, 8 reads in flight; ")
    assert len(text.split()) > 10
    assert figures.startswith("predicted for small\n\noutput  tokens/s ")
    assert "20 of 20 tokens as in memory." in figures


def test_the_document(folder):
    """Alone on stdout: text, tokens, and the figures of each output, which share their times of prediction."""
    document = json.loads(run("a", "--prompt", PROMPT, "--max-tokens", "12", "--compare", "b", "--json").stdout)
    assert list(document) == [
        "text", "token_ids", "device", "activity", "select", "cache", "queue_depth", "outputs"
    ]  # fmt: skip
    first, second = document["outputs"]
    assert list(first) == OUTPUT_KEYS
    assert first["token_ids"] == second["token_ids"] == document["token_ids"]
    assert document["text"] == first["text"] != ""
    assert len(document["token_ids"]) == 12
    assert first["units_per_token"] == second["units_per_token"] > 0
    assert first["prefill"]["n_tokens"] >= 6
    assert first["io_us"]["p99"] >= first["io_us"]["p50"] > 0
    assert first["cache_hit_ratio"] == 0
    assert first["nll"] is first["recall"] is first["agreement"] is None


def test_tokens_are_those_of_transformers(folder):
    """By the library as well; a listener hears of each step, and the pieces that it hears are the text."""
    heard = []
    params = RunParams(prompt=PROMPT, max_tokens=30, dram_budget=0.2, cache="lru", prefill_rows=4)
    report = run_outputs(["a"], params, listen=heard.append)
    tokenizer = load_tokenizer(folder / "model")
    prompt = tokenizer(PROMPT)["input_ids"]
    assert report.runs[0].token_ids == expected_tokens(folder / "model", 30, prompt=prompt)
    assert [each.n_done for each in heard][-1] == 30
    assert report.runs[0].text.startswith("".join(each.piece for each in heard))
    assert sum(each.step.is_prefill for each in heard) == -(-len(prompt) // 4)


def load_tokenizer(path):
    """Return a tokenizer."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(path)


def test_a_text_is_read(folder):
    """Token by token, with the loss, which is that of the model in memory."""
    document = json.loads(run("a", "--text", "text.txt", "--max-tokens", "40", "--against", "model", "--json").stdout)
    (output,) = document["outputs"]
    assert document["text"] == ""
    assert output["nll"] == pytest.approx(output["agreement"]["nll"], abs=1e-5)
    assert output["agreement"]["n_equal"] == output["agreement"]["n_compared"] == 40
    assert "loss" in run("a", "--text", "text.txt", "--max-tokens", "5").stdout


def test_predictors_and_rules(folder):
    """`--check-recall` reports recall and precision; a rule that drops neurons changes the loss."""
    asked = ("--text", "text.txt", "--max-tokens", "30", "--json")
    (predicted,) = json.loads(run("b", *asked, "--activity", "predicted", "--check-recall").stdout)["outputs"]
    assert predicted["recall"] == 1
    assert 0 < predicted["precision"] < 1
    exact, dropped = (json.loads(run("a", *asked, "--select", rule).stdout) for rule in ("exact", "top-k=10%"))
    assert dropped["select"] == "top-k=10%"
    assert dropped["outputs"][0]["units_per_token"] < exact["outputs"][0]["units_per_token"]
    assert dropped["outputs"][0]["nll"] != exact["outputs"][0]["nll"]


def test_memory_that_is_named(folder):
    """A pool, a header check, and a queue of one; DRAM is what was asked for."""
    document = json.loads(
        run("a", "--prompt", PROMPT, "--max-tokens", "9", "--dram-budget", "75%", "--dram-pool", "--cache", "lru",
            "--check", "header", "--queue-depth", "1", "--collapse", "off", "--json").stdout
    )  # fmt: skip
    (output,) = document["outputs"]
    assert document["queue_depth"] == 1
    assert 0 < output["cache_hit_ratio"] < 1
    assert 0 < output["dram_bytes"] < 0.75 * (folder / "a" / BUNDLED_FILE).stat().st_size


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["a"], "neither a prompt nor a text"),
        (["a", "--prompt", "w1", "--text", "text.txt"], "a prompt and a text"),
        (["a", "--prompt", "w1", "--select", "top-k=10%", "--activity", "gate"], "--activity gate"),
        (["a", "--prompt", "w1", "--cache", "lru"], "no DRAM budget"),
        (["a", "--prompt", "w1", "--cache", "belady", "--dram-budget", "10%"], "knows what will be asked"),
        (["a", "--prompt", "w1", "--compare", "a"], "an output twice"),
        (["nowhere", "--prompt", "w1"], "nowhere"),
        (["a", "--prompt", "w1", "--activity", "predicted"], "no predictors"),
        (["a", "--prompt", "w1", "--max-tokens", "10000"], "positions"),
    ],
)
def test_what_is_refused(arguments, match):
    """In a sentence, before anything is read."""
    with pytest.raises((UsageError, CheckpointError), match=match):
        run(*arguments)


def test_damage_is_found_before_a_token(folder, tmp_path):
    """A flipped bit in the bundled file ends the run before the first word."""
    out = write_output(folder / "model", tmp_path / "out")
    data = bytearray((out / BUNDLED_FILE).read_bytes())
    data[-1] ^= 1
    (out / BUNDLED_FILE).write_bytes(data)
    result = CliRunner().invoke(cli, ["run", str(out), "--prompt", PROMPT])
    assert isinstance(result.exception, CheckpointError)
    assert result.stdout == ""


def test_a_file_that_is_cut_in_mid_run(folder, tmp_path):
    """The words before are there; then an error, and no further word."""
    out = write_output(folder / "model", tmp_path / "out")
    heard = []

    def cut(each):
        heard.append(each)
        if len(heard) == 5:
            with (out / BUNDLED_FILE).open("r+b") as file:
                file.truncate(4096)

    with pytest.raises((CheckpointError, OSError), match=r"cut short|another length"):
        run_outputs([out], RunParams(prompt=PROMPT, max_tokens=30), listen=cut)
    assert len(heard) == 5


def test_a_run_that_is_killed(folder, tmp_path):
    """By SIGKILL, once it has said something: the output is as it was, and a later run says the same and more."""
    out = write_output(folder / "model", tmp_path / "out")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    line = [sys.executable, "-m", "ripple_place", "run", str(out), "--prompt", PROMPT, "--max-tokens", "200", "-q"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, cwd=ROOT) as process:
        said = process.stdout.read(20).decode()
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert json.loads(run(out, "--prompt", PROMPT, "--max-tokens", "200", "--json").stdout)["text"].startswith(said)


def test_words_that_end_a_text(folder):
    """Nothing comes after the token that ends a text."""
    ids = json.loads(run("a", "--prompt", PROMPT, "--max-tokens", "30", "--json").stdout)["token_ids"]
    config = folder / "a" / "config.json"
    before = config.read_text()
    generation = folder / "a" / "generation_config.json"
    kept = generation.read_text() if generation.exists() else None
    generation.write_text(json.dumps({"eos_token_id": ids[7]}))
    try:
        ended = json.loads(run("a", "--prompt", PROMPT, "--max-tokens", "30", "--json").stdout)["token_ids"]
    finally:
        config.write_text(before)
        generation.unlink() if kept is None else generation.write_text(kept)
    assert ended == ids[: ids.index(ids[7]) + 1]


def test_figures_without_a_terminal(folder, monkeypatch):
    """A line now and then on stderr; none where it is to be quiet."""
    monkeypatch.setattr("ripple_place.cli.run_screen.REPORT_EVERY_S", 0.0)
    said = run("a", "--prompt", PROMPT, "--max-tokens", "6").stderr
    assert re.search(r"6/6 tokens, [\d.,]+ tokens/s, [\d.,]+ ms I/O a token, 0\.0% hits", said)
    assert "tokens/s" not in run("a", "--prompt", PROMPT, "--max-tokens", "6", "-q").stderr
