# The two commands a newcomer needs: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
SETUP   = PYTHON=$(PYTHON) VENV=$(VENV) sh tools/setup

.PHONY: setup setup-dev lock clean demo
.PHONY: test check lint types floors tests backends conformance servers generated-client test-casbin test-pycasbin soak attacks fuzz
.PHONY: bench-policy bench-edits bench-egress bench-impact bench-log bench-log-files bench-query bench-export bench-sandbox bench-reload bench-authzen bench-http bench-servers
demo: setup
	@$(BIN)/hearthgate demo

test: check test-casbin test-pycasbin

check: lint types floors tests

lint: setup-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup-dev
	$(BIN)/mypy

floors: setup-dev
	$(BIN)/lint-imports

tests: setup-dev backends conformance servers generated-client
	$(BIN)/pytest -n auto

# Every case against the sandbox, and again with each layer taken away; prints which layer holds what.
attacks: setup-dev backends
	$(BIN)/pytest -s tests/sandbox/test_attacks.py tests/sandbox/test_layers.py tests/sandbox/test_backends.py

# bubblewrap and gVisor, whose cells are tested too; says so loudly where they cannot be had.
backends:
	@sh tools/backends

# What makes clients from the OpenAPI document; says loudly where it cannot be had.
generated-client: setup-dev
	@PYTHON=$(PYTHON) VENV=$(VENV) sh tools/generated_client

# The conformance suites of the Model Context Protocol; says loudly where they cannot be had.
conformance: setup-dev
	@VENV=$(VENV) sh tools/node_packages tests/interop/mcp conformance "the protocol's conformance suites"

# Published MCP servers, which run as plugins; says loudly where they cannot be had.
servers: setup-dev
	@VENV=$(VENV) sh tools/node_packages tests/interop/servers servers "published MCP servers as plugins"

# The frame decoder against a coverage-guided fuzzer, for FUZZ_S seconds.
FUZZ_S ?= 60
fuzz:
	@PYTHON=$(PYTHON) VENV=.venv-fuzz sh tools/setup requirements-fuzz.lock
	.venv-fuzz/bin/python tools/fuzz_frames.py -max_total_time=$(FUZZ_S) -max_len=16384 -timeout=5 -rss_limit_mb=1024

# A serving gateway killed a hundred times under load, and ten thousand calls that leave nothing behind; the normal
# tests do five and some hundreds. Rotations and erasures killed before each of their steps; the normal tests take some.
soak: setup-dev
	HEARTHGATE_KILLS=100 $(BIN)/pytest tests/app/test_log_faults.py -k killed
	HEARTHGATE_CALLS=10000 $(BIN)/pytest tests/executor/test_modes.py -k leave_nothing
	HEARTHGATE_STEPS=1 $(BIN)/pytest --timeout 3600 tests/audit/test_killed.py tests/flows/test_erase.py -k "killed and step"

# Casbin's own tests, with our enforcer in place of its own; says so where they cannot be fetched.
test-casbin: setup-dev
	PYTHON=$(PYTHON) $(BIN)/python tools/test_casbin.py

# The package casbin goes on under the name pycasbin; one environment holds only one of them.
test-pycasbin:
	@PYTHON=$(PYTHON) VENV=.venv-pycasbin sh tools/setup requirements-pycasbin.lock
	.venv-pycasbin/bin/pytest -n auto tests/policy

# Searches over a log of five million records; it takes 10 GB and half an hour.
bench-query: setup-dev
	$(BIN)/python -m benchmarks.audit_query

bench-policy:
	@PYTHON=$(PYTHON) VENV=.venv-bench sh tools/setup requirements-bench.lock
	.venv-bench/bin/python -m benchmarks.policy

# bwrap, firejail, runsc (Debian: apt-get install bubblewrap firejail runsc) and srt are compared where installed.
bench-sandbox: setup-dev
	$(BIN)/python -m benchmarks.sandbox

bench-export: setup-dev
	$(BIN)/python -m benchmarks.export

bench-log-files: setup-dev
	$(BIN)/python -m benchmarks.log_files

bench-impact: setup
	$(BIN)/python -m benchmarks.impact

bench-egress: setup
	$(BIN)/python -m benchmarks.egress

bench-reload: setup
	$(BIN)/python -m benchmarks.reload

bench-edits: setup
	$(BIN)/python -m benchmarks.edits

# Two cores, wrk (Debian: apt-get install wrk) and, for Cerbos, npm.
bench-log: setup-dev
	$(BIN)/python -m benchmarks.log

bench-http: setup-dev
	$(BIN)/python -m benchmarks.http

bench-servers: servers
	$(BIN)/python -m benchmarks.mcp_servers

bench-authzen: setup-dev
	$(BIN)/python -m benchmarks.authzen

setup:
	@$(SETUP) requirements.lock

setup-dev:
	@$(SETUP) requirements-dev.lock

LOCK_WITH = --universal --generate-hashes --no-emit-index-url --no-annotate --no-header --python-version 3.11 --quiet

lock:
	@command -v uv >/dev/null || { echo "lock: needs uv (pip install uv)"; exit 1; }
	uv pip compile pyproject.toml --group build $(LOCK_WITH) --output-file requirements.lock
	uv pip compile pyproject.toml --group build --group dev $(LOCK_WITH) --output-file requirements-dev.lock
	uv pip compile pyproject.toml --group build --group bench $(LOCK_WITH) --output-file requirements-bench.lock
	uv pip compile pyproject.toml --group build --group fuzz $(LOCK_WITH) --output-file requirements-fuzz.lock
	mkdir -p .lock-pycasbin && sed 's/"casbin==1.43.0"/"pycasbin==2.8.0"/' pyproject.toml >.lock-pycasbin/pyproject.toml
	uv pip compile .lock-pycasbin/pyproject.toml --group build --group dev $(LOCK_WITH) --output-file requirements-pycasbin.lock
	rm -r .lock-pycasbin

clean:
	rm -rf $(VENV) .venv-fuzz .venv-pycasbin .venv-bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
