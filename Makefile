# `make demo` and `make test` need python3 (3.11 or newer), git and make; the rest they fetch.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
QUICK := not browser and not slow and not scorers and not s3 and not gpu

.PHONY: help demo test test-browser test-slow test-s3 test-scorers lint format lock clean

help:
	@echo "make demo          walk the whole road on the mini world (about five minutes), then open the desk"
	@echo "make test          run the tests"
	@echo "make test-browser  drive the desk in a real Chromium (Debian: apt-get install chromium)"
	@echo "make test-slow     what takes minutes or gigabytes"
	@echo "make test-s3       a store in an object store, on a local S3 server"
	@echo "make test-scorers  scorers in the true sizes, with random weights: 12 GB of memory, 10 GB of disk"
	@echo "make lint          style, types and the import contract"
	@echo "make lock          resolve requirements.txt anew"

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11; type: make PYTHON=python3.11 (or newer)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || \
		{ echo "$(PYTHON) cannot make environments; on Debian or Ubuntu type: apt-get install python3-venv"; exit 1; }
	@test -x "$(UV)" || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) pip install --python $(BIN)/python --compile-bytecode --require-hashes --requirements requirements.txt
	$(UV) pip install --python $(BIN)/python --no-deps --editable .
	@touch $(READY)

demo: $(READY)
	$(BIN)/outvoted demo

test: $(READY)
	$(BIN)/python -m pytest -m "$(QUICK)"

test-browser: $(READY)
	$(BIN)/python -m pytest -m browser tests/browser

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

# moto lives in an environment of its own: it wants an older python-dateutil than ours.
.venv-s3/bin/moto_server: $(READY)
	$(UV) venv --quiet --python $(BIN)/python .venv-s3
	$(UV) pip install --quiet --python .venv-s3/bin/python 'moto[server]>=5.2'

test-s3: $(READY) .venv-s3/bin/moto_server
	$(BIN)/python -m pytest -m s3

test-scorers: $(READY)
	$(BIN)/python -m pytest -m scorers tests/toolkit/scoring

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock:
	$(UV) pip compile pyproject.toml --all-extras --universal --generate-hashes --quiet --output-file requirements.txt

clean:
	rm -rf $(VENV) .venv-s3 .mypy_cache .ruff_cache .pytest_cache .hypothesis
