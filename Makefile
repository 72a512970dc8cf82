# What there is to remember: make demo, make test, make check, make bench, make up.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: help install demo test check format bench soak up clean

help:
	@echo "make demo     install, and record a simulated robot into a dataset, the whole way"
	@echo "make test     install, and run all tests"
	@echo "make check    format, lint, strict types, import rules"
	@echo "make bench    speed, memory, latency and the control of a robot"
	@echo "make soak     long faults and load"
	@echo "make up       run the whole system on this machine until Ctrl-C"

install: $(INSTALLED)

# pip must not find another index than the user's own: requirements.lock has hashes and no addresses.
$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "episodeflow needs Python 3.11 or later, this is %s; set PYTHON=python3.11" % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(INSTALLED)

demo: install
	$(BIN)/episodeflow demo

test: install
	$(BIN)/python -m pytest

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_house.py

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: install
	$(BIN)/python -m bench

soak: install
	$(BIN)/python -m pytest -m soak --timeout 3600 tests/e2e

up: install
	$(BIN)/episodeflow up --state .episodeflow

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis
