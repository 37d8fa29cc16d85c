# SPDX-License-Identifier: GPL-2.0-only
PYTHON ?= python3
UV := uv==0.13.9

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# SECONDS, OUT: for `make soak`. ARGS: more arguments for pytest, and for what measures.
SECONDS ?=
OUT ?=
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help stress soak million test trees test-tree lint bench strategies replay-check shrink-study search-study explore-check screen-check replay-check-trees tree-mutants tree-hits tree-points tree-neutral tree-figures tree-memory bench-tree mutants lock clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

stress: $(READY) ## hammer every version with threads and print the verdict (about a minute)
	@$(BIN)/stressvmap stress --config configs/stress.toml

soak: $(READY) ## rounds with fresh seeds for hours; SECONDS=N shortens it, OUT=DIR goes on in that folder
	@$(BIN)/stressvmap soak --config configs/soak.toml $(if $(SECONDS),--seconds $(SECONDS)) $(if $(OUT),--out "$(OUT)")

million: $(READY) ## a million schedules of v6.5 over every workload and strategy (about an hour)
	@$(BIN)/stressvmap stress --config configs/million.toml
	@$(BIN)/stressvmap stress --config configs/million.toml --workload seccomp-teardown --schedules 40000

test: $(READY) ## run the test suite, but for what needs kernel trees; ARGS="-k name" passes more to pytest
	@$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not trees" $(ARGS)

trees: $(READY) ## fetch kernel sources for the tests by apt, into the cache (290 MB; resumes, checks)
	@$(BIN)/stressvmap tree fetch

test-tree: $(READY) ## run the tests that need kernel trees; says so, and passes, where none can be had
	@$(BIN)/stressvmap tree fetch || { status=$$?; test $$status = 2 || test $$status = 4; } \
		&& $(BIN)/python -m pytest -q -n 2 --dist worksteal -m trees -rs $(ARGS)

screen-check: $(READY) ## screening against the checks, run by run, on kernel trees and mutants of them (hours; make trees first)
	@$(BIN)/python -m stressvmap.stress.screen_study $(or $(ARGS),--runs 7000 --share-runs 7000 --jobs 2)

replay-check-trees: $(READY) ## do kernel trees' failures replay, after a rebuild too (make trees first)
	@$(BIN)/python -m stressvmap.stress.replay_study --trees $(ARGS)

tree-mutants: $(READY) ## which one-change mutants of two kernels' C are found (hours; make trees first)
	@$(BIN)/python -m stressvmap.stress.tree_study mutants $(ARGS)

tree-hits: $(READY) ## schedules until a reverted fix is found, strategy by strategy (make trees first)
	@$(BIN)/python -m stressvmap.stress.tree_study hits $(ARGS)

tree-points: $(READY) ## reverted fixes by where a task may be switched: at every access, or at marked ones and locks (make trees first)
	@$(BIN)/python -m stressvmap.stress.tree_study points $(ARGS)

tree-neutral: $(READY) ## patches that change nothing must change no finding (make trees first)
	@$(BIN)/python -m stressvmap.stress.tree_study neutral $(ARGS)

tree-figures: $(READY) ## what 6.1 and the RFC on it flush, owe and hold, model and C side by side (make trees first)
	@T="tree:$${XDG_CACHE_HOME:-$$HOME/.cache}/stressvmap/sources/linux-source-6.1.tar.xz"; \
		COLUMNS=200 $(BIN)/python -m stressvmap.stress.bench --figures 300 --version v6.1 --version "$$T" \
		--version rfc-3of3-on-v6.1 --version "$$T?patch=configs/patches/rfc-3of3-on-6.1.patch" $(ARGS)

tree-memory: $(READY) ## is memory flat over ten million schedules of a kernel tree? (half an hour; make trees first)
	@$(BIN)/python -m stressvmap.stress.bench.tree_memory $(ARGS)

bench-tree: $(READY) ## speed on kernel trees, as ratios (make trees first)
	@$(BIN)/python -m stressvmap.stress.bench.trees $(ARGS)

lint: $(READY) ## ruff, mypy --strict, import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict
	@$(BIN)/lint-imports --no-logo

bench: $(READY) ## the project's own benchmark; prints ratios
	@$(BIN)/python -m stressvmap.stress.bench $(ARGS)

strategies: $(READY) ## which strategy finds which bug, and how soon (hours; ARGS="--cap 100 --seeds 5" shortens it)
	@$(BIN)/python -m stressvmap.stress.corpus $(or $(ARGS),--cap 400)

replay-check: $(READY) ## 1,000 random failures replayed under 10 hash seeds, 200 of them by the command
	@$(BIN)/python -m stressvmap.stress.replay_study $(ARGS)

shrink-study: $(READY) ## how small shrinking gets, beside minima written by hand
	@$(BIN)/python -m stressvmap.stress.shrink_study $(ARGS)

search-study: $(READY) ## how often what threads found gets a schedule
	@$(BIN)/python -m stressvmap.stress.search_study $(ARGS)

explore-check: $(READY) ## source-DPOR against plain enumeration and against the bounded search (most of an hour)
	@$(BIN)/python -m tests.sched.explore_family 500 5000
	@$(BIN)/python -m tests.stress.swaps 3000
	@$(BIN)/python -m tests.stress.explore_crosscheck

mutants: $(READY) ## break the model line by line and see what notices (hours, resumable)
	@$(BIN)/python -m tests.mutants $(ARGS)

lock: ## pin the requirements again, in requirements.lock
	@$(PYTHON) -m venv --clear .venv-lock
	@.venv-lock/bin/python -m pip install -q $(UV)
	@.venv-lock/bin/uv pip compile -q --universal --python-version 3.11 --generate-hashes --upgrade --extra dev \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" -o requirements.lock pyproject.toml
	@rm -rf .venv-lock

clean: ## remove .venv, caches and build products (never logs/)
	@rm -rf $(VENV) .venv-lock .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist *.egg-info
	@find stressvmap tests \( -name __pycache__ -o -name '*.so' \) -prune -exec rm -rf {} +

$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: no $(PYTHON) here; say which with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) -V); try make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "error: $(PYTHON) has no venv/ensurepip (Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "setting up $(VENV), once" >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
