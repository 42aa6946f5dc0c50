# `make` prints the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
# Stamps: everything for work on Herdmaster is installed; Herdmaster alone is installed.
INSTALLED := .venv/.installed
RUNNABLE := .venv/.runnable
CODE := $(wildcard src tests benchmarks chaos docs examples mutation scripts)
# More than there are cores: tests wait for servers and processes as much as they compute.
PROCESSES ?= 4

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# The build tools are pinned as well. The name of the variable depends on the version of pip.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt

# Tests start hundreds of processes: without cached bytecode, each one would compile every module.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: install
install: $(INSTALLED) zookeeper ## Make .venv and install what is missing (Python packages, ZooKeeper, Java)

$(INSTALLED): pyproject.toml constraints.txt
	@scripts/create-venv .venv
	@echo "Installing Herdmaster and its tools into .venv"
	@$(BIN)/python -m pip install --quiet --editable '.[dev]'
	@touch $@

$(RUNNABLE): pyproject.toml constraints.txt
	@scripts/create-venv .venv
	@echo "Installing Herdmaster into .venv"
	@$(BIN)/python -m pip install --quiet --editable .
	@touch $@

.PHONY: zookeeper
zookeeper: ## Install Apache ZooKeeper and Java, unless they are installed
	@scripts/install-zookeeper

.PHONY: kerberos
kerberos: $(INSTALLED) ## Install what the tests of Kerberos need, unless it is there
	@scripts/install-kerberos

.PHONY: demo
demo: $(or $(wildcard $(INSTALLED)),$(RUNNABLE)) ## Count words on two workers, kill the primary meanwhile, check the result
	@$(BIN)/herd demo $(DEMO)

.PHONY: test
test: install kerberos check ## `make check`, then the other tests on Apache's server, except the slow ones
	$(BIN)/pytest -n $(PROCESSES) --dist worksteal -m "(apache or long) and not slow" --server apache

.PHONY: check
check: $(INSTALLED) ## Check style and types, and run the fast tests on the embedded server
	@$(MAKE) --jobs 2 --output-sync lint types compile
	$(BIN)/pytest -n $(PROCESSES) --dist worksteal -m "not apache and not long and not slow" --server embedded

.PHONY: lint
lint: $(INSTALLED) ## Check style and the direction of imports
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/check_source.py

.PHONY: types
types: $(INSTALLED) ## Check types
	$(BIN)/mypy $(CODE)

# Compile the tests once: else each process of a test run compiles them all, which takes 15 s of CPU each. A test that
# cannot be imported is reported by the run.
.PHONY: compile
compile: $(INSTALLED)
	@$(BIN)/pytest -qqq --collect-only >/dev/null 2>&1 || true

.PHONY: format
format: $(INSTALLED) ## Format the code, and fix what ruff can fix
	$(BIN)/ruff check --fix-only $(CODE)
	$(BIN)/ruff format $(CODE)

.PHONY: coverage
coverage: install ## Run the tests of `make test` and print what they do not reach
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n $(PROCESSES) -m "not slow"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

.PHONY: test-versions
test-versions: ## Run the fast tests on each Python from 3.11 to 3.14 that is on this machine
	@PROCESSES=$(PROCESSES) scripts/test-versions

DELAYS ?= all
TESTS ?= tests

.PHONY: delays
delays: $(INSTALLED) ## Run TESTS with delays in system calls, at which races in tests show (needs a C compiler)
	@mkdir -p build
	$(CC) -O2 -shared -fPIC -o build/delays.so scripts/delays.c -ldl
	DELAYS=$(DELAYS) LD_PRELOAD=$(abspath build/delays.so) \
		$(BIN)/pytest -n $(PROCESSES) --dist worksteal -m "not apache and not slow" --server embedded $(TESTS)

.PHONY: docs
docs: $(INSTALLED) ## Build the documentation site in build/docs; a warning is an error
	$(BIN)/sphinx-build --fail-on-warning --keep-going --quiet -b html -d build/docs-cache docs build/docs
	@echo "build/docs/index.html"

.PHONY: pages
pages: $(INSTALLED) ## Write the pages and pictures in docs/ that derive from the code
	$(BIN)/python -m docs.generator

.PHONY: bench
bench: install ## Measure the client, the embedded server and the whole system, and their peers
	$(BIN)/python -m benchmarks.client
	$(BIN)/python -m benchmarks.server
	$(BIN)/python -m benchmarks.throughput

PEERS := build/peers

.PHONY: bench-flows
bench-flows: install ## Measure flows beside Celery on Redis and Dask, which it installs into build/peers
	@scripts/create-venv $(PEERS)
	@PIP_CONSTRAINT= $(PEERS)/bin/python -m pip install --quiet celery redis distributed
	@command -v redis-server > /dev/null || scripts/apt-install redis-server
	$(BIN)/python -m benchmarks.flows --peers $(abspath $(PEERS))/bin/python

FUZZ_SECONDS ?= 600

.PHONY: fuzz
fuzz: install zookeeper ## Drive random operations into the embedded server and Apache's for FUZZ_SECONDS (600)
	HERD_FUZZ_SECONDS=$(FUZZ_SECONDS) $(BIN)/pytest --timeout 0 -s tests/zookeeper/server/test_differential.py

PARSER_SECONDS ?= 60

.PHONY: fuzz-parsers
fuzz-parsers: $(INSTALLED) ## Fuzz each parser of bytes from znodes and servers for PARSER_SECONDS (60), guided by coverage
	@$(BIN)/python -m pip install --quiet --editable '.[fuzz]'
	@$(BIN)/python -m tests.fuzz $(PARSER_SECONDS) $(PARSERS)

SEEDS ?= 1000

.PHONY: simulate
simulate: $(INSTALLED) ## Run SEEDS (1000) simulated worlds full of faults, from START on (a random one, printed)
	$(BIN)/herd simulate --seeds $(SEEDS) $(if $(START),--start $(START))

SAMPLE ?= 200

.PHONY: mutants
mutants: $(INSTALLED) ## Put SAMPLE (200) small faults into the code, one at a time, and see whether tests fail
	@$(BIN)/python -m pip install --quiet --editable '.[mutants]'
	@$(BIN)/python -m mutation --sample $(SAMPLE) $(if $(START),--start $(START)) --json build/mutants/report.json $(MUTANTS)

FAILOVERS ?= 20

.PHONY: chaos
chaos: install ## Inject faults into servers, masters, workers and clients of a real ensemble, and count losses (10 minutes)
	$(BIN)/python -m chaos
	$(BIN)/python -m chaos --failover $(FAILOVERS)

.PHONY: chaos-short
chaos-short: install ## Most of `make chaos`, with short session timeouts (2 to 3 minutes)
	$(BIN)/python -m chaos --short
	$(BIN)/python -m chaos --short --failover 3

.PHONY: proof
proof: test ## `make test`, then the slow tests, the demo, the benchmarks and the chaos
	$(BIN)/pytest -m slow || [ $$? -eq 5 ]  # 5: no test is slow
	HERD_FUZZ_SECONDS=60 $(BIN)/pytest tests/zookeeper/server/test_differential.py
	$(BIN)/pytest -n $(PROCESSES) -m "long and not apache and not slow" --server embedded
	@$(MAKE) simulate demo bench chaos

.PHONY: clean
clean: ## Remove everything that make creates
	rm -rf .venv .zookeeper .zookeeper.* build dist htmlcov .coverage .coverage.* .hypothesis
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find src tests $(wildcard benchmarks chaos examples mutation) -name __pycache__ -prune -exec rm -rf {} +
