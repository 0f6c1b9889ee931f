# `make demo` segments real street frames and refines a mask; `make test` proves the package. Both set up .venv first.

PYTHON ?= python3
BIN := .venv/bin
# A file's tests stay together: they share networks. Beside a new process in place of one that crashed, the others would
# wait for ever.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --max-worker-restart 0
LOCKED := $(shell uname -sm | grep -q '^Linux x86_64$$' && echo yes)

.PHONY: demo test test-all fuzz lint docs bench bench-gpu parity renew lock clean
.DELETE_ON_ERROR:

demo: .venv/ready
	$(BIN)/segscape demo

test: .venv/ready
	$(PYTEST) -m 'not heavy'

# The slow tests too.
test-all: test
	$(PYTEST) -m heavy

# 10,000 damaged files, each given to the command that reads it.
fuzz: .venv/ready
	$(BIN)/python -m tests.fuzz

lint: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in site/. A link that leads nowhere, or a page that the navigation lacks, is an error.
docs: .venv-docs/ready
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

# The packages of the extra `docs`, without Segscape: its code is read, not run.
.venv-docs/ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Segscape needs Python 3.11 or newer; set PYTHON=python3.x")'
	$(PYTHON) -m venv .venv-docs
	$(PYTHON) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' \
		> .venv-docs/requirements.txt
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --requirement .venv-docs/requirements.txt
	touch $@

parity: .venv/ready
	$(BIN)/python -m tests.parity

# Other packages' networks are timed in an environment of their own, which sees the libraries of .venv.
bench: .venv/peers
	$(BIN)/python benchmarks/side_by_side.py --peers .venv-peers/bin/python
	$(BIN)/python benchmarks/side_by_side.py --table

.venv/peers: .venv/ready benchmarks/peers/requirements.txt
	$(BIN)/python -m venv .venv-peers
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > \
		"$$(.venv-peers/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/shared.pth"
	.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/peers/requirements.txt
	touch $@

# Fits into ten minutes on one GPU.
bench-gpu: .venv/ready
	$(BIN)/python benchmarks/gpu.py --minutes 9
	$(BIN)/python benchmarks/gpu_table.py

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

# What is kept as data, after a network, weights, a config, an argument or a public name came, went or changed.
KEPT := renew_figures renew_settings renew_completions recipes_table network_pages network_figures concept_figures \
	docs_reference freeze_api third_party

renew: .venv/ready
	for script in $(KEPT); do $(BIN)/python scripts/$$script.py || exit 1; done

# Needs uv (pip install uv).
lock:
	uv pip compile --universal --generate-hashes --python-version 3.11 --extra dev \
		--no-emit-package segscape pyproject.toml --output-file requirements.lock

clean:
	rm -rf .venv .venv-docs .venv-peers demo site
