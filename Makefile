# Each target makes .venv when it is missing, installs what is missing and builds the operators; a
# second call goes straight to the work. Needs Python >= 3.10, a C++ compiler and make.
#
#   make test ARGS="tests/ops -k nms"     ARGS reaches pytest, the demo and the benchmarks

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CPP := $(wildcard csrc/*.cpp csrc/*.h csrc/*/*.cpp csrc/*/*.h csrc/*/*.cu)
ARGS ?=
# Tests run in so many processes, a thread each: most of the work is Python's, which keeps one core
# busy. A file stays whole, because its tests share what takes long to make. Where tests of operators
# use two threads, a waiting one must not spin on the core that the other needs.
WORKERS ?= 2
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile \
	--no-loadscope-reorder

.DEFAULT_GOAL := help
.DELETE_ON_ERROR: # half a venv (no ensurepip, say) must not pass for a whole one
.PHONY: help build test quick lint format demo bench

help:
	@echo "make build | test | quick | lint | format | demo | bench (see CONTRIBUTING.md)"

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "glipkit needs Python >= 3.10, \
	$(PYTHON) is %s; set PYTHON=" % sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)

# Torch first: the operators are built against the torch installed, without pip's isolation.
$(VENV)/installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing into $(VENV): torch and its like are some gigabytes, which takes minutes"
	$(PIP) install -q -c constraints.txt setuptools wheel ninja torch
	$(PIP) install -q -c constraints.txt --no-build-isolation -e '.[test,lint]'
	@touch $@

build: $(VENV)/installed
	@$(BIN)/python setup.py -q build_ext --inplace

test: build
	$(PYTEST) --durations=15 $(ARGS)

quick: build
	$(PYTEST) -m "not slow" $(ARGS)

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run -Werror $(CPP)

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP)

demo: build
	$(BIN)/python examples/demo.py $(ARGS)

bench: build
	$(BIN)/python benchmarks/run.py $(if $(ONLY),--only $(ONLY)) $(ARGS)
