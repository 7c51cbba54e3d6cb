# `make` alone shows what there is.
.DEFAULT_GOAL := help
.PHONY: help run venv test selinux testbed check format bench soak wheel fresh clean
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
ARGS ?=

help: ## this list
	@echo "Longshore: OCI containers from Python, with no daemon."
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1|\2/p' Makefile | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'
	@echo
	@echo "ARGS=… goes on to the program behind it: make test ARGS='-k stop -x'"

run: ## set up what is missing, then run a container for real and show that it is one
	@scripts/setup run
	@scripts/demo $(ARGS)

venv: ## .venv/bin/longshore and .venv/bin/python with Longshore in it
	@scripts/setup venv

test: ## set up, and run every test, once in each cgroup layout (a few minutes)
	@scripts/setup test
	@scripts/test $(ARGS)

selinux: ## emulate a machine with SELinux enforcing, and run its tests there (a few minutes)
	@python3 scripts/selinux $(ARGS)

testbed: ## boot a Debian 13 with systemd and current runtimes, and run all there that can be
	@scripts/setup test
	@scripts/test --testbed $(ARGS)

check: ## format, lint, types, import order, unit tests (half a minute; needs no root)
	@scripts/setup dev
	@scripts/check $(ARGS)

format: ## put the sources into their form
	@scripts/setup dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: ## measure against bare conmon and the runtime, podman and docker
	@scripts/setup test
	@$(BIN)/python bench $(ARGS)

soak: ## the long tests: thousands of runs, random kills (up to an hour)
	@scripts/setup test
	@scripts/test --soak $(ARGS)

wheel: ## dist/longshore-*.whl
	@scripts/setup dev
	@$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

fresh: ## prove make run and make test in fresh minimal trees of Debian 12 and 13 (long)
	@scripts/setup test
	@$(BIN)/python scripts/fresh-test --full 12
	@$(BIN)/python scripts/fresh-test --full 13

clean: ## remove what was built here; containers and their records stay
	rm -rf .venv build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis bench/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
