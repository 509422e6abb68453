# Every target works as the first command in a fresh checkout: the environment .venv is made when it is missing, and
# brought up to date when setup.cfg or constraints.txt have changed. `make help` lists the targets.

# The first of these that is Python 3.11 or newer and can make virtual environments; `make PYTHON=...` overrides.
PYTHON ?= $(shell for candidate in python3.11 python3 python3.12 python3.13; do \
	$$candidate -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 \
	&& echo $$candidate && break; done)

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SCENARIOS ?= $(sort $(patsubst scenarios/%.toml,%,$(wildcard scenarios/*.toml)))
SOAK_SECONDS ?= 1800

.PHONY: help setup demo test test-cores test-slow fuzz soak lint bench check-scenarios clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## make .venv with everything installed, at the tested versions

$(STAMP): setup.cfg constraints.txt
	@python="$(PYTHON)"; if [ -z "$$python" ]; then \
		echo "Python 3.11 or newer with the venv module is needed; name it with: make PYTHON=/path/to/python" >&2; exit 2; fi; \
		"$(BIN)/python" -m pip --version >/dev/null 2>&1 || "$$python" -m venv --clear $(VENV)
	$(BIN)/python -m pip install -e '.[rllib,optuna,pymoo,compare,test,dev,serve,data,vendors]' -c constraints.txt
	@touch $@

demo: $(STAMP) ## train an agent for some minutes and export its best design
	$(BIN)/python -m training train --scenario waves-pairs --agent reinforce --workers 2 --time-limit 120 --out runs/demo --force
	$(BIN)/qumos export runs/demo/best_design.json --scenario waves-pairs --out runs/demo/bundle --force

test: $(STAMP) ## the fast tests
	$(BIN)/python -m pytest -n 2 -q -m "not slow"

test-cores: $(STAMP) ## the numerical tests as every other core type that this processor can stand in for computes
	$(BIN)/python tests/cores.py

test-slow: $(STAMP) ## the slow tests
	$(BIN)/python -m pytest -n 2 -q -m slow

fuzz: $(STAMP) ## thousands of mutated files of every kind: each loads, or is refused with one line
	$(BIN)/python -m tests.fuzz --cases 3000

soak: $(STAMP) ## random faults on a small Ray cluster for half an hour, or SOAK_SECONDS=...: nothing lost, nothing counted twice
	$(BIN)/python tests/soak.py --seconds $(SOAK_SECONDS)

lint: $(STAMP) ## style and types
	$(BIN)/ruff check .
	$(BIN)/mypy qumos_env agents training

bench: $(STAMP) ## speed against other libraries
	$(BIN)/python -m benchmarks

check-scenarios: $(STAMP) ## measure whether scenarios are fit for comparison (all, or SCENARIOS="one two")
	@for scenario in $(SCENARIOS); do $(BIN)/qumos scenarios check $$scenario || exit; done

clean: ## remove .venv and everything built; runs/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
