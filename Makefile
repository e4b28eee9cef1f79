# Everything lives in .venv; `make quickstart` and `make test` set up what they need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: quickstart test test-fast check lint types layers bench clean install dev
.DEFAULT_GOAL := quickstart

$(VENV)/run.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("xstilts needs Python 3.11 or newer, this is " + sys.version.split()[0]) if sys.version_info < (3, 11) else 0'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (about a minute) ..."
	@$(PIP) -e .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp
	@echo "installing the development tools ..."
	@$(PIP) -e '.[dev]'
	@touch $@

install: $(VENV)/run.stamp ## the package alone
dev: $(VENV)/dev.stamp ## the package and the tools that test it

quickstart: $(VENV)/run.stamp ## the main job on the embedded benchmark, up to the report
	@$(BIN)/xstilts run quickstart

test: $(VENV)/dev.stamp ## the whole suite
	$(BIN)/python -m pytest -n 2

test-fast: $(VENV)/dev.stamp ## the 60-second part
	$(BIN)/python -m pytest -n 2 -m "not slow and not data and not browser and not hunspell and not apertium"

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check src tests benchmarks scripts

types: $(VENV)/dev.stamp
	$(BIN)/mypy

layers: $(VENV)/dev.stamp
	@$(BIN)/lint-imports --no-logo

check: lint types layers test-fast ## the one command before every commit

bench: $(VENV)/dev.stamp ## fine-tuning speed against transformers' Trainer, on real NLI text
	$(BIN)/python benchmarks/train_speed.py

clean:
	rm -rf $(VENV) xstilts-store reports
