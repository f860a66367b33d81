# What a user and a developer run. `make help` lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules
.DEFAULT_GOAL := help

# The Python that the virtual environment is made with, and where that is made.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Options for the program that a target runs: make run ARGS="--port 50052", make test ARGS="-k watch".
ARGS ?=
# How many processes the fast suite uses. `auto` is one per core; 0 is none, for a debugger.
WORKERS ?= auto

GRPCURL_VERSION := v1.9.4
HEALTH_PROBE_VERSION := v0.4.61
TOOLS_BIN := $(CURDIR)/build/bin

BASELINE := proto/baseline.binpb
PROTOS := $(wildcard proto/ose/registry/v1/*.proto)
CHECKED := $(wildcard server clients/python tests tools benchmarks)
DISTRIBUTIONS := clients/python/pyproject.toml server/pyproject.toml

# Each stamp stands for a finished step, so that a target does only what has changed.
RUNTIME := $(VENV)/.runtime
DEV := $(VENV)/.dev
DEPS := build/proto-deps/.stamp
GRPCURL := build/bin/.grpcurl-$(GRPCURL_VERSION)
HEALTH_PROBE := build/bin/.grpc_health_probe-$(HEALTH_PROBE_VERSION)
NODE_MODULES := clients/typescript/node_modules/.package-lock.json

.PHONY: help
help: ## Lists the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##### Installing and running

.PHONY: install
install: $(RUNTIME) ## Makes .venv with the server and the client; all programs are in .venv/bin.

.PHONY: install-dev
install-dev: $(DEV) ## Adds what the tests and checks need.

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: needs Python 3.11 or newer as '$(PYTHON)': name another one with PYTHON=..." >&2; \
	  exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2> /dev/null || { \
	  echo "make: '$(PYTHON)' cannot make virtual environments: install its venv module" \
	    "(Debian: python3-venv)" >&2; \
	  exit 1; }
	$(PYTHON) -m venv $(VENV)

# pip builds the two distributions with the pinned setuptools, not with one that it fetches anew.
$(RUNTIME): $(BIN)/python constraints.txt $(DISTRIBUTIONS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt setuptools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  --no-build-isolation -e clients/python -e server
	@touch $@

$(DEV): $(RUNTIME) requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

.PHONY: run
run: $(RUNTIME) ## Serves the registry: make run ARGS="--help".
	$(BIN)/nexus-registry serve $(ARGS)

##### Testing

# Where nothing is compiled yet, that takes longer than a test may.
.PHONY: kernels
kernels: $(RUNTIME) ## Compiles what the server compiles when it starts for the first time.
	$(BIN)/python -c 'from hyper_registry.app import warm_up; warm_up()'

.PHONY: test
test: $(DEV) kernels ## The fast suite, minutes. REQUIRE_ALL=1: a missing tool fails instead of skipping.
	$(BIN)/python -m pytest tests --ignore=tests/faults -n $(WORKERS) --dist=loadscope $(ARGS)

.PHONY: faults
faults: $(DEV) kernels ## The long suite: crashes, failing disks, crowds. ROUNDS=10 SOAK_SECONDS=10: a shorter one.
	$(BIN)/python -m pytest tests/faults --timeout=300 $(ARGS)

SERVER ?= localhost:50051
HTTP ?=

.PHONY: conformance
conformance: $(DEV) ## Does a running server keep its promises? SERVER=host:port HTTP=http://host:port.
	$(BIN)/nexus-registry conformance $(addprefix --server=,$(SERVER)) \
	  $(addprefix --http=,$(HTTP)) $(ARGS)

GROWTH := benchmarks/bench_growth.py
BENCH ?= $(filter-out $(GROWTH),$(sort $(wildcard benchmarks/bench_*.py)))
BENCHED := $(VENV)/.bench

$(BENCHED): $(DEV) requirements-bench.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-bench.txt
	@touch $@

# One that fails does not keep the others from being measured; it is told at the end.
.PHONY: bench
bench: $(BENCHED) ## Measures beside peers and budgets, and prints tables. One: BENCH=benchmarks/x.py.
	@[ -n "$(BENCH)" ] || { echo "make: benchmarks/ has no bench_*.py" >&2; exit 1; }
	@failed=; for script in $(BENCH); do \
	  echo "$$script $(ARGS)"; $(BIN)/python "$$script" $(ARGS) || failed+=" $$script"; \
	done; [ -z "$$failed" ] || { echo "make: failed:$$failed" >&2; exit 1; }

.PHONY: bench-report
bench-report: $(BENCHED) ## Measures growth, and writes docs/benchmarks.md with what bench measured before.
	$(BIN)/python $(GROWTH) $(ARGS)
	$(BIN)/python benchmarks/report.py

.PHONY: tools
tools: ## Builds grpcurl and grpc_health_probe, which some tests drive, in build/bin (needs Go).
	@if command -v go > /dev/null; then \
	  $(MAKE) --no-print-directory $(GRPCURL) $(HEALTH_PROBE); \
	else \
	  echo "tools: skipped, for want of Go; the tests that need grpcurl or grpc_health_probe skip too"; \
	fi

# -mod=mod: a flag in the user's own Go settings, such as -mod=vendor, must not reach these builds.
$(GRPCURL):
	GOBIN=$(TOOLS_BIN) GOFLAGS=-mod=mod \
	  go install github.com/fullstorydev/grpcurl/cmd/grpcurl@$(GRPCURL_VERSION)
	@touch $@

$(HEALTH_PROBE):
	GOBIN=$(TOOLS_BIN) GOFLAGS=-mod=mod \
	  go install github.com/grpc-ecosystem/grpc-health-probe@$(HEALTH_PROBE_VERSION)
	mv $(TOOLS_BIN)/grpc-health-probe $(TOOLS_BIN)/grpc_health_probe
	@touch $@

##### The contract

.PHONY: proto-deps
proto-deps: $(DEPS) ## Lays out the googleapis definitions that the protos import.

$(DEPS): $(DEV) tools/protos.py
	$(BIN)/python tools/protos.py deps
	@touch $@

.PHONY: client-deps
client-deps: ## Fetches what the TypeScript client is made with, where npm is; Go fetches by itself.
	@if command -v npm > /dev/null; then \
	  $(MAKE) --no-print-directory --silent $(NODE_MODULES); \
	fi

$(NODE_MODULES): clients/typescript/package.json clients/typescript/package-lock.json
	cd clients/typescript && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

.PHONY: generate
generate: $(DEPS) client-deps ## Writes the clients' code that follows from the protos.
	$(BIN)/python tools/protos.py generate

.PHONY: drift
drift: $(DEPS) client-deps ## Fails if the generated code is not what the protos generate.
	$(BIN)/python tools/protos.py check

.PHONY: breaking
breaking: $(DEPS) ## Fails if the protos break a client of the last release.
	$(BIN)/buf breaking proto --exclude-imports --against $(BASELINE)

# The last release's contract is kept as a file, and not looked up as a git tag: it is there in a
# shallow clone, in a source archive and where tags were not fetched, and changing it is a change
# that a reviewer sees. It carries its imports, without which buf cannot read it.
.PHONY: release-baseline
release-baseline: $(DEPS) ## Makes the protos as they are what `breaking` compares with: at a release.
	$(BIN)/buf build proto --exclude-source-info -o $(BASELINE)

##### Checking

.PHONY: verify
verify: drift lint types breaking ## Every check but the tests.

# A client whose tools are not here is left out; `drift`, which is before, says so.
GO_CLIENT := $(if $(shell command -v go 2> /dev/null),clients/go)

.PHONY: lint
lint: $(DEPS) ## Style and likely mistakes, in all languages and the protos; changes nothing.
	$(if $(GO_CLIENT),test -z "$$(gofmt -l $(GO_CLIENT) | tee /dev/stderr)")
	$(if $(GO_CLIENT),cd $(GO_CLIENT) && go vet ./...)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/buf lint
	$(BIN)/buf format proto --diff --exit-code

.PHONY: types
types: $(DEV) client-deps ## Type checks, strict.
	$(BIN)/mypy $(CHECKED)
	@if [ -e $(NODE_MODULES) ]; then \
	  echo "tsc in clients/typescript" && cd clients/typescript && node_modules/.bin/tsc --noEmit; \
	fi

.PHONY: format
format: $(DEPS) ## Formats Python, Go and protos, and mends what can be mended safely.
	$(if $(GO_CLIENT),gofmt -w $(GO_CLIENT))
	$(BIN)/ruff check --fix --exit-zero --quiet .
	$(BIN)/ruff format .
	$(BIN)/buf format proto --write

.PHONY: ci
ci: ## What the CI runs, all of it.
	.ci/run

.PHONY: clean
clean: ## Removes what make has made: .venv, build and the tools' caches.
	rm -rf $(VENV) build clients/typescript/node_modules clients/typescript/dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	find clients server -maxdepth 2 -name '*.egg-info' -type d -prune -exec rm -rf {} +
