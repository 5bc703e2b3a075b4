# `make demo` and `make test` need nothing but python3.11+, make and a C compiler; both do all the set-up themselves.
PYTHON ?= python3
BIN := .venv/bin
HOME_DIR := $(CURDIR)/.edgelut
PORT ?= 8321
TEST_WORKERS ?= 2
STAMP := .venv/.installed

.PHONY: setup demo serve test check format docs screenshots bench clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 13

setup: $(STAMP) ## create .venv and install everything

$(STAMP): pyproject.toml client/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("python 3.11 or newer is needed, this is " + sys.version) if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e client -e ".[dev]"
	touch $(STAMP)

demo: setup ## profile real blocks on this machine, serve the table, ask it
	EDGELUT_HOME=$(HOME_DIR) $(BIN)/python -P -m profiler.demo

serve: setup ## serve the table that `make demo` filled
	EDGELUT_HOME=$(HOME_DIR) $(BIN)/edgelut serve --port $(PORT)

test: setup ## run all tests, TEST_WORKERS (2) files at a time
	$(BIN)/python -m pytest --numprocesses $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder

check: setup ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup ## write docs/openapi.json and the figures anew, then run every code block of the docs
	$(BIN)/python -m api.openapi > docs/openapi.json
	$(BIN)/python -m pytest tests/docs

screenshots: setup ## make the pictures of docs/dashboard.md anew (needs chromium)
	$(BIN)/python -m tests.dashboard.screenshots

bench: setup ## run every benchmark and print one table
	$(BIN)/python benchmarks/run.py

clean: ## remove what the demo made; the environment stays
	rm -rf $(HOME_DIR)
