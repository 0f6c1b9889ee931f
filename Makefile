# `make demo` segments real street frames and refines a mask; `make test` proves the package. Both set up .venv first.

PYTHON ?= python3
BIN := .venv/bin
# A file's tests stay together: they share networks.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile
LOCKED := $(shell uname -sm | grep -q '^Linux x86_64$$' && echo yes)

.PHONY: demo test test-all lint bench parity lock clean
.DELETE_ON_ERROR:

demo: .venv/ready
	$(BIN)/segscape demo

test: .venv/ready
	$(PYTEST) -m 'not heavy'

# The slow tests too.
test-all: test
	$(PYTEST) -m heavy

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

parity: .venv/ready
	$(BIN)/python -m tests.parity

bench: .venv/ready
	$(BIN)/python benchmarks/segment.py

# The lock holds for Linux on x86-64; elsewhere pip chooses the versions.
.venv/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Segscape needs Python 3.11 or newer; set PYTHON=python3.x")'
	$(PYTHON) -m venv .venv
ifeq ($(LOCKED),yes)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
else
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
endif
	touch $@

# Needs uv (pip install uv).
lock:
	uv pip compile --universal --generate-hashes --python-version 3.11 --extra dev \
		--no-emit-package segscape pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv demo
