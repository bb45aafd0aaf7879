# Every target installs what it needs into .venv by itself.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -q

.DEFAULT_GOAL := help
.PHONY: help install demo results test test-all lint docs clean

help:  ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

# torch first and by its exact version: anything else would let a dependency choose a build
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (a few minutes the first time)"
	@$(PIP) install -c constraints.txt "torch==2.13.0"
	@$(PIP) install -c constraints.txt -e ".[dev,fmri,spikes,stimuli,export,cluster,docs]"
	@touch $@

install: $(VENV)/.installed  ## Install neurofm and everything it is tested with into .venv

demo: install  ## Real recordings: prep, train, finetune, evaluate, report (minutes on 2 cores)
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/demo.sh

results: install  ## The full grid: seven people, four budgets, three seeds
	@PATH="$(CURDIR)/$(BIN):$$PATH" bash scripts/results.sh

lint: install  ## Style, spelling and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/codespell && $(BIN)/mypy

test: lint  ## Lint, types and the whole quick suite
	@$(BIN)/python -m pytest

test-all: lint  ## Everything, the slow tests included
	@$(BIN)/python -m pytest -m "slow or not slow"

docs: install  ## Build the documentation into site/
	@$(BIN)/mkdocs build --strict -q && echo "site/index.html"

clean:  ## Remove what the targets above made, but not the data cache
	@rm -rf $(VENV) site dist build runs shards .pytest_cache .mypy_cache .ruff_cache .hypothesis
