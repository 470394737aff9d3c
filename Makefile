# Every target makes its own virtual environment and installs what it needs, on a bare Debian or Ubuntu with Python.
# A second run starts at once: scripts/venv.sh reinstalls only when pyproject.toml or the interpreter changed.
#
# Another interpreter:  make test PYTHON=python3.12 VENV=.venv-3.12
# Some tests only:      make test ARGS="tests/unit -k router"

SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin
ENSURE := PYTHON=$(PYTHON) VENV=$(VENV) scripts/venv.sh

.PHONY: help demo test test-peers bench image lint format proto clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo:  ## the main job: a control plane, three instances, a client under load, routing changed live
	@$(ENSURE) demo
	@$(BIN)/python examples/demo/demo.py $(ARGS)

test:  ## everything CI runs: unit, contract and end-to-end tests against real servers and foreign peers
	@$(ENSURE) test
	@scripts/servers.sh
	@VENV=$(VENV) scripts/node.sh
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest $(ARGS)

test-peers:  ## the registries' contract suite against real Consul and Nacos servers, built with Go and Maven
	@$(ENSURE) test
	@scripts/servers.sh
	@scripts/peers.sh
	@PATH="$(CURDIR)/.cache/peers:$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m pytest -m peers $(ARGS)

bench:  ## every comparison of benchmarks/, side by side with its alternatives
	@$(ENSURE) bench
	@scripts/servers.sh
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m benchmarks $(ARGS)

image:  ## the shim's container: its root file system is built without an engine, and looked into; needs root
	@$(ENSURE) test
	@scripts/image_tools.sh
	@$(BIN)/python scripts/rootfs.py deploy/Containerfile .cache/rootfs --check

lint:  ## ruff, mypy --strict, import contracts, house habits
	@$(ENSURE) lint
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@PYTHONPATH=. $(BIN)/lint-imports --no-cache
	@$(BIN)/python scripts/habits.py

format:  ## ruff's formatter and safe fixes
	@$(ENSURE) lint
	@$(BIN)/ruff check --fix-only .
	@$(BIN)/ruff format .

proto:  ## the Python code of every .proto, made with the oldest supported grpcio-tools
	@PYTHON=$(PYTHON) scripts/proto.sh

clean:  ## everything these targets made
	rm -rf .venv .venv-* build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .cache
	rm -rf tests/e2e/peers/js/node_modules benchmarks/results
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
