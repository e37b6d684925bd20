# nightmill: `make` lists the targets. Each target sets up what it needs. The machine needs make,
# Python >= 3.11 with venv, and a package registry.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq
LOCK_TOOLS := .lock-venv
MAX_LINES := 350
# Python keeps its bytecode even where the environment says not to: without it each process that a
# test starts compiles nightmill again, which takes half of the CPU time of a worker's start. `setup`
# compiles it, which pip does for no editable install.
export PYTHONDONTWRITEBYTECODE :=
# mkdocs counts a warning as an error only when it may also print it.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
# A built page may link to other hosts, but not load anything from them.
FOREIGN := <(script|link|img|iframe|source)[^>]+(src|href)="?(https?:)?//

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup run test check docs bench scenarios chaos fuzz up lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## create .venv from the hashed lock file

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nightmill needs Python >= 3.11: make PYTHON=python3.12 ...")'
	@echo "Setting up $(VENV) ..."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(PIP) install --require-hashes --requirement requirements.lock
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m compileall -q producer worker
	@touch $@

run: $(READY) ## run 320 prompts: against the simulator, or the endpoint if a credential is set
	@$(BIN)/python examples/night.py

test: $(READY) ## run all tests, two at once; ARGS="-k lease" runs some
	@$(BIN)/pytest --numprocesses 2 --dist worksteal $(ARGS)

check: $(READY) ## check format, lint, types, import layers, docs, deployment, file sizes
	@$(BIN)/ruff format --quiet --check .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/docker-compose --file docker-compose.yml --profile observe config --quiet
	@git ls-files -z deploy/kubernetes/base | grep -zv kustomization | \
		xargs -0 $(BIN)/kubernetes-validate --strict --quiet --no-warn
	@site=$$(mktemp -d) && trap 'rm -rf "$$site"' EXIT && \
		{ $(MKDOCS) --site-dir "$$site/html" >"$$site/log" 2>&1 || { cat "$$site/log"; exit 1; }; } && \
		! grep -rnoE --include='*.html' '$(FOREIGN)' "$$site/html"
	@git ls-files -z '*.py' '*.lua' | xargs -0 -r wc -l | awk \
		'$$2 != "total" && $$1 > $(MAX_LINES) { print $$2 ": " $$1 " lines, more than $(MAX_LINES)"; bad = 1 } END { exit bad }'

docs: $(READY) ## build the documentation site in site/
	@$(MKDOCS) --site-dir site
	@echo "To read it: $(BIN)/python -m http.server --directory site"

bench: $(READY) ## measure CPU per job beside a bare aiohttp loop and stock arq
	@$(BIN)/python -m benchmarks $(ARGS)

scenarios: $(READY) ## run the limiter on a virtual clock; ARGS="cap" runs some scenarios
	@$(BIN)/python -m tests.scenarios $(ARGS)

chaos: $(READY) ## kill, cut off and stall processes while a batch runs; ARGS="--short storm"
	@$(BIN)/python -m tests.chaos $(ARGS)

fuzz: $(READY) ## a real worker, and a gateway, against random input; ARGS="--minutes 10"
	@$(BIN)/python -m tests.fuzz $(ARGS)
	@$(BIN)/python -m tests.gateway.schemathesis_run 200

up: ## run Redis, PostgreSQL, a gateway and two worker processes in containers
	docker compose up --build

# uv reads no configuration here: a registry's address must not get into the lock.
# requirements-worker.lock is the part of requirements.lock that the image installs.
lock: ## resolve both lock files again, with the newest versions
	@$(PYTHON) -m venv --clear $(LOCK_TOOLS)
	@$(LOCK_TOOLS)/bin/python -m pip --disable-pip-version-check -qq install uv
	@UV_NO_CONFIG=1 $(LOCK_TOOLS)/bin/uv pip compile pyproject.toml --all-extras --group dev \
		--universal --python-version 3.11 --generate-hashes --upgrade \
		--no-emit-index-url --no-emit-find-links --no-header --quiet --output-file requirements.lock
	@UV_NO_CONFIG=1 $(LOCK_TOOLS)/bin/uv pip compile pyproject.toml --extra worker --extra postgres \
		--extra gateway --group build --constraint requirements.lock --universal --python-version 3.11 \
		--generate-hashes --upgrade --no-emit-index-url --no-emit-find-links --no-header \
		--no-annotate --quiet --output-file requirements-worker.lock
	@rm -rf $(LOCK_TOOLS)

clean: ## remove .venv, site/ and the tools' caches; .nightmill with its results stays
	rm -rf $(VENV) $(LOCK_TOOLS) dist site .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find producer worker tests benchmarks examples -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true
