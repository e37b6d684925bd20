# nightmill: `make` lists what there is. Every target does its own set-up; a machine needs
# Python >= 3.11 with venv, make and a package registry.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
LOCK_TOOLS := .lock-venv
MAX_LINES := 350

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run test check bench scenarios chaos up lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv from the hashed lock file

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nightmill needs Python >= 3.11: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --require-hashes --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

run: $(READY) ## a night on real text: the simulator, or the endpoint when a credential is set
	@$(BIN)/python examples/night.py

test: $(READY) ## all tests; make test ARGS="-k lease" for some
	@$(BIN)/pytest $(ARGS)

check: $(READY) ## the gate: format, lint, types, floors, compose file, file sizes
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/docker-compose --file docker-compose.yml config --quiet
	@git ls-files -z '*.py' '*.lua' | xargs -0 -r wc -l | awk \
		'$$2 != "total" && $$1 > $(MAX_LINES) { print $$2 ": " $$1 " lines, more than $(MAX_LINES)"; bad = 1 } END { exit bad }'

bench: $(READY) ## CPU per job beside a bare aiohttp loop and stock arq
	@$(BIN)/python -m benchmarks $(ARGS)

scenarios: $(READY) ## the limiter's law on a virtual clock: both tables; ARGS="cap" for some rows
	@$(BIN)/python -m tests.scenarios $(ARGS)

chaos: $(READY) ## kill, cut and stall everything while a batch runs; ARGS="--short storm" for some
	@$(BIN)/python -m tests.chaos $(ARGS)

up: ## redis and two worker processes in containers
	docker compose up --build

# A registry's address or a local file index must not slip into the lock: uv reads no config here.
lock: ## resolve requirements.lock anew
	@$(PYTHON) -m venv --clear $(LOCK_TOOLS)
	@$(LOCK_TOOLS)/bin/python -m pip --disable-pip-version-check -qq install uv
	@UV_NO_CONFIG=1 $(LOCK_TOOLS)/bin/uv pip compile pyproject.toml --all-extras --group dev \
		--universal --python-version 3.11 --generate-hashes --upgrade \
		--no-emit-index-url --no-emit-find-links --no-header --quiet --output-file requirements.lock
	@rm -rf $(LOCK_TOOLS)

clean: ## remove .venv and the tools' caches (never .nightmill, which holds results)
	rm -rf $(VENV) $(LOCK_TOOLS) dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find producer worker tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
