# make setup   virtual environment with everything; make demo   the whole idea in minutes; make test   all tests
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: setup demo base test lint clean

setup: $(STAMP)

# torch first and pinned, so that pip takes the CPU build where one is offered instead of gigabytes of CUDA packages
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else "Python 3.11, 3.12 or 3.13 is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/python -m datagen.backends.embedded.setup_gl
	touch $(STAMP)

demo: $(STAMP)
	$(BIN)/python -m ipt.study.demo

# the small base that ships, from seeds: about five hours of one core
base: $(STAMP)
	$(BIN)/python -m ipt.study.base

# a thread for each of the two workers: with more they wait for each other
test: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(STAMP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
