# `make demo` and `make test` need python3 (3.11 or newer), git and make; they fetch everything else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
ELSEWHERE := not browser and not slow and not scorers and not s3 and not gpu and not attacks
# Processes that share the tests. Each needs about 1.5 GB; a test file stays within one of them.
WORKERS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile

.PHONY: help demo test test-long test-browser test-slow test-s3 test-scorers attacks docs lint format lock clean

help:
	@echo "make demo          run the whole workflow on the mini world (about five minutes), then open the desk"
	@echo "make test          run the tests (WORKERS=4 for four processes instead of two)"
	@echo "make test-long     kills, launches of several processes, the demo, scorer environments"
	@echo "make test-browser  drive the desk in a real Chromium (Debian: apt-get install chromium)"
	@echo "make test-slow     tests that take minutes or gigabytes each"
	@echo "make test-s3       stores in an object store, on a local S3 server"
	@echo "make test-scorers  scorers at full size, with random weights: 12 GB of memory, 10 GB of disk"
	@echo "make attacks       thousands of random inputs and damages, some ten minutes"
	@echo "make docs          write the reference pages again, from the code"
	@echo "make lint          check style, types and imports"
	@echo "make format        fix style"
	@echo "make lock          resolve requirements.txt again"
	@echo "make clean         delete the environments and caches"

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
	$(PYTEST) -m "not long and $(ELSEWHERE)"

test-long: $(READY)
	$(PYTEST) -m "long and $(ELSEWHERE)"

test-browser: $(READY)
	$(BIN)/python -m pytest -m browser tests/browser

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

# moto needs an older python-dateutil than ours, so it gets an environment of its own.
.venv-s3/bin/moto_server: $(READY)
	$(UV) venv --quiet --python $(BIN)/python .venv-s3
	$(UV) pip install --quiet --python .venv-s3/bin/python 'moto[server]>=5.2'

test-s3: $(READY) .venv-s3/bin/moto_server
	$(BIN)/python -m pytest -m s3

test-scorers: $(READY)
	$(BIN)/python -m pytest -m scorers tests/toolkit/scoring

attacks: $(READY)
	$(BIN)/python -m pytest -m attacks tests/attacks

docs: $(READY)
	$(BIN)/python -m app.docs.reference

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
