# Everything a fresh clone needs. `make demo` and `make test` set themselves up; a second run goes straight to work.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# The first Python that fits and can make a virtual environment; 3.11 is what the project is developed on.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13 python3.10 python; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null \
	&& { command -v "$$p"; break; }; done)
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

# Installed first and pinned: left to the range in pyproject.toml, pip takes the newest build there is, which on Linux
# brings gigabytes of CUDA libraries. Where pip is set up with a CPU build of this version, that one is taken.
# Another build: make demo TORCH=torch==2.7.1
TORCH ?= torch==2.13.0

# Tests render with EGL. Where these packages can't be installed, the tests that render are skipped and say so.
GL_PACKAGES := libegl1 libgl1-mesa-dri

.PHONY: help setup setup-dev world-deps demo test test-slow lint format clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | column -t -s $$'\t'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "make: needs Python 3.10 to 3.13 with venv and ensurepip" >&2; exit 2; }
	"$(PYTHON)" -m venv "$(VENV)"

# Stamps: a second run does nothing until pyproject.toml changes.
$(VENV)/.stamp-demo: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet "$(TORCH)"
	$(PIP) install --quiet --editable .
	@touch "$@"

$(VENV)/.stamp-dev: pyproject.toml | $(BIN)/python
	$(PIP) install --quiet "$(TORCH)"
	$(PIP) install --quiet --editable ".[dev,world]"
	@touch "$@" "$(VENV)/.stamp-demo"

setup: $(VENV)/.stamp-demo ## virtual environment with what `diffvas` needs to run

setup-dev: $(VENV)/.stamp-dev ## the same, with the tools for tests, checks and scenes

world-deps: ## the Debian packages that rendering scenes without a display needs
	@if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then \
		echo "not a Debian system: EGL is used if it is there"; exit 0; \
	fi; \
	missing=(); \
	for p in $(GL_PACKAGES); do \
		[ "$$(dpkg-query -W -f '$${db:Status-Status}' $$p 2>/dev/null || true)" = installed ] || missing+=("$$p"); \
	done; \
	[ $${#missing[@]} -gt 0 ] || exit 0; \
	if [ "$$(id -u)" = 0 ]; then as_root=(); \
	elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then as_root=(sudo -n); \
	else echo "can't install $${missing[*]} without root: tests that render are skipped"; exit 0; fi; \
	{ "$${as_root[@]}" apt-get update -qq && "$${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
		apt-get install -y -qq --no-install-recommends "$${missing[@]}" </dev/null >/dev/null; } \
	|| echo "installing $${missing[*]} failed: tests that render are skipped"

demo: setup ## complete the bundled clip with the bundled models into outputs/demo/
	$(BIN)/diffvas demo

test: setup-dev world-deps ## the test suite; make test ARGS="tests/metrics -x" for a part of it
	$(BIN)/python -m pytest $(ARGS)

test-slow: setup-dev world-deps ## the test suite with the tests that take minutes
	$(BIN)/python -m pytest --slow $(ARGS)

lint: setup-dev ## ruff, mypy on the package, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: setup-dev ## sort imports, apply safe fixes, reformat
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove caches and build outputs; keeps .venv and outputs/
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
