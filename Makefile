# The two commands a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SETUP   = PYTHON=$(PYTHON) VENV=$(VENV) sh tools/setup

.PHONY: demo test check lint types floors tests setup setup-dev lock clean
demo: setup
	@$(BIN)/hearthgate demo

test: check

check: lint types floors tests

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev
	$(BIN)/mypy

floors: setup-dev
	$(BIN)/lint-imports

tests: setup-dev
	$(BIN)/pytest -n auto

setup:
	@$(SETUP) requirements.lock

setup-dev:
	@$(SETUP) requirements-dev.lock

lock:
	@command -v uv >/dev/null || { echo "lock: needs uv (pip install uv)"; exit 1; }
	uv pip compile pyproject.toml --group build --universal --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --python-version 3.11 --quiet --output-file requirements.lock
	uv pip compile pyproject.toml --group build --group dev --universal --generate-hashes --no-emit-index-url \
	  --no-annotate --no-header --python-version 3.11 --quiet --output-file requirements-dev.lock

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
