# `make conformance` and `make test` do all their own set-up in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/uv pip install --system-certs --quiet --python
OLDEST := .venv-oldest
URL ?=
ARGS ?=
RUNS ?= 30
SOAK ?= 1000
WORKERS ?= 3
# Tests wait more than they compute, so that more of them fit on few cores.

export PYTHONDONTWRITEBYTECODE :=
# Servers are started hundreds of times: each would compile itself.

.PHONY: help conformance test test-oldest lint defects steady soak soak-client soak-sqlite soak-redis benchmark clean

help:
	@echo "make conformance            judge the bundled reference server"
	@echo "make conformance URL=...    judge another server (ARGS=... for more options)"
	@echo "make test                   run the project's own tests"
	@echo "make test-oldest            the plugin's tests on the oldest supported pytest"
	@echo "make defects                prove that every case bites"
	@echo "make steady                 the same verdicts RUNS=30 times, with every core kept busy"
	@echo "make soak                   random cuts and kills; nothing may be lost or come twice"
	@echo "make lint                   ruff and mypy"
	@echo "make benchmark              the suite, the plugin switched off, the decoder and its peers"

conformance: $(VENV)/.suite
	$(BIN)/agentstream run $(or $(URL),--reference) $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-oldest: $(OLDEST)/.test
	$(OLDEST)/bin/python -m pytest -n $(WORKERS) --dist worksteal tests/plugin $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

defects: $(VENV)/.suite
	$(BIN)/python -m tests.defects.matrix $(ARGS)

steady: $(VENV)/.suite
	$(BIN)/python -m tests.steady.steady --runs $(RUNS) $(ARGS)

soak: soak-client soak-sqlite soak-redis

soak-client: $(VENV)/.test
	AGENTSTREAM_SOAK=1 $(BIN)/python -m pytest tests/client/test_any_cuts.py $(ARGS)

soak-sqlite soak-redis: soak-%: $(VENV)/.test
	$(BIN)/python -m tests.soak.soak --log $* --runs $(SOAK) --kills 20 --report build/soak-$*.json $(ARGS)

benchmark: $(VENV)/.test
	$(INSTALL) $(BIN)/python --group bench
	$(BIN)/python -m benchmarks.suite
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.decoder
	$(BIN)/python -m benchmarks.fault_proxy
	$(BIN)/python -m benchmarks.event_log

clean:
	rm -rf $(VENV) $(OLDEST) .targets build dist

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; $(PYTHON) is older. Say which one: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.13"
	@touch $@

$(VENV)/.suite: $(VENV)/.made pyproject.toml
	$(INSTALL) $(BIN)/python --editable ".[reference,upstream]"
	@touch $@

$(VENV)/.test: $(VENV)/.suite
	$(INSTALL) $(BIN)/python --editable ".[reference,upstream,redis,toxiproxy]" --group test --group lint
	@touch $@

$(OLDEST)/.test: $(VENV)/.made pyproject.toml
	$(PYTHON) -m venv $(OLDEST)
	$(INSTALL) $(OLDEST)/bin/python --editable ".[reference,upstream,redis,toxiproxy]" --group test "pytest==8.4.0"
	@touch $@
