# `make demo` and `make test` need Python 3.11 or later and nothing else: they make .venv and install into it, once.

PYTHON ?= python3
BIN := .venv/bin
EXAMPLE := examples/tiny-relu-lm
DATA := examples/tiny-relu-lm-data
OUT := demo-out
# Whole suites run on all cores. Tests of one file stay together: they share what is made once for the file.
PARALLEL := --numprocesses auto --dist loadfile

.PHONY: help demo test test-fast test-nojit test-torch coverage lint format types golden bench paper c-reader build clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1\t/' | expand -t 14

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "ripple-place needs Python 3.11 or later; set PYTHON=/path/to/python3.11" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.installed: pyproject.toml | .venv/.python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/.installed-dev: pyproject.toml | .venv/.python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@ .venv/.installed

# Its own environment: torch is large, and ordinary use does not need it.
.venv-torch/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python -m pip install --quiet --disable-pip-version-check 'torch==2.13.0'
	.venv-torch/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev,capture]'
	@touch $@

demo: .venv/.installed  ## Profile, reorder and simulate the example model
	@mkdir -p $(OUT)
	$(BIN)/ripple-place profile $(DATA)/train.trace.safetensors --out $(OUT)/tiny.profile --force
	$(BIN)/ripple-place reorder --profile $(OUT)/tiny.profile --ordering frequency --out $(OUT)/frequency.placement --force
	$(BIN)/ripple-place reorder $(EXAMPLE) --profile $(OUT)/tiny.profile --break-even-gap 3.15 \
	  --out $(OUT)/tiny-relu-lm-flash --force
	$(BIN)/ripple-place simulate $(DATA)/heldout.trace.safetensors --bundle-bytes 4KiB --layout original \
	  --layout $(OUT)/frequency.placement --layout $(OUT)/tiny-relu-lm-flash --html $(OUT)/report.html --svg $(OUT)/reads.svg --force
	@echo
	@echo "Ordered and scored as if each neuron were 4 KiB, as OPT-350M's (this tiny model's are 512 B), on held-out text."
	@echo "$(OUT)/tiny-relu-lm-flash   the reordered checkpoint, for any Hugging Face tool"
	@echo "$(OUT)/tiny-relu-lm-flash/ripple_place/bundled.safetensors   the flash-contiguous file"
	@echo "$(OUT)/report.html   the page with the pictures"

test: .venv/.installed-dev  ## Run all tests that need no torch
	$(BIN)/python -m pytest $(PARALLEL)

test-fast: .venv/.installed-dev  ## Run the tests that fail first, stopping at the first failure
	$(BIN)/python -m pytest -x --failed-first

test-nojit: .venv/.installed-dev  ## Run the kernels' tests as plain Python
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest $(PARALLEL) tests/kernels tests/graph tests/ordering tests/flash tests/select tests/checkpoint \
	  tests/runtime

test-torch: .venv-torch/.installed  ## Run the tests with real Hugging Face models
	.venv-torch/bin/python -m pytest $(PARALLEL) -q tests/torch

# Compiled functions (the kernels, and the replay of each cache policy) cannot be traced, so a second run without the
# compiler counts their lines. Warnings of coverage must not become errors of tests. The profile `ci` of hypothesis draws
# the same examples in every run and has no deadlines, which traced tests would miss.
COVERED := --cov --cov-report= --hypothesis-profile=ci
coverage: .venv/.installed-dev  ## Report line and branch coverage, kernels included
	$(BIN)/python -m coverage erase
	$(BIN)/python -m pytest $(PARALLEL) $(COVERED)
	NUMBA_DISABLE_JIT=1 $(BIN)/python -m pytest $(PARALLEL) $(COVERED) --cov-append \
	  tests/kernels tests/select tests/flash/test_caches.py tests/flash/test_admission.py tests/flash/test_golden_counts.py
	$(BIN)/python -m coverage report

lint: .venv/.installed-dev  ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: .venv/.installed-dev  ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: .venv/.installed-dev  ## Check types
	$(BIN)/mypy

golden: .venv/.installed-dev  ## Rewrite the golden files (tests/golden/formats: only add missing ones); review the diff
	REGENERATE_GOLDEN=1 $(BIN)/python -m pytest tests

bench: .venv/.installed-dev  ## Run the benchmarks (benchmarks/README.md)
	for file in $(filter-out benchmarks/bench_flash_time.py,$(sort $(wildcard benchmarks/bench_*.py))); do echo "== $$file"; $(BIN)/python -m benchmarks.$$(basename $$file .py); done

paper: .venv/.installed-dev  ## Reproduce published figures (benchmarks/paper/results.md)
	$(BIN)/python -m benchmarks.paper

c-reader:  ## Build the reader in C into examples/c/build
	$(MAKE) -C examples/c

build: .venv/.installed-dev  ## Build the wheel into dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean:  ## Remove everything that make made
	rm -rf .venv .venv-torch $(OUT) examples/c/build build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
