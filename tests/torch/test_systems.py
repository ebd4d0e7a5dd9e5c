"""Systems inside a model whose activations are never zero: each equals its rule on its layout, by plain options."""

import json

import pytest
from click.testing import CliRunner

from ripple_place.cli.main import cli
from ripple_place.errors import UsageError
from tests.torch.capture_models import CAUSAL, write_model, write_text

WINDOWS = ("--max-tokens", "96", "--sequence-length", "16")
PRICED = "ours,uses=flash-aware;price=0.001"
BUDGET = ("--dram-budget", "30%")
LEFT_OUT = ("name", "label", "speedup", "token_speedup", "system", "knobs", "policy", "lossless", "knows",
            "predictor_bytes", "tokens_per_s", "dram_bytes", "compute_us_per_token", "token_time_us_per_token",
            "token_time_us_percentiles", "pipeline")  # fmt: skip
DEVICE = """
name = "small"
description = "pages as small as the columns of tiny models"
page_bytes = 128
max_request_bytes = 65536
form = "linear"
overhead_us = 0.3
bandwidth_bytes_per_s = 1e9
[sources]
page_bytes = "remembered: made up for tests"
max_request_bytes = "remembered: made up for tests"
overhead_us = "remembered: made up for tests"
bandwidth_bytes_per_s = "remembered: made up for tests"
"""


def run(*arguments):
    """Run the command line; return what it prints on stdout, or raise what it raises."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a directory with a SwiGLU model, two texts, and its profiles by neurons and by columns."""
    path = tmp_path_factory.mktemp("systems")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path)
        write_text(path / "a.txt", 300)
        write_text(path / "b.txt", 200, seed=1)
        (path / "small.toml").write_text(DEVICE)
        write_model(path / "model", CAUSAL["llama"](num_hidden_layers=2, hidden_act="silu"))
        learn = ("profile", "model", "--text", "a.txt", *WINDOWS, "--segment-length", "48", "--no-verdict")
        run(*learn, "--active", "dip=0.5", "--unit", "column", "--importance", "--out", "columns")
        run(*learn, "--active", "cats=50%", "--out", "neurons")
    return path


@pytest.fixture(autouse=True)
def _there(folder, monkeypatch):
    monkeypatch.chdir(folder)


def simulated(*options):
    """Return the document of a simulation of the model that reads the other text."""
    return json.loads(
        run("simulate", "model", "--text", "b.txt", *WINDOWS, "--device", "small.toml", *options, "--json")
    )


def systems(*names):
    """Return the entries of systems."""
    named = [part for name in names for part in ("--system", name)]
    profiles = ("--profile", "columns", "--profile", "neurons", "--effort", "0")
    return {entry["system"]: entry for entry in simulated(*named, *profiles, *BUDGET)["layouts"]}


def costs(entry):
    """Return what an entry says of flash and of loss."""
    return {key: value for key, value in entry.items() if key not in LEFT_OUT}


def plain(layout, rule, cache):
    """Return the entry of a rule on a layout of columns."""
    options = (
        "--unit",
        "column",
        "--layout",
        layout,
        "--select",
        rule,
        "--cache",
        cache,
        "--profile",
        "columns",
        *BUDGET,
    )
    (entry,) = simulated(*options)["layouts"]
    return costs({key: value for key, value in entry.items() if key != "blocks"}), entry["blocks"]


def parts(entry):
    """Return an entry as `plain` does."""
    return costs({key: value for key, value in entry.items() if key != "blocks"}), entry["blocks"]


def without_speedup(blocks):
    """Return blocks without what depends on the first system."""
    return {name: {key: value for key, value in block.items() if key != "speedup"} for name, block in blocks.items()}


@pytest.fixture(scope="module")
def both(folder):
    """Return the entries of a published rule and of ours, run together."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        return systems("dip", PRICED)


def test_dip(both):
    """Checkpoint order, its rule, and its cache."""
    found, blocks = parts(both["dip"])
    expected, expected_blocks = plain("original", "dip=0.5", "mask-first-lfu")
    assert found == expected
    assert without_speedup(blocks) == without_speedup(expected_blocks)
    assert found["kl"] > 0
    assert both["dip"]["lossless"] is False
    assert both["dip"]["speedup"] == 1


def test_ours(both, tmp_path):
    """Columns by frequency, the most frequent pinned, and a rule with a price."""
    run("reorder", "--profile", "columns", "--ordering", "frequency", "--bundle-bytes", "608,128", "--out",
        tmp_path / "placed")  # fmt: skip
    found, blocks = parts(both[PRICED])
    sizes = {name: block["bundle_bytes"] for name, block in blocks.items()}
    assert set(sizes.values()) == {608, 128}
    expected, expected_blocks = plain(tmp_path / "placed", "flash-aware,price=0.001", "pinned")
    assert found == expected
    assert without_speedup(blocks) == without_speedup(expected_blocks)
    assert found["kl"] > 0


def test_each_alone_as_beside_the_other(both):
    """One run of the model for several readers changes nothing."""
    (alone,) = systems(PRICED).values()
    assert costs({**alone, "blocks": without_speedup(alone["blocks"])}) == costs(
        {**both[PRICED], "blocks": without_speedup(both[PRICED]["blocks"])}
    )


def test_neurons_and_columns_side_by_side():
    """A system that uses everything is of neurons and loses nothing; all have the same DRAM."""
    document = simulated(
        "--system", "llama.cpp,access=direct", "--system", "dip", "--system", "neuralink,uses=top-k=20%",
        "--profile", "neurons", "--effort", "0", *BUDGET,
    )  # fmt: skip
    mapped, dip, chosen = document["layouts"]
    assert [mapped["lossless"], dip["lossless"], chosen["lossless"]] == [True, False, False]
    assert mapped["active_per_token"] == 2 * 76
    assert dip["kl"] > 0
    assert chosen["kl"] > 0
    assert set(dip["blocks"]) == {"layers.0", "layers.0.input", "layers.1", "layers.1.input"}
    assert set(chosen["blocks"]) == {"layers.0", "layers.1"}
    for entry in document["layouts"]:
        assert 0 <= document["dram_budget_bytes"] - entry["dram_bytes"] <= 4 * 608


def test_a_tuned_rule():
    """Its price is fitted on another text, so that the loss comes out near what was asked for."""
    name = "ours,uses=flash-aware=0.01"
    with pytest.raises(UsageError, match=r"the rule flash-aware=0\.01, which has to be tuned, and no text for that"):
        systems(name)
    options = ("--profile", "columns", "--tune-text", "a.txt", "--tune-tokens", "160", *BUDGET)
    (entry,) = simulated("--system", name, *options)["layouts"]
    assert 0.002 < entry["kl"] < 0.05
    assert entry["perplexity"] > 0
    (again,) = simulated("--system", name, *options)["layouts"]
    assert again == entry
    (looser,) = simulated("--system", "ours,uses=flash-aware=0.1", *options)["layouts"]
    assert looser["flash_time_us_per_token"] < entry["flash_time_us_per_token"]
    assert looser["kl"] > entry["kl"]


def test_what_is_refused():
    """Neurons that all fire, and a rule that has no importance."""
    with pytest.raises(UsageError, match=r"--system neuralink: found activations that are never zero"):
        systems("neuralink")
    with pytest.raises(UsageError, match=r"--system .*found no profile of columns"):
        simulated("--system", PRICED, *BUDGET)
