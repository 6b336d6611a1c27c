# make demo   trains on the embedded digits and says where the report is
# make test   lint, types, import contracts, tests; needs nothing but Python 3.11+ and make

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# a process per core, each with whole files: the tests' tensors are too small for more than one thread
PARALLEL := -n auto --maxprocesses 8 --dist loadfile
.DEFAULT_GOAL := help

.PHONY: help demo test test-all coverage lint docs clean

help:
	@sed -n 's/^# make/make/p' Makefile

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "halftone needs Python 3.11 or newer; name one with make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.user: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.made pyproject.toml
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	@touch $@ $(VENV)/.user

demo: $(VENV)/.user
	$(BIN)/halftone demo

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

# make test-all   the slow tests, too
test: lint
	$(BIN)/python -m pytest $(PARALLEL)

test-all: lint
	$(BIN)/python -m pytest $(PARALLEL) -m "not gpu"

# make coverage   the tests of make test, and which lines and branches of the library they reach; fails under 90 %
coverage: $(VENV)/.dev
	$(BIN)/python -m pytest $(PARALLEL) --cov --cov-report=term

# make docs   builds the documentation into site/, strictly
docs: $(VENV)/.dev
	$(BIN)/python -m pip install --quiet --editable ".[docs]"
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) site dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
