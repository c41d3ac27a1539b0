# `make demo` and `make test` set up everything they need in .venv; a second run reuses it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
# Nothing we run sends usage reports, and nothing is fetched from a model hub.
export HF_HUB_DISABLE_TELEMETRY := 1
export VLLM_NO_USAGE_STATS := 1
export DO_NOT_TRACK := 1
export TOKENIZERS_PARALLELISM := false

.PHONY: demo demo-real test test-long test-real lint types bench pocket lock install clean
.DEFAULT_GOAL := help

help:
	@echo "make demo       the whole loop on the embedded model (installs first; up to 10 minutes on 2 cores)"
	@echo "make demo-real  the same on a real model of 135 M parameters, fetched once (about 20 minutes on 2 cores)"
	@echo "make test       lint, types and tests"
	@echo "make test-long  the tests that take minutes"
	@echo "make test-real  the tests on the real model (about 10 minutes)"
	@echo "make lint       ruff and mypy only"
	@echo "make bench      the benchmarks"
	@echo "make pocket     rebuild the embedded model from nothing (up to 60 minutes on 2 cores)"

install: $(VENV)/.installed

$(VENV)/.installed: requirements/cpu.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Python 3.11 is needed and was not found; install it or set PYTHON=..."; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] < (3, 11))' || { echo "Python 3.11 or newer is needed; $(PYTHON) is older; set PYTHON=..."; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25"
	$(BIN)/python -m pip install --quiet "torch==2.13.0+cpu" \
	  || $(BIN)/python -m pip install --quiet "torch==2.13.0+cpu" --index-url https://download.pytorch.org/whl/cpu
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/cpu.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

demo: install
	$(BIN)/constitute demo

demo-real: install
	$(BIN)/constitute demo --real

test: lint
	$(BIN)/python -m pytest -m "not long and not real" -n 2 --dist loadgroup

test-long: install
	$(BIN)/python -m pytest -m "long and not real" -n 2 --dist loadgroup

test-real: install
	$(BIN)/constitute fetch
	$(BIN)/python -m pytest -m real

lint: install
	$(BIN)/ruff format --check src tests examples benchmarks tools
	$(BIN)/ruff check src tests examples benchmarks tools
	$(BIN)/mypy

bench: install
	$(BIN)/python -m benchmarks

pocket: install
	$(BIN)/python -m tools.pocket.recipe
	$(BIN)/python -m tools.pocket.scorecard

lock:
	uv pip compile requirements/cpu.in --override requirements/override.txt --python-version 3.11 \
	  --python-platform x86_64-manylinux_2_28 --generate-hashes --no-emit-index-url --no-emit-find-links \
	  --no-emit-package torch --no-annotate -o requirements/cpu.lock

clean:
	rm -rf $(VENV) demo-run
